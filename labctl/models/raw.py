r"""Kernel objects exactly as the scenario states them: any topology that no model has, without Python.

`labctl plan raw-dual-stack --as shell` shows every command that builds this example.

        h1                      r1                      h2
      +------+              +--------+              +------+
      | eth0 |--- veth -----| eth0   |              |      |
      +------+              |   eth1 |----- veth ---| eth0 |
                            +--------+              +------+

The other models compute namespaces, links, addresses and routes from names. Here the file states each of
them in the syntax of `ip` and `iptables`. labctl builds what is given and adds only `lo`. So this is the
place to try an idea before it becomes a model, and to use both address families at once.

Follows iproute2 (the syntax of `ip route`, `ip rule`, `ip neighbour`, `bridge fdb`) and iptables-save.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.fidelity import faithful
from labctl.core.resources import Resource
from labctl.core.scenario_types import Machine, Scenario

FOLLOWS = "the syntax of iproute2 and iptables-save"
MACHINES = ("namespaces", "")
PARTS = (faithful("labctl builds what the file states, and adds only `lo`"),)


@dataclass(frozen=True, slots=True)
class Options:
    """A raw scenario has no options: its sections state everything."""


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Yield the objects and machines of the scenario, as they are written."""
    yield from scenario.raw_plan
    yield from scenario.raw_machines

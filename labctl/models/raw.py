r"""Kernel objects, taken literally: any topology that no model knows, without Python.

        h1                      r1                      h2
      +------+              +--------+              +------+
      | eth0 |--- veth -----| eth0   |              |      |
      +------+              |   eth1 |----- veth ---| eth0 |
                            +--------+              +------+

A model computes namespaces, links, addresses and routes from names; here the file says each of them in
the words of `ip` and `iptables`. What is given is what is built, nothing is added but `lo`, and so this
is the place to try an idea before it becomes a model, and to speak both address families at once.

Follows iproute2 (the words of `ip route`, `ip rule`, `ip neighbour`, `bridge fdb`) and iptables-save.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.fidelity import faithful
from labctl.core.resources import Resource
from labctl.core.scenario_types import Machine, Scenario

FOLLOWS = "iproute2 and iptables-save, word for word"
MACHINES = ("namespaces", "")
PARTS = (faithful("what the file says is what is built; nothing is added but `lo`"),)


@dataclass(frozen=True, slots=True)
class Options:
    """A raw scenario has no options: its sections say everything."""


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Yield the scenario's own objects and machines, as they were written."""
    yield from scenario.raw
    yield from scenario.raw_machines

"""What a scenario adds to the lab of its model, in the words of raw scenarios: "this model, plus mine". Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from labctl.core.resources import IP, NftObject, Plan, Sysctl, assemble
from labctl.core.scenario_types import Lab, Machine


@dataclass(frozen=True, slots=True)
class OwnObjects:
    """Objects and machines that the scenario states itself.

    Rules of iptables are put behind those of a model's chain of this name. A sysctl, and an object of nft, takes the
    place of the model's: an object of nft has what the model wrote and what the file adds. `addresses` are those that
    machines of the model have in addition.
    """

    plan: Plan = ()
    machines: tuple[Machine, ...] = ()
    addresses: tuple[tuple[str, IP], ...] = ()


def with_own_objects(lab: Lab, own: OwnObjects) -> Lab:
    """The lab with the objects and machines that its scenario adds."""
    replaced = {item.key for item in own.plan if isinstance(item, (Sysctl, NftObject))}
    kept = (item for item in lab.plan if item.key not in replaced)
    machines = tuple(_with_addresses(machine, own.addresses) for machine in lab.machines)
    return replace(lab, plan=assemble([*kept, *own.plan]), machines=(*machines, *own.machines))


def _with_addresses(machine: Machine, added: Iterable[tuple[str, IP]]) -> Machine:
    more = tuple(ip for name, ip in added if name == machine.name and ip not in machine.addresses)
    return replace(machine, addresses=(*machine.addresses, *more)) if more else machine

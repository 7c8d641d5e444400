"""What was learned about one lab, as frozen data: answers to packets, kernel objects, times. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from labctl.compare.roles import Cast
from labctl.core.fidelity import Part
from labctl.core.resources import IP, Address, Link, Plan, Port
from labctl.core.results import Sighting
from labctl.core.scenario_types import Check, Lab, Machine
from labctl.core.topology import INNER

# came: answered by whom it was meant for; elsewhere: somebody else answered; silent: proven not to be answered
Outcome: TypeAlias = Literal["came", "elsewhere", "silent", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Asked:
    """One question put with a marked packet: what came of it, the sentences that carry that, and where the request
    was seen, in the order of time. `blocked` tells that the source's own kernel did not send it."""

    check: Check
    outcome: Outcome
    said: tuple[str, ...] = ()
    requests: tuple[Sighting, ...] = ()
    blocked: bool = False

    @property
    def arrival(self) -> Sighting | None:
        """The request as it entered the machine it was for; a frame that a switch flooded there, addressed to
        another, is not it."""
        here = [seen for seen in self.requests if seen.at.ns == self.check.target and seen.direction == "in"]
        return next((seen for seen in here if not seen.other), here[-1] if here else None)

    def leaving(self, spaces: Collection[str]) -> Sighting | None:
        """The request as it left these namespaces for the last time."""
        out = [seen for seen in self.requests if seen.at.ns in spaces and seen.direction == "out"]
        return out[-1] if out else None


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The largest packet (bytes of IP) that passed whole between two pods, and what said that one more does not."""

    passed: int | None
    said: tuple[str, ...] = ()
    sure: bool = True


@dataclass(frozen=True, slots=True)
class More:
    """The same lab with one pod more: its name, the node it is on, what the kernel then held, and who is who."""

    pod: str
    node: str
    plan: Plan
    machines: tuple[Machine, ...] = ()


@dataclass(frozen=True, slots=True)
class Speed:
    """Between two pods: a round trip in seconds, a TCP stream in bits per second. `said` is why not."""

    round_trip: float | None
    bits: float | None
    said: str = ""


@dataclass(frozen=True)
class Facts:
    """All that was learned about one lab. A text instead of a finding says why there is none."""

    title: str
    lab: Lab
    cast: Cast
    plan: Plan
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    spaces: Mapping[str, int] = field(default_factory=dict)  # the number of each machine's network namespace
    asked: Mapping[str, Asked | str] = field(default_factory=dict)
    ceiling: Ceiling | str = ""
    more: More | str = ""
    speed: Speed | str = ""
    seconds: float = 0.0

    @cached_property
    def links(self) -> dict[Port, Link]:
        """Every device there was."""
        return {item.at: item for item in self.plan if isinstance(item, Link)}

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        """Every address there was."""
        return tuple(item for item in self.plan if isinstance(item, Address))

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """Who is who."""
        return {one.name: one for one in self.lab.machines}

    def holders(self, ip: IP) -> tuple[Port, ...]:
        """The devices that have an address."""
        return tuple(item.at for item in self.addresses if item.addr.ip == ip)

    def own(self, name: str) -> IP:
        """A machine's own address."""
        return self.machines[name].addresses[0]

    def address(self, name: str) -> Address | None:
        """A machine's own address as its device has it."""
        own = self.own(name)
        return next((item for item in self.addresses if item.at.ns == name and item.addr.ip == own), None)

    def cable(self, pod: str) -> tuple[Link | None, Link | None]:
        """The pod's device, and the other end of its cable."""
        address = self.address(pod)
        link = self.links.get(address.at) if address is not None else None
        return link, self.links.get(link.peer) if link is not None and link.peer is not None else None

    def belongs(self, namespace: str) -> str:
        """The node that a namespace is, or is a part of; itself if that is none."""
        machine = self.machines.get(namespace)
        return machine.on or namespace if machine is not None else namespace


def parts(machines: Iterable[Machine], node: str) -> frozenset[str]:
    """A node with the namespaces beside it that are not pods."""
    return frozenset({node, *(one.name for one in machines if one.on == node and one.role not in INNER)})


@dataclass(frozen=True, slots=True)
class Skipped:
    """A lab that could not be built or asked, and why. `code` is the exit code that the reason has by itself."""

    title: str
    model: str
    reason: str
    code: int = 4


Column: TypeAlias = Facts | Skipped


def approximations(column: Column) -> tuple[Part, ...]:
    """What was built otherwise since the kernel lacks a feature."""
    return () if isinstance(column, Skipped) else column.lab.approximations

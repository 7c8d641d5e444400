"""The measurements of one lab, as frozen data: results of probes, kernel objects, times. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeAlias

from labctl.compare.roles import Roles
from labctl.core.fidelity import Fidelity
from labctl.core.observations import Answer
from labctl.core.resources import IP, Address, Interface, Link, Plan
from labctl.core.results import Sighting
from labctl.core.scenario_types import Check, Lab, Machine
from labctl.core.topology import LEAF_ROLES

# came: the target answered; elsewhere: another machine answered; silent: it is proven that no reply came
ProbeOutcome: TypeAlias = Literal["came", "elsewhere", "silent", "inconclusive"]
NOT_ASKED = "not asked"  # the reason why there is no measurement: no row that counts needs it


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """One question that was asked with a marked packet: the outcome, the sentences that support it, and the sightings
    of the request in order of time. `blocked` means that the kernel of the source did not send it."""

    check: Check
    outcome: ProbeOutcome
    reasons: tuple[str, ...] = ()
    requests: tuple[Sighting, ...] = ()
    blocked: bool = False

    @property
    def arrival(self) -> Sighting | None:
        """The sighting of the request as it entered its target. A frame for another machine, which a switch flooded
        there, counts only if there is no other."""
        arrivals = [
            sighting for sighting in self.requests if sighting.at.ns == self.check.target and sighting.direction == "in"
        ]
        return next((sighting for sighting in arrivals if not sighting.otherhost), arrivals[-1] if arrivals else None)

    def departure(self, namespaces: Collection[str]) -> Sighting | None:
        """The last sighting of the request as it left one of these namespaces."""
        departures = [
            sighting for sighting in self.requests if sighting.at.ns in namespaces and sighting.direction == "out"
        ]
        return departures[-1] if departures else None


@dataclass(frozen=True, slots=True)
class ServiceProbe:
    """One connection to a Service, or one that a policy denies: its answer and what was captured of it."""

    check: Check
    answer: Answer
    detail: str = ""
    requests: tuple[Sighting, ...] = ()
    replies: tuple[Sighting, ...] = ()

    def arrival(self, machine: str) -> Sighting | None:
        """The last sighting of the request as it entered a machine."""
        found = [one for one in self.requests if one.at.ns == machine and one.direction == "in" and not one.otherhost]
        return found[-1] if found else None


@dataclass(frozen=True, slots=True)
class PathMtu:
    """The largest IP packet (in bytes) that passed between two pods, and the proof that one more byte does not."""

    largest_bytes: int | None
    evidence: tuple[str, ...] = ()
    proven: bool = True


@dataclass(frozen=True, slots=True)
class ExtraPod:
    """The same lab with one more pod: the pod's name, its node, the kernel objects then, and the machines."""

    pod: str
    node: str
    plan: Plan
    machines: tuple[Machine, ...] = ()


@dataclass(frozen=True, slots=True)
class Timings:
    """Between two pods: a round trip in seconds, a TCP stream in bits per second. If None, `error` is the reason."""

    round_trip_s: float | None
    bits_per_s: float | None
    error: str = ""


@dataclass(frozen=True)
class Measurements:
    """All measurements of one lab. A text in place of a measurement is the reason why there is none."""

    title: str
    lab: Lab
    roles: Roles
    plan: Plan
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    # the inode number of each machine's network namespace
    netns_inodes: Mapping[str, int] = field(default_factory=dict)
    probe_results: Mapping[str, ProbeResult | str] = field(default_factory=dict)
    path_mtu: PathMtu | str = ""
    extra_pod: ExtraPod | str = ""
    timings: Timings | str = ""
    service_probes: Mapping[str, ServiceProbe | str] | str = ""
    seconds: float = 0.0

    @cached_property
    def links(self) -> dict[Interface, Link]:
        """Every device of the lab."""
        return {item.at: item for item in self.plan if isinstance(item, Link)}

    @cached_property
    def addresses(self) -> tuple[Address, ...]:
        """Every address of the lab."""
        return tuple(item for item in self.plan if isinstance(item, Address))

    @cached_property
    def machines(self) -> dict[str, Machine]:
        """The machines by name."""
        return {one.name: one for one in self.lab.machines}

    def interfaces_of(self, ip: IP) -> tuple[Interface, ...]:
        """The devices that have an address."""
        return tuple(item.at for item in self.addresses if item.addr.ip == ip)

    def address_of(self, name: str) -> IP:
        """A machine's first address."""
        return self.machines[name].addresses[0]

    def address(self, name: str) -> Address | None:
        """A machine's first address, with its device and prefix length."""
        ip = self.address_of(name)
        return next((item for item in self.addresses if item.at.ns == name and item.addr.ip == ip), None)

    def veth_pair(self, pod: str) -> tuple[Link | None, Link | None]:
        """The pod's device, and the other end of its cable."""
        address = self.address(pod)
        link = self.links.get(address.at) if address is not None else None
        return link, self.links.get(link.peer) if link is not None and link.peer is not None else None

    def node_of(self, namespace: str) -> str:
        """The node that a namespace belongs to; the namespace itself if it belongs to none."""
        machine = self.machines.get(namespace)
        return machine.on or namespace if machine is not None else namespace


def node_namespaces(machines: Iterable[Machine], node: str) -> frozenset[str]:
    """A node and its other namespaces that are not pods."""
    return frozenset({node, *(one.name for one in machines if one.on == node and one.role not in LEAF_ROLES)})


@dataclass(frozen=True, slots=True)
class Skipped:
    """A lab that could not be built or measured, and why. `code` is the exit code of that reason."""

    title: str
    model: str
    reason: str
    code: int = 4


Column: TypeAlias = Measurements | Skipped


def approximations(column: Column) -> tuple[Fidelity, ...]:
    """The substitutes that were built because the kernel lacks a feature."""
    return () if isinstance(column, Skipped) else column.lab.approximations

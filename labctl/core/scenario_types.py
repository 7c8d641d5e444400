"""The contents of a scenario file, as frozen data. Every `Scenario` is valid: `labctl.scenario.parser` creates it.

Machines are always given by name; addresses appear only where the author of the file wrote one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from labctl.core.address_use import AddressUse
from labctl.core.fidelity import Fidelity
from labctl.core.iptables import Backend
from labctl.core.resources import IP, Interface, Plan
from labctl.core.text import count, short_repr

if TYPE_CHECKING:
    from labctl.core.exercise_types import Exercise
    from labctl.core.lesson_types import Lesson

MachineRole: TypeAlias = Literal["host", "node", "pod", "container", "vm", "fabric", "internet", "namespace", "machine"]
Protocol: TypeAlias = Literal["tcp", "udp"]
PublishedProtocol: TypeAlias = Literal["tcp", "udp", "sctp"]
Expect: TypeAlias = Literal["reply", "fail", "refused", "timeout"]
MeshGroups: TypeAlias = tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]
ANSWER_TIMEOUT_S = 5.0  # seconds that an answer may take
SILENCE_S = 1.0  # seconds after which a missing answer counts


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine of the lab, for people and for checks: its role, the node it runs on, its addresses.

    The first address is the main one: the machine's name stands for it in checks and in /etc/hosts. `netns_of`
    is the machine that it shares a network namespace with, if it has none itself (a container on Docker's `host`).
    """

    name: str
    role: MachineRole
    addresses: tuple[IP, ...] = ()
    on: str | None = None
    netns_of: str | None = None


@dataclass(frozen=True, slots=True)
class VirtualAddress:
    """An address that no machine has, and that leads to one of several machines: that of a Kubernetes Service.

    `names` are what people may write for it, `ips` its addresses, the main one first. `kind` is the Service's type,
    `ports` are its ports as kubectl prints them: `80:30080/TCP`. `elsewhere` are addresses behind it that no pod has,
    such as that of a database outside of the cluster.
    """

    names: tuple[str, ...]
    ips: tuple[IP, ...]
    machines: tuple[str, ...] = ()
    kind: str = "ClusterIP"
    ports: tuple[str, ...] = ()
    elsewhere: tuple[IP, ...] = ()


ENDPOINT_FIELDS = ("src", "dst", "outer_src", "outer_dst")  # fields of a See that name a machine, a point or an address


@dataclass(frozen=True, slots=True)
class PortRange:
    """Some ports in a row, as a file writes them: `443`, `1024-2047`."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return f"{self.first}" if self.first == self.last else f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class See:
    """What the request (or reply) packet of a check must look like at one device.

    `src` and `dst` are a machine's name (its main address), a point (`node1/cbr0`) or an address. `ttl` is
    the IPv4 time to live or IPv6 hop limit. `encap` is `none` or an encapsulation, e.g. `vxlan` or `vxlan 42`;
    `outer_src` and `outer_dst` are the endpoints of that tunnel, given like `src` and `dst`.
    `direction` is `in`, `out` or None for either; leaving packets are seen after NAT. `packet` selects a packet of
    the check: the request, the reply, or the ARP request (IPv6: the neighbour solicitation) for `dst`.
    `negate` makes it a `not see:`: no such packet passed there, with positive evidence. `sport` are the source ports
    that a packet of TCP or UDP may have there.
    """

    at: Interface
    src: str | None = None
    dst: str | None = None
    ttl: int | None = None
    encap: str | None = None
    direction: Literal["in", "out"] | None = None
    packet: Literal["request", "reply", "arp"] = "request"
    negate: bool = False
    outer_src: str | None = None
    outer_dst: str | None = None
    sport: PortRange | None = None


@dataclass(frozen=True, slots=True)
class OpenConnections:
    """TCP connections that stay open while a check sends its probe: their number, and their ends as in a check."""

    count: int
    source: str
    target: str
    port: int

    def __str__(self) -> str:
        return f"{self.count} x {self.source} -> {self.target}:{self.port}"


@dataclass(frozen=True, slots=True)
class Check:
    """One claim that packets can prove. `say` is its sentence for people.

    `ping`, `tcp`, `udp` go from `source` (a machine) to `target` (a machine, a point or an address). `sport` is the
    source port of `tcp` and `udp`, None for an unused port. labctl starts the listener in the target, unless `listen`
    is False; with `server`, it starts it on that machine and port, which must answer behind an address translation.
    `within` is the time limit in seconds, None for the default (see `timeout_s`).
    `mesh` proves that in every group each source reaches each target and is seen there with its own address; a large
    mesh asks a sample of its pairs, or with `pairs` "all" every one (see `labctl.core.mesh_pairs`). `taken`
    claims that no other process in `source` can listen on the port, because one listens already; `protocol` belongs to
    that port. `cni` calls the plugins that attached the pods (CHECK). `via` selects what captures: labctl's taps or the
    real tcpdump. `size` is the number of bytes that a ping carries, never in fragments; with `expect: fail` it claims
    that the packet is too big. `while_open` are connections that are open already when a probe of `tcp` is sent.
    `balance` makes `connections` connections by `protocol`, which the machines of `answered_by` must answer, and no
    others, in the shares of the weights there; with `sticky`, one of them all. `saw` is what they must see as the
    client: machines, points or addresses. `host` and `path` are those of the HTTP request.
    `http` is one HTTP request, which must be answered with `status`, and if named by a machine of `answered_by`, which
    sees one of `saw` as the client and has `forwarded_for` (a machine, a point or an address) in X-Forwarded-For.
    """

    say: str
    probe: str  # the name of its kind: `labctl.core.probe_kinds`
    source: str = ""
    target: str = ""
    port: int | None = None
    expect: Expect = "reply"
    listen: bool = True
    server: tuple[str, int] | None = None
    within: float | None = None
    via: Literal["tap", "tcpdump"] = "tap"
    size: int | None = None
    sees: tuple[See, ...] = ()
    groups: MeshGroups = ()
    protocol: Protocol = "tcp"
    origin: Literal["scenario", "model"] = "scenario"
    sport: int | None = None
    pairs: Literal["sample", "all"] = "sample"
    answered_by: tuple[tuple[str, int], ...] = ()
    saw: tuple[str, ...] = ()
    connections: int | None = None
    sticky: bool = False
    host: str = ""
    path: str = "/who"
    while_open: OpenConnections | None = None
    status: int = 200
    forwarded_for: str = ""

    @property
    def expects_no_answer(self) -> bool:
        """Whether the check claims that no answer comes."""
        return self.expect in ("fail", "timeout")

    @property
    def timeout_s(self) -> float:
        """Its time limit in seconds: `within`, else 5 to wait for an answer, or 1 if no answer is expected."""
        if self.within is not None:
            return self.within
        return SILENCE_S if self.expects_no_answer else ANSWER_TIMEOUT_S


@dataclass(frozen=True, slots=True)
class PublishedPort:
    """A port of a container published on its host, as in `docker run -p`: `[address:]host_port:port[/protocol]`.

    `count` ports from both on are published, if it is more than one: `8000-8010:8000-8010`. The address 0.0.0.0 means
    all IPv4 addresses of the host, `::` all IPv6 addresses.
    """

    host_port: int
    port: int
    protocol: PublishedProtocol = "tcp"
    address: IPv4Address | IPv6Address | None = None  # None: all addresses of the host
    count: int = 1

    @property
    def each(self) -> tuple[PublishedPort, ...]:
        """The published ports of a range, one by one."""
        if self.count == 1:
            return (self,)
        return tuple(
            PublishedPort(self.host_port + number, self.port + number, self.protocol, self.address)
            for number in range(self.count)
        )

    def __str__(self) -> str:
        prefix = (
            "" if self.address is None else f"[{self.address}]:" if self.address.version == 6 else f"{self.address}:"
        )
        last = self.count - 1
        ports = (f"{first}-{first + last}" if last else str(first) for first in (self.host_port, self.port))
        return prefix + ":".join(ports) + ("" if self.protocol == "tcp" else f"/{self.protocol}")


@dataclass(frozen=True, slots=True)
class ListeningPort:
    """A port that a program in a machine listens on: `80`, `53/udp`, or with a name, as pods have them: `http=80`."""

    port: int
    protocol: Protocol = "tcp"
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        name = f"{self.name}=" if self.name else ""
        return f"{name}{self.port}" + ("" if self.protocol == "tcp" else f"/{self.protocol}")


@dataclass(frozen=True, slots=True)
class PodContainer:
    """A container of a pod: its name, and the ports its program listens on: `web:http=80`, `dns:53/udp,53`, `log`."""

    name: str
    ports: tuple[ListeningPort, ...] = ()

    def __str__(self) -> str:
        return ":".join((self.name, ",".join(map(str, self.ports)))) if self.ports else self.name


@dataclass(frozen=True, slots=True)
class NetworkRule:
    """A rule of a firewall that allows connections to a range, as the network rules of Azure Firewall do: `tcp *:443`,
    `udp 203.0.113.0/24:53`, `icmp 203.0.113.1`, `any 10.0.0.0/8`."""

    protocol: Literal["tcp", "udp", "icmp", "any"]
    destination: IPv4Network
    ports: PortRange | None = None  # None: all ports

    def __str__(self) -> str:
        goal = self.destination
        where = "*" if not goal.prefixlen else str(goal.network_address if goal.prefixlen == 32 else goal)
        return f"{self.protocol} {where}" + ("" if self.ports is None else f":{self.ports}")


@dataclass(frozen=True, slots=True)
class ScenarioNode:
    """One node (Kubernetes) or host (Docker) and the pods or containers on it, in the file's order.

    `settings` has the model's `Container` object of each pod that has settings in the file, by name.
    """

    name: str
    pods: tuple[str, ...] = ()
    settings: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class ScenarioFault:
    """A fault that the scenario file gives its lab: the name of its kind, the object (None: the first that fits)."""

    kind: str
    on: str | None = None

    def __str__(self) -> str:
        return self.kind if self.on is None else f"{self.kind}: {self.on}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A parsed scenario. `options` is the model's `Options` object, `networks` its `Network` objects by
    name, in the file's order; `raw_plan` and `raw_machines` are the content of a raw scenario.

    `substitute_features` are the kernel features for which substitutes are built. `use_substitutes` is the file's key
    `approximate`: True wants substitutes for missing features, False forbids them, None leaves the decision to the
    command line. `kubernetes` has the Services, policies and other API objects
    (`labctl.kubernetes.api.declared.Declared`), None without any. `own` is what the scenario adds to the model's lab
    (`labctl.core.own_objects.OwnObjects`), None if it adds nothing. `overlap` is the file's key: whether ranges and
    addresses may overlap.
    """

    name: str
    model: str
    nodes: tuple[ScenarioNode, ...] = ()
    options: Any = None
    checks: tuple[Check, ...] = ()
    say: str = ""
    file: str = ""
    raw_plan: Plan = ()
    raw_machines: tuple[Machine, ...] = ()
    networks: tuple[tuple[str, Any], ...] = ()
    substitute_features: frozenset[str] = frozenset()
    use_substitutes: bool | None = None
    faults: tuple[ScenarioFault, ...] = ()
    kubernetes: Any = None
    own: Any = None
    overlap: bool = False

    @property
    def pods(self) -> tuple[tuple[ScenarioNode, str], ...]:
        """Every pod (or container) with its node, in order."""
        return tuple((node, pod) for node in self.nodes for pod in node.pods)


@dataclass(frozen=True, slots=True)
class Lab:
    """A scenario, compiled by its model: everything that is needed to build and check it. Pure data.

    `parts` are the model's parts with their grades, `substitute_features` the kernel features that have substitutes.
    `firewall` is the back end that its rules are written with. `faults` are the faults of the scenario file: `plan` is
    the lab without them. `kubernetes` is the state of its cluster (`labctl.kubernetes.api.cluster_state.ClusterState`),
    None without Services, policies and the like. `virtual_addresses` are those of its Services. `warnings` are for the
    person who wrote the file: what was left out. `address_use` says how many addresses of its ranges it takes, for
    models that plan them. `exercise` is what a learner is asked; if it leaves objects out, `plan` is the lab without
    them, and `goal_plan` the whole one. `lesson` is what it is built for.
    """

    name: str
    model: str
    plan: Plan
    machines: tuple[Machine, ...]
    checks: tuple[Check, ...]
    say: str = ""
    parts: tuple[Fidelity, ...] = ()
    substitute_features: tuple[str, ...] = ()
    use_substitutes: bool | None = None
    firewall: Backend = "legacy"
    faults: tuple[ScenarioFault, ...] = ()
    kubernetes: Any = None
    warnings: tuple[str, ...] = ()
    virtual_addresses: tuple[VirtualAddress, ...] = ()
    address_use: tuple[AddressUse, ...] = ()
    exercise: Exercise | None = None
    goal_plan: Plan = ()
    lesson: Lesson | None = None

    def __repr__(self) -> str:
        parts = ((self.machines, "machine"), (self.plan, "object"), (self.checks, "check"))
        return short_repr(self, f"{self.name}: {self.model}, {', '.join(count(len(one), noun) for one, noun in parts)}")

    @property
    def approximations(self) -> tuple[Fidelity, ...]:
        """The parts that are built as their substitutes, because the kernel lacks their feature."""
        return tuple(part for part in self.parts if part.grade == "needs" and part.feature in self.substitute_features)

    def machine(self, name: str) -> Machine | None:
        """The machine of that name, or None."""
        return next((machine for machine in self.machines if machine.name == name), None)


def with_netns_names(check: Check, netns_of: dict[str, str]) -> Check:
    """A check with machine names replaced by namespaces: `netns_of` maps a machine without a namespace to the
    machine that owns the namespace."""

    def netns_name(name: str) -> str:
        return netns_of.get(name, name)

    def with_names(see: See) -> See:
        ends = {name: netns_name(endpoint) for name in ENDPOINT_FIELDS if (endpoint := getattr(see, name))}
        return replace(see, at=Interface(netns_name(see.at.ns), see.at.dev), **ends)  # type: ignore[arg-type]

    sees = tuple(map(with_names, check.sees))
    server = None if check.server is None else (netns_name(check.server[0]), check.server[1])
    groups = tuple(
        (tuple(name for name in one if name not in netns_of), tuple(name for name in other if name not in netns_of))
        for one, other in check.groups
    )
    held = check.while_open
    if held is not None:
        held = replace(held, source=netns_name(held.source), target=netns_name(held.target))
    ends = {"source": netns_name(check.source), "target": netns_name(check.target)}
    return replace(check, **ends, server=server, sees=sees, groups=groups, while_open=held)  # type: ignore[arg-type]

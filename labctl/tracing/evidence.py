"""All that was recorded about one probe, as frozen data: enough to explain it later without a kernel.

`JSON_KEYS` of a class are the published keys of fields that have another name there (docs/json.md).
Times are nanoseconds since the probe was sent. A device (`dev`) is in the namespace `node`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Literal, TypeAlias

from labctl.core.neighbour_tables import FullTable
from labctl.core.observations import Answer, Flow, KernelEvent, NftMatch, PacketRole, RouteLookup, RuleRole
from labctl.core.resources import IP, Address, Chain, Fdb, Interface, Link, Neighbour, Route, Rule
from labctl.core.sentence import sentence
from labctl.core.snat_ports import PortUse
from labctl.core.text import count, short_repr
from labctl.tracing.hops import Hop, PacketDirection, PacketObservation, path

BEFORE_CONNTRACK = -200  # chains of this priority and below meet a packet before conntrack does
ROLES: tuple[PacketRole, ...] = ("request", "reply", "error")
TraceProtocol: TypeAlias = Literal["icmp", "tcp", "udp"]


@dataclass(frozen=True, slots=True)
class ListenPoint:
    """A port on which labctl itself listens during a trace, in the namespace `node`; None if no machine of the lab has
    the target's address."""

    node: str | None
    port: int


@dataclass(frozen=True, slots=True)
class Question:
    """The trace that was requested: the source, the target and the probe.

    `target_ns` is the namespace that has the address, None if no machine of the lab has it. `size` is the payload in
    bytes, None for the default. Without `fragment`, the DF bit is set: no router may fragment the packet. `sport` is
    the source port of a TCP or UDP probe, None for an unused one. `listener` is where labctl listens, None if it does
    not. `service` is what the cluster knows about the address and port, "" if that is nothing. `health_port` is where
    the load balancer that has the address checks its nodes: 0 if it does not serve the port, None if there is none.
    """

    JSON_KEYS: ClassVar[Mapping[str, str]] = {"target_ns": "home"}

    lab: str
    source: str
    target: str
    address: IP
    target_ns: str | None
    protocol: TraceProtocol
    port: int | None = None
    size: int | None = None
    fragment: bool = False
    sport: int | None = None
    listener: ListenPoint | None = None
    service: str = ""
    health_port: int | None = None


@dataclass(frozen=True, slots=True)
class RuleHit:
    """A firewall rule, policy or return that the packet matched, in order. `number` counts from 1. `rule` is its text,
    "" if it could not be read. `src` and `dst` are the packet's addresses at that moment, `dport` is its destination
    port, None for ICMP. A neighbour solicitation or advertisement is about the address `neighbour`; it is None for
    packets of the probe. If the rule is a RETURN or ACCEPT of nat/POSTROUTING, `skipped` is the rule after it in the
    same chain that would have translated the source: `MASQUERADE in rule 5`. `only_some_sources` means that the rule
    or policy ends the way of all packets except those with certain source addresses: it has `! -s`, or rules with `-s`
    before it let packets pass. `passing_states` are the states of conntrack, ESTABLISHED and NEW, that do not end
    there: the rule matches other states only, or rules before it accept them. `nft` is set for a rule of an nft table
    that iptables did not write: then `rule` is in nft's words, and `target` is what iptables would call the same."""

    node: str
    role: RuleRole
    family: str
    hook: int
    table: str
    chain: str
    kind: Literal["rule", "policy", "return"]
    number: int
    src: IP
    dst: IP
    iif: str = ""
    oif: str = ""
    mark: int = 0
    rule: str = ""
    target: str = ""
    dport: int | None = None
    neighbour: IP | None = None
    skipped: str = ""
    only_some_sources: bool = False
    passing_states: tuple[str, ...] = ()
    nft: NftMatch | None = None

    @property
    def purpose(self) -> str:
        """What the table is for, in the words of iptables: `nat`, `raw` (before conntrack), `mangle`, `filter`."""
        if self.nft is None:
            return self.table
        if self.nft.type == "nat":
            return "nat"
        return "raw" if self.nft.priority <= BEFORE_CONNTRACK else "filter"

    @property
    def base(self) -> tuple[str, ...]:
        """What identifies the base chain by which the packet came to the rule."""
        if self.nft is None:
            return ("iptables", self.family, self.table, str(self.hook))
        return ("nft", self.family, self.table, self.nft.base)


@dataclass(frozen=True, slots=True)
class CounterIncrease:
    """A firewall rule (`number` from 1) or policy (0) with a counter that increased while the probe was under way.
    `packets` is 0 for the policy DROP of a chain of ebtables, which has no counter. `only_some_sources` is that of
    `RuleHit`."""

    node: str
    family: str
    table: str
    chain: str
    number: int
    packets: int
    rule: str
    target: str
    only_some_sources: bool = False


@dataclass(frozen=True, slots=True)
class NamespaceState:
    """The state of one namespace after the probe, as far as it may explain a loss there. `no_carrier` names the
    devices that are up but have no carrier. `listening` has entries such as `tcp 127.0.0.1:80`. `counters` are those
    that increased, with the increase. `rules` are those of policy routing with the kernel's own; empty if they were not
    read. `tables` are the tables of iptables and ip6tables that it has: `ip nat`."""

    JSON_KEYS: ClassVar[Mapping[str, str]] = {"no_carrier": "carrier"}

    node: str
    links: tuple[Link, ...] = ()
    addresses: tuple[Address, ...] = ()
    routes: tuple[Route, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    fdb: tuple[Fdb, ...] = ()
    sysctls: Mapping[str, str] = field(default_factory=dict)
    no_carrier: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    counters: Mapping[str, int] = field(default_factory=dict)
    rules: tuple[Rule, ...] = ()
    tables: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnansweredNeighbour:
    """A neighbour (`ip`) that did not answer a request for its MAC address at a device."""

    node: str
    dev: str
    ip: IP


@dataclass(frozen=True, slots=True)
class NeighbourObservation:
    """A question for the MAC address of `ip` (ARP or neighbour solicitation), or an answer to it, when a device first
    saw it. `outer` are the addresses of the tunnel that carries it; then `mac` is that of the tunnel's frame."""

    node: str
    dev: str
    direction: PacketDirection
    when: int
    ip: IP
    is_request: bool
    src: IP
    mac: tuple[str, str] | None = None  # source, destination
    outer: tuple[IP, IP] | None = None


@dataclass(frozen=True, slots=True)
class NatTable:
    """The chains of the nat table in a namespace, read after the probe; none if there is no such table."""

    node: str
    chains: tuple[Chain, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyDenial:
    """What the policies of the lab's cluster say about the probe, in the form that it had with these addresses and this
    port (None for ICMP): they deny it. `direction` is `Egress` or `Ingress`, `pod` the pod that is asked, by its name
    in the lab, `node` its node, and `chains` those there in which a policy engine drops or rejects it; `reason` names
    the policy and why it denies."""

    node: str
    src: IP
    dst: IP
    dport: int | None
    direction: Literal["Ingress", "Egress"]
    pod: str
    chains: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class TraceEvidence:
    """Everything about one probe. `unknown` are sentences about what could not be observed, and why. `pid` is the
    thread that sent the probe. `lost_events` counts kernel events that were lost because a buffer was full."""

    JSON_KEYS: ClassVar[Mapping[str, str]] = {
        "detail": "said",
        "namespaces": "rooms",
        "observations": "crossings",
        "rule_hits": "met",
        "counter_increases": "moved",
        "unanswered_neighbours": "asked",
        "lost_events": "missed",
        "looping": "circling",
        "drops_traced": "traced",
        "rules_traced": "ruled",
    }

    question: Question
    answer: Answer
    detail: str
    pid: int
    namespaces: tuple[NamespaceState, ...]
    observations: tuple[PacketObservation, ...] = ()
    rule_hits: tuple[RuleHit, ...] = ()
    counter_increases: tuple[CounterIncrease, ...] = ()
    events: tuple[KernelEvent, ...] = ()
    lookups: tuple[RouteLookup, ...] = ()
    flows: tuple[Flow, ...] = ()
    unanswered_neighbours: tuple[UnansweredNeighbour, ...] = ()
    machines: Mapping[str, tuple[IP, ...]] = field(default_factory=dict)
    lost_events: int = 0
    unknown: tuple[str, ...] = ()
    looping: tuple[Interface, ...] = ()  # the devices where frames circulate in a loop of bridges
    drops_traced: bool = True  # False: the kernel's drops were not recorded
    rules_traced: bool = True  # False: not all rules that the packet matched were recorded
    seconds: float = 0.0
    neighbour_observations: tuple[NeighbourObservation, ...] = ()
    # only for a chosen source port: the probe's entries of conntrack that were there before it, and the rules there
    flows_before: tuple[Flow, ...] = ()
    nat_tables: tuple[NatTable, ...] = ()
    port_uses: tuple[PortUse, ...] = ()  # of the rules that translate the probe's source to a range of ports
    full_tables: tuple[FullTable, ...] = ()  # the machine's neighbour tables that were full meanwhile
    policy_denials: tuple[PolicyDenial, ...] = ()  # by the policies of the lab's cluster; none if it was answered

    def __repr__(self) -> str:
        asked = self.question
        parts = ((self.observations, "observation"), (self.rule_hits, "rule hit"), (self.events, "kernel event"))
        counts = ", ".join(count(len(one), noun) for one, noun in parts)
        return short_repr(
            self, f"{asked.lab}: {asked.protocol} {asked.source} -> {asked.target}: {self.answer}, {counts}"
        )

    @cached_property
    def hops(self) -> Mapping[PacketRole, tuple[Hop, ...]]:
        """The hops of the request, of its reply, and of the first ICMP error; worked out once, when first needed."""
        ends = {"request": self.question.target_ns, "reply": self.question.source, "error": self.question.source}
        return {role: path(self.observations, role, ends[role], self.link) for role in ROLES}

    @property
    def unknown_lines(self) -> tuple[str, ...]:
        """The sentences about what could not be observed."""
        if not self.lost_events:
            return self.unknown
        lost = sentence(
            "{number} kernel events were lost because of the load: a drop may have been missed", number=self.lost_events
        )
        return (*self.unknown, lost)

    def with_details(self, **fields: Any) -> TraceEvidence:
        """A copy with other values of these fields. It keeps the hops, unless a field decides about them."""
        copy = replace(self, **fields)
        if not fields.keys() & {"question", "namespaces", "observations"}:
            vars(copy)["hops"] = self.hops
        return copy

    def namespace(self, node: str) -> NamespaceState:
        """The state of a namespace; empty if it was not read."""
        return self._namespaces.get(node) or NamespaceState(node)

    def link(self, node: str, dev: str) -> Link | None:
        """A device of a namespace; None if it is not known."""
        return self._links.get((node, dev))

    @cached_property
    def _namespaces(self) -> dict[str, NamespaceState]:
        return {state.node: state for state in reversed(self.namespaces)}

    @cached_property
    def _links(self) -> dict[tuple[str, str], Link]:
        return {(node, link.at.dev): link for node, state in self._namespaces.items() for link in reversed(state.links)}

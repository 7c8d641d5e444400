"""The kernel objects of a lab, as frozen data: the same types for the wanted and for the observed state.

A model yields these objects, and `labctl.kernel` reads the same types back, so that drift, dry-run, repair and
idempotence all use one `diff`. Nothing here does I/O.

The order of the `Resource` union *is* the order of creation (namespaces, then links, then sysctls, addresses, ...);
within a kind the author's order counts. There is no dependency graph.

`None` in a wanted field means "any" (a MAC address or an MTU that the model does not fix). Every type has a `key`,
which identifies the object, apart from its values: the same key with other values is a change. `why` is the reason
of the object (`labctl.core.why`), for readers: it is not a part of the value.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from functools import cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from itertools import chain
from typing import Any, TypeAlias, get_args

from labctl.core.iptables import FirewallRule
from labctl.core.why import Reason, RuleReasons

RT_TABLE_MAIN = 254  # the kernel's main routing table
ROUTE_PROTOCOLS = {2: "kernel", 3: "boot", 4: "static", 12: "bird"}  # the program that created a route (rt_protos)
ALL_ZEROS_MAC = "00:00:00:00:00:00"  # of a VXLAN device's entry for all unknown addresses
TRANSIENT_NUD_STATES = frozenset({"probe", "stale", "reachable", "delay", "incomplete", "failed"})


IP: TypeAlias = IPv4Address | IPv6Address
Net: TypeAlias = IPv4Network | IPv6Network
InterfaceAddress: TypeAlias = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True, order=True)
class Interface:
    """One device of one namespace, written `node1/eth0`."""

    ns: str
    dev: str

    def __str__(self) -> str:
        return f"{self.ns}/{self.dev}"


@dataclass(frozen=True, slots=True)
class Netns:
    """A network namespace, by its short name in the lab."""

    name: str
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("netns", self.name)

    @property
    def ns(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Link:
    """A network device. A veth pair is two of these that name each other as `peer`.

    `kind` is the kernel's link kind (`veth`, `bridge`, `vxlan`, `macvlan`, ...), `loopback` for lo. `options` are the
    settings of the kind in iproute2's words, e.g. `("id", "42"), ("dstport", "4789")`. `txqueuelen` is the length of
    its transmit queue in packets; None leaves the kernel's default, which is 1000 for most kinds. `autoconf` turns IPv6
    autoconfiguration on (a link-local address, router solicitations); without it the link gets addr_gen_mode none at
    creation. `link_netns` is the namespace that the link is created in before it moves here, and where a VXLAN device
    keeps its socket; None means that it is created here.
    """

    at: Interface
    kind: str
    peer: Interface | None = None
    master: str | None = None
    mtu: int | None = None
    mac: str | None = None
    txqueuelen: int | None = None
    up: bool = True
    promisc: bool = False
    arp: bool = True
    hairpin: bool = False
    isolated: bool = False
    autoconf: bool = False
    options: tuple[tuple[str, str], ...] = ()
    link_netns: str | None = None
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("link", self.at.ns, self.at.dev)

    @property
    def ns(self) -> str:
        return self.at.ns


@dataclass(frozen=True, slots=True)
class Sysctl:
    """One kernel setting of a namespace, named as in sysctl(8). A dot in a device name is a slash: `eth0/100`."""

    ns: str
    name: str
    value: str
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("sysctl", self.ns, self.name)


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a device with its prefix length.

    `connected` is whether the kernel's route to the prefix (`proto kernel`) exists. It does unless a program
    deleted it, as Azure CNI does in its pods. None if that is unknown.
    """

    at: Interface
    addr: InterfaceAddress
    connected: bool | None = True
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("address", self.at.ns, self.at.dev, self.addr)

    @property
    def ns(self) -> str:
        return self.at.ns


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A neighbour entry (ARP or NDP). `state` is the kernel's NUD state with which it was added; an entry in a
    transient state (`probe`, ...) may expire, which is not drift. `proxy` entries answer for `ip` and have no MAC
    address."""

    at: Interface
    ip: IP
    mac: str | None
    state: str = "permanent"
    proxy: bool = False
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("neighbour", self.at.ns, self.at.dev, self.ip, self.proxy)

    @property
    def ns(self) -> str:
        return self.at.ns


@dataclass(frozen=True, slots=True)
class Fdb:
    """A static forwarding entry: of a bridge port (`dst` is None) or of a VXLAN device (`dst` is the remote VTEP).

    `via` is the lower device that a VXLAN device's packets to `dst` leave by. None means any."""

    at: Interface
    mac: str
    dst: IP | None = None
    via: str | None = None
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("fdb", self.at.ns, self.at.dev, self.mac, self.dst)

    @property
    def ns(self) -> str:
        return self.at.ns


@dataclass(frozen=True, slots=True)
class NextHop:
    """One of several next hops of a multipath route. The kernel chooses one for each flow, by `weight` (1 to 256)."""

    via: IP | None = None
    dev: str | None = None
    weight: int = 1
    onlink: bool = False


@dataclass(frozen=True, slots=True)
class Route:
    """A route. `kind` is the kernel's type (`unicast`, `unreachable`, `blackhole`, `prohibit`, ...), `src` the
    preferred source. Without `scope` it follows from the other fields, as in iproute2 (`link` without `via`). `proto`
    is the kernel's number of the program that created it (rt_protos; None means any). `encap` is the identifier and
    the remote address of a light-weight tunnel (`encap ip id N dst ADDRESS`), for a flow-based device. A multipath
    route has `nexthops` instead of `via` and `dev`. `nhid` is the number of the nexthop object that the route uses
    (`ip nexthop`; None means any)."""

    ns: str
    dst: Net
    via: IP | None = None
    dev: str | None = None
    table: int = RT_TABLE_MAIN
    metric: int = 0
    kind: str = "unicast"
    src: IP | None = None
    onlink: bool = False
    mtu: int | None = None
    tos: int = 0
    scope: str | None = None
    proto: int | None = None
    encap: tuple[int, IP] | None = None
    nexthops: tuple[NextHop, ...] = ()
    nhid: int | None = None
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("route", self.ns, self.dst, self.table, self.metric, self.tos)


@dataclass(frozen=True, slots=True)
class Rule:
    """A policy-routing rule (`ip rule`). `family` is 4 or 6, `invert` is the `not` of `ip rule`. The kernel's default
    rules are implied."""

    ns: str
    pref: int
    table: int = RT_TABLE_MAIN
    family: int = 4
    src: Net | None = None
    dst: Net | None = None
    iif: str | None = None
    oif: str | None = None
    mark: int | None = None
    mask: int | None = None
    kind: str = "lookup"
    invert: bool = False
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        match = (self.src, self.dst, self.iif, self.oif, self.mark, self.invert)
        return ("rule", self.ns, self.family, self.pref, *match)


@dataclass(frozen=True, slots=True)
class IpSet:
    """An IP set of addresses (`hash:ip`), networks (`hash:net`), or addresses with a port (`hash:ip,port`) that rules
    match: `-m set --match-set NAME src`, for ports `dst,dst`.

    `members` are sorted texts as ipset(8) prints them (`labctl.core.ipset_members`). `family` is inet (IPv4) or inet6.
    """

    ns: str
    name: str
    kind: str = "hash:net"
    members: tuple[str, ...] = ()
    family: str = "inet"
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("ipset", self.ns, self.name)


@dataclass(frozen=True, slots=True)
class Chain:
    """A firewall chain with all its rules. The order of rules matters, so a change concerns the chain and not one rule.

    `family` is `ip`, `ip6` (iptables) or `bridge` (ebtables). `policy` is None for a user-defined chain of
    iptables; ebtables has a policy for these as well, ACCEPT by default. A missing built-in chain equals one with
    policy ACCEPT and no rules.
    """

    ns: str
    table: str
    name: str
    rules: tuple[FirewallRule, ...] = ()
    policy: str | None = None
    family: str = "ip"
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)
    rule_whys: tuple[RuleReasons, ...] = field(default=(), compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("chain", self.ns, self.family, self.table, self.name)


@dataclass(frozen=True, slots=True)
class NftObject:
    """A table of nft, or one object in a table: a chain, set, map, flowtable, counter, ... Its words are nft's own.

    `table` is the family and the name: `inet netavark`. `kind` is nft's word for the object (`table`, `chain`, `set`,
    `map`, `flowtable`, `counter`, `ct helper`), `name` is "" for the table itself. `header` has the lines that say what
    it is (`type filter hook forward priority filter; policy accept;`, `flags interval`), `entries` the rules of a chain
    or the elements of a set or map, each as `nft -s list ruleset` prints it: without counts. The order of rules
    matters, that of elements does not. In a set with the flag `dynamic`, packets add elements; these are not drift.
    """

    ns: str
    table: str
    kind: str
    name: str = ""
    header: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)
    rule_whys: tuple[RuleReasons, ...] = field(default=(), compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("nft", self.ns, self.table, self.kind, self.name)


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's device, created by the plugins of a CNI network list, which run in the node's namespace.

    `conflist` (with this node's values) and `args` (the capability arguments, by capability) are JSON text. `path` is
    the plugins' search path (CNI_PATH), "" for the default. labctl observes what the plugins created after the ADD,
    and keeps a record of it.
    """

    pod: str
    node: str
    conflist: str
    args: str = "{}"
    ifname: str = "eth0"
    path: str = ""
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("attachment", self.pod, self.ifname)

    @property
    def ns(self) -> str:
        return self.pod

    @property
    def at(self) -> Interface:
        return Interface(self.pod, self.ifname)


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs in a namespace as long as the lab runs: a container's, docker-proxy, dockerd, a pod's pause.

    `name` is unique in its namespace. `command` is the command line; its first word may be one of
    `labctl.kernel.programs` (`pause`, `serve`, `http-proxy`, `docker-proxy`, ...). A `sandbox` process holds
    its network namespace. It is the first process of a new PID namespace, in which the processes run that name it in
    `inside`; when it ends, they end too, and the network is gone. `pid` is only in observed processes; None means any.
    """

    ns: str
    name: str
    command: tuple[str, ...]
    sandbox: bool = False
    inside: str | None = None
    pid: int | None = None
    why: Reason | None = field(default=None, compare=False, repr=False, kw_only=True)

    @property
    def key(self) -> tuple[Any, ...]:
        return ("process", self.ns, self.name)


Resource: TypeAlias = (
    Netns | Link | Sysctl | Address | Neighbour | Fdb | Route | Rule | IpSet | Chain | NftObject | Attachment | Process
)
RESOURCE_TYPES: tuple[type, ...] = get_args(Resource)  # creation order is the order of this union
CREATION_ORDER = {kind: number for number, kind in enumerate(RESOURCE_TYPES)}
Plan: TypeAlias = tuple[Resource, ...]


@cache
def value_fields(kind: Any) -> tuple[str, ...]:
    """The names of the fields that are the value of a type: all but the reasons."""
    return tuple(one.name for one in fields(kind) if one.compare)


def joined_reasons(*parts: Chain | NftObject) -> dict[str, Any]:
    """The reasons of a chain that has the rules of several, as fields for `replace`."""
    why = next((one.why for one in parts if one.why is not None), None)
    return {"why": why, "rule_whys": tuple(dict.fromkeys(ask for one in parts for ask in one.rule_whys))}


def assemble(resources: Iterable[Resource]) -> Plan:
    """Sort the resources of a model into phases, keeping the author's order within a phase, and merge chains.

    A chain that is yielded several times becomes one: all its rules in order, and the last policy that is not None. So
    do objects of nft; of them, only one may have a header. A table of nft that is not yielded itself is added.
    Raises ValueError for two different objects with one key.
    """
    merged: dict[tuple[Any, ...], Chain | NftObject] = {}
    by_key: dict[tuple[Any, ...], Resource] = {}
    for item in resources:
        key = item.key
        if isinstance(item, (Chain, NftObject)):
            if isinstance(item, NftObject):
                table = NftObject(item.ns, item.table, "table")
                merged.setdefault(table.key, table)
                by_key.setdefault(table.key, table)
            if (earlier := merged.get(key)) is not None:
                item = _merge(earlier, item)
            merged[key] = item
        elif key in by_key and by_key[key] != item:
            raise ValueError(f"two different objects are both {key}: {by_key[key]} and {item}")
        by_key[key] = item
    return in_creation_order(by_key.values())


def _merge(earlier: Chain | NftObject, item: Chain | NftObject) -> Chain | NftObject:
    reasons = joined_reasons(earlier, item)
    if isinstance(item, Chain):
        assert isinstance(earlier, Chain)
        policy = item.policy if item.policy is not None else earlier.policy
        return replace(item, rules=earlier.rules + item.rules, policy=policy, **reasons)
    assert isinstance(earlier, NftObject)
    if earlier.header and item.header and earlier.header != item.header:
        raise ValueError(f"two different objects are both {item.key}: {earlier} and {item}")
    entries = earlier.entries + item.entries
    if item.kind != "chain":
        entries = tuple(dict.fromkeys(entries))
    return replace(item, header=earlier.header or item.header, entries=entries, **reasons)


def in_creation_order(resources: Iterable[Resource]) -> Plan:
    """Sort resources into phases, keeping their order within a phase."""
    phases: dict[type, list[Resource]] = {kind: [] for kind in RESOURCE_TYPES}
    for item in resources:
        phases[type(item)].append(item)
    return tuple(chain.from_iterable(phases.values()))


def attachments_of(plan: Iterable[Resource]) -> tuple[Attachment, ...]:
    """The attachments of a plan, in its order."""
    return tuple(item for item in plan if isinstance(item, Attachment))

"""The current state: the kernel's tables, converted to the plan's types."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

from labctl.core.kernel_defaults import kernel_default_rules
from labctl.core.resources import (
    IP,
    Address,
    Fdb,
    Interface,
    InterfaceAddress,
    Link,
    Neighbour,
    Net,
    Netns,
    NextHop,
    Resource,
    Route,
    Rule,
)
from labctl.kernel.host.modules import FALLBACK_DEVICES
from labctl.kernel.netlink import dump
from labctl.kernel.netlink.link_options import read_options
from labctl.kernel.netlink.messages import (
    AF_BRIDGE,
    AF_INET,
    IFAPROT_KERNEL_LL,
    IFF_LOOPBACK,
    IFF_NOARP,
    IFF_PROMISC,
    IFF_UP,
    NTF_PROXY,
    NTF_SELF,
    NUD,
    ONLINK,
    PROTO_BOOT,
    PROTO_KERNEL,
    ROUTE_KIND,
    RULE_ACTION,
    RULE_INVERT,
    SCOPES,
)
from labctl.kernel.netlink.rtnetlink import Channel

ARP_KINDS = frozenset({"veth", "bridge", "vxlan", "macvlan", "vlan", "ipvlan"})  # kinds of links that use ARP
_STATES = {number: name for name, number in NUD.items()}
_ROUTE_KINDS = {number: name for name, number in ROUTE_KIND.items()}
_RULE_KINDS = {number: name for name, number in RULE_ACTION.items()}
_SCOPES = {number: name for name, number in SCOPES.items()}
_ZERONET = IPv4Network("0.0.0.0/8")
_IGNORED_ROUTES = {"broadcast", "anycast", "multicast"}


class Snapshot:
    """All links of a lab by namespace, so that peers and masters have a name also across namespaces.

    A snapshot that is not `complete` lacks some namespaces. Then an index alone does not identify a link, because the
    link with that index may be in a missing namespace. So the kernel's namespace id (nsid) is compared as well.
    """

    def __init__(self, *, complete: bool = True) -> None:
        self._complete = complete
        self.links: dict[str, dict[int, dump.RawLink]] = {}
        self._veths: dict[tuple[int, int], list[tuple[str, dump.RawLink]]] = {}

    def add(self, ns: str, links: Iterable[dump.RawLink], wanted_down: Collection[str] = ()) -> None:
        """Add the links of one namespace. Fallback devices of modules are left out while they are down, except those
        in `wanted_down`, which the plan wants down."""
        ignored = FALLBACK_DEVICES.difference(wanted_down)
        table = {link.index: link for link in links if link.name not in ignored or link.flags & IFF_UP}
        self.links[ns] = table
        for link in table.values():
            if link.kind == "veth":
                self._veths.setdefault((link.index, link.lower_index), []).append((ns, link))

    def summary(self) -> dict[str, list[tuple[int, str, str, int, int | None]]]:
        """What another process has to know of these links, in types that `marshal` can write."""
        return {
            ns: [(link.index, link.name, link.kind, link.lower_index, link.lower_nsid) for link in table.values()]
            for ns, table in self.links.items()
        }

    def add_summary(self, summary: dict[str, list[tuple[int, str, str, int, int | None]]]) -> None:
        """Add the links that another process has read, with what its `summary` says of them."""
        for ns, found in summary.items():
            self.add(
                ns,
                (
                    dump.RawLink(index, name, IFF_UP, kind=kind, lower_index=lower, lower_nsid=nsid)
                    for index, name, kind, lower, nsid in found
                ),
            )

    def name(self, ns: str, index: int) -> str:
        """A device's name by its index; `if7` if there is none with index 7."""
        link = self.links[ns].get(index)
        return link.name if link is not None else f"if{index}"

    def index(self, at: Interface) -> int | None:
        """A device's index by its name; None if there is no such device."""
        return next((link.index for link in self.links.get(at.ns, {}).values() if link.name == at.dev), None)

    def lower(self, ns: str, link: dump.RawLink, nsid_of: Callable[[str, str], int | None]) -> str:
        """The name of a link's lower device, which may be in another namespace: the one the link was created in."""
        if link.lower_nsid is None:
            return self.name(ns, link.lower_index)
        others = [other for other, table in self.links.items() if other != ns and link.lower_index in table]
        if len(others) > 1 or not self._complete:
            others = [other for other in others if nsid_of(ns, other) == link.lower_nsid]
        return self.links[others[0]][link.lower_index].name if others else f"if{link.lower_index}"

    def peer(self, ns: str, link: dump.RawLink, nsid_of: Callable[[str, str], int | None]) -> Interface | None:
        """The other end of a veth: the link with this link's index as its peer index. If there are several, the
        kernel's namespace id decides."""
        others = [
            (other, end)
            for other, end in self._veths.get((link.lower_index, link.index), ())
            if not (other == ns and end is link) and (other == ns) == (link.lower_nsid is None)
        ]
        if len(others) > 1 or (not self._complete and link.lower_nsid is not None):
            others = [(other, end) for other, end in others if nsid_of(ns, other) == link.lower_nsid]
        return Interface(others[0][0], others[0][1].name) if others else None

    def link_netns(self, ns: str, link: dump.RawLink, nsid_of: Callable[[str, str], int | None]) -> str | None:
        """The namespace that a link was created in and moved from, where its socket or lower device still is. None if
        it was created where it is, or outside the lab's namespaces."""
        if link.kind == "veth" or link.lower_nsid is None:
            return None
        return next((other for other in self.links if other != ns and nsid_of(ns, other) == link.lower_nsid), None)


def links(snapshot: Snapshot, ns: str, nsid_of: Callable[[str, str], int | None]) -> Iterator[Link]:
    """The links of one namespace, in the plan's types."""
    for raw in snapshot.links[ns].values():
        at = Interface(ns, raw.name)
        up = bool(raw.flags & IFF_UP)
        if raw.flags & IFF_LOOPBACK:
            yield Link(at, "loopback", up=up, mtu=None)
            continue
        link_netns = snapshot.link_netns(ns, raw, nsid_of)
        # a vxlan has a separate option for its lower device, and the kernel reports the vxlan itself if it has none
        lower = snapshot.lower(ns, raw, nsid_of) if raw.lower_index and raw.kind not in ("veth", "vxlan") else None
        options = _options(snapshot, link_netns or ns, raw, lower)
        yield Link(
            at,
            raw.kind or "physical",
            peer=snapshot.peer(ns, raw, nsid_of) if raw.kind == "veth" else None,
            master=snapshot.name(ns, raw.master) if raw.master else None,
            mtu=raw.mtu,
            mac=raw.mac,
            txqueuelen=raw.txqueuelen,
            up=up,
            promisc=bool(raw.flags & IFF_PROMISC),
            arp=not _uses_arp(raw, options) or not raw.flags & IFF_NOARP,
            hairpin=raw.hairpin,
            isolated=raw.isolated,
            autoconf=raw.addr_gen_mode == 0,
            options=options,
            link_netns=link_netns,
        )


def _uses_arp(raw: dump.RawLink, options: tuple[tuple[str, str], ...]) -> bool:
    """Whether links of this kind use ARP by default. An ipvlan in a layer-3 mode does not."""
    return raw.kind in ARP_KINDS and (raw.kind != "ipvlan" or ("mode", "l2") in options)


def _options(snapshot: Snapshot, link_netns: str, raw: dump.RawLink, lower: str | None) -> tuple[tuple[str, str], ...]:
    """The options, in iproute2's words, of a link that was created in `link_netns`, with its lower device as `dev`."""
    if raw.kind == "veth":
        return ()
    found = (
        read_options(raw.kind, *raw.info_data, lambda index: snapshot.name(link_netns, index))
        if raw.info_data is not None
        else ()
    )
    return found if lower is None else (("dev", lower), *found)


def tables(
    channel: Channel, snapshot: Snapshot, ns: str, nsid_of: Callable[[str, str], int | None]
) -> Iterator[Resource]:
    """Addresses, neighbours, forwarding entries, routes and rules of one namespace."""
    addresses, routes = _addresses_and_routes(channel, snapshot, ns)
    yield from addresses
    yield from _neighbours(channel, snapshot, ns)
    if any(link.kind in ("bridge", "vxlan") for link in snapshot.links[ns].values()):
        yield from dict.fromkeys(_fdb(channel, snapshot, ns, nsid_of))  # a bridge reports one for each VLAN of a port
    yield from (route for route, is_connected in routes if not is_connected)
    for rule in dump.rules(channel):
        default = _default_rule(rule)
        yield _rule(ns, rule) if default is None else kernel_default_rules(ns, default[0])[default[1]]


def connected_routes(channel: Channel, snapshot: Snapshot, ns: str) -> Iterator[Route]:
    """The routes of one namespace that the kernel itself created for addresses, which `tables` leaves out."""
    _, routes = _addresses_and_routes(channel, snapshot, ns)
    yield from (route for route, is_connected in routes if is_connected)


def _addresses_and_routes(
    channel: Channel, snapshot: Snapshot, ns: str
) -> tuple[tuple[Address, ...], list[tuple[Route, bool]]]:
    """The addresses, and the routes, each with whether the kernel itself created it."""
    found = list(dump.routes(channel))
    kernel_routes = {
        (_network(route.dst, route.prefix_len, route.family), route.oif)
        for route in found
        if route.proto == PROTO_KERNEL
    }
    addresses = tuple(_addresses(channel, snapshot, ns, kernel_routes))
    connected = {(address.addr.network, address.at.dev) for address in addresses if address.addr.network.prefixlen < 32}
    own_addresses = {(address.addr.ip, address.at.dev) for address in addresses}
    routes = (_route(snapshot, ns, raw) for raw in found if _ROUTE_KINDS.get(raw.kind) not in _IGNORED_ROUTES)
    return addresses, [(route, _is_kernel_route(route, connected, own_addresses)) for route in routes]


def _addresses(channel: Channel, snapshot: Snapshot, ns: str, kernel_routes: set[tuple[Net, int]]) -> Iterator[Address]:
    found = list(dump.addresses(channel))
    says_protocol = any(raw.proto is not None for raw in found)  # 127.0.0.1 and ::1 have one
    for raw in found:
        index, ip, length = raw.index, raw.ip, raw.prefix_len
        link = snapshot.links[ns].get(index)
        if link is None:
            continue
        if link.addr_gen_mode == 0 and _is_autoconfigured(raw, says_protocol):
            continue  # as the link's addr_gen_mode says
        addr = _interface_address(ip, length)
        connected: bool | None = True
        if (
            ip.is_loopback
            or (ip.version == 4 and link.flags & IFF_LOOPBACK)
            or addr.network.network_address in _ZERONET
        ):
            connected = None  # its prefix is in the local table, and one of 0.0.0.0/8 has no route
        elif length < ip.max_prefixlen:
            connected = (addr.network, index) in kernel_routes if link.flags & IFF_UP else None
        yield Address(Interface(ns, link.name), addr, connected)


def _is_autoconfigured(raw: dump.RawAddress, says_protocol: bool) -> bool:
    """Whether the kernel gave a device this link-local address. It says so, or (before Linux 5.18) the address has the
    form that it makes from a MAC address (RFC 4291, modified EUI-64)."""
    if raw.ip.version == 4 or not raw.ip.is_link_local:
        return False
    return raw.proto == IFAPROT_KERNEL_LL if says_protocol else raw.ip.packed[11:13] == b"\xff\xfe"


def _neighbours(channel: Channel, snapshot: Snapshot, ns: str) -> Iterator[Neighbour]:
    for proxy in (False, True):
        for raw in dump.neighbours(channel, proxy=proxy):
            state = _STATES.get(raw.state, "noarp")
            link = snapshot.links[ns].get(raw.index)
            if raw.ip is None or link is None:
                continue
            if proxy or raw.flags & NTF_PROXY:
                yield Neighbour(Interface(ns, link.name), raw.ip, None, "permanent", proxy=True)
            else:
                yield Neighbour(Interface(ns, link.name), raw.ip, raw.mac, state)


def _fdb(channel: Channel, snapshot: Snapshot, ns: str, nsid_of: Callable[[str, str], int | None]) -> Iterator[Fdb]:
    static = NUD["noarp"] | NUD["permanent"]
    for raw in dump.neighbours(channel, family=AF_BRIDGE):
        link = snapshot.links[ns].get(raw.index)
        if link is None or raw.mac is None or not raw.state & static:
            continue
        if link.kind == "vxlan" and raw.flags & NTF_SELF and raw.ip is not None:
            via = snapshot.name(snapshot.link_netns(ns, link, nsid_of) or ns, raw.via) if raw.via else None
            yield Fdb(Interface(ns, link.name), raw.mac, raw.ip, via)
        elif not raw.flags & NTF_SELF and raw.state == NUD["noarp"]:
            yield Fdb(Interface(ns, link.name), raw.mac)


@lru_cache(maxsize=dump.SHARED)
def _interface_address(ip: IP, length: int) -> InterfaceAddress:
    return IPv4Interface((ip, length)) if ip.version == 4 else IPv6Interface((ip, length))


@lru_cache(maxsize=dump.SHARED)
def _network(ip: IP | None, length: int, family: int) -> Net:
    if family == AF_INET:
        return IPv4Network((ip if ip is not None else 0, length))
    return IPv6Network((ip if ip is not None else 0, length))


def _route(snapshot: Snapshot, ns: str, raw: dump.RawRoute) -> Route:
    kind = _ROUTE_KINDS.get(raw.kind, str(raw.kind))
    six = raw.family != AF_INET
    return Route(
        ns,
        _network(raw.dst, raw.prefix_len, raw.family),
        via=raw.via,
        dev=snapshot.name(ns, raw.oif) if raw.oif and kind in ("unicast", "local") else None,
        table=raw.table,
        metric=0 if six and raw.metric == 1024 else raw.metric,
        kind=kind,
        src=raw.src,
        onlink=bool(raw.flags & ONLINK),
        mtu=raw.mtu,
        tos=raw.tos,
        scope=_scope(raw) if kind == "unicast" and not six and not raw.nexthops else None,
        proto=None if raw.proto == PROTO_BOOT else raw.proto,  # boot is the protocol that `ip route add` sets
        encap=raw.encap,
        nexthops=tuple(
            NextHop(hop.via, snapshot.name(ns, hop.oif) if hop.oif else None, hop.weight, bool(hop.flags & ONLINK))
            for hop in raw.nexthops
        ),
        nhid=raw.nhid,
    )


def _is_kernel_route(
    route: Route, connected: Collection[tuple[Net, str | None]], own_addresses: Collection[tuple[IP | None, str | None]]
) -> bool:
    """Whether the kernel itself created a route: to an address's prefix, or (from that address) to its peer's prefix.
    `proto kernel` alone is not enough for IPv4, because Cilium uses it for its own routes."""
    if route.proto != PROTO_KERNEL or route.dst.version == 6:
        return route.proto == PROTO_KERNEL
    return route.via is None and ((route.dst, route.dev) in connected or (route.src, route.dev) in own_addresses)


def _scope(raw: dump.RawRoute) -> str | None:
    """The scope of a route; None if it is the default one, which follows from the gateway."""
    found = _SCOPES.get(raw.scope, str(raw.scope))
    return None if found == ("link" if raw.via is None else "global") else found


def _rule(ns: str, raw: dump.RawRule) -> Rule:
    kind = _RULE_KINDS.get(raw.action, str(raw.action))
    return Rule(
        ns,
        raw.pref,
        table=raw.table if kind == "lookup" else 254,
        family=4 if raw.family == AF_INET else 6,
        src=_network(*raw.src, raw.family) if raw.src else None,
        dst=_network(*raw.dst, raw.family) if raw.dst else None,
        iif=raw.iif,
        oif=raw.oif,
        mark=raw.fwmark if raw.fwmark is not None or not raw.fwmask else 0,  # the kernel leaves a mark of 0 out
        mask=raw.fwmask if raw.fwmask != 0xFFFFFFFF else None,
        kind=kind,
        invert=bool(raw.flags & RULE_INVERT),
    )


@lru_cache(maxsize=dump.SHARED)
def _default_rule(raw: dump.RawRule) -> tuple[int, int] | None:
    """The family and the number of a rule among those that the kernel creates in every namespace; None for others."""
    rule = _rule("", raw)
    defaults = kernel_default_rules("", rule.family)
    return (rule.family, defaults.index(rule)) if rule in defaults else None


def netns(name: str) -> Netns:
    """The resource of a namespace that exists."""
    return Netns(name)

"""Read the namespaces after a probe: devices, routes, neighbours, counters, connections, rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from labctl.core.iptables_save import Counted
from labctl.core.observations import Event, Flow, Lookup, Role, RouteInput
from labctl.core.resources import Address, Fdb, Link, Neighbour, Port, Resource, Route, Sysctl
from labctl.errors import LabError
from labctl.kernel.firewall import chains as firewall
from labctl.kernel.host import counters
from labctl.kernel.namespaces import device_state
from labctl.kernel.netlink import conntrack, route_lookup
from labctl.kernel.rule_trace import nflog
from labctl.packets.decode import Frame, decode
from labctl.packets.probe_id import Mark
from labctl.tracing.evidence import Crossing, Evidence, Met, Moved, Room
from labctl.tracing.hops import back_input, mark_for, road, route_input, turns

if TYPE_CHECKING:
    from labctl.core.topology import Who
    from labctl.kernel.rule_trace.nflog import Report
    from labctl.tracing.instruments import Armed

ROLES: tuple[Role, ...] = ("request", "reply", "error")
KINDS: dict[str, Literal["rule", "policy", "return"]] = {"rule": "rule", "policy": "policy", "return": "return"}
# the role of the probe's packets if the report does not contain the marker
CUT: dict[str, Role] = {"echo": "request", "echo-reply": "reply", "error": "error"}
SMALL = 24  # in labs with up to this many namespaces, each namespace is read
MOST = 1500  # events that are kept at most
NODE = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter",
        "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
        "net.ipv4.icmp_echo_ignore_all")  # fmt: skip
DEVICE = ("net.ipv4.conf.{}.forwarding", "net.ipv4.conf.{}.rp_filter", "net.ipv4.conf.{}.proxy_arp",
          "net.ipv4.conf.{}.accept_local", "net.ipv4.conf.{}.route_localnet", "net.ipv6.conf.{}.proxy_ndp")  # fmt: skip


def planned(who: Who) -> tuple[Room, ...]:
    """The namespaces with their planned devices, used while the probe is still under way."""
    return tuple(Room(node, tuple(who.links.get(node, ()))) for node in who.nodes)


def ours(events: Sequence[Event], sent: int, pid: int) -> tuple[Event, ...]:
    """The events that may be about the probe: passages of packets of its length, drops of these packets, and drops in
    the sending thread. `when` becomes the time since the probe was sent (`sent`)."""
    passed = {event.skb for event in events if event.kind != "drop"}
    near = [event for event in events if event.kind != "drop" or event.skb in passed or event.pid == pid]
    return tuple(replace(event, when=event.when - sent) for event in near[:MOST])


def complete(armed: Armed, who: Who, seen: Evidence, mark: Mark) -> Evidence:
    """Add to the evidence all that can be read in the namespaces now."""
    nodes = _touched(who, seen)
    seen = replace(seen, rooms=tuple(_rooms(armed, who, seen, nodes)))
    met, lost = _met(armed, mark, seen)
    moved = tuple(_moved(armed, nodes)) if armed.counted else ()
    flows = tuple(flow for node in nodes for flow in _flows(armed, node, seen))
    unknown = (*seen.unknown, *(("reports of firewall rules were lost: too many",) if lost else ()))
    seen = replace(seen, met=met, moved=moved, flows=flows, unknown=unknown)
    return replace(seen, lookups=tuple(_lookups(armed, seen)))


def _touched(who: Who, seen: Evidence) -> tuple[str, ...]:
    if len(who.nodes) <= SMALL:
        return who.nodes
    question = seen.question
    passed = [item.node for item in seen.crossings]
    ends = [question.source, *([question.home] if question.home else []), *passed[-1:]]
    beside = [node for end in ends for node in who.beside(end)][:SMALL]
    return tuple(dict.fromkeys((*ends, *passed, *(one.node for one in seen.asked), *beside)))


def _rooms(armed: Armed, who: Who, seen: Evidence, nodes: Sequence[str]) -> Iterator[Room]:
    from labctl.kernel.lab_kernel import Linux

    asking = [Sysctl(node, name, "") for node in nodes for name in _sysctls(who, node, seen)]
    try:
        with Linux(armed.lab) as kernel:
            found = kernel.observe(tuple(asking), nodes, chains=False)
    except LabError as error:
        armed.unknown.append(f"the namespaces could not be read: {error.message}")
        found = ()
    for node in nodes:
        yield _room(armed, node, [item for item in found if item.ns == node], _ports(seen))


def _room(armed: Armed, node: str, items: Iterable[Resource], ports: frozenset[int]) -> Room:
    kinds: dict[type, list[Resource]] = {}
    for item in items:
        kinds.setdefault(type(item), []).append(item)
    after: dict[str, int] = {}
    listening: tuple[str, ...] = ()
    with suppress(OSError):
        after = armed.run(node, counters.read)
        if ports:
            listening = armed.run(node, counters.listening, armed.question.protocol, ports)
    links: list[Link] = kinds.get(Link, [])  # type: ignore[assignment]
    return Room(
        node,
        tuple(links),
        tuple(kinds.get(Address, ())),  # type: ignore[arg-type]
        tuple(kinds.get(Route, ())),  # type: ignore[arg-type]
        tuple(kinds.get(Neighbour, ())),  # type: ignore[arg-type]
        tuple(kinds.get(Fdb, ())),  # type: ignore[arg-type]
        {item.name: item.value for item in kinds.get(Sysctl, ()) if isinstance(item, Sysctl)},
        tuple(link.at.dev for link in links if link.kind == "veth" and link.up and _dark(armed, link.at)),
        listening,
        counters.moved(armed.before.get(node, {}), after),
    )


def _dark(armed: Armed, at: Port) -> bool:
    sock = armed.taps.socket_of(at.ns) if armed.taps is not None else None
    return sock is not None and device_state.trouble(sock, at.dev) == device_state.NO_CARRIER


def _sysctls(who: Who, node: str, seen: Evidence) -> Iterator[str]:
    yield from NODE
    names = [link.at.dev for link in who.links.get(node, ()) if link.at.dev != "lo"]
    if len(names) > SMALL:
        crossed = {item.dev for item in seen.crossings if item.node == node} | {one.dev for one in seen.asked}
        names = [name for name in names if name in crossed]
    for name in names:
        yield from (pattern.format(name.replace(".", "/")) for pattern in DEVICE)


def _ports(seen: Evidence) -> frozenset[int]:
    """The destination ports of the probe, before and after translation."""
    ports = {item.dport for item in seen.crossings if item.role == "request"} | {seen.question.port}
    return frozenset(port for port in ports if port is not None)


def _flows(armed: Armed, node: str, seen: Evidence) -> Iterator[Flow]:
    """The conntrack entries of the probe itself."""
    here = [item for item in seen.crossings if item.node == node]
    if not here:
        return
    with suppress(OSError):
        for flow in armed.run(node, conntrack.flows, node, seen.question.address.version):
            if any(_about(flow, item) for item in here):
                yield flow


def _about(flow: Flow, item: Crossing) -> bool:
    """Whether a conntrack entry belongs to the probe: same protocol, addresses, ports (or ICMP identifier)."""
    sides = (
        (flow.src, flow.dst, flow.sport, flow.dport),
        (flow.reply_src, flow.reply_dst, flow.reply_sport, flow.reply_dport),
    )
    if item.role == "error":
        return False
    if item.sport is None:
        same = flow.protocol in (1, 58)
        return same and any((item.src, item.dst, item.ident) == side[:3] for side in sides)
    return flow.protocol in (6, 17) and any((item.src, item.dst, item.sport, item.dport) == side for side in sides)


def _lookups(armed: Armed, seen: Evidence) -> Iterator[Lookup]:
    asked: set[RouteInput] = set()
    for role in ROLES:
        hops = road(seen, role)
        wanted = [one for hop in hops for one in (*turns(seen, hop, role), route_input(seen, hop, role))]
        wanted += [back_input(seen, hops[-1]) if hops else None]
        wanted += [RouteInput(hops[-1].node, hops[-1].bare[-1].src)] if hops else []
        for one in wanted:
            if one is not None and one not in asked:
                asked.add(one)
                yield from _asked(armed, seen, one, role)
    first = RouteInput(seen.question.source, seen.question.address)
    if first not in asked:
        yield from _asked(armed, seen, first, "request")


def _asked(armed: Armed, seen: Evidence, wanted: RouteInput, role: Role) -> Iterator[Lookup]:
    """The routing's answer. The packet's fwmark is part of the question if the answer differs because of it."""
    mark = mark_for(seen, wanted, role)
    with suppress(OSError):
        plain: Lookup = armed.run(wanted.node, route_lookup.ask, wanted, 0)
        marked: Lookup = armed.run(wanted.node, route_lookup.ask, wanted, mark) if mark else plain
        yield plain if replace(marked, mark=0) == plain else marked


def _met(armed: Armed, mark: Mark, seen: Evidence) -> tuple[tuple[Met, ...], bool]:
    found: list[Met] = []
    lost = False
    for node, log in armed.logs.items():
        reports, missed = log.read()
        lost = lost or missed
        if reports:
            chains = _chains(armed, node)
            names = armed.run(
                node, nflog.device_names, {index for one in reports for index in (one.iif, one.oif) if index}
            )
            found += (met for one in reports for met in _told(node, one, mark, chains, names))
    return tuple(found), lost


def _chains(armed: Armed, node: str) -> dict[tuple[str, str, str], Counted]:
    try:
        now: tuple[Counted, ...] = armed.run(node, firewall.counted, node, armed.firewall)
    except (OSError, LabError):
        return {}
    armed.after[node] = now
    return {(one.chain.family, one.chain.table, one.chain.name): one for one in now}


def _told(
    node: str, report: Report, mark: Mark, chains: Mapping[tuple[str, str, str], Counted], names: Mapping[int, str]
) -> Iterator[Met]:
    from labctl.packets.probe_id import role_of

    protocol = 0x0800 if report.family == "ip" else 0x86DD
    packet = decode(Frame(Port(node, ""), 0, "in", report.payload, protocol, 65534))
    role = role_of(mark, packet) if packet is not None else None
    if role is None and report.ours and packet is not None:
        role = CUT.get(packet.kind)
    parts = report.prefix.rsplit(":", 2)
    if packet is None or role is None or len(parts) != 3 or parts[1] not in KINDS or not parts[2].isdigit():
        return
    table, _, chain = parts[0].partition(":")
    kind, number = KINDS[parts[1]], int(parts[2])
    counted = chains.get((report.family, table, chain))
    rule, target = "", ""
    if kind == "rule" and counted is not None and 0 < number <= len(counted.chain.rules):
        one = counted.chain.rules[number - 1]
        rule, target = str(one), one.target or ""
    elif kind == "policy" and counted is not None:
        target = counted.chain.policy or ""
    yield Met(
        node, role, report.family, report.hook, table, chain, kind, number, packet.src, packet.dst,
        names.get(report.iif, ""), names.get(report.oif, ""), report.mark, rule, target,
    )  # fmt: skip


def _moved(armed: Armed, nodes: Sequence[str]) -> Iterator[Moved]:
    """The rules and policies whose counters increased while the probe was under way."""
    for node in nodes:
        if node not in armed.counted:
            continue
        if node not in armed.after:
            _chains(armed, node)
        first = {one.chain.key: one for one in armed.counted[node]}
        for now in armed.after.get(node, ()):
            was = first.get(now.chain.key)
            if was is None or was.chain != now.chain:
                continue
            yield from _counted(node, was, now)


def _counted(node: str, was: Counted, now: Counted) -> Iterator[Moved]:
    chain = now.chain
    for number, (rule, (old, _), (new, _)) in enumerate(zip(chain.rules, was.counters, now.counters, strict=True), 1):
        if new > old:
            yield Moved(node, chain.family, chain.table, chain.name, number, new - old, str(rule), rule.target or "")
    if now.policy[0] > was.policy[0] and chain.policy not in (None, "ACCEPT"):
        count = now.policy[0] - was.policy[0]
        yield Moved(node, chain.family, chain.table, chain.name, 0, count, f"policy {chain.policy}", chain.policy or "")

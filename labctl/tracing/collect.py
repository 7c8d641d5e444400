"""Read the namespaces after a probe: devices, routes, neighbours, counters, connections, rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from labctl.core.iptables import LEGACY_FAMILIES, TERMINATING_TARGETS, FirewallRule
from labctl.core.iptables_save import ChainCounters, counter_increases
from labctl.core.observations import Flow, KernelEvent, PacketRole, RouteLookup, RouteQuery
from labctl.core.resources import (
    IP,
    Address,
    Chain,
    Fdb,
    Interface,
    Link,
    Neighbour,
    NftObject,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.sentence import sentence
from labctl.core.snat_ports import PortUse, port_use, snat_ports
from labctl.errors import KernelError, MissingError
from labctl.kernel.firewall import chains as firewall
from labctl.kernel.host import counters
from labctl.kernel.namespaces import device_state
from labctl.kernel.netlink import conntrack, route_lookup
from labctl.packets.decode import ECHO_TYPES, ICMP, ICMPV6, TCP, UDP
from labctl.packets.probe_id import ProbeId
from labctl.tracing.evidence import CounterIncrease, NamespaceState, NatTable, TraceEvidence
from labctl.tracing.hop_routing import fwmark_for, last_route_query, reply_route_query, route_queries, translated_port
from labctl.tracing.hops import PacketObservation
from labctl.tracing.neighbour_questions import neighbour_route_queries
from labctl.tracing.reported_rules import rule_hits
from labctl.tracing.rule_context import only_some_sources

if TYPE_CHECKING:
    from labctl.core.topology import Topology
    from labctl.tracing.instruments import Instruments
    from labctl.tracing.silence import AnswerTimes

FULL_READ_LIMIT = 24  # in labs with up to this many namespaces, each namespace is read
MAX_EVENTS = 1500  # events that are kept at most
NODE_SYSCTLS = ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv4.conf.all.rp_filter",
        "net.ipv4.conf.all.route_localnet",
        "net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables",
        "net.ipv4.icmp_echo_ignore_all")  # fmt: skip
DEVICE_SYSCTLS = ("net.ipv4.conf.{}.forwarding", "net.ipv4.conf.{}.rp_filter", "net.ipv4.conf.{}.accept_local",
                  "net.ipv4.conf.{}.route_localnet")  # fmt: skip
# read only if there is no reply, for each device and for `all`: whether a machine answers for an address
NEIGHBOUR_SYSCTLS = (
    "net.ipv4.conf.{}.arp_ignore", "net.ipv4.conf.{}.arp_filter",
    "net.ipv4.conf.{}.arp_announce", "net.ipv4.conf.{}.proxy_arp",
    "net.ipv4.conf.{}.proxy_arp_pvlan", "net.ipv6.conf.{}.proxy_ndp", "net.ipv6.conf.{}.forwarding",
    "net.ipv6.conf.{}.disable_ipv6",
)  # fmt: skip


def probe_events(events: Sequence[KernelEvent], sent: int, pid: int) -> tuple[KernelEvent, ...]:
    """The events that may be about the probe: passages of packets of its length, drops of these packets, and drops in
    the sending thread. `when` becomes the time since the probe was sent (`sent`)."""
    passed = {event.skb for event in events if event.kind != "drop"}
    near = [event for event in events if event.kind != "drop" or event.skb in passed or event.pid == pid]
    return tuple(replace(event, when=event.when - sent) for event in near[:MAX_EVENTS])


def answer_times(instruments: Instruments, topology: Topology, evidence: TraceEvidence) -> AnswerTimes | None:
    """How late the neighbours that have not answered may answer; None if that is not known. It is known if the
    questions stayed among kernels of the lab, and every namespace has a tap."""
    from labctl.kernel.namespaces import late_answers
    from labctl.tracing import silence

    missing = {one.ip for one in evidence.unanswered_neighbours}
    questions = [one for one in evidence.neighbour_observations if one.is_request and one.ip in missing]
    links = (link for links in topology.links.values() for link in links)
    if (
        instruments.taps is None
        or instruments.taps.not_receiving
        or set(topology.namespaces) - set(instruments.nodes)
        or silence.leads_outside({(one.node, one.dev) for one in questions if one.direction == "out"}, links)
    ):
        return None
    delay_s = retry_s = 0.0
    try:
        for one in evidence.unanswered_neighbours:
            retry_s = max(retry_s, instruments.run(one.node, late_answers.read_retry_s, one.dev, one.ip.version))
        for node, ip in sorted({(one.node, one.ip) for one in questions if one.direction == "in"}, key=str):
            found = instruments.run(node, late_answers.read_answer_delay, ip, instruments.taps.inodes())
            if found.unbounded:
                return None
            delay_s = max(delay_s, found.proxy_s)
    except OSError:
        return None
    return silence.AnswerTimes(delay_s, retry_s)


def add_rules_and_flows(
    instruments: Instruments, topology: Topology, evidence: TraceEvidence, probe_id: ProbeId
) -> TraceEvidence:
    """Add to the evidence the rules that the probe met and the connections that it belongs to.

    Counters that moved explain a loss only, so after an answer the chains are not read a second time: the rules are
    those from before the probe.
    """
    nodes = _namespaces_to_read(topology, evidence)
    flows = tuple(flow for node in nodes for flow in _flows(instruments, node, evidence))
    evidence = evidence.with_details(flows=flows)
    reports = {node: [log.read() for log in logs] for node, logs in instruments.rule_logs.items()}
    lost = any(missed for streams in reports.values() for _, missed in streams)
    reported = {node for node, streams in reports.items() if any(found for found, _ in streams)}
    after = instruments.chains_before
    if evidence.answer != "reply":
        after = instruments.read_chains(node for node in after if node in nodes or node in reported)
    streams = {node: [found for found, _ in streams] for node, streams in reports.items()}
    met = tuple(rule_hits(instruments, probe_id, evidence, streams, after))
    moved = tuple(_counter_increases(instruments.chains_before, {node: after[node] for node in nodes if node in after}))
    instruments.unwatch_rules()
    evidence = evidence.with_details(rule_hits=met)
    before = tuple(flow for flow in instruments.flows_before if _is_earlier_flow(flow, evidence))
    tables = tuple(_nat_tables(instruments, dict.fromkeys(flow.node for flow in before)))
    if evidence.answer != "reply":
        evidence = evidence.with_details(port_uses=tuple(_port_uses(instruments, evidence)))
    if lost:
        text = sentence("reports of firewall rules were lost: too many")
        evidence = evidence.with_details(rules_traced=False, unknown=(*evidence.unknown, text))
    return evidence.with_details(flows_before=before, nat_tables=tables, counter_increases=moved)


def add_namespace_state(instruments: Instruments, topology: Topology, evidence: TraceEvidence) -> TraceEvidence:
    """Add to the evidence all that else can be read in the namespaces now."""
    nodes = _namespaces_to_read(topology, evidence)
    evidence = replace(evidence, namespaces=tuple(_namespace_states(instruments, topology, evidence, nodes)))
    missing = _missing_neighbours(evidence)  # known only now
    evidence = evidence.with_details(
        rule_hits=tuple(hit for hit in evidence.rule_hits if hit.neighbour is None or hit.neighbour in missing)
    )
    return evidence.with_details(lookups=tuple(_lookups(instruments, evidence)))


def _namespaces_to_read(topology: Topology, evidence: TraceEvidence) -> tuple[str, ...]:
    if len(topology.namespaces) <= FULL_READ_LIMIT:
        return topology.namespaces
    question = evidence.question
    passed = [item.node for item in evidence.observations]
    ends = [question.source, *([question.target_ns] if question.target_ns else []), *passed[-1:]]
    beside = [node for end in ends for node in topology.peer_namespaces(end)][:FULL_READ_LIMIT]
    asking = [one.node for one in evidence.unanswered_neighbours]
    nodes = dict.fromkeys((*ends, *passed, *asking, *_answering(topology, evidence), *beside))
    below = [link.link_netns for node in nodes for link in topology.links.get(node, ()) if link.link_netns is not None]
    return tuple(dict.fromkeys((*nodes, *below)))


def _answering(topology: Topology, evidence: TraceEvidence) -> list[str]:
    """The namespaces that may answer for a neighbour: those with its address, and the other end of the cable."""
    asked = {one.ip for one in evidence.unanswered_neighbours}
    found = [name for name, addresses in evidence.machines.items() if not asked.isdisjoint(addresses)]
    cables = {Interface(one.node, one.dev) for one in evidence.unanswered_neighbours}
    for node in {at.ns for at in cables}:
        links = topology.links.get(node, ())
        found += [link.peer.ns for link in links if link.peer is not None and link.at in cables]
    return found[:FULL_READ_LIMIT]


def _namespace_states(
    instruments: Instruments, topology: Topology, evidence: TraceEvidence, nodes: Sequence[str]
) -> Iterator[NamespaceState]:
    from labctl.kernel.lab_kernel import KernelLab

    asking = [Sysctl(node, name, "") for node in nodes for name in _sysctls(topology, node, evidence)]
    try:
        with KernelLab(instruments.lab) as kernel:
            found = kernel.observe(tuple(asking), nodes, chains=False)
    except (KernelError, MissingError) as error:
        text = sentence("the namespaces could not be read: {reason}", reason=error.message)
        instruments.unknown.append(text)
        found = ()
    found_by_node: dict[str, list[Resource]] = {}
    for item in found:
        found_by_node.setdefault(item.ns, []).append(item)
    for node in nodes:
        yield _namespace_state(instruments, node, found_by_node.get(node, ()), _probe_ports(evidence))


def _namespace_state(
    instruments: Instruments, node: str, items: Iterable[Resource], ports: frozenset[int]
) -> NamespaceState:
    kinds: dict[type, list[Resource]] = {}
    for item in items:
        kinds.setdefault(type(item), []).append(item)
    after: dict[str, int] = {}
    listening: tuple[str, ...] = ()
    with suppress(OSError):
        after = instruments.run(node, counters.read_counters)
        if ports:
            from labctl.kernel.namespaces.ports import listeners_at  # a ping asks for none

            listening = instruments.run(node, listeners_at, instruments.question.protocol, ports)
    links: list[Link] = kinds.get(Link, [])  # type: ignore[assignment]
    cables = [link.at.dev for link in links if link.kind in ("veth", "tun") and link.up]
    without_carrier: tuple[str, ...] = ()
    with suppress(OSError):
        without_carrier = instruments.run(node, device_state.devices_without_carrier, cables) if cables else ()
    return NamespaceState(
        node,
        tuple(links),
        tuple(kinds.get(Address, ())),  # type: ignore[arg-type]
        tuple(kinds.get(Route, ())),  # type: ignore[arg-type]
        tuple(kinds.get(Neighbour, ())),  # type: ignore[arg-type]
        tuple(kinds.get(Fdb, ())),  # type: ignore[arg-type]
        {item.name: item.value for item in kinds.get(Sysctl, ()) if isinstance(item, Sysctl)},
        without_carrier,
        listening,
        counters.increases(instruments.counters_before.get(node, {}), after),
        tuple(kinds.get(Rule, ())),  # type: ignore[arg-type]
        tuple(sorted({f"{one.chain.family} {one.chain.table}" for one in instruments.chains_before.get(node, ())})),
    )


def _sysctls(topology: Topology, node: str, evidence: TraceEvidence) -> Iterator[str]:
    yield from NODE_SYSCTLS
    names = [link.at.dev for link in topology.links.get(node, ()) if link.at.dev != "lo"]
    if len(names) > FULL_READ_LIMIT:
        crossed = {item.dev for item in evidence.observations if item.node == node}
        crossed |= {one.dev for one in evidence.neighbour_observations if one.node == node}
        crossed |= {one.dev for one in evidence.unanswered_neighbours}
        names = [name for name in names if name in crossed]
    silent = NEIGHBOUR_SYSCTLS if evidence.answer != "reply" else ()
    for name in names:
        yield from (pattern.format(name.replace(".", "/")) for pattern in (*DEVICE_SYSCTLS, *silent))
    yield from (pattern.format("all") for pattern in silent if pattern.format("all") not in NODE_SYSCTLS)


def _probe_ports(evidence: TraceEvidence) -> frozenset[int]:
    """The destination ports of the probe, before and after translation."""
    ports = {item.dport for item in evidence.observations if item.role == "request"} | {evidence.question.port}
    ports |= {flow.reply_sport for flow in evidence.flows if flow.protocol in (6, 17)}
    for hit in evidence.rule_hits:
        if hit.role == "request":
            ports |= {hit.dport, translated_port(hit) if hit.target in ("DNAT", "REDIRECT") else None}
    return frozenset(port for port in ports if port is not None)


def _flows(instruments: Instruments, node: str, evidence: TraceEvidence) -> Iterator[Flow]:
    """The conntrack entries of the probe itself."""
    here = (item for item in evidence.observations if item.node == node and item.role != "error")
    tuples = [one for item in here for one in _flow_tuples(evidence, item)]
    if tuples:
        rules = (rule for one in instruments.chains_before.get(node, ()) for rule in one.chain.rules)
        has_zones = any("--zone" in rule.args for rule in rules)
        with suppress(OSError):
            yield from instruments.run(node, conntrack.find_flows, node, tuples, has_zones)


def _flow_tuples(evidence: TraceEvidence, item: PacketObservation) -> Iterator[conntrack.FlowTuple]:
    """What identifies the connection of an observed packet: its own addresses, and those of a packet the other way."""
    version = item.src.version
    for src, dst, sport, dport, is_reply in (
        (item.src, item.dst, item.sport, item.dport, item.role == "reply"),
        (item.dst, item.src, item.dport, item.sport, item.role != "reply"),
    ):
        if sport is not None and dport is not None:
            yield conntrack.FlowTuple(TCP if evidence.question.protocol == "tcp" else UDP, src, dst, sport, dport)
        else:
            protocol, kind = ICMP if version == 4 else ICMPV6, ECHO_TYPES[version][is_reply]
            yield conntrack.FlowTuple(protocol, src, dst, item.ident, kind)


def _port_uses(instruments: Instruments, evidence: TraceEvidence) -> Iterator[PortUse]:
    """How many ports are in use of each rule that would have translated the request's source to a range of ports."""
    for hit in evidence.rule_hits:
        if hit.role != "request" or hit.table != "nat" or hit.dport is None or hit.nft is not None:
            continue
        rule = FirewallRule.from_text(hit.rule)
        if snat_ports(rule) is None:
            continue
        with suppress(OSError):
            flows = instruments.run(hit.node, conntrack.flows, hit.node, hit.dst.version)
            end = (hit.dst, hit.dport)
            use = port_use(hit.node, hit.chain, hit.number, rule, evidence.question.protocol, end, flows)
            yield from (use,) if use is not None else ()


def _is_earlier_flow(flow: Flow, evidence: TraceEvidence) -> bool:
    """Whether an entry of conntrack from before the probe is of the probe's connection."""
    question = evidence.question
    if flow.node == question.source and (flow.dst, flow.sport, flow.dport) == (
        question.address,
        question.sport,
        question.port,
    ):
        return True  # the source translates the destination itself, before a tap sees the packet
    requests = (item for item in evidence.observations if item.node == flow.node and item.role == "request")
    return any(conntrack.has_tuple(flow, one) for item in requests for one in _flow_tuples(evidence, item))


def _nat_tables(instruments: Instruments, nodes: Iterable[str]) -> Iterator[NatTable]:
    """The nat tables of these namespaces, except of those that have other nat rules than iptables wrote."""
    family = "ip" if instruments.question.address.version == 4 else "ip6"
    for node in nodes:
        try:
            found = instruments.run(node, firewall.read_chains, node, (), instruments.backend)
        except (OSError, KernelError, MissingError):
            continue
        own = [one for one in found if not _is_of_trace(one, instruments.setup.name)]
        chains = [one for one in own if isinstance(one, Chain)]
        others = [one for one in own if isinstance(one, NftObject) and one.kind == "chain"]
        if not any(one.header and one.header[0].startswith("type nat ") for one in others) and all(
            (chain.family, chain.table) != (LEGACY_FAMILIES[family], "nat") for chain in chains
        ):
            yield NatTable(node, tuple(chain for chain in chains if (chain.family, chain.table) == (family, "nat")))


def _is_of_trace(item: Chain | NftObject, name: str) -> bool:
    """Whether an object is of the table that the trace itself has made."""
    return item.table == name if isinstance(item, Chain) else item.table.partition(" ")[2] == name


def _lookups(instruments: Instruments, evidence: TraceEvidence) -> Iterator[RouteLookup]:
    done: set[RouteQuery] = set()
    for role, hops in evidence.hops.items():
        wanted = [
            one for hop in hops for one in (*route_queries(evidence, hop, role), last_route_query(evidence, hop, role))
        ]
        wanted += [reply_route_query(evidence, hops[-1]) if hops else None]
        wanted += [RouteQuery(hops[-1].node, hops[-1].outside_tunnel[-1].src)] if hops else []
        for one in wanted:
            if one is not None and one not in done:
                done.add(one)
                yield from _lookup(instruments, evidence, one, role)
    others = [RouteQuery(evidence.question.source, evidence.question.address)]
    others += [*neighbour_route_queries(evidence), *_underlay_queries(evidence)]
    for one in others:
        if one not in done:
            done.add(one)
            yield from _lookup(instruments, evidence, one, "request")


def _underlay_queries(evidence: TraceEvidence) -> Iterator[RouteQuery]:
    """The questions to the routing for the packet of a tunnel that did not leave."""
    if evidence.answer == "reply":
        return
    from labctl.tracing.tunnel_path import sending, socket_namespace

    for hops in evidence.hops.values():
        last = hops[-1].observations[-1] if hops else None
        link = evidence.link(last.node, last.dev) if last is not None and last.direction == "out" else None
        if last is not None and link is not None and link.kind == "vxlan" and last.mac is not None:
            sent = sending(evidence, link, last.mac[1])
            yield from (RouteQuery(socket_namespace(link), remote) for remote in sent.remotes)


def _lookup(
    instruments: Instruments, evidence: TraceEvidence, query: RouteQuery, role: PacketRole
) -> Iterator[RouteLookup]:
    """The routing's answer. The packet's fwmark is part of the question if the answer differs because of it."""
    mark = fwmark_for(evidence, query, role)
    with suppress(OSError):
        plain: RouteLookup = instruments.run(query.node, route_lookup.look_up_route, query, 0)
        marked: RouteLookup = instruments.run(query.node, route_lookup.look_up_route, query, mark) if mark else plain
        yield plain if replace(marked, mark=0) == plain else marked


def _missing_neighbours(evidence: TraceEvidence) -> frozenset[IP]:
    """The IPv6 addresses of neighbours for which the kernel has no MAC address."""
    failed = {
        one.ip for state in evidence.namespaces for one in state.neighbours if one.state in ("failed", "incomplete")
    }
    asked = {one.ip for one in evidence.unanswered_neighbours}
    return frozenset(ip for ip in failed | asked if ip.version == 6)


def _counter_increases(
    before: Mapping[str, tuple[ChainCounters, ...]], after: Mapping[str, tuple[ChainCounters, ...]]
) -> Iterator[CounterIncrease]:
    """The rules and policies with a counter that increased while the probe was under way."""
    for node, chains in after.items():
        for chain, number, packets in counter_increases(before[node], chains):
            if number:
                rule = chain.rules[number - 1]
                text, target = str(rule), rule.target or ""
            elif chain.policy in (None, "ACCEPT"):
                continue
            else:
                text, target = f"policy {chain.policy}", chain.policy or ""
            only = target in TERMINATING_TARGETS and only_some_sources(chain, number or len(chain.rules) + 1)
            yield CounterIncrease(node, chain.family, chain.table, chain.name, number, packets, text, target, only)
        for counted in chains:
            chain = counted.chain
            if chain.family == "bridge" and chain.policy == "DROP":  # ebtables over nf_tables does not count there
                only = only_some_sources(chain, len(chain.rules) + 1)
                yield CounterIncrease(node, "bridge", chain.table, chain.name, 0, 0, "policy DROP", "DROP", only)

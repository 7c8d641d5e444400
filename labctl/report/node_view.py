"""The output of `show` for a node: its kernel objects as tables of text, and as data for programs. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.core.fidelity import sort_by_grade
from labctl.core.iptables import BUILTIN, CHAIN_TOOLS
from labctl.core.kernel_defaults import kernel_default_rules
from labctl.core.resources import (
    IP,
    ROUTE_PROTOCOLS,
    RT_TABLE_MAIN,
    Address,
    Link,
    Neighbour,
    Plan,
    Process,
    Route,
    Rule,
    Sysctl,
)
from labctl.report.table_section import Row, TableSection

if TYPE_CHECKING:
    from labctl.core.iptables_save import ChainCounters
    from labctl.core.nft_counters import NftCounters
    from labctl.core.node_state import NodeState
    from labctl.core.resources import Resource
    from labctl.core.scenario_types import Lab
    from labctl.explanation.planned_reasons import PlannedReasons

Why = Callable[["Resource"], str]  # the reason of an object; "" for none
IP_PROTOCOLS = {
    1: "icmp",
    2: "igmp",
    6: "tcp",
    17: "udp",
    47: "gre",
    58: "icmpv6",
    132: "sctp",
}  # in conntrack(8)
MAX_CONNECTIONS = 50  # rows of the table of connections


@dataclass(frozen=True, slots=True)
class NodeView:
    """A node now: the objects that a plan can have, and all else that was read there."""

    node: str
    plan: Plan
    state: NodeState


def sections(view: NodeView, reasons: PlannedReasons | None = None) -> tuple[TableSection, ...]:
    """The node's tables, from links to firewall and sysctls. Empty tables are left out. With `reasons`, the objects
    that a plan can have get another column, the reason why they are there."""
    plan, state = view.plan, view.state
    why: Why = (lambda item: "") if reasons is None else reasons.of
    found = [_links(plan, why), _options(plan), _ports(state), _addresses(plan, why), _routes(plan, state, why)]
    found += [_rules(plan, why), _neighbours(plan, why), _forwarding(state), *_firewall(state.chains, reasons)]
    found += _nft(state.nft, reasons)
    found += [_connections(state), _sockets(state), _processes(plan, why)]
    set_by_lab = {item.name: item for item in plan if isinstance(item, Sysctl)}
    rows = [
        (name, value, why(set_by_lab[name]) if name in set_by_lab else "") for name, value in settings(view).items()
    ]
    found.append(trim("settings", ("name", "value", "why"), sorted(rows), 2))
    return tuple(section for section in found if section.rows)


def fidelity_summary(lab: Lab) -> str:
    """How faithful a lab is to the real system, in one line: how many parts have each grade."""
    numbers = Counter(part.grade for part in sort_by_grade(lab.parts))
    grades = ", ".join(f"{number} {grade}" for grade, number in numbers.items())
    parts = f": parts by grade: {grades} (-v lists them)" if grades else ""
    return f"{lab.name} has the model {lab.model}{parts}"


def fidelity_section(lab: Lab) -> TableSection:
    """How faithful a lab is to the real system, part by part."""
    rows = []
    for part in sort_by_grade(lab.parts):
        is_substitute = part in lab.approximations
        grade = f"{part.grade} {part.feature}".rstrip() + (", approximated" if is_substitute else "")
        rows.append((grade, part.aspect, f"instead: {part.substitute}" if is_substitute else part.reason))
    return TableSection(f"{lab.name} has the model {lab.model}", ("grade", "part", "what differs"), tuple(rows))


def settings(view: NodeView) -> dict[str, str]:
    """The sysctls of the view: those that affect packets, and those that the lab has set."""
    return {**view.state.settings, **{item.name: item.value for item in view.plan if isinstance(item, Sysctl)}}


def trim(title: str, columns: Row, rows: Iterable[Row], fixed_columns: int) -> TableSection:
    """A section without its empty columns. The first `fixed_columns` columns stay in any case."""
    all_rows = list(rows)
    shown = [at for at in range(len(columns)) if at < fixed_columns or any(row[at] for row in all_rows)]
    return TableSection(
        title, tuple(columns[at] for at in shown), tuple(tuple(row[at] for at in shown) for row in all_rows)
    )


def _links(plan: Plan, why: Why) -> TableSection:
    columns = ("device", "kind", "state", "mac", "mtu", "master", "peer", "why")
    rows = []
    for link in plan:
        if isinstance(link, Link):
            peer = "" if link.peer is None else str(link.peer)
            state = "up" if link.up else "down"
            values = (link.at.dev, link.kind, state, link.mac or "", str(link.mtu or ""), link.master or "", peer)
            rows.append((*values, why(link)))
    return trim("links", columns, rows, 3)


def _options(plan: Plan) -> TableSection:
    rows = []
    for link in plan:
        if isinstance(link, Link):
            texts = [f"{name} {value}".strip() for name, value in link.options]
            texts += [flag for flag in ("promisc", "hairpin") if getattr(link, flag)]
            rows += [(link.at.dev, ", ".join(texts))] if texts else []
    return TableSection("link options", ("device", "options"), tuple(rows))


def _addresses(plan: Plan, why: Why) -> TableSection:
    rows = [
        (item.at.dev, str(item.addr), "without its route" if item.connected is False else "", why(item))
        for item in plan
        if isinstance(item, Address)
    ]
    return trim("addresses", ("device", "address", "note", "why"), rows, 2)


def _ports(state: NodeState) -> TableSection:
    rows = [
        (one.at.dev, one.bridge, one.state, "on" if one.hairpin else "off", "yes" if one.isolated else "no")
        for one in state.ports
    ]
    return TableSection("bridge ports", ("port", "bridge", "state", "hairpin", "isolated"), tuple(rows))


def _routes(plan: Plan, state: NodeState, why: Why) -> TableSection:
    columns = ("destination", "via", "device", "source", "metric", "table", "more", "why")
    rows = []
    for route in (*plan, *state.connected_routes):
        if isinstance(route, Route):
            more = [route.kind] if route.kind != "unicast" else []
            more += [f"encap ip id {route.encap[0]} dst {route.encap[1]}"] if route.encap is not None else []
            more += ["onlink"] if route.onlink else []
            more += ["multipath"] if route.nexthops else []
            more += [f"nhid {route.nhid}"] if route.nhid is not None else []
            more += [f"mtu {route.mtu}"] if route.mtu else []
            more += [f"scope {route.scope}"] if route.scope else []
            more += [] if route.proto is None else [f"proto {ROUTE_PROTOCOLS.get(route.proto, str(route.proto))}"]
            rows.append(
                (
                    "default" if route.dst.prefixlen == 0 else str(route.dst),
                    str(route.via or ""),
                    route.dev or "",
                    str(route.src or ""),
                    str(route.metric or ""),
                    "" if route.table == RT_TABLE_MAIN else str(route.table),
                    " ".join(more),
                    why(route),
                )
            )
            for hop in route.nexthops:
                words = ["nexthop", f"weight {hop.weight}", *(["onlink"] if hop.onlink else [])]
                rows.append(("", str(hop.via or ""), hop.dev or "", "", "", "", " ".join(words), ""))
    return trim("routes", columns, rows, 3)


def _rules(plan: Plan, why: Why) -> TableSection:
    rows = []
    for rule in plan:
        if isinstance(rule, Rule) and rule not in kernel_default_rules(rule.ns, rule.family):
            criteria = {"from": rule.src or "all", "to": rule.dst, "iif": rule.iif, "oif": rule.oif}
            match = "not " if rule.invert else ""
            match += " ".join(f"{name} {value}" for name, value in criteria.items() if value is not None)
            if rule.mark is not None:
                match += f" fwmark {rule.mark:#x}" + (f"/{rule.mask:#x}" if rule.mask is not None else "")
            action = f"lookup {rule.table}" if rule.kind == "lookup" else rule.kind
            rows.append((str(rule.pref), match, action, "IPv6" if rule.family == 6 else "", why(rule)))
    return trim("rules", ("preference", "packets", "action", "family", "why"), rows, 3)


def _neighbours(plan: Plan, why: Why) -> TableSection:
    rows = [
        (str(item.ip), item.at.dev, item.mac or "", "proxy" if item.proxy else item.state, why(item))
        for item in plan
        if isinstance(item, Neighbour)
    ]
    return trim("neighbours", ("address", "device", "mac", "state", "why"), rows, 4)


def _forwarding(state: NodeState) -> TableSection:
    rows = [(one.mac, one.at.dev, one.bridge or "", str(one.dst or ""), one.state) for one in state.fdb]
    return trim("forwarding entries", ("mac", "device", "bridge", "remote", "state"), rows, 2)


def _connections(state: NodeState) -> TableSection:
    rows = [
        (
            IP_PROTOCOLS.get(flow.protocol, str(flow.protocol)),
            _packet(flow.src, flow.sport, flow.dst, flow.dport, flow.protocol),
            _packet(flow.reply_src, flow.reply_sport, flow.reply_dst, flow.reply_dport, flow.protocol)
            if flow.is_translated
            else "",
            flow.state,
        )
        for flow in state.flows[:MAX_CONNECTIONS]
    ]
    if len(state.flows) > MAX_CONNECTIONS:
        rows.append(("...", f"{len(state.flows) - MAX_CONNECTIONS} more", "", ""))
    return trim("connections (conntrack)", ("protocol", "packets", "replies", "state"), rows, 2)


def _packet(src: IP, sport: int, dst: IP, dport: int, protocol: int) -> str:
    """The addresses of one direction of a connection, with its ports or its ICMP identifier."""
    if IP_PROTOCOLS.get(protocol, "").startswith("icmp"):
        return f"{src} > {dst} id {sport}"
    return f"{endpoint(src, sport)} > {endpoint(dst, dport)}"


def endpoint(ip: IP, port: int) -> str:
    """An address with a port; without the port if that is 0, which no protocol uses."""
    if not port:
        return str(ip)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def _sockets(state: NodeState) -> TableSection:
    rows = [(one.protocol, endpoint(one.address, one.port), ", ".join(one.processes)) for one in state.sockets]
    return trim("listening sockets", ("protocol", "address", "processes"), rows, 2)


def _processes(plan: Plan, why: Why) -> TableSection:
    notes = {True: "holds the namespace", False: ""}
    rows = [
        (item.name, str(item.pid or ""), shlex.join(item.command), notes[item.sandbox], why(item))
        for item in plan
        if isinstance(item, Process)
    ]
    return trim("processes", ("process", "pid", "command", "note", "why"), rows, 3)


def _firewall(chains: Iterable[ChainCounters], reasons: PlannedReasons | None) -> list[TableSection]:
    tables: dict[tuple[str, str], list[Row]] = {}
    for counters in chains:
        chain = counters.chain
        user_defined = chain.name not in BUILTIN.get((chain.family, chain.table), ())
        if not user_defined and not chain.rules and (chain.policy or "ACCEPT") == "ACCEPT":
            continue
        rows = tables.setdefault((chain.family, chain.table), [])
        numbers = ("", "") if user_defined else tuple(map(str, counters.policy_counter))
        policy = chain.policy if user_defined else chain.policy or "ACCEPT"  # ebtables: every chain has one
        why = "" if reasons is None else reasons.of_chain(chain)
        rows.append((chain.name, *numbers, f"policy {policy}" if policy else "", why))
        for rule, (packets, size) in zip(chain.rules, counters.rule_counters, strict=True):
            why = "" if reasons is None else reasons.of_rule(chain, rule)
            rows.append(("", str(packets), str(size), str(rule), why))
    columns = ("chain", "packets", "bytes", "rule", "why")
    return [trim(f"{CHAIN_TOOLS[family]} -t {table}", columns, rows, 4) for (family, table), rows in tables.items()]


def _nft(objects: Iterable[NftCounters], reasons: PlannedReasons | None) -> list[TableSection]:
    """The tables of nft: each chain with its rules and what they counted, each set and map with its elements."""
    tables: dict[str, list[Row]] = {}
    for counted in objects:
        item = counted.item
        rows = tables.setdefault(item.table, [])
        if item.kind == "table":
            continue
        name = item.name if item.kind == "chain" else f"{item.kind} {item.name}"
        entries = "" if item.kind == "chain" else f"{{ {', '.join(item.entries)} }}"
        header = " ".join(line for line in item.header if not line.startswith("comment "))
        rows.append((name, "", "", f"{header} {entries}".strip(), "" if reasons is None else reasons.of(item)))
        for rule, counter in zip(item.entries, counted.counters, strict=True) if item.kind == "chain" else ():
            numbers = ("", "") if counter is None else tuple(map(str, counter))
            rows.append(("", *numbers, rule, "" if reasons is None else reasons.of_rule(item, rule)))
    columns = ("chain", "packets", "bytes", "rule", "why")
    return [trim(f"nft table {table}", columns, rows, 4) for table, rows in tables.items()]

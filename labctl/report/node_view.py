"""The output of `show` for a node: its kernel objects as tables of text, and as data for programs. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.core.fidelity import sort_by_grade
from labctl.core.iptables import BUILTIN, CHAIN_TOOLS
from labctl.core.kernel_defaults import kernel_default_rules
from labctl.core.resources import (
    ROUTE_PROTOCOLS,
    RT_TABLE_MAIN,
    Address,
    Fdb,
    Link,
    Neighbour,
    Plan,
    Process,
    Route,
    Rule,
    Sysctl,
)

if TYPE_CHECKING:
    from labctl.core.iptables_save import ChainCounters
    from labctl.core.scenario_types import Lab

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableSection:
    """A table: its title, the names of its columns, and rows of text. Without columns it has no header."""

    title: str
    columns: Row
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class NodeView:
    """The current state of a node: its objects, its firewall chains with counters, and its sysctls by name."""

    node: str
    plan: Plan
    chains: tuple[ChainCounters, ...]
    settings: Mapping[str, str]


def sections(view: NodeView) -> tuple[TableSection, ...]:
    """The node's tables, from links to firewall and sysctls. Empty tables are left out."""
    kinds = (_links, _options, _addresses, _routes, _rules, _neighbours, _forwarding)
    found = [kind(view.plan) for kind in kinds]
    found += _firewall(view.chains)
    found.append(_processes(view.plan))
    found.append(TableSection("settings", ("name", "value"), tuple(sorted(settings(view).items()))))
    return tuple(section for section in found if section.rows)


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
    return {**view.settings, **{item.name: item.value for item in view.plan if isinstance(item, Sysctl)}}


def _trim(title: str, columns: Row, rows: Iterable[Row], fixed_columns: int) -> TableSection:
    """A section without its empty columns. The first `fixed_columns` columns stay in any case."""
    all_rows = list(rows)
    shown = [at for at in range(len(columns)) if at < fixed_columns or any(row[at] for row in all_rows)]
    return TableSection(
        title, tuple(columns[at] for at in shown), tuple(tuple(row[at] for at in shown) for row in all_rows)
    )


def _links(plan: Plan) -> TableSection:
    columns = ("device", "kind", "state", "mac", "mtu", "master", "peer")
    rows = []
    for link in plan:
        if isinstance(link, Link):
            peer = "" if link.peer is None else str(link.peer)
            state = "up" if link.up else "down"
            rows.append((link.at.dev, link.kind, state, link.mac or "", str(link.mtu or ""), link.master or "", peer))
    return _trim("links", columns, rows, 3)


def _options(plan: Plan) -> TableSection:
    rows = []
    for link in plan:
        if isinstance(link, Link):
            texts = [f"{name} {value}".strip() for name, value in link.options]
            texts += [flag for flag in ("promisc", "hairpin") if getattr(link, flag)]
            rows += [(link.at.dev, ", ".join(texts))] if texts else []
    return TableSection("link options", ("device", "options"), tuple(rows))


def _addresses(plan: Plan) -> TableSection:
    rows = [
        (item.at.dev, str(item.addr), "without its route" if item.connected is False else "")
        for item in plan
        if isinstance(item, Address)
    ]
    return _trim("addresses", ("device", "address", "note"), rows, 2)


def _routes(plan: Plan) -> TableSection:
    columns = ("destination", "via", "device", "source", "metric", "table", "more")
    rows = []
    for route in plan:
        if isinstance(route, Route):
            more = [route.kind] if route.kind != "unicast" else []
            more += [f"encap ip id {route.encap[0]} dst {route.encap[1]}"] if route.encap is not None else []
            more += ["onlink"] if route.onlink else []
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
                )
            )
    return _trim("routes", columns, rows, 3)


def _rules(plan: Plan) -> TableSection:
    rows = []
    for rule in plan:
        if isinstance(rule, Rule) and rule not in kernel_default_rules(rule.ns, rule.family):
            criteria = {"from": rule.src or "all", "to": rule.dst, "iif": rule.iif, "oif": rule.oif}
            match = "not " if rule.invert else ""
            match += " ".join(f"{name} {value}" for name, value in criteria.items() if value is not None)
            if rule.mark is not None:
                match += f" fwmark {rule.mark:#x}" + (f"/{rule.mask:#x}" if rule.mask is not None else "")
            action = f"lookup {rule.table}" if rule.kind == "lookup" else rule.kind
            rows.append((str(rule.pref), match, action, "IPv6" if rule.family == 6 else ""))
    return _trim("rules", ("preference", "packets", "action", "family"), rows, 3)


def _neighbours(plan: Plan) -> TableSection:
    rows = [
        (str(item.ip), item.at.dev, item.mac or "", "proxy" if item.proxy else item.state)
        for item in plan
        if isinstance(item, Neighbour)
    ]
    return TableSection("neighbours", ("address", "device", "mac", "state"), tuple(rows))


def _forwarding(plan: Plan) -> TableSection:
    rows = [(item.mac, item.at.dev, str(item.dst or "")) for item in plan if isinstance(item, Fdb)]
    return _trim("forwarding entries", ("mac", "device", "remote"), rows, 2)


def _processes(plan: Plan) -> TableSection:
    rows = [
        (item.name, str(item.pid or ""), shlex.join(item.command), "holds the namespace" if item.sandbox else "")
        for item in plan
        if isinstance(item, Process)
    ]
    return _trim("processes", ("process", "pid", "command", "note"), rows, 3)


def _firewall(chains: Iterable[ChainCounters]) -> list[TableSection]:
    tables: dict[tuple[str, str], list[Row]] = {}
    for counters in chains:
        chain = counters.chain
        user_defined = chain.name not in BUILTIN.get((chain.family, chain.table), ())
        if not user_defined and not chain.rules and (chain.policy or "ACCEPT") == "ACCEPT":
            continue
        rows = tables.setdefault((chain.family, chain.table), [])
        policy = tuple(map(str, counters.policy_counter))
        rows.append(
            (chain.name, "", "", "") if user_defined else (chain.name, *policy, f"policy {chain.policy or 'ACCEPT'}")
        )
        for rule, (packets, size) in zip(chain.rules, counters.rule_counters, strict=True):
            rows.append(("", str(packets), str(size), str(rule)))
    return [
        TableSection(f"{CHAIN_TOOLS[family]} -t {table}", ("chain", "packets", "bytes", "rule"), tuple(rows))
        for (family, table), rows in tables.items()
    ]

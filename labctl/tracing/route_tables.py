"""Which routing tables the kernel asked for a packet, and where a route lies that it did not use. Pure.

The kernel itself answered the lookup. The rules of policy routing say which tables it went through for that.
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.core.observations import RouteLookup
from labctl.core.resources import RT_TABLE_MAIN, Route, Rule
from labctl.core.sentence import Sentence, listed, sentence, sentence_n
from labctl.render.resources import rule_text
from labctl.tracing.evidence import NamespaceState

TABLE_NAMES = {253: "default", RT_TABLE_MAIN: "main", 255: "local"}
FULL_MASK = 0xFFFFFFFF


def asked_tables(state: NamespaceState, lookup: RouteLookup, mark: int = 0) -> tuple[int, ...]:
    """The tables that a lookup without a result went through, in order; empty if a rule refused it first, or if the
    rules are not known. If there are others, the table `local` is left out, and so is `default` if it has no route."""
    tables = []
    for rule in _rules(state, lookup):
        if not _matches(rule, lookup, mark):
            continue
        if rule.kind != "lookup":
            break
        tables.append(rule.table)
    unused = {255} | ({253} - {route.table for route in state.routes})
    others = [table for table in tables if table not in unused]
    return tuple(dict.fromkeys(others or tables))


def refusing_rule(state: NamespaceState, lookup: RouteLookup, mark: int = 0) -> Rule | None:
    """The rule of policy routing (`unreachable`, `prohibit`, `blackhole`) that ended a lookup; None if no rule did."""
    return next(
        (rule for rule in _rules(state, lookup) if rule.kind != "lookup" and _matches(rule, lookup, mark)), None
    )


def routes_elsewhere(state: NamespaceState, lookup: RouteLookup, asked: Sequence[int]) -> Route | None:
    """The most specific route to the destination in a table that was not asked.

    A default route in a table that only marks lead to does not count: the mark chooses a machine, such as a load
    balancer does, and every packet has a route there.
    """
    rules = [rule for rule in state.rules if rule.kind == "lookup" and rule.family == lookup.dst.version]
    by_mark = {rule.table for rule in rules if rule.mark is not None} - {
        rule.table for rule in rules if rule.mark is None
    }
    fits = [
        route
        for route in state.routes
        if route.kind == "unicast"
        and route.table not in (*asked, 255)
        and lookup.dst in route.dst
        and (route.dst.prefixlen or route.table not in by_mark)
    ]
    return max(fits, key=lambda route: route.dst.prefixlen, default=None)


def has_route(state: NamespaceState, lookup: RouteLookup, asked: Sequence[int]) -> bool:
    """Whether a table that was asked has a route to the destination after all: one that the kernel cannot use now."""
    return any(
        route.kind == "unicast" and route.table in asked and lookup.dst in route.dst for route in state.routes
    ) or any(one.connected and RT_TABLE_MAIN in asked and lookup.dst in one.addr.network for one in state.addresses)


def users_text(state: NamespaceState, table: int, family: int) -> Sentence:
    """Who uses a table: `only what comes in by node1 and vm uses it`."""
    rules = [rule for rule in state.rules if (rule.kind, rule.table, rule.family) == ("lookup", table, family)]
    if not rules:
        return sentence("no rule leads to it")
    if all(rule == Rule(rule.ns, rule.pref, table, family, iif=rule.iif) for rule in rules):
        names = [rule.iif or "" for rule in rules]
        return sentence("only what comes in by {devices} uses it", devices=listed(dict.fromkeys(names)))
    texts = (rule_text(rule).partition(" lookup ")[0].removeprefix("pref ").partition(" ") for rule in rules)
    found = [sentence("rule {pref} ({text})", pref=pref, text=text) for pref, _, text in texts]
    return sentence_n("only {rules} leads to it", "only {rules} lead to it", len(found), rules=listed(found))


def tables_text(tables: Sequence[int]) -> Sentence:
    """`table main`, `tables 100 and main`."""
    names = [TABLE_NAMES.get(table, str(table)) for table in tables]
    return sentence_n("table {names}", "tables {names}", len(names), names=listed(names))


def _rules(state: NamespaceState, lookup: RouteLookup) -> list[Rule]:
    family = lookup.dst.version
    return sorted((rule for rule in state.rules if rule.family == family), key=lambda rule: rule.pref)


def _matches(rule: Rule, lookup: RouteLookup, mark: int) -> bool:
    found = (
        (rule.src is None or (lookup.src is not None and lookup.src in rule.src) or rule.src.prefixlen == 0)
        and (rule.dst is None or lookup.dst in rule.dst)
        and (rule.iif is None or rule.iif == (lookup.iif or "lo"))
        and rule.oif is None
        and (rule.mark is None or (mark ^ rule.mark) & (FULL_MASK if rule.mask is None else rule.mask) == 0)
    )
    return found != rule.invert

"""The tables that a lookup went through, and who uses the others."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from labctl.core.kernel_defaults import kernel_default_rules
from labctl.core.observations import RouteLookup
from labctl.core.resources import Route, Rule
from labctl.tracing.evidence import NamespaceState
from labctl.tracing.route_tables import (
    asked_tables,
    has_route,
    refusing_rule,
    routes_elsewhere,
    tables_text,
    users_text,
)

POD, PEER = IPv4Address("10.4.0.2"), IPv4Address("10.200.0.2")
LOOKUP = RouteLookup("fabric", POD, PEER, "peer", error="ENETUNREACH")
OF_PODS = Route("fabric", IPv4Network("10.4.0.0/24"), via=IPv4Address("10.128.0.2"), dev="node1", table=100)


def state(*rules: Rule, routes: tuple[Route, ...] = (OF_PODS,)) -> NamespaceState:
    return NamespaceState("fabric", routes=routes, rules=(*kernel_default_rules("fabric", 4), *rules))


def by(iif: str, table: int = 100) -> Rule:
    return Rule("fabric", 100, table, iif=iif)


def test_only_rules_for_the_packet_lead_to_a_table() -> None:
    fabric = state(by("node1"), by("vm"), by("peer", 7))

    assert asked_tables(fabric, LOOKUP) == (7, 254)
    assert tables_text((7, 254)) == "tables 7 and main"
    assert routes_elsewhere(fabric, LOOKUP, (7, 254)) == OF_PODS
    assert users_text(fabric, 100, 4) == "only what comes in by node1 and vm uses it"


def test_a_rule_may_ask_for_source_destination_mark_or_their_opposite() -> None:
    def asked(rule: Rule, mark: int = 0, lookup: RouteLookup = LOOKUP) -> bool:
        return 9 in asked_tables(state(rule), lookup, mark)

    assert asked(Rule("fabric", 5, 9, src=IPv4Network("10.200.0.0/16")))
    assert not asked(Rule("fabric", 5, 9, src=IPv4Network("10.200.0.0/16"), invert=True))
    assert not asked(Rule("fabric", 5, 9, dst=IPv4Network("10.5.0.0/16")))
    assert asked(Rule("fabric", 5, 9, mark=0x80, mask=0x80), 0x81)
    assert not asked(Rule("fabric", 5, 9, mark=0x80), 0x81)
    assert asked(by("lo", 9), lookup=RouteLookup("fabric", POD, error="ENETUNREACH"))
    assert not asked(by("lo", 9))


def test_a_rule_that_refuses_ends_the_lookup() -> None:
    refusal = Rule("fabric", 90, dst=IPv4Network("10.4.0.0/16"), kind="unreachable")
    fabric = state(refusal, Rule("fabric", 80, 7))

    assert asked_tables(fabric, LOOKUP) == (7,)
    assert refusing_rule(fabric, LOOKUP) == refusal
    assert refusing_rule(state(), LOOKUP) is None


def test_without_a_rule_for_main_only_the_others_were_asked() -> None:
    local, _, default = kernel_default_rules("fabric", 4)
    fabric = NamespaceState("fabric", routes=(replace(OF_PODS, table=254),), rules=(local, default))

    assert asked_tables(fabric, LOOKUP) == (255, 253)
    assert users_text(fabric, 254, 4) == "no rule leads to it"


def test_unknown_rules_name_no_table() -> None:
    assert asked_tables(NamespaceState("fabric", routes=(OF_PODS,)), LOOKUP) == ()


def test_a_table_without_rules_leads_nowhere() -> None:
    assert users_text(state(), 100, 4) == "no rule leads to it"
    rule = Rule("fabric", 200, 100, src=IPv4Network("10.0.0.7/32"))
    assert users_text(state(rule), 100, 4) == "only rule 200 (from 10.0.0.7/32) leads to it"


def test_a_route_that_was_asked_is_not_missing() -> None:
    assert has_route(state(by("peer")), LOOKUP, (100, 254))
    assert not has_route(state(), LOOKUP, (254,))


def test_a_default_route_that_a_mark_chooses_is_not_the_route_of_a_destination() -> None:
    marked = Rule("fabric", 50, 9, mark=9)
    default = replace(OF_PODS, dst=IPv4Network("0.0.0.0/0"), table=9)

    assert routes_elsewhere(state(marked, routes=(default,)), LOOKUP, (254,)) is None
    assert routes_elsewhere(state(marked, by("vm", 9), routes=(default,)), LOOKUP, (254,)) == default
    assert routes_elsewhere(state(marked, routes=(replace(OF_PODS, table=9),)), LOOKUP, (254,)) is not None

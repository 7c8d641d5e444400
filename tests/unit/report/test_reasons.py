"""`--why` of `status`, `show` and `trace`: the reason of an object below it, or beside it."""

from __future__ import annotations

import io
from dataclasses import replace
from functools import cache
from ipaddress import ip_address, ip_network

from labctl.core.diff import diff
from labctl.core.iptables import rule
from labctl.core.iptables_save import ChainCounters
from labctl.core.nft_counters import parse_counters
from labctl.core.node_state import NodeState
from labctl.core.resources import Chain, NftObject, Route
from labctl.core.scenario_types import Lab
from labctl.core.why import LABCTL, RuleShapes
from labctl.explanation.planned_reasons import FOREIGN, PlannedReasons
from labctl.report.json_documents import status_document
from labctl.report.node_view import NodeView, sections
from labctl.report.terminal import Terminal
from labctl.report.trace_reasons import with_reasons
from labctl.report.up_status import print_status
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from labctl.tracing.diagnosis import diagnose
from tests.support.traces import recording


@cache
def kubenet() -> Lab:
    file, source = catalog.find("kubenet")
    return parse_and_compile(source, file)[1]


def status_text(lab: Lab, have: tuple[object, ...]) -> list[str]:
    out = io.StringIO()
    changes = diff(lab.plan, have)  # type: ignore[arg-type]
    print_status(lab.name, lab, changes, Terminal(out, io.StringIO()), PlannedReasons(lab))
    return out.getvalue().splitlines()


def test_status_has_the_reason_below_each_object() -> None:
    lab = kubenet()
    foreign = Route("node1", ip_network("198.51.100.0/24"), ip_address("10.224.0.1"), "eth0")
    have = (*(one for one in lab.plan if not (isinstance(one, Route) and one.ns == "fabric")), foreign)

    lines = status_text(lab, have)

    at = lines.index("  missing  route 10.244.1.0/24 via 10.224.0.5 dev node2 table 100 onlink")
    assert lines[at + 1].startswith("           It leads packets for 10.244.1.0/24 to node2")
    assert lines[at + 1].endswith("[cloud-provider-azure]")
    at = lines.index("  extra    route 198.51.100.0/24 via 10.224.0.1 dev eth0")
    assert lines[at + 1] == f"           {FOREIGN}"


def test_status_has_the_reason_of_each_rule_of_nft() -> None:
    shapes = RuleShapes(("ip t/c", "", LABCTL.why("It is a chain.")), ("ip t/c", "drop", LABCTL.why("It drops.")))
    chain = NftObject("node1", "ip t", "chain", "c", entries=("counter drop",), why=shapes.of_chain)
    chain = replace(chain, rule_whys=shapes.reasons)
    lab = replace(kubenet(), plan=(*kubenet().plan, chain))
    have = (*kubenet().plan, replace(chain, entries=("accept",)))

    lines = status_text(lab, have)

    at = lines.index("  extra    nft rule ip t c accept")
    assert lines[at + 1] == f"           {FOREIGN}"
    assert lines[lines.index("  missing  nft rule ip t c counter drop") + 1] == "           It drops. [labctl]"


def test_status_has_the_reason_of_each_rule_of_a_chain() -> None:
    lab = kubenet()
    have = tuple(
        replace(one, rules=(*one.rules[1:], rule("-j DROP"))) if one.key[1:] == agent_chain else one
        for one in lab.plan
        for agent_chain in [("node1", "ip", "nat", "IP-MASQ-AGENT")]
    )

    lines = status_text(lab, have)

    assert lines[1] == "node1"
    assert lines[2].endswith("-j DROP")
    assert lines[3] == f"           {FOREIGN}"
    assert lines[5].startswith("           Packets to 10.244.0.0/16 keep the address of the pod")
    changes = diff(lab.plan, have)
    document = status_document("kubenet", lab, changes, PlannedReasons(lab))
    assert document["changes"][0]["why"] == [lines[3].strip(), lines[5].strip()]
    assert "why" not in status_document("kubenet", lab, changes)["changes"][0]


def test_show_has_a_column_with_the_reasons() -> None:
    lab = kubenet()
    here = tuple(item for item in lab.plan if item.ns == "node1")
    chains = tuple(ChainCounters(one, tuple((1, 84) for _ in one.rules)) for one in here if isinstance(one, Chain))
    view = NodeView("node1", here, NodeState("node1", chains=chains))

    found = {section.title: section for section in sections(view, PlannedReasons(lab))}
    for title in ("links", "addresses", "routes", "settings", "iptables -t nat", "ebtables -t filter"):
        assert found[title].columns[-1] == "why", title
    (route,) = found["routes"].rows
    assert route[-1].startswith("node1 knows no way to any other machine")
    rules = [row for row in found["iptables -t nat"].rows if row[0] == ""]
    assert all(row[-1].endswith("[ip-masq-agent]") for row in rules)
    assert all("why" not in section.columns for section in sections(view))


def test_show_has_the_reasons_of_objects_of_nft() -> None:
    shapes = RuleShapes(("ip t/c", "", LABCTL.why("It is a chain.")), ("ip t/c", "drop", LABCTL.why("It drops.")))
    chain = NftObject("node1", "ip t", "chain", "c", entries=("counter drop",), why=shapes.of_chain)
    chain = replace(chain, rule_whys=shapes.reasons)
    lab = replace(kubenet(), plan=(*kubenet().plan, chain))
    text = "table ip t { chain c { counter packets 1 bytes 84 drop; }; set s { type ipv4_addr; }; }"
    view = NodeView("node1", (), NodeState("node1", nft=tuple(parse_counters("node1", text))))

    (section,) = sections(view, PlannedReasons(lab))
    assert [row[-1] for row in section.rows] == ["It is a chain. [labctl]", "It drops. [labctl]", FOREIGN]


def notes(name: str) -> dict[str, list[tuple[str, str]]]:
    """The notes of the request of a recorded trace, by machine, with reasons."""
    evidence = recording(name)
    leg = with_reasons(diagnose(evidence), evidence, kubenet()).legs[0]
    return {step.node: [(note.label, note.text) for note in step.notes] for step in leg.steps}


def test_a_trace_has_the_reason_behind_each_route_and_rule() -> None:
    found = notes("kept-no-translation")

    assert [label for label, _ in found["fabric"]] == ["route", "why", "rule", "why", "SNAT"]
    assert found["node1"][1] == (
        "why",
        "node1 knows no way to any other machine: 10.224.0.1 is the virtual network, and it knows the ways to all of"
        " them. [Azure's DHCP]",
    )
    assert found["fabric"][1][1] == (
        "The kernel makes it with the address 203.0.113.50/24: 203.0.113.0/24 is at pip itself."
    )
    assert found["fabric"][3][1].endswith("[Azure's load balancer]")


def test_a_rule_that_kept_the_source_has_its_reason_and_a_foreign_one_is_called_so() -> None:
    found = notes("policy-reject")

    assert ("why", FOREIGN) in found["node2"], "this lab has no policies"
    kept = found["node2"][[label for label, _ in found["node2"]].index("nat") + 1]
    assert kept[1].startswith("Packets to 10.244.0.0/16 keep the address of the pod")


def test_without_why_a_trace_is_as_before() -> None:
    evidence = recording("kept-no-translation")
    result = diagnose(evidence)

    legs = with_reasons(result, evidence, kubenet()).legs
    without = [[one for one in step.notes if one.label != "why"] for leg in legs for step in leg.steps]
    assert without == [[*step.notes] for leg in result.legs for step in leg.steps]

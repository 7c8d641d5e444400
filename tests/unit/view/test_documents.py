"""What the page shows of a lab: documents from a plan, from outcomes, from recorded traces."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

import labctl
from labctl.core.resources import Link
from labctl.core.sentence import sentence
from labctl.errors import UsageError
from labctl.explanation.explanation import subjects
from labctl.lab.fault_records import FaultRecord
from labctl.report.node_view import sections
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.result import Leg, Step, TraceResult
from labctl.translation import language
from labctl.view.documents import (
    break_sentence,
    broken_documents,
    drift_documents,
    fix_sentence,
    lab_document,
    outcome_document,
    table_documents,
)
from labctl.view.export import POLICY, SCRIPT_LINK, STATE_COMMENT, STYLE_LINK, page_file, trace_requests
from labctl.view.reasons import LabReasons
from labctl.view.steps import trace_document
from tests.support import samples
from tests.support.foreign_language import Foreign
from tests.support.traces import TRACES, recording

HIDDEN = FaultRecord("route-missing", "node1/10.244.1.0/24", True)
STEP_KEYS = {
    "leg", "machine", "devices", "device", "cable", "direction", "src", "dst", "ttl", "tunnel", "when_us", "text",
    "rules", "nat", "lost", "cause",
}  # fmt: skip


def test_the_document_of_a_lab_has_all_that_the_page_needs_at_first() -> None:
    lab = labctl.load("services").compiled
    document = lab_document(lab)

    assert json.loads(json.dumps(document)) == document
    assert {"name": "web", "text": "web (10.0.39.225)"} in document["targets"]
    assert {machine["name"] for machine in document["machines"]} == {machine.name for machine in lab.machines}
    assert [check["id"] for check in document["checks"]] == [str(number) for number in range(len(lab.checks))]
    assert 'data-cable="fabric/node1 node1/eth0"' in document["svg"]
    assert not [point for point in document["points"] if point.endswith("/lo")]


def test_drift_names_the_device_if_there_is_one() -> None:
    found = drift_documents(samples.DRIFT)

    assert found
    for one, change in zip(found, samples.DRIFT, strict=False):
        assert (one["machine"], one["kind"]) == (change.subject.ns, change.kind)
    assert {one["device"] for one in found} - {None}
    (route,) = (one for one in found if "route" in one["text"])
    assert (route["machine"], route["device"]) == ("node1", None), "a missing route is no fault of its device"
    assert all(one["device"] is None or one["device"].startswith(f"{one['machine']}/") for one in found)


def test_a_hidden_fault_is_never_named() -> None:
    assert broken_documents([HIDDEN]) == [{"hidden": True}]
    assert "route" not in break_sentence(HIDDEN)
    shown = replace(HIDDEN, hidden=False)
    assert broken_documents([shown])[0]["id"] == "route-missing"
    assert broken_documents([replace(shown, fixed=True)]) == []
    assert fix_sentence([HIDDEN]) == "route-missing on node1/10.244.1.0/24 is fixed"
    assert "nothing to fix" in fix_sentence([])


def test_a_failed_check_says_why() -> None:
    document = outcome_document(3, samples.FAILED)

    assert (document["id"], document["state"], document["text"]) == ("3", "fail", samples.FAILED.check.say)
    assert document["why"] == " ".join(" ".join(samples.FAILED.evidence).split())
    assert outcome_document(0, samples.PASSED)["why"] == ""


def test_the_tables_of_a_machine_are_those_of_show() -> None:
    tables = table_documents(sections(samples.VIEW))

    assert tables
    for table in tables:
        assert all(len(row) == len(table["columns"]) for row in table["rows"] if table["columns"])


@pytest.mark.parametrize("name", sorted(path.stem for path in TRACES.glob("*.json")))
def test_the_steps_of_every_recorded_trace(name: str) -> None:
    story = diagnose(recording(name))
    document = trace_document(samples.LAB, "a", story)
    steps = document["steps"]

    assert all(set(step) == STEP_KEYS for step in steps)
    walked = [(leg.name, step.node) for leg in story.legs for step in leg.steps]
    assert [(step["leg"], step["machine"]) for step in steps] == (walked or [("request", "a")] * len(steps))
    assert sum(step["lost"] for step in steps) == (story.verdict == "lost")
    for step in steps:
        assert (step["cause"] is not None) == step["lost"]
        translated = any(note["label"] in ("SNAT", "DNAT", "un-NAT") for note in step["rules"])
        assert (step["nat"] is not None) == translated
    assert json.loads(json.dumps(document)) == document


def test_the_cable_of_a_step_is_named_as_in_the_drawing() -> None:
    lab = labctl.load("kubenet").compiled
    veth = next(item.peer.dev for item in lab.plan if isinstance(item, Link) and str(item.at) == "a/eth0" and item.peer)
    walked = (("a", ("eth0",)), ("node1", (veth, "cbr0", "eth0")), ("fabric", ("node1", "node2")), ("vm", ("eth0",)))
    steps = tuple(Step(node, devices, 0, "10.244.0.2", "10.225.0.4", 64) for node, devices in walked)
    document = trace_document(lab, "a", TraceResult("ping", (Leg("request", steps),), "answered", "answered"))
    svg = lab_document(lab)["svg"]

    cables = [step["cable"] for step in document["steps"]]
    assert cables == [None, f"a/eth0 node1/{veth}", "fabric/node1 node1/eth0", None]  # no cable leads from there to vm
    assert all(f'data-cable="{cable}"' in svg for cable in cables if cable)
    assert [step["direction"] for step in document["steps"]] == ["out", "through", "through", "in"]


def test_the_packets_to_record_are_those_of_the_checks_each_once() -> None:
    lab = labctl.load("services").compiled
    requests = list(trace_requests(lab))

    assert ("ping a -> vm", {"from": "a", "to": "vm", "protocol": "icmp", "listen": True}) in requests
    assert any(request["protocol"] == "tcp" and request["port"] == 30081 for _, request in requests)
    keys = [(one["from"], one["to"], one["protocol"], one.get("port"), one.get("size")) for _, one in requests]
    assert len(keys) == len(set(keys))
    assert not [title for title, _ in requests if title.startswith("mesh")]


def built(folder: Path, page: str) -> Path:
    (folder / "index.html").write_text(page)
    (folder / "view.css").write_text("p{color:red}")
    (folder / "view.js").write_text(f'const text = "</script>"; // {STYLE_LINK}')
    return folder


def test_an_exported_page_has_everything_inside(tmp_path: Path) -> None:
    page = f"<head>{STYLE_LINK}{STATE_COMMENT}</head>{SCRIPT_LINK}"
    state = {"lab": "k", "text": "</script><script>alert(1)</script>" + SCRIPT_LINK}
    text = page_file(built(tmp_path, page), state)

    assert text.count("<script") == 2
    assert text.count("</script>") == 2
    assert text.count("p{color:red}") == 1
    assert POLICY in text
    inlined = text.partition('type="application/json">')[2].partition("</script>")[0]
    assert json.loads(inlined) == state


def test_a_page_without_a_place_for_the_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="labctl-state"):
        page_file(built(tmp_path, STYLE_LINK + SCRIPT_LINK), {})


def test_reasons_of_a_machine_name_their_device() -> None:
    lab = labctl.load("kubenet").compiled
    found = LabReasons(lab).of_machine("node1")

    assert len(found) == len([one for one in subjects(lab.plan) if one.machine == "node1"])
    (bridge,) = (one for one in found if one["kind"] == "link" and one["device"] == "node1/cbr0")
    assert "bridge" in bridge["why"]
    assert bridge["component"]
    assert {one["device"] for one in found if one["kind"] == "firewall rule"} == {None}
    (default,) = (one for one in found if one["object"].startswith("route default"))
    assert default["device"] == "node1/eth0"
    assert LabReasons(lab).of_machine("nobody") == []


def test_one_object_is_explained_in_full() -> None:
    reasons = LabReasons(labctl.load("kubenet").compiled)
    (default,) = (one for one in reasons.of_machine("node1") if one["object"].startswith("route default"))
    full = reasons.explanation("node1", default["object"])

    assert full["why"] == default["why"]
    assert "route-missing" in [one["fault"] for one in full["without"]]
    assert full["commands"] == ["ip route add default via 10.224.0.1 dev eth0"]
    with pytest.raises(UsageError, match="node1 has no object 'route to nowhere'"):
        reasons.explanation("node1", "route to nowhere")


def test_the_texts_of_a_lab_are_in_the_language_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = labctl.load("kubenet").compiled
    monkeypatch.setattr(language, "_catalog", Foreign())
    document = lab_document(lab)

    assert document["summary"] == Foreign().gettext(lab.say) != lab.say
    assert [one["text"] for one in document["checks"]] == [language.gettext(check.say) for check in lab.checks]
    assert not any("every pod" in one["text"] for one in document["checks"])
    result = TraceResult("p", (), "lost", sentence("it is gone"))
    assert trace_document(lab, "a", result)["story"]["sentence"] == "xx xx xxxx"
    assert trace_document(lab, "a", result)["steps"][-1]["cause"] == "xx xx xxxx"


def test_the_page_says_its_language(tmp_path: Path) -> None:
    for name in ("view.css", "view.js"):
        (tmp_path / name).write_text("")
    (tmp_path / "index.html").write_text(f'<html lang="en">{STYLE_LINK}{STATE_COMMENT}{SCRIPT_LINK}')

    assert page_file(tmp_path, {}, "ja").startswith('<html lang="ja">')
    assert page_file(tmp_path, {}).startswith('<html lang="en">')

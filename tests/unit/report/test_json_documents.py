"""docs/json.md names every key of every document, and no other."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from labctl.compare.table import table
from labctl.core.resources import RESOURCE_TYPES
from labctl.core.sentence import sentence
from labctl.errors import KernelError, Problem, ScenarioError
from labctl.kernel.host.phases import Phase
from labctl.kubernetes.policies.policy_matrix import policy_matrix
from labctl.kubernetes.policies.policy_question import PolicyAnswer, answer
from labctl.render.plan_json import resource_json
from labctl.report import exercise_json as exercises
from labctl.report import faults, json_documents
from labctl.report import lesson_json as lessons
from labctl.report.class_board import board_document
from labctl.report.comparison_json import comparison_document
from labctl.report.hooks import hooks_document, node_hooks
from labctl.report.policy_json import matrix_document, why_document
from labctl.report.profile import profile_json
from labctl.report.trace_json import trace_comparison_document, trace_document
from labctl.tracing.comparison import compare_traces
from tests.support import classes, samples
from tests.support import comparison as comparing
from tests.support.paths import ROOT
from tests.support.policy_lab import policy_lab

TEXT = (ROOT / "docs/json.md").read_text()
PROBLEM = Problem("lab.yaml", 3, 1, "unknown key 'modle'", "did you mean model?")
FREE = (
    "nodes[].settings",
    "evidence.machines",
    "evidence.rooms[].sysctls",
    "evidence.rooms[].counters",
    "labs[].answers[].counts",
)


def why(target: str, port: int) -> PolicyAnswer:
    return answer(policy_lab(), policy_lab().kubernetes, "f", target, "TCP", port)


DOCUMENTS: dict[str, Any] = {
    "error": json_documents.error_document(ScenarioError([PROBLEM]), 2),
    "up": json_documents.up_document(
        samples.result(),
        samples.report(samples.PASSED),
        profile_json((Phase(sentence("links"), 0.5, 0.25),), 30_000_000),
    ),
    "down": json_documents.down_document({"kubenet": 8, "gone": 0}),
    "list": json_documents.list_document(samples.RUNNING),
    "list --scenarios": json_documents.scenarios_document(samples.ENTRIES),
    "status": json_documents.status_document("kubenet", samples.LAB, samples.DRIFT),
    "check": json_documents.check_document(samples.report(samples.PASSED, samples.FAILED, samples.BALANCED)),
    "plan": json_documents.plan_document(samples.LAB),
    "graph": json_documents.graph_document(samples.LAB, "text", "a drawing\n", True, samples.DRIFT),
    "handout": json_documents.handout_document(samples.LAB, "scenario", "en", "<!doctype html>\n", "lab.html"),
    "view": json_documents.view_document("kubenet", "http://127.0.0.1:8080/token/", 8080),
    "view --export": json_documents.view_export_document("kubenet", "kubenet.html", 6),
    "show": json_documents.show_document("kubenet", [samples.VIEW], samples.LAB, shows_all=True),
    "show --hooks": hooks_document("kubenet", [node_hooks("node1", samples.HOOK_CHAINS, "", samples.LAB.plan)]),
    "trace": trace_document(samples.TRACE, samples.STORY),
    "trace --compare": trace_comparison_document(
        (samples.TRACE, samples.TRACE), compare_traces(samples.STORY, replace(samples.STORY, verdict="answered"))
    ),
    "compare": comparison_document(table([comparing.facts(), comparing.SKIPPED])),
    "policy matrix": matrix_document("six-pods", policy_matrix(policy_lab().kubernetes, "TCP", 8080)),
    "policy why": why_document(
        "six-pods", replace(why("a", 81), explanations=(*why("a", 81).explanations, *why("x/web", 80).explanations))
    ),
    "break": faults.break_document("kubenet", samples.FAULT_RECORD, None),
    "break --list": faults.catalogue_document("kubenet", samples.FAULTS),
    "fix": faults.fix_document("kubenet", [(samples.FAULT_RECORD, samples.DRIFT)]),
    "fix --show": faults.solution_document("kubenet", [samples.FAULT_RECORD]),
    "learn": lessons.list_document(samples.LESSONS, [samples.LESSON_PROGRESS], "ana"),
    "learn LESSON": lessons.session_document(samples.LESSON_SESSION, "sudo labctl", samples.STEP_OUTCOME),
    "learn --play": lessons.played_document(samples.LESSON, "one", "one", [samples.STEP_OUTCOME], ["a problem"]),
    "exercise": exercises.sheet_document(samples.EXERCISE, samples.PROGRESS),
    "exercise list": exercises.list_document(samples.EXERCISES, [samples.PROGRESS], "ana"),
    "exercise check": exercises.check_document(samples.EXERCISE, samples.PROGRESS, [(0, samples.JUDGEMENT)]),
    "class board": board_document(classes.board(), [("bad.json", "it is not JSON")]),
    "exercise hint": exercises.hint_document(samples.EXERCISE, samples.PROGRESS, 0),
    "exercise solve --show": exercises.solution_document(samples.EXERCISE, samples.PROGRESS, (0, 1)),
    "validate": json_documents.validate_document({"lab.yaml": samples.LAB}),
    "doctor": json_documents.doctor_document(samples.FINDINGS, "sudo "),
}


CHANGED = {
    "verdict": "answered",
    "story": DOCUMENTS["trace"]["story"] | {"verdict": "answered"},
}


def published(title: str) -> set[str]:
    """The keys in the first column of a section's table."""
    section = re.split(r"^## ", TEXT, flags=re.MULTILINE)
    body = next(part for part in section if part.splitlines()[0] == title)
    return set(re.findall(r"^\| `([^`]+)` \|", body, flags=re.MULTILINE))


def keys(value: Any, path: str = "") -> Iterator[str]:
    """The paths of a document, as the page writes them; objects and the check inside `up` have their own section."""
    if isinstance(value, dict) and "object" not in value:
        for name, inner in value.items():
            here = f"{path}.*" if path in FREE else f"{path}.{name}".lstrip(".")
            yield here
            if path or name not in ("check", "traces"):
                yield from keys(inner, here)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner, f"{path}[]")


@pytest.mark.parametrize("title", DOCUMENTS)
def test_the_page_publishes_exactly_the_keys_of_a_document(title: str) -> None:
    assert set(keys(DOCUMENTS[title])) == published(title)


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_is_plain_json(document: Any) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@pytest.mark.parametrize("kind", RESOURCE_TYPES)
def test_the_page_publishes_the_fields_of_every_kernel_object(kind: type) -> None:
    sample = next(item for item in samples.PLAN if type(item) is kind)
    row = next(line for line in TEXT.splitlines() if line.startswith(f"| `{kind.__name__.lower()}` |"))

    assert ["object", *re.findall(r"`([^`]+)`", row)[1:]] == list(resource_json(sample))


def test_an_error_without_a_file_is_still_listed() -> None:
    document = json_documents.error_document(KernelError("cannot add route", "no address covers it"), 3)

    assert document["error"] == {
        "code": 3,
        "kind": "kernel",
        "message": "cannot add route",
        "errors": [
            {"file": None, "line": None, "column": None, "what": "cannot add route", "hint": "no address covers it"}
        ],
    }


def test_each_of_two_traces_is_the_document_of_trace() -> None:
    assert DOCUMENTS["trace --compare"]["traces"] == [DOCUMENTS["trace"], DOCUMENTS["trace"] | CHANGED]


def test_the_check_inside_up_is_the_document_of_check() -> None:
    report = samples.report(samples.FAILED, samples.PASSED)

    assert json_documents.up_document(samples.result(), report)["check"] == json_documents.check_document(report)
    assert json_documents.up_document(samples.result(), None)["check"] is None


@pytest.mark.parametrize(("shows_all", "names"), [(True, ["node1", "a", "c", "fabric"]), (False, ["node1"])])
def test_show_of_one_node_has_its_machines_only(shows_all: bool, names: list[str]) -> None:
    document = json_documents.show_document("kubenet", [samples.VIEW], samples.LAB, shows_all=shows_all)

    assert [one["name"] for one in document["machines"]] == names
    assert [one["problems"] for one in document["machines"]] == [["veth1 no carrier"], *[["gone"]] * (len(names) - 1)]

"""Reports in another language: no word of a sentence is left in English."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import pytest

from labctl.drawing import html
from labctl.drawing.from_lab import draw
from labctl.faults.catalogue import applicable, kinds
from labctl.lab.fault_records import FaultRecord
from labctl.report import faults, trace, trace_comparison, trace_page, up_status
from labctl.report.terminal import Terminal
from labctl.scenario.definition import define
from labctl.tracing.comparison import compare_traces
from labctl.tracing.diagnosis import diagnose
from labctl.translation import language
from tests.support import samples
from tests.support.foreign_language import ENGLISH, Foreign
from tests.support.traced_drawings import NAMES, lab_of
from tests.support.traces import recording

# one of each form: delivered, in a tunnel, translated, in a circle, refused, without an answer, an ICMP error
TRACES = ("delivered", "vxlan-vni", "masquerade-ports", "loop", "closed-port", "rp-filter", "too-big")
DATA = re.compile(r"/\*.*?\*/|  =>  .*|#.*")  # a comment of a rule, what the kernel answers, what follows a command


@pytest.fixture(autouse=True)
def foreign(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_catalog", Foreign())


def english(lines: list[str]) -> list[str]:
    return [line for line in lines if ENGLISH.search(DATA.sub("", line))]


@pytest.mark.parametrize("name", TRACES)
def test_a_trace(name: str) -> None:
    printed = list(trace.lines(diagnose(recording(name))))

    assert len(printed) > 4
    assert english(printed) == []
    assert not {"request", "reply", "why", "OK", "LOST"} & {word for line in printed for word in line.split()}


@pytest.mark.parametrize("name", TRACES)
def test_a_comparison(name: str) -> None:
    result = compare_traces(diagnose(recording("delivered")), diagnose(recording(name)))

    assert english(list(trace_comparison.comparison_lines(result, width=None))) == []
    assert english(list(trace_comparison.comparison_lines(result, width=160))) == []


@pytest.mark.parametrize("form", ["svg", "html"])
@pytest.mark.parametrize("name", [name for name in TRACES if name in NAMES])
def test_the_drawing_of_a_trace(name: str, form: str) -> None:
    page = trace_page.trace_lines(form, recording(name), diagnose(recording(name)), lab_of(name))
    texts = re.findall(r">([^<>]+)</(?:text|tspan|h2|caption|th|td|p|li|b|desc|title)>", "\n".join(page))

    assert len(texts) > 20
    assert english(texts) == []


def test_the_catalogue_of_faults() -> None:
    lab = define("kubenet").compiled
    terminal = Terminal(io.StringIO(), io.StringIO())
    found = list(applicable(lab))

    assert english(list(faults.catalogue_lines("kubenet", found, terminal, objects=True))) == []
    assert [kind.name for kind in kinds().values() if ENGLISH.search(Foreign().gettext(kind.summary))] == []


def test_break_and_fix() -> None:
    lab = define("kubenet").compiled
    terminal = Terminal(io.StringIO(), io.StringIO())
    for _, (fault, *_) in applicable(lab):
        before = tuple(one.have for one in fault.changes if one.have is not None)
        after = tuple(one.want for one in fault.changes if one.want is not None)
        record = FaultRecord(fault.kind, fault.on, False, before, after, connections=fault.connections)

        assert english(list(faults.break_lines("kubenet", record, fault, None, "labctl", terminal))) == []
        assert english(list(faults.solution_lines("kubenet", [record], terminal))) == []
        assert english(list(faults.fix_lines("kubenet", [(record, fault.changes)], terminal))) == []
    assert english(list(faults.fix_lines("kubenet", [], terminal))) == []


@pytest.mark.parametrize("changes", [(), samples.DRIFT])
def test_status(changes: tuple[object, ...]) -> None:
    out = io.StringIO()
    lab = replace(samples.LAB, substitute_features=())  # what differs from the real system is a text of the model
    up_status.print_status("kubenet", lab, changes, Terminal(out, io.StringIO()))  # type: ignore[arg-type]

    assert english(out.getvalue().splitlines()) == []
    assert not {"missing", "extra", "changed"} & set(out.getvalue().split())


def test_the_page_names_its_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language, "_code", "ja")

    assert '<html lang="ja">' in "\n".join(html.page_lines(draw(define("kubenet").compiled), {}))

"""The page and the drawing of a trace: the steps of its text, with the place of a loss."""

from __future__ import annotations

import re

import pytest

from labctl.report.trace import lines
from labctl.report.trace_page import trace_lines
from labctl.report.trace_path import first_sentence, path_visits
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.loss_point import find_loss_point
from tests.support.traced_drawings import NAMES, lab_of
from tests.support.traces import recording


def page(name: str, form: str = "html") -> str:
    evidence = recording(name)
    return "\n".join(trace_lines(form, evidence, diagnose(evidence), lab_of(name)))


@pytest.mark.parametrize("name", NAMES)
def test_the_steps_are_those_of_the_text_and_a_loss_has_one_place(name: str) -> None:
    evidence = recording(name)
    result = diagnose(evidence)
    visits = tuple(path_visits(evidence, result))
    steps = [step for leg in result.legs for step in leg.steps]
    ends = [one for one in visits if one.is_end]

    assert [one.number for one in visits] == list(range(1, len(visits) + 1))
    assert [one.machine for one in visits][: len(steps)] == [step.node for step in steps]
    assert len(visits) - len(steps) in (0, 1)
    assert len(ends) == (result.verdict != "answered")
    if ends:
        assert ends[0].leg == find_loss_point(evidence).role
        assert ends[0].lost == first_sentence(result.why.sentence if result.why is not None else result.sentence)


def test_the_page_has_a_row_for_each_step_and_all_notes_of_the_text() -> None:
    text = page("service-tcp")
    result = diagnose(recording("service-tcp"))
    rows = re.findall(r'<tr><td class="number">(\d+)</td>', text)

    assert rows == [str(number) for number in range(1, 9)]
    for leg in result.legs:
        for note in (one for step in leg.steps for one in step.notes):
            assert note.text.replace(">", "&gt;") in text
    assert "<b>OK</b> answered after 77 us" in text
    assert '<span class="soft">DNAT</span> destination 10.96.0.10:80 becomes 10.2.0.2:80' in text


def test_a_loss_is_in_its_row_with_the_cause_and_what_to_try() -> None:
    text = page("drop")

    assert '<li class="lost">lost here: a rule of FORWARD in r2 dropped the request</li>' in text
    assert '<p class="lost"><b>LOST</b> the request was last seen entering r2/r1</p>' in text
    assert "<b>why</b> a rule of FORWARD in r2 dropped the request" in text
    assert "iptables -t filter -L FORWARD" in text
    assert text.count("lost here") == 1


def test_the_drawing_of_a_trace_has_its_path() -> None:
    text = page("drop", "svg")

    assert text.startswith("<svg ")
    assert text.count('<polyline class="p request') == 3
    assert next(iter(lines(diagnose(recording("drop"))))).replace(">", "&gt;") in text


def test_the_first_sentence_of_a_cause_is_without_what_is_behind_it() -> None:
    assert first_sentence("r1 has no route; the rule before it sends it there") == "r1 has no route"

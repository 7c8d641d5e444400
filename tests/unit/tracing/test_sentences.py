"""Every sentence of a trace can be said in another language: what is put into a sentence is a sentence itself, or a
name, an address, a command, a rule or a text that the kernel or a recording gave."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from string import Formatter

import pytest

from labctl.core.sentence import Sentence, joined, sentence
from labctl.tracing.comparison import compare_traces
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.result import ROUTE_ERROR_TEXTS, TraceResult
from tests.support.foreign_language import ENGLISH
from tests.support.traces import TRACES, recording

RECORDINGS = sorted(path.stem for path in TRACES.glob("*.json"))
COMMENT = re.compile(r"/\*.*?\*/|--comment \"[^\"]*\"")


@pytest.mark.parametrize("name", RECORDINGS)
def test_the_sentences_of_a_recorded_trace_can_be_said(name: str) -> None:
    known = [*_texts_of(json.loads((TRACES / f"{name}.json").read_text())), *ROUTE_ERROR_TEXTS.values()]

    assert [part for text in _printed(diagnose(recording(name))) for part in _unsaid(text, known)] == []


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name != "delivered"])
def test_the_difference_of_two_traces_can_be_said(name: str) -> None:
    known = [*_texts_of(json.loads((TRACES / f"{name}.json").read_text())), *ROUTE_ERROR_TEXTS.values()]
    difference = compare_traces(diagnose(recording("delivered")), diagnose(recording(name))).difference

    texts = (difference.first, difference.second) if difference is not None else ()
    assert [part for text in texts for part in _unsaid(text, known)] == []


def test_english_in_a_value_is_found() -> None:
    clause = "which has the address"
    name = sentence("{node}, {clause}", node="a", clause=clause)

    assert list(_unsaid(sentence("{name} is down", name=name), [])) == [clause]
    assert list(_unsaid(f"{name} is down", [])) == [f"{name} is down"]
    assert list(_unsaid(joined(": ", ("a", sentence("{node} is down", node="a"))), [])) == []
    assert list(_unsaid(sentence("the kernel said: {text}", text="it is full"), ["it is full"])) == []


def _printed(result: TraceResult) -> Iterator[str]:
    """Every text of a result that a report prints, except commands to try."""
    yield from (result.probe, result.sentence, *result.unknown)
    if result.why is not None:
        yield result.why.sentence
    yield from (note.text for note in result.facts)
    yield from (note.text for leg in result.legs for step in leg.steps for note in step.notes)


def _unsaid(text: str, known: list[str]) -> Iterator[str]:
    """The parts of a text that are English, and that no catalogue can translate."""
    if isinstance(text, Sentence):
        for template in (text.template, text.many):
            for _, field, _, _ in Formatter().parse(template) if text.values else ():
                if field is not None:
                    yield from _unsaid(_value(text, field), known)
        return
    left = COMMENT.sub("", text)
    for one in sorted(known, key=len, reverse=True):
        left = left.replace(one, "")
    if ENGLISH.search(left):
        yield text


def _value(text: Sentence, field: str) -> str:
    value = text.values[field]
    return value if isinstance(value, str) else str(value)


def _texts_of(document: object) -> Iterator[str]:
    """The texts of several words in a recording: what the kernel, the lab or a rule says."""
    if isinstance(document, str):
        yield from (document,) if " " in document else ()
    elif isinstance(document, dict):
        yield from (text for value in document.values() for text in _texts_of(value))
    elif isinstance(document, list):
        yield from (text for value in document for text in _texts_of(value))

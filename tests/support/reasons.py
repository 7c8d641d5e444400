"""What is wrong with the reasons of a lab's objects: an object or a rule without one, or a sentence that is not one."""

from __future__ import annotations

import re
from collections.abc import Iterator

from labctl.core.scenario_types import Lab
from labctl.core.why import Why
from labctl.explanation.explanation import Subject, find_reason, subjects
from labctl.explanation.placeholders import Placeholders

LONGEST = 420  # characters of a sentence; one or two sentences are less


def problems(lab: Lab) -> Iterator[str]:
    """Each object of a lab and each rule that has no good reason, with what is wrong."""
    placeholders = Placeholders(lab)
    for one in subjects(lab.plan):
        why = find_reason(one)
        if why is None:
            yield f"{one.machine}: {one.text}: no reason"
        else:
            yield from (f"{one.machine}: {one.text}: {what}" for what in _problems(placeholders, one, why))


def _problems(placeholders: Placeholders, one: Subject, why: Why) -> Iterator[str]:
    try:
        sentence = placeholders.fill(why, one.item, one.rule)
    except (KeyError, AttributeError, ValueError, TypeError) as error:
        yield f"{error!r} in {why.sentence!r}"
        return
    if re.search(r"[{}]|\bNone\b|  ", sentence) or not sentence.endswith("."):
        yield f"not a sentence: {sentence!r}"
    if len(sentence) > LONGEST:
        yield f"{len(sentence)} characters: {sentence!r}"
    if not why.component or not why.source.project:
        yield f"no component or source: {why}"

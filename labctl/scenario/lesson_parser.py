"""The section `lesson`, in two steps: `read_lesson` makes a `Lesson` of what was read; when the lab is compiled,
`resolve` verifies that the machines and checks in it exist."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from labctl.core.exercise_types import PredictGoal
from labctl.core.lesson_types import (
    Claim,
    Lesson,
    LessonStep,
    LessonTexts,
    Prediction,
    ReadText,
    RunCommand,
    RunVerb,
    StepAction,
    StepTexts,
)
from labctl.core.names import summarize_names
from labctl.core.resources import Attachment
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.scenario.check_parser import NameChecker
from labctl.scenario.document import Reader, quote_text
from labctl.scenario.exercise_parser import Found, read_question, verify_question
from labctl.scenario.field_types import Located, suggest

_TRANSLATED = ("say", "then", "claim")  # the keys of a step that have text


def read_lesson(found: Found, reader: Reader) -> Lesson | None:
    """The lesson of a section that was read; None, with problems recorded, if a step is not complete."""
    rows: tuple[Located, ...] = found["steps"].value if "steps" in found else ()
    steps = [_step(row.value, reader) for row in rows]
    pairs = found["texts"].value if "texts" in found else ()
    texts = [(str(language.value), _texts(language.value, one, rows, reader)) for language, one in pairs]
    good = tuple(step for step in steps if step is not None)
    translated = tuple((language, one) for language, one in texts if one is not None)
    if "title" not in found or "text" not in found or not rows or (len(good), len(translated)) != (
        len(rows), len(texts),
    ):  # fmt: skip
        return None
    return Lesson(
        found["title"].value,
        found["text"].value,
        good,
        found["topic"].value if "topic" in found else "",
        found["exercise"].value if "exercise" in found else "",
        translated,
    )


def _step(found: Found, reader: Reader) -> LessonStep | None:
    action = _action(found, reader)
    say, then = (found[name].value if name in found else "" for name in ("say", "then"))
    return None if action is None else LessonStep(action, say, then)


def _action(found: Found, reader: Reader) -> StepAction | None:
    """What a step does; None if it is not complete, which its table has reported."""
    exits = found["exits"].value if "exits" in found else 0
    shows = tuple(row.value for row in found["shows"].value) if "shows" in found else ()
    if "run" in found:
        machine, command = found["run"].value.value
        return RunCommand(machine, command, exits, shows)
    if "labctl" in found:
        return RunVerb(found["labctl"].value, exits, shows)
    if "predict" in found:
        goal = read_question("predict", found["predict"].value, reader)
        return Prediction(goal, found["solve"].value) if isinstance(goal, PredictGoal) and "solve" in found else None
    if "claim" in found:
        names = ("claim", "holds", "check")
        return Claim(*(found[name].value for name in names)) if {*names} <= found.keys() else None
    return ReadText() if "say" in found else None


def _texts(language: str, one: Located, rows: tuple[Located, ...], reader: Reader) -> LessonTexts | None:
    """The texts of a language. Each step has the same texts in all languages; another number is a problem."""
    found: Found = one.value
    entries: tuple[Located, ...] = found["steps"].value if "steps" in found else ()
    if "steps" in found and len(entries) != len(rows):
        what = f"texts: {language}: steps has {len(entries)} entries, but the lesson has {len(rows)} steps"
        reader.add_problem(found["steps"].key, what, "write one for each step, in their order")
        return None
    for number, (row, entry) in enumerate(zip(rows, entries, strict=False), 1):
        for name in _TRANSLATED:
            if name in row.value and name not in entry.value:
                reader.add_problem(entry.at, f"texts: {language}: step {number} has no {name!r}, but the lesson has it")
            elif name in entry.value and name not in row.value:
                what = f"texts: {language}: step {number} of the lesson has no {name!r}"
                reader.add_problem(entry.value[name].key, what)
    if not {"title", "text", "steps"} <= found.keys():
        return None
    plain = {name: found[name].value for name in ("title", "text", "topic") if name in found}
    steps = tuple(StepTexts(**{name: item.value for name, item in entry.value.items()}) for entry in entries)
    return LessonTexts(**plain, steps=steps)


def resolve(lab: Lab, lesson: Lesson | None, found: Found, reader: Reader) -> Lab:
    """The lab with its lesson. Every name in the lesson that does not exist is reported."""
    names = NameChecker(lab, reader)
    rows: tuple[Located, ...] = found["steps"].value if "steps" in found else ()
    for row in rows:
        step: Found = row.value
        if "run" in step:
            names.machine(step["run"].value.value[0], "run", step["run"].value.at)
        if "labctl" in step:
            _verify_fault(lab, step["labctl"], reader)
        if "check" in step:
            _verify_check(step["check"], (check.say for check in lab.checks), reader)
        verify_question(step, names)
    if "exercise" in found:
        _verify_exercise(found["exercise"], reader)
    if lab.exercise is not None:
        what = "lesson: this scenario is an exercise, too"
        reader.add_problem(found["title"].key if "title" in found else rows[0].at, what, "make two files of it")
    return replace(lab, lesson=lesson)


def _verify_fault(lab: Lab, verb: Located, reader: Reader) -> None:
    """Report a `break` of a fault that the lab cannot have. What CNI plugins make is not known yet."""
    words = [word for word in verb.value if not word.startswith("-")]
    if words[0] != "break" or len(words) < 2 or any(isinstance(item, Attachment) for item in lab.plan):
        return
    from labctl.faults.catalogue import find_fault

    try:
        find_fault(lab, *words[1:3])
    except UsageError as error:
        reader.add_problem(verb.at, f"labctl: {error.message}", error.hint)


def _verify_check(check: Located, known: Iterable[str], reader: Reader) -> None:
    sentences = [say for say in known if say]
    if check.value in sentences:
        return
    hint = suggest(check.value, sentences) or (
        f"the checks are {summarize_names([repr(say) for say in sentences], 4)}"
        if sentences
        else "add the check, with a say:"
    )
    reader.add_problem(check.at, f"check: no check of this lab says {quote_text(check.value)}", hint)


def _verify_exercise(exercise: Located, reader: Reader) -> None:
    from labctl.scenario.catalog import exercise_files

    known = exercise_files()
    if exercise.value not in known:
        hint = suggest(exercise.value, known) or "labctl exercise list shows the names"
        reader.add_problem(exercise.at, f"exercise: there is no exercise {quote_text(exercise.value)}", hint)

"""The section `exercise`, in two steps: `read_exercise` makes an `Exercise` of what was read; when the lab is compiled,
`resolve` verifies that the names in it exist, and takes the objects of its `build` tasks out of the lab's plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from labctl.core.exercise_types import (
    BuildGoal,
    CompareGoal,
    Exercise,
    ExerciseProbe,
    ExerciseTexts,
    FixGoal,
    Goal,
    Hint,
    LocateGoal,
    PredictGoal,
    SolveStep,
    Task,
)
from labctl.core.left_out import known_names, leave_out
from labctl.core.names import summarize_names
from labctl.core.resources import Attachment
from labctl.core.scenario_types import Lab
from labctl.scenario.check_parser import NameChecker
from labctl.scenario.document import Position, Reader, quote_text
from labctl.scenario.exercise_language import PROBES
from labctl.scenario.field_types import Located, suggest

Found = dict[str, Located]


def read_exercise(found: Found, reader: Reader) -> Exercise | None:
    """The exercise of a section that was read; None, with problems recorded, if a task has no valid goal."""
    rows: tuple[Located, ...] = found["tasks"].value if "tasks" in found else ()
    tasks = [_task(row.value, reader) for row in rows]
    hints = tuple(Hint(**_plain(row.value, "say", "cost")) for row in _rows(found, "hints") if "say" in row.value)
    texts = tuple(_translation(language, one, len(rows), len(hints), reader) for language, one in _pairs(found))
    good = tuple(task for task in tasks if task is not None)
    if "title" not in found or "text" not in found or len(good) < len(rows) or not rows:
        return None
    return Exercise(tasks=good, hints=hints, texts=texts, **_plain(found, "title", "text", "level", "topic", "explain"))


def _plain(found: Found, *names: str) -> dict[str, Any]:
    return {name: found[name].value for name in names if name in found}


def _rows(found: Found, name: str) -> tuple[Located, ...]:
    return tuple(found[name].value) if name in found else ()


def _pairs(found: Found) -> Iterable[tuple[Located, Located]]:
    return found["texts"].value if "texts" in found else ()


def _translation(language: Located, one: Located, tasks: int, hints: int, reader: Reader) -> tuple[str, ExerciseTexts]:
    found: Found = one.value
    for name, number in (("tasks", tasks), ("hints", hints)):
        if name in found and len(found[name].value) != number:
            what = (
                f"texts: {language.value}: {name} has {len(found[name].value)} entries, but the exercise has {number}"
            )
            reader.add_problem(found[name].key, what, "write all of them, in their order")
    lists = {name: tuple(row.value for row in _rows(found, name)) for name in ("tasks", "hints")}
    texts = ExerciseTexts(**_plain(found, "title", "text", "explain"))
    return str(language.value), replace(texts, tasks=lists["tasks"], hints=lists["hints"])


def _task(found: Found, reader: Reader) -> Task | None:
    goal = _goal(found, reader)
    if goal is None or "say" not in found or "solve" not in found:
        return None
    solve = found["solve"]
    task = Task(found["say"].value, goal, **_plain(found, "points"))
    if task.takes_answer is not isinstance(solve.value, str):
        what = f"the solution of {task.kind} is {'an answer' if task.takes_answer else 'a list of commands'}"
        hint = "such as solve: node1" if task.takes_answer else "such as solve: [{node1: ip link set eth0 up}]"
        reader.add_problem(solve.at, f"solve: {what}", hint)
        return None
    if isinstance(solve.value, str):
        return replace(task, answer=solve.value)
    return replace(task, steps=tuple(SolveStep(*step.value) for step in solve.value))


def _goal(found: Found, reader: Reader) -> Goal | None:
    if "build" in found:
        return BuildGoal(tuple(row.value for row in found["build"].value))
    if "fix" in found:
        return FixGoal(found["fix"].value)
    if "compare" in found:
        inner: Found = found["compare"].value
        if not {"scenarios", "row", "is"} <= inner.keys():
            return None
        return CompareGoal(tuple(one.value for one in inner["scenarios"].value), inner["row"].value, inner["is"].value)
    for name in ("predict", "locate"):
        if name in found:
            return read_question(name, found[name].value, reader)
    return None


def read_question(name: str, inner: Found, reader: Reader) -> PredictGoal | LocateGoal | None:
    """The question of a `predict` or `locate` that was read; None, with problems recorded, if it is not complete."""
    probe = _probe(inner, reader)
    if probe is None:
        return None
    if name == "locate":
        return LocateGoal(probe)
    if "ask" not in inner:
        return None
    ask, needs_point = inner["ask"], inner["ask"].value in ("src", "dst", "ttl")
    if needs_point and "at" not in inner:
        reader.add_problem(ask.at, f"ask: {ask.value} needs a point", "such as at: internet/eth0")
        return None
    if not needs_point and "at" in inner:
        reader.add_problem(inner["at"].key, f"'at' does not apply to ask: {ask.value}", "it is for src, dst, ttl")
    return PredictGoal(probe, ask.value, inner["at"].value if needs_point else None)


def _probe(inner: Found, reader: Reader) -> ExerciseProbe | None:
    key = next((name for name in PROBES if name in inner), None)
    if key is None:
        return None
    (source, sport), (target, port) = inner[key].value
    size, listen = inner.get("size"), inner.get("listen")
    if size is not None and key != "ping":
        reader.add_problem(size.key, f"'size' does not apply to {key}", "it is for ping")
    if listen is not None and key == "ping":
        reader.add_problem(listen.key, "'listen' does not apply to ping", "it is for tcp, udp")
    server = listen.value if listen is not None and isinstance(listen.value, tuple) else None
    return ExerciseProbe(
        source,
        str(target),
        "tcp" if key == "tcp" else "udp" if key == "udp" else "icmp",
        port,
        sport,
        listen is None or bool(listen.value),
        server,
        None if size is None else size.value,
    )


def resolve(lab: Lab, exercise: Exercise | None, found: Found, reader: Reader) -> Lab:
    """The lab as it is at the start of the exercise. Every name that does not exist in it is reported."""
    names = NameChecker(lab, reader)
    rows: tuple[Located, ...] = found["tasks"].value if "tasks" in found else ()
    left_out: list[str] = []
    for row in rows:
        left_out += _build_names(lab, row.value, reader)
        verify_question(row.value, names)
        _verify_scenarios(row.value, reader)
        _verify_steps(row.value, names)
        _verify_fix(lab, row.value, reader)
    if left_out and lab.faults:
        at = next(row.value["build"].key for row in rows if "build" in row.value)
        reader.add_problem(at, "build: this scenario has faults (`break`), too", "make two exercises of it")
    if exercise is None:
        return lab
    if not left_out:
        return replace(lab, exercise=exercise)
    return replace(lab, exercise=exercise, plan=leave_out(lab.plan, tuple(left_out)).plan, goal_plan=lab.plan)


def _build_names(lab: Lab, task: Found, reader: Reader) -> Iterator[str]:
    rows: tuple[Located, ...] = task["build"].value if "build" in task else ()
    if rows and any(isinstance(item, Attachment) for item in lab.plan):
        reader.add_problem(task["build"].key, "build: CNI plugins make the objects of this lab", "use another model")
        return
    known = known_names(lab.plan) if rows else ()
    for row in rows:
        if row.value in known:
            yield row.value
            continue
        machine = str(row.value).partition("/")[0]
        inside = [name for name in known if name.startswith(f"{machine}/")]
        hint = suggest(row.value, known) or (f"{machine} has {summarize_names(inside, 8)}" if inside else "")
        hint = hint or f"the machines are {summarize_names([name for name in known if '/' not in name])}"
        reader.add_problem(row.at, f"build: there is no object {quote_text(row.value)}", hint)


def verify_question(task: Found, names: NameChecker) -> None:
    """Report every name in the question of a task or step that does not exist."""
    for kind in ("predict", "locate"):
        inner: Found = task[kind].value if kind in task else {}
        key = next((name for name in PROBES if name in inner), None)
        if key is None:
            continue
        (source, _), (target, _) = inner[key].value
        names.machine(source, key, inner[key].at)
        names.target(str(target), key, inner[key].at)
        if "at" in inner:
            names.interface(inner["at"].value, "at", inner["at"].at)
        if "listen" in inner and isinstance(inner["listen"].value, tuple):
            names.machine(inner["listen"].value[0], "listen", inner["listen"].at)


def _verify_scenarios(task: Found, reader: Reader) -> None:
    inner: Found = task["compare"].value if "compare" in task else {}
    if "scenarios" not in inner:
        return
    from labctl.scenario import catalog

    known = catalog.names()
    for row in inner["scenarios"].value:
        if row.value not in known:
            hint = suggest(row.value, known) or "labctl list --scenarios shows the names"
            reader.add_problem(row.at, f"compare: there is no built-in scenario {quote_text(row.value)}", hint)


def _verify_steps(task: Found, names: NameChecker) -> None:
    solve = task.get("solve")
    for step in solve.value if solve is not None and isinstance(solve.value, tuple) else ():
        names.machine(step.value[0], "solve", step.at)


def _verify_fix(lab: Lab, task: Found, reader: Reader) -> None:
    if "fix" not in task:
        return
    at: Position = task["fix"].key
    if not lab.checks:
        reader.add_problem(at, "fix: this scenario has no checks, so nothing shows that the lab works", "add checks:")
    if not lab.faults and task["fix"].value == "lab":
        reader.add_problem(
            at, "fix: nothing is broken: the scenario has no 'break'", "add break:, or write fix: checks"
        )

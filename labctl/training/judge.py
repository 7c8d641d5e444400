"""Gather the evidence for one task of a running exercise, and let `labctl.exercises` judge it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from labctl.core.exercise_types import (
    BuildGoal,
    CompareGoal,
    ExerciseProbe,
    FixGoal,
    LocateGoal,
    PredictGoal,
    Task,
)
from labctl.core.judgement import Judgement
from labctl.core.scenario_types import Lab
from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.exercises.build import judge_build, task_keys
from labctl.exercises.fix import judge_fix
from labctl.exercises.locate import judge_location, require_place
from labctl.exercises.observed_state import without_free_fields
from labctl.exercises.predict import AnswerWords, judge_prediction, require_answer
from labctl.lab import built_record, fault_records, lifecycle
from labctl.running_lab import RunningLab, Traced

MAX_ROUNDS = 4  # a new device hides its addresses and routes in a diff, so one round does not show all
SYMPTOM_S = 1.0  # seconds that a check waits in a lab that differs from its plan anyway
Step: TypeAlias = Callable[[str], None]  # called with a short text on the current step


def judge(lab: Lab, number: int, answer: str | None, step: Step) -> Judgement:
    """The judgement on a task of a running lab, from its state now. Raises UsageError for an answer that cannot be one:
    it does not count as an attempt."""
    assert lab.exercise is not None
    task = lab.exercise.tasks[number]
    require_fitting_answer(lab, task, number, answer)
    if isinstance(task.goal, BuildGoal):
        step("comparing")
        return _build(lab, number)
    if isinstance(task.goal, FixGoal):
        step("checking")
        return _fix(lab, task.goal)
    if isinstance(task.goal, CompareGoal):
        return _compare(task.goal, str(answer), step)
    if isinstance(task.goal, PredictGoal):
        return measure(lab, task.goal, str(answer), step)[0]
    step(f"sending {task.goal.probe}")
    return _locate(lab, task.goal, str(answer), _trace(lab, task.goal.probe))


def measure(lab: Lab, goal: PredictGoal, answer: str, step: Step) -> tuple[Judgement, Traced]:
    """The judgement on a prediction, and the trace that it rests on. Raises UsageError for an answer that cannot be
    one."""
    words = _words(lab)
    require_answer(goal, answer, words)
    step(f"sending {goal.probe}")
    traced = _trace(lab, goal.probe)
    return judge_prediction(goal, answer, traced.evidence, traced.story, words), traced


def require_fitting_answer(lab: Lab, task: Task, number: int, answer: str | None) -> None:
    """Refuse an answer that is missing, superfluous or impossible, before anything is sent. Raises UsageError."""
    if answer is None and task.takes_answer:
        raise UsageError(f"task {number + 1} is a question", f"labctl exercise check {number + 1} ANSWER")
    if answer is not None and not task.takes_answer:
        raise UsageError(f"task {number + 1} is not a question", f"labctl exercise check {number + 1} looks at the lab")
    if isinstance(task.goal, PredictGoal):
        require_answer(task.goal, str(answer), _words(lab))
    elif isinstance(task.goal, LocateGoal):
        require_place(str(answer), Topology(lab).namespaces)
    elif isinstance(task.goal, CompareGoal):
        from labctl.exercises.comparison import require_names

        require_names(task.goal, str(answer))


def _words(lab: Lab) -> AnswerWords:
    topology = Topology(lab)
    return AnswerWords((*topology.namespaces,), topology.addresses)


def _build(lab: Lab, number: int) -> Judgement:
    assert lab.exercise is not None
    changes, observed = lifecycle.differences_from_plan(lab, lab.goal_plan)
    later = frozenset(key for keys in task_keys(lab.exercise, lab.goal_plan)[number + 1 :] for key in keys)
    judgement = judge_build(changes, observed, later)
    if judgement.state == "passed":
        _record_work(lab)
    return judgement


def _record_work(lab: Lab) -> None:
    """What the learner made belongs to the lab from now on, also where it differs from the plan without mattering."""
    for _ in range(MAX_ROUNDS):
        changes = lifecycle.status(lab.name, lab)
        if not changes:
            return
        built_record.add(lab.name, changes)


def _fix(lab: Lab, goal: FixGoal) -> Judgement:
    """Judge a repair. After a good one, the faults of the lab count as repaired."""
    plan = lab.goal_plan or lab.plan
    changes, observed = lifecycle.differences_from_plan(lab, plan) if goal.grade == "lab" else ((), ())
    asked = lab
    if without_free_fields(changes):  # it cannot pass: the checks only show what is wrong, so they do not wait for long
        asked = replace(lab, checks=tuple(replace(one, within=min(one.timeout_s, SYMPTOM_S)) for one in lab.checks))
    judgement = judge_fix(goal, RunningLab(lab.name, definition=asked).check(), changes, observed)
    if judgement.state == "passed":
        fault_records.mark_all_fixed(lab.name)
        _record_work(lab)
    return judgement


def _locate(lab: Lab, goal: LocateGoal, answer: str, traced: Traced) -> Judgement:
    from labctl.faults.catalogue import find_fault
    from labctl.lab.cni_attach import with_plugin_results

    complete = with_plugin_results(lab)
    faults = [find_fault(complete, one.kind, one.on) for one in lab.faults]
    place = require_place(answer, Topology(lab).namespaces)
    return judge_location(place, traced.evidence, traced.story, faults)


def _compare(goal: CompareGoal, answer: str, step: Step) -> Judgement:
    from labctl.compare import run
    from labctl.exercises.comparison import judge_comparison, require_names
    from labctl.scenario.definition import define

    names = require_names(goal, answer)
    entries = [run.ComparedScenario(name, define(name)) for name in goal.scenarios]
    return judge_comparison(goal, names, run.compare(entries, step, approximate=True, row=goal.row))


def _trace(lab: Lab, probe: ExerciseProbe) -> Traced:
    listen: bool | str = probe.listen and probe.protocol != "icmp"
    if probe.server is not None:
        listen = f"{probe.server[0]}:{probe.server[1]}"
    tcp, udp = (probe.port if probe.protocol == name else None for name in ("tcp", "udp"))
    running = RunningLab(lab.name, definition=lab)
    return running.trace(
        probe.source, probe.target, tcp=tcp, udp=udp, size=probe.size, sport=probe.sport, listen=listen
    )

"""Carry out one step of a lesson in its lab, and say what differs from the lesson."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import labctl
from labctl.core.lesson_types import Claim, LessonStep, Prediction, RunCommand, RunVerb
from labctl.core.scenario_types import Lab
from labctl.core.sentence import sentence
from labctl.errors import KernelError, MissingError, UsageError
from labctl.kernel.host import child_process
from labctl.lab.records import load_compiled_lab
from labctl.lessons.outcome import StepOutcome, answer_problems, claim_problems, command_problems
from labctl.running_lab import RunningLab
from labctl.training.judge import measure

COMMAND_TIMEOUT_S = 60.0  # seconds for a command in a machine
VERB_TIMEOUT_S = 300.0  # seconds for a verb: `compare` builds several labs


def carry_out(
    lab: Lab, number: int, step: LessonStep, answer: str, progress: Callable[[str], None], variables: dict[str, str]
) -> StepOutcome:
    """Run the command of a step, send the packet of a question, or prove a claim. `variables` are added to the
    environment of a verb: its language, its width.

    Raises UsageError for an answer that cannot be one, or a lab that is gone; KernelError if a machine cannot be
    entered, or a command does not end.
    """
    action = step.action
    if isinstance(action, RunCommand):
        return _run(lab, number, action)
    if isinstance(action, RunVerb):
        progress(f"labctl {' '.join(action.words)}")
        return _run_verb(lab, number, action, variables)
    if isinstance(action, Prediction):
        judgement, traced = measure(lab, action.goal, answer, progress)
        problems = answer_problems(judgement, action.answer, answer)
        return StepOutcome(number, answer=answer, judgement=judgement, trace=traced.story, problems=problems)
    if isinstance(action, Claim):
        progress("checking")
        chosen = tuple(check for check in lab.checks if check.say == action.check)
        report = RunningLab(lab.name, definition=replace(lab, checks=chosen)).check()
        return StepOutcome(number, report=report, problems=claim_problems(report))
    return StepOutcome(number)


def _run(lab: Lab, number: int, action: RunCommand) -> StepOutcome:
    command = action.for_lab(lab.name)
    try:
        done = RunningLab(lab.name, definition=lab)[action.machine].run(command, timeout=COMMAND_TIMEOUT_S)
    except TimeoutError:
        raise KernelError(f"the command in {action.machine} does not end: {command}", "^C ends a command") from None
    output = done.stdout + done.stderr
    return StepOutcome(number, output, done.returncode, problems=command_problems(action, done.returncode, output))


def _run_verb(lab: Lab, number: int, action: RunVerb, variables: dict[str, str]) -> StepOutcome:
    place = str(Path(labctl.__file__).resolve().parent.parent)
    paths = [place, *filter(None, [os.environ.get("PYTHONPATH")])]
    # the verb works on the labs of this process, also without root
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "LABCTL_ROOTLESS": "0", **variables}
    command = [sys.executable, "-m", "labctl", "-l", lab.name, *action.for_lab(lab.name)]
    try:
        done = child_process.run(command, timeout_s=VERB_TIMEOUT_S, environment=environment)
    except child_process.ChildTimeoutError:
        raise KernelError(f"`labctl {action.words[0]}` does not end within {VERB_TIMEOUT_S:g} s") from None
    except OSError as error:
        raise MissingError(f"{sys.executable} cannot be started: {error.strerror}") from None
    output = done.stdout + done.stderr
    return StepOutcome(number, output, done.returncode, problems=command_problems(action, done.returncode, output))


def require_lab(lab: Lab) -> None:
    """Raises UsageError if the lab of a lesson is gone, or another one has its name now."""
    try:
        running = load_compiled_lab(lab.name)
    except UsageError:
        raise UsageError(sentence("the lab {lab} of this lesson is gone", lab=lab.name)) from None
    if running.lesson != lab.lesson:
        raise UsageError(sentence("the lab {lab} is no longer that of this lesson", lab=lab.name))

"""What a step is for its learner: the command as it is typed, the question, and how long all of it takes. Pure."""

from __future__ import annotations

import re
import shlex

from labctl.core.lesson_types import Lesson, LessonStep, Prediction, RunCommand, RunVerb

# how fast a learner goes, for whom English is a second language, and Japanese perhaps too: a guess, not a measurement
WORDS_PER_MINUTE = 120
CHARACTERS_PER_WORD = 6
MINUTES = {"text": 0.0, "run": 0.7, "labctl": 0.7, "predict": 1.0, "claim": 0.5}  # to type, to think, to look

_PLAIN = re.compile(r"[\w\s./:@%+=,-]+")  # a command without a word that the shell reads differently
STATE_VERBS = ("break", "fix", "exec")  # those that change a lab, and so are repeated in a lab that is built again


def minutes(lesson: Lesson) -> int:
    """About how long the lesson takes, from the length of its texts and the number of its steps."""
    texts = [lesson.text, *(f"{step.say} {step.then}" for step in lesson.steps)]
    words = sum(len(text) for text in texts) / CHARACTERS_PER_WORD
    return max(1, round(words / WORDS_PER_MINUTE + sum(MINUTES[step.kind] for step in lesson.steps)))


def typed_commands(step: LessonStep, lab: str, prefix: str) -> tuple[str, ...]:
    """What a learner can type instead of Enter, line by line; nothing for a step without a command. `prefix` is what
    stands before a verb: `sudo labctl`."""
    action = step.action
    if isinstance(action, RunVerb):
        return (f"{prefix} {shlex.join(action.for_lab(lab))}",)
    if not isinstance(action, RunCommand):
        return ()
    lines = action.for_lab(lab).splitlines()
    if len(lines) > 1:
        return (f"{prefix} shell {action.machine}", *lines)
    command = lines[0] if _PLAIN.fullmatch(lines[0]) else f"sh -c {shlex.quote(lines[0])}"
    return (f"{prefix} exec {action.machine} -- {command}",)


def changes_lab(step: LessonStep) -> bool:
    """Whether a step may change its lab. A command in a machine may."""
    action = step.action
    return isinstance(action, RunCommand) or (isinstance(action, RunVerb) and action.words[0] in STATE_VERBS)


def needs_answer(step: LessonStep) -> bool:
    """Whether a step is a question."""
    return isinstance(step.action, Prediction)

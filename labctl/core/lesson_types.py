"""The section `lesson` of a scenario file, as frozen data: what a learner reads, runs, predicts and sees proven.

Nothing here is an answer that was measured: `labctl.lessons` decides what a step says, `labctl.training` runs it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.core.exercise_types import PredictGoal

StepKind: TypeAlias = Literal["text", "run", "labctl", "predict", "claim"]


@dataclass(frozen=True, slots=True)
class ReadText:
    """A step that only says something."""


@dataclass(frozen=True, slots=True)
class RunCommand:
    """A command for a shell in a machine, its exit code, and texts that its output has. `$LAB` is the lab's name."""

    machine: str
    command: str
    exits: int = 0
    shows: tuple[str, ...] = ()

    def for_lab(self, lab: str) -> str:
        """The command as it is typed in a lab."""
        return self.command.replace("$LAB", lab)


@dataclass(frozen=True, slots=True)
class RunVerb:
    """A verb of labctl on the lab, such as `trace a c`, its exit code, and texts that its output has."""

    words: tuple[str, ...]
    exits: int = 0
    shows: tuple[str, ...] = ()

    def for_lab(self, lab: str) -> tuple[str, ...]:
        """The words as they are typed for a lab."""
        return tuple(word.replace("$LAB", lab) for word in self.words)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question that is answered before its packet is sent. `answer` is the right one: a test measures it."""

    goal: PredictGoal
    answer: str


@dataclass(frozen=True, slots=True)
class Claim:
    """Something that is often said, whether it is true, and the check of this lab that is the evidence."""

    text: str
    holds: bool
    check: str


StepAction: TypeAlias = ReadText | RunCommand | RunVerb | Prediction | Claim
_KINDS: dict[type, StepKind] = {
    ReadText: "text", RunCommand: "run", RunVerb: "labctl", Prediction: "predict", Claim: "claim",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class LessonStep:
    """One step: the text before, what is done, and the text after it."""

    action: StepAction
    say: str = ""
    then: str = ""

    @property
    def kind(self) -> StepKind:
        """Its kind, as the key in the file; `text` for a step that has none."""
        return _KINDS[type(self.action)]


@dataclass(frozen=True, slots=True)
class StepTexts:
    """The texts of a step in another language, one for each that the step has."""

    say: str = ""
    then: str = ""
    claim: str = ""


@dataclass(frozen=True, slots=True)
class LessonTexts:
    """The texts of a lesson in another language."""

    title: str
    text: str
    steps: tuple[StepTexts, ...]
    topic: str = ""


@dataclass(frozen=True, slots=True)
class Lesson:
    """A lesson: its introduction, its steps in their order, and the built-in exercise that follows it.

    `texts` are translations by language.
    """

    title: str
    text: str
    steps: tuple[LessonStep, ...]
    topic: str = ""
    exercise: str = ""
    texts: tuple[tuple[str, LessonTexts], ...] = ()

    def in_language(self, language: str) -> Lesson:
        """The lesson with the texts of a language (`ja`), if it has them; else as it is."""
        found = dict(self.texts).get(language)
        if found is None:
            return self
        steps = tuple(_translated(step, texts) for step, texts in zip(self.steps, found.steps, strict=True))
        return replace(self, title=found.title, text=found.text, topic=found.topic or self.topic, steps=steps)


def _translated(step: LessonStep, texts: StepTexts) -> LessonStep:
    action = step.action
    if isinstance(action, Claim):
        action = replace(action, text=texts.claim or action.text)
    return LessonStep(action, texts.say or step.say, texts.then or step.then)

"""How far a learner is in one lesson, as frozen data and as a JSON document. Pure.

A step is done when its command has run, or its answer was judged. `at` is the current step; at the end, it is how many
steps there are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from typing import Any

from labctl.core.lesson_types import Lesson


@dataclass(frozen=True, slots=True)
class StepProgress:
    """One step: whether it is done, and for a prediction the learner's first answer, and whether that was right."""

    done: bool = False
    answer: str = ""
    right: bool | None = None


@dataclass(frozen=True, slots=True)
class LessonProgress:
    """One lesson of one learner. Times are ISO 8601 in UTC, "" for not yet. `outline` stands for what its steps do."""

    learner: str
    lesson: str
    title: str
    topic: str
    lab: str
    started: str
    outline: str
    steps: tuple[StepProgress, ...]
    at: int = 0
    finished: str = ""

    @property
    def is_at_end(self) -> bool:
        """Whether no step is left."""
        return self.at >= len(self.steps)

    @property
    def predictions(self) -> tuple[int, int]:
        """The predictions that were right, and all that were answered."""
        answered = [step.right for step in self.steps if step.right is not None]
        return sum(answered), len(answered)


SHAPE = {
    "learner": str, "lesson": str, "title": str, "topic": str, "lab": str, "started": str, "outline": str, "at": int,
    "finished": str, "steps": [{"done": bool, "answer": str, "right": (bool, None)}],
}  # fmt: skip


def outline(lesson: Lesson) -> str:
    """A text that is the same as long as all steps do the same. Texts for the learner may change."""
    return sha256(repr([step.action for step in lesson.steps]).encode()).hexdigest()[:16]


def begun(lesson: Lesson, name: str, learner: str, lab: str, now: str) -> LessonProgress:
    """The progress at the start of a lesson."""
    steps = (StepProgress(),) * len(lesson.steps)
    return LessonProgress(learner, name, lesson.title, lesson.topic, lab, now, outline(lesson), steps)


def continued(old: LessonProgress | None, new: LessonProgress) -> LessonProgress:
    """The progress of a lesson that is opened again: it goes on where it was. A lesson with other steps than before
    begins again."""
    if old is None or old.outline != new.outline or len(old.steps) != len(new.steps) or old.at < 0:
        return new
    return replace(old, lab=new.lab, title=new.title, topic=new.topic)


def done(progress: LessonProgress, number: int, *, answer: str = "", right: bool | None = None) -> LessonProgress:
    """The progress after a step was carried out. The first answer to a question stays."""
    step = replace(progress.steps[number], done=True)
    if right is not None and step.right is None:
        step = replace(step, answer=answer, right=right)
    return replace(progress, steps=(*progress.steps[:number], step, *progress.steps[number + 1 :]))


def moved(progress: LessonProgress, to: int, now: str) -> LessonProgress:
    """The progress at another step. At the end, the lesson is finished, and stays so."""
    after = replace(progress, at=max(0, min(to, len(progress.steps))))
    return replace(after, finished=now) if after.is_at_end and not after.finished else after


def to_json(progress: LessonProgress) -> dict[str, Any]:
    """The document of a progress."""
    return {**asdict(progress), "steps": [asdict(step) for step in progress.steps]}


def from_json(document: dict[str, Any]) -> LessonProgress:
    """The progress of a document of SHAPE."""
    known = {name: document[name] for name in SHAPE if name != "steps"}
    steps = (StepProgress(one["done"], one["answer"], one["right"]) for one in document["steps"])
    return LessonProgress(**known, steps=tuple(steps))

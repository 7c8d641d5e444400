"""A lesson and how far its learner is: the current step, the next, the one before. Pure.

The command line and a page of a browser show the same session: they carry a step out by `labctl.training.lesson_steps`,
and hand what happened to `after`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from labctl.core.lesson_types import Lesson, LessonStep
from labctl.errors import UsageError
from labctl.lessons import progress as progresses
from labctl.lessons.outcome import StepOutcome
from labctl.lessons.progress import LessonProgress
from labctl.lessons.steps import needs_answer


@dataclass(frozen=True, slots=True)
class LessonSession:
    """A lesson in the language of its learner, and the progress."""

    lesson: Lesson
    progress: LessonProgress

    @property
    def number(self) -> int:
        """The current step from 0; the number of steps at the end."""
        return self.progress.at

    @property
    def step(self) -> LessonStep | None:
        """The current step; None at the end."""
        return None if self.progress.is_at_end else self.lesson.steps[self.progress.at]

    @property
    def is_question(self) -> bool:
        """Whether the current step is a question."""
        return self.step is not None and needs_answer(self.step)

    @property
    def waits_for_answer(self) -> bool:
        """Whether the current step is a question that has no answer yet."""
        return self.is_question and not self.progress.steps[self.number].done

    def after(self, outcome: StepOutcome, now: str) -> LessonSession:
        """The session when a step was carried out: at the step that follows it. An answer that could not be judged
        leaves the question open."""
        if outcome.judgement is not None and outcome.right is None:
            return self
        done = progresses.done(self.progress, outcome.number, answer=outcome.answer, right=outcome.right)
        return replace(self, progress=progresses.moved(done, outcome.number + 1, now))

    def skipped(self, now: str) -> LessonSession:
        """The session without the current step. Raises UsageError for a question without an answer."""
        if self.waits_for_answer:
            raise UsageError(f"step {self.number + 1} is a question", "answer it first: labctl learn --answer ANSWER")
        return replace(self, progress=progresses.moved(self.progress, self.number + 1, now))

    def back(self, now: str) -> LessonSession:
        """The session one step before. What that step has done in the lab is not undone."""
        return replace(self, progress=progresses.moved(self.progress, self.number - 1, now))

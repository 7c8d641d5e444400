"""What a learner has done in one exercise, as frozen data and as a JSON document. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from labctl.core.exercise_types import Exercise, TaskKind
from labctl.core.judgement import Judgement
from labctl.exercises.points import task_points, total_points

# open; passed; missed (a prediction that was wrong); solved (by labctl: the learner gave up)
TaskState: TypeAlias = Literal["open", "passed", "missed", "solved"]
STATES = ("open", "passed", "missed", "solved")
KINDS = ("build", "fix", "predict", "locate", "compare")


@dataclass(frozen=True, slots=True)
class TaskProgress:
    """One task: what it is worth, what the learner got, and the wrong attempts. After `shown`, it is worth nothing."""

    kind: TaskKind
    possible: int
    state: TaskState = "open"
    points: int = 0
    wrong: int = 0
    shown: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """One exercise of one learner. Times are ISO 8601 in UTC, "" for not yet."""

    learner: str
    exercise: str
    title: str
    level: int
    topic: str
    lab: str
    started: str
    tasks: tuple[TaskProgress, ...]
    finished: str = ""
    checks: int = 0
    hints: int = 0
    hint_cost: int = 0
    resets: int = 0

    @property
    def is_finished(self) -> bool:
        """Whether no task is open."""
        return all(task.state != "open" for task in self.tasks)

    @property
    def points(self) -> int:
        """The points so far."""
        return total_points((task.points for task in self.tasks), self.hint_cost)

    @property
    def possible(self) -> int:
        """The points of all tasks."""
        return sum(task.possible for task in self.tasks)

    @property
    def first_open(self) -> int | None:
        """The index of the first task that is open; None if all are done."""
        return next((number for number, task in enumerate(self.tasks) if task.state == "open"), None)


SHAPE = {
    "learner": str, "exercise": str, "title": str, "level": int, "topic": str, "lab": str, "started": str,
    "finished": str, "checks": int, "hints": int, "hint_cost": int, "resets": int,
    "tasks": [{
        "kind": KINDS.__contains__, "possible": int, "state": STATES.__contains__, "points": int, "wrong": int,
        "shown": bool,
    }],
}  # fmt: skip


def begun(exercise: Exercise, name: str, learner: str, lab: str, now: str) -> Progress:
    """The progress at the start of an exercise."""
    tasks = tuple(TaskProgress(task.kind, task.points) for task in exercise.tasks)
    return Progress(learner, name, exercise.title, exercise.level, exercise.topic, lab, now, tasks)


def continued(old: Progress | None, new: Progress) -> Progress:
    """The progress of an exercise that is started again: what was reached stays. An exercise with other tasks than
    before begins again."""
    if old is None or [(one.kind, one.possible) for one in old.tasks] != [
        (one.kind, one.possible) for one in new.tasks
    ]:
        return new
    return replace(old, lab=new.lab, title=new.title, level=new.level, topic=new.topic)


def judged(progress: Progress, number: int, judgement: Judgement, now: str) -> Progress:
    """The progress after the judgement on a task. A task that is closed keeps its points."""
    task = progress.tasks[number]
    if task.state == "open":
        if judgement.state == "passed":
            points = 0 if task.shown else task_points(task.kind, task.possible, task.wrong)
            task = replace(task, state="passed", points=points)
        elif judgement.state == "missed":
            task = replace(task, state="missed", wrong=task.wrong + 1)
        elif judgement.state == "failed":
            task = replace(task, wrong=task.wrong + 1)
    return _with_task(progress, number, task, now)


def shown(progress: Progress, number: int, now: str, *, closes: bool) -> Progress:
    """The progress after the solution of a task was shown: the task is worth nothing any more. `closes` is whether
    nothing is left to do."""
    task = progress.tasks[number]
    if task.state != "open":
        return progress
    return _with_task(progress, number, replace(task, shown=True, state="solved" if closes else "open"), now)


def _with_task(progress: Progress, number: int, task: TaskProgress, now: str) -> Progress:
    tasks = (*progress.tasks[:number], task, *progress.tasks[number + 1 :])
    after = replace(progress, tasks=tasks)
    return replace(after, finished=now) if after.is_finished and not after.finished else after


def to_json(progress: Progress) -> dict[str, Any]:
    """The document of a progress."""
    return {**asdict(progress), "tasks": [asdict(task) for task in progress.tasks]}


def from_json(document: dict[str, Any]) -> Progress:
    """The progress of a document of SHAPE."""
    known = {name: document[name] for name in SHAPE if name != "tasks"}
    tasks = tuple(TaskProgress(**{name: one[name] for name in SHAPE["tasks"][0]}) for one in document["tasks"])  # type: ignore[index]
    return Progress(**known, tasks=tasks)

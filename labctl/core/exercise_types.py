"""The section `exercise` of a scenario file, as frozen data: what a learner is asked, and what the answer costs.

Nothing here is an answer that was measured: `labctl.exercises` judges, `labctl.training` gathers the evidence.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.core.resources import Interface

TaskKind: TypeAlias = Literal["build", "fix", "predict", "locate", "compare"]
Ask: TypeAlias = Literal["verdict", "src", "dst", "ttl", "path", "last"]
FixGrade: TypeAlias = Literal["lab", "checks"]
ProbeProtocol: TypeAlias = Literal["icmp", "tcp", "udp"]
ORIGINAL = "en"  # the language of a file's own texts
MAX_LEVEL = 5


@dataclass(frozen=True, slots=True)
class ExerciseProbe:
    """The packet of a question: `labctl trace SOURCE TARGET` with these options.

    `port` is that of TCP or UDP, None for a ping. `listen` is whether labctl answers itself, in the target or on the
    machine and port of `server`. `size` is the payload in bytes.
    """

    source: str
    target: str
    protocol: ProbeProtocol = "icmp"
    port: int | None = None
    sport: int | None = None
    listen: bool = True
    server: tuple[str, int] | None = None
    size: int | None = None

    def __str__(self) -> str:
        """`a ping from a to c`, `a TCP connection from a to c port 80`."""
        names = {"icmp": "ping", "tcp": "TCP connection", "udp": "UDP datagram"}
        size = "" if self.size is None else f" with {self.size} bytes"
        port = "" if self.port is None else f" port {self.port}"
        return f"a {names[self.protocol]}{size} from {self.source} to {self.target}{port}"


@dataclass(frozen=True, slots=True)
class BuildGoal:
    """The learner makes what the lab leaves out: a machine, or objects such as `c1/eth0`, `c1/default`."""

    left_out: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FixGoal:
    """The learner repairs the lab: all checks pass, and with `lab` nothing else differs from the plan."""

    grade: FixGrade = "lab"


@dataclass(frozen=True, slots=True)
class PredictGoal:
    """The learner says what a packet will show, before it is sent. `at` is the point for src, dst and ttl."""

    probe: ExerciseProbe
    ask: Ask
    at: Interface | None = None


@dataclass(frozen=True, slots=True)
class LocateGoal:
    """The learner names the machine and the object where the packet ends."""

    probe: ExerciseProbe


@dataclass(frozen=True, slots=True)
class CompareGoal:
    """The learner names those of the scenarios for which a row of the comparison has the text `value`."""

    scenarios: tuple[str, ...]
    row: str
    value: str


Goal: TypeAlias = BuildGoal | FixGoal | PredictGoal | LocateGoal | CompareGoal
_KINDS: dict[type, TaskKind] = {
    BuildGoal: "build", FixGoal: "fix", PredictGoal: "predict", LocateGoal: "locate", CompareGoal: "compare",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SolveStep:
    """One command of a solution, for a shell in a machine. `$LAB` in it stands for the name of the lab."""

    machine: str
    command: str

    def for_lab(self, lab: str) -> str:
        """The command as it is typed in a lab."""
        return self.command.replace("$LAB", lab)


@dataclass(frozen=True, slots=True)
class Task:
    """One task: its sentence, its goal, its points, and its solution: an answer, or commands."""

    say: str
    goal: Goal
    points: int = 1
    answer: str = ""
    steps: tuple[SolveStep, ...] = ()

    @property
    def kind(self) -> TaskKind:
        """Its kind, as the key in the file."""
        return _KINDS[type(self.goal)]

    @property
    def takes_answer(self) -> bool:
        """Whether it is a question."""
        return self.kind in ("predict", "locate", "compare")


@dataclass(frozen=True, slots=True)
class Hint:
    """One hint, and the points that it costs."""

    say: str
    cost: int = 1


@dataclass(frozen=True, slots=True)
class ExerciseTexts:
    """The texts of an exercise in another language. An empty text, or a missing tuple, is shown in English."""

    title: str = ""
    text: str = ""
    explain: str = ""
    tasks: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Exercise:
    """An exercise: its texts, its tasks in their order, its hints in their order.

    `level` is from 1 (easy) to 5. `topic` is the lesson it belongs to. `texts` are translations by language.
    """

    title: str
    text: str
    tasks: tuple[Task, ...]
    level: int = 1
    topic: str = ""
    hints: tuple[Hint, ...] = ()
    explain: str = ""
    texts: tuple[tuple[str, ExerciseTexts], ...] = ()

    @property
    def points(self) -> int:
        """The points of all tasks."""
        return sum(task.points for task in self.tasks)

    def in_language(self, language: str) -> Exercise:
        """The exercise with the texts of a language (`ja`), as far as there are any."""
        found = dict(self.texts).get(language)
        if found is None:
            return self
        tasks = tuple(
            replace(task, say=found.tasks[number] if number < len(found.tasks) else task.say)
            for number, task in enumerate(self.tasks)
        )
        hints = tuple(
            replace(hint, say=found.hints[number] if number < len(found.hints) else hint.say)
            for number, hint in enumerate(self.hints)
        )
        title, text = found.title or self.title, found.text or self.text
        return replace(self, title=title, text=text, explain=found.explain or self.explain, tasks=tasks, hints=hints)

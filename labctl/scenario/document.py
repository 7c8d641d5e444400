"""The document tree of a scenario: texts, lists and mappings with their positions; and the reader, which collects
the problems found in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

from labctl.errors import Problem, ScenarioError, UsageError

MAX_PROBLEMS = 100
NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a file. Lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1


@dataclass(frozen=True, slots=True)
class Text:
    """A scalar. `plain` is true if it is written without quotes.

    `start` is where its first character stands in the file, if its characters stand there as they are in `value`: on
    one line, or as a block (`|`) in which each line begins in the same column. Otherwise it is None.
    """

    position: Position
    value: str
    plain: bool = True
    start: Position | None = None

    @property
    def is_null(self) -> bool:
        """Whether the value is null: an empty value, `~` or `null`, without quotes."""
        return self.plain and self.value in NULLS

    def position_at(self, offset: int) -> Position:
        """Where the character at this offset of the value stands in the file; where the text begins, if that is not
        known."""
        if self.start is None or not 0 <= offset <= len(self.value):
            return self.position
        before = self.value[:offset]
        line_start = before.rfind("\n") + 1
        return Position(self.start.file, self.start.line + before.count("\n"), self.start.column + offset - line_start)

    def lines(self) -> Iterator[Text]:
        """The lines that are not blank, each as a text without the blanks around it."""
        for number, line in enumerate(self.value.split("\n")):
            text = line.strip()
            if text and self.start is None:
                yield Text(self.position, text, False)
            elif text and self.start is not None:
                column = self.start.column + len(line) - len(line.lstrip())
                start = Position(self.start.file, self.start.line + number, column)
                yield Text(start, text, False, start)


@dataclass(frozen=True, slots=True)
class Seq:
    """A list."""

    position: Position
    items: tuple[TreeNode, ...] = ()


@dataclass(frozen=True, slots=True)
class Map:
    """A mapping, in the file's order; its keys are unique."""

    position: Position
    items: tuple[tuple[Text, TreeNode], ...] = ()


TreeNode: TypeAlias = Text | Seq | Map


FileOpener: TypeAlias = "Callable[[str, TextLimits | None], tuple[str, str]]"


@dataclass(frozen=True, slots=True)
class TextLimits:
    """How large a file of one kind may be. `noun` is the kind in messages. `max_nodes` counts texts, lists and
    mappings, with aliases expanded."""

    noun: str
    max_bytes: int
    max_nodes: int
    size_hint: str
    nodes_hint: str
    several_documents: bool = False


class Reader:
    """Collects the problems of one file, so that the user sees all of them at once."""

    def __init__(self, opener: FileOpener | None = None) -> None:
        self.problems: list[Problem] = []
        self._opener = opener

    def open(self, name: str, limits: TextLimits | None = None) -> tuple[str, str]:
        """Return the path (for messages) and the text of a file that the scenario names; by default, it may be as large
        as a scenario. Raises UsageError or ScenarioError if it cannot be read."""
        if self._opener is None:
            raise UsageError(f"cannot read {name!r}: this scenario is not in a file")
        return self._opener(name, limits)

    def add_problem(self, at: Position | TreeNode, what: str, hint: str = "") -> None:
        """Record a problem. Raises ScenarioError when there are MAX_PROBLEMS of them."""
        position = at if isinstance(at, Position) else at.position
        self.problems.append(Problem(position.file, position.line, position.column, what, hint))
        if len(self.problems) >= MAX_PROBLEMS:
            self.problems.append(
                Problem(position.file, position.line, position.column + 1, f"stopped after {MAX_PROBLEMS} problems")
            )
            self.raise_problems()

    def raise_problems(self) -> None:
        """Raise ScenarioError with all problems so far. Without problems, do nothing."""
        if self.problems:
            raise ScenarioError(self.problems)


def fail(at: Position, what: str, hint: str = "") -> NoReturn:
    """Raise ScenarioError with this one problem: the rest of the file cannot be read."""
    raise ScenarioError([Problem(at.file, at.line, at.column, what, hint)])


def quote_text(text: str, limit: int = 40) -> str:
    """Quote a text of the file for a message: short, on one line, without control characters."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")

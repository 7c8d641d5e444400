"""The document tree of a scenario: texts, lists and mappings with their positions; and the reader, which collects
the problems found in it."""

from __future__ import annotations

from collections.abc import Callable
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
    """A scalar. `plain` is true if it is written without quotes."""

    position: Position
    value: str
    plain: bool = True

    @property
    def is_null(self) -> bool:
        """Whether the value is null: an empty value, `~` or `null`, without quotes."""
        return self.plain and self.value in NULLS


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


class Reader:
    """Collects the problems of one file, so that the user sees all of them at once."""

    def __init__(self, opener: Callable[[str], tuple[str, str]] | None = None) -> None:
        self.problems: list[Problem] = []
        self._opener = opener

    def open(self, name: str) -> tuple[str, str]:
        """Return the path (for messages) and the text of a file that the scenario names. Raises UsageError or
        ScenarioError if it cannot be read."""
        if self._opener is None:
            raise UsageError(f"cannot read {name!r}: this scenario is not in a file")
        return self._opener(name)

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

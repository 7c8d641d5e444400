"""Every error labctl raises on purpose, one per reaction that a reader has to it.

    LabError                      exit code  what the reader does about it
    ├── ScenarioError                 2      mends the file (all problems at once, each with its place)
    ├── UsageError                    2      types another command
    ├── KernelError                   3      reads which object the kernel refused, where and why
    ├── LockError                     3      waits for the holder, who is named
    └── MissingError                  4      installs a tool, loads a module or becomes root

Anything else that escapes is our own bug: exit code 70, and only there a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong at one place of a scenario file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}:{self.column}: {self.what}"
        return f"{head}\n    hint: {self.hint}" if self.hint else head


class LabError(Exception):
    """The root of labctl's own errors: a sentence for a person, a kind and an exit code for programs."""

    code = 70
    kind = "bug"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n    hint: {self.hint}" if self.hint else self.message

    @property
    def problems(self) -> tuple[Problem, ...]:
        """The placed problems behind this error; empty unless a scenario file is at fault."""
        return ()


class ScenarioError(LabError):
    """A scenario that cannot be built: every problem of the file, in the file's order."""

    code = 2
    kind = "scenario"

    def __init__(self, problems: Iterable[Problem]) -> None:
        self._problems = tuple(sorted(set(problems)))
        count = len(self._problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the scenario")

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self._problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        return self._problems


class UsageError(LabError):
    """A command that cannot be meant: an unknown name, no lab, or several and none named."""

    code = 2
    kind = "usage"


class KernelError(LabError):
    """The kernel refused: verb, object, place, cause, and a hint where one is known."""

    code = 3
    kind = "kernel"

    def __init__(self, message: str, hint: str = "", errno: int = 0) -> None:
        super().__init__(message, hint)
        self.errno = errno


class LockError(LabError):
    """Another labctl works on this lab and did not finish in time; the message names it."""

    code = 3
    kind = "lock"


class MissingError(LabError):
    """Root, a tool or a kernel feature is missing; the hint says how to get it."""

    code = 4
    kind = "missing"

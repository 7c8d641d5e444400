"""The errors that labctl raises on purpose: one class for each action that the user can take.

    LabError                      exit code  what the user does
    ├── ScenarioError                 2      corrects the file (it names all problems, each with its position)
    ├── UsageError                    2      enters another command
    ├── KernelError                   3      reads which object the kernel refused, where and why
    ├── LimitError                    3      raises a limit: of open files, processes or memory; the hint says how
    ├── LockError                     3      waits for the process that holds the lock; the message names it
    └── MissingError                  4      installs a tool, loads a module or becomes root

Any other exception that reaches the command line is a bug in labctl: exit code 70, and only then a traceback.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One problem at one position of a scenario file. Lines and columns count from 1."""

    file: str
    line: int
    column: int
    what: str
    hint: str = ""

    def __str__(self) -> str:
        head = f"{self.file}:{self.line}:{self.column}: {self.what}"
        return f"{head}\n    hint: {self.hint}" if self.hint else head


class LabError(Exception):
    """The base class of labctl's errors: a message for people, a kind and an exit code for programs."""

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
        """The problems of the scenario file, each with its position; empty if the error has another cause."""
        return ()


class ScenarioError(LabError):
    """A scenario that cannot be built. It holds every problem of the file, in the file's order."""

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
    """A command that cannot be run: an unknown name, no running lab, or several labs and none is named."""

    code = 2
    kind = "usage"


class KernelError(LabError):
    """The kernel refused an operation. The message has verb, object, place and cause, and a hint if there is one."""

    code = 3
    kind = "kernel"

    def __init__(self, message: str, hint: str = "", errno: int = 0) -> None:
        super().__init__(message, hint)
        self.errno = errno


class LimitError(LabError):
    """A limit of this process or of the machine is reached: open files, processes, memory. The hint says how to raise
    it. The kernel did not judge the lab, so this is not a KernelError, which a probe may take for its answer."""

    code = 3
    kind = "limit"


class LockError(LabError):
    """Another labctl process works on this lab and did not finish in time. The message names it."""

    code = 3
    kind = "lock"


class MissingError(LabError):
    """Root, a tool or a kernel feature is missing. The hint says how to get it."""

    code = 4
    kind = "missing"

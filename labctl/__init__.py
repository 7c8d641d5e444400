"""labctl builds container networks out of real kernel objects and proves every claim with packets.

From Python: `load`, `plan`, `up`, `down`, `check` and `trace`, described in docs/api.md. They are what the command
line itself calls. Importing this package loads nothing; a name loads what it needs when it is first asked for.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # and not typing's own, which costs more than all the rest here
if TYPE_CHECKING:
    from typing import Any

    from labctl.api import Traced as Traced
    from labctl.api import check as check
    from labctl.api import down as down
    from labctl.api import load as load
    from labctl.api import plan as plan
    from labctl.api import trace as trace
    from labctl.api import up as up
    from labctl.definition import Definition as Definition
    from labctl.diff import Change as Change
    from labctl.errors import KernelError as KernelError
    from labctl.errors import LabError as LabError
    from labctl.errors import LockError as LockError
    from labctl.errors import MissingError as MissingError
    from labctl.errors import Problem as Problem
    from labctl.errors import ScenarioError as ScenarioError
    from labctl.errors import UsageError as UsageError
    from labctl.live import Completed as Completed
    from labctl.live import Node as Node
    from labctl.live import RunningLab as RunningLab
    from labctl.results import Outcome as Outcome
    from labctl.results import Report as Report
    from labctl.scenario import Lab as Lab

__version__ = "0.1.0"
__all__ = [
    "Change",
    "Completed",
    "Definition",
    "KernelError",
    "Lab",
    "LabError",
    "LockError",
    "MissingError",
    "Node",
    "Outcome",
    "Problem",
    "Report",
    "RunningLab",
    "ScenarioError",
    "Traced",
    "UsageError",
    "__version__",
    "check",
    "down",
    "load",
    "plan",
    "trace",
    "up",
]

_HOME = {"Change": "diff", "Definition": "definition", "Lab": "scenario", "Outcome": "results", "Report": "results"}
_HOME |= dict.fromkeys(("Completed", "Node", "RunningLab"), "live")
_HOME |= {name: "errors" for name in __all__ if name.endswith("Error")} | {"Problem": "errors"}
_HOME |= dict.fromkeys(("Traced", "check", "down", "load", "up"), "api")
_TWOFOLD = ("plan", "trace")  # verbs that are modules of this package as well

if not TYPE_CHECKING:

    class _Verb(type(sys)):
        """A module whose name is also a verb's: calling the module calls the verb."""

        def __call__(self, *args: Any, **words: Any) -> Any:
            return self._verb(*args, **words)

        @property
        def _verb(self) -> Any:
            from labctl import api

            return getattr(api, self.__name__.partition(".")[2])

        @property
        def __signature__(self) -> Any:
            import inspect

            return inspect.signature(self._verb)

    class _Package(type(sys)):
        """This package. Python hangs each of its modules into it once that is loaded: `labctl.plan` is then the
        module, before that it would be the verb. So the modules of that kind are made to be both."""

        def __setattr__(self, name: str, value: Any) -> None:
            if name in _TWOFOLD and type(value) is type(sys):
                value.__class__ = _Verb
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Package

    def __getattr__(name: str) -> Any:
        if name not in _HOME and name not in _TWOFOLD:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        if name in _TWOFOLD:
            return import_module(f"labctl.{name}")
        return getattr(import_module(f"labctl.{_HOME[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

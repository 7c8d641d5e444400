"""labctl builds container networks out of real kernel objects and proves every claim with packets.

From Python: `load`, `plan`, `up`, `down`, `check` and `trace`, described in docs/api.md. They are what the command
line itself calls. Importing this package loads nothing; a name loads what it needs when it is first asked for.
"""

from __future__ import annotations

TYPE_CHECKING = False  # and not typing's own, which costs more than all the rest here
if TYPE_CHECKING:
    from typing import Any

    from labctl.api import check as check
    from labctl.api import down as down
    from labctl.api import load as load
    from labctl.api import plan as plan
    from labctl.api import trace as trace
    from labctl.api import up as up
    from labctl.core.diff import Change as Change
    from labctl.core.results import Outcome as Outcome
    from labctl.core.results import Report as Report
    from labctl.core.scenario_types import Lab as Lab
    from labctl.errors import KernelError as KernelError
    from labctl.errors import LabError as LabError
    from labctl.errors import LimitError as LimitError
    from labctl.errors import LockError as LockError
    from labctl.errors import MissingError as MissingError
    from labctl.errors import Problem as Problem
    from labctl.errors import ScenarioError as ScenarioError
    from labctl.errors import UsageError as UsageError
    from labctl.kernel.node_exec.background import BackgroundProcess as BackgroundProcess
    from labctl.running_lab import Completed as Completed
    from labctl.running_lab import Node as Node
    from labctl.running_lab import RunningLab as RunningLab
    from labctl.running_lab import Traced as Traced
    from labctl.scenario.definition import Definition as Definition

__version__ = "0.2.0"
__all__ = [
    "BackgroundProcess",
    "Change",
    "Completed",
    "Definition",
    "KernelError",
    "Lab",
    "LabError",
    "LimitError",
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

_MODULES = {
    "BackgroundProcess": "kernel.node_exec.background",
    "Change": "core.diff",
    "Completed": "running_lab",
    "Definition": "scenario.definition",
    "Lab": "core.scenario_types",
    "Node": "running_lab",
    "Outcome": "core.results",
    "Problem": "errors",
    "Report": "core.results",
    "RunningLab": "running_lab",
    "Traced": "running_lab",
} | dict.fromkeys(("check", "down", "load", "plan", "trace", "up"), "api")
_MODULES |= {name: "errors" for name in __all__ if name.endswith("Error")}

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(f"labctl.{_MODULES[name]}"), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})

"""How a running lab differs from its plan."""

from __future__ import annotations

from labctl.lab import lifecycle
from labctl.render.resources import change_lines


def drift(name: str) -> list[str]:
    """The lines of `labctl status` for a running lab; empty if it is as its definition says."""
    changes = lifecycle.status(name, lifecycle.load_compiled_lab(name))
    return [line for change in changes for line in change_lines(change)]

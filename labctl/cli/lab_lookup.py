"""The lab and the nodes that a verb is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab


def recall(name: str, scenario: str | None, sets: tuple[str, ...], manifests: tuple[str, ...] = ()) -> Lab:
    """The definition of a running lab, compiled. Raises UsageError."""
    from labctl.lab import lifecycle

    if sets and scenario is None:
        raise UsageError("--set needs --scenario FILE", "the record of a running lab has its values")
    if manifests and scenario is None:
        raise UsageError("--manifest needs --scenario FILE", "the record of a running lab has its manifests")
    return lifecycle.load_compiled_lab(name, scenario, sets, manifests)

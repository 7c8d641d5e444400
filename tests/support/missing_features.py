"""A made-up kernel that lacks some features."""

from __future__ import annotations

from collections.abc import Mapping

from labctl.core.resources import Resource
from labctl.core.scenario_types import Lab


class Kernel:
    """A kernel that lacks these features, and remembers what it was asked."""

    def __init__(self, *lacks: str) -> None:
        self.lacks = lacks
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, lab: Lab, wanted: Mapping[str, Resource]) -> Mapping[str, str]:
        self.asked.append(tuple(wanted))
        return {feature: "Operation not supported" for feature in wanted if feature in self.lacks}

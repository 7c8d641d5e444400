"""What is wrong with API objects, or strange about them, given with the field. Pure."""

from __future__ import annotations

from dataclasses import dataclass

SCENARIO = "scenario"  # the kind of problems of the scenario's own keys: the path begins with the key


@dataclass(frozen=True, slots=True)
class ObjectProblem:
    """One mistake in an API object, or a warning about it.

    `path` leads to the field, as far as the problem has one: `("spec", "ports", 0, "nodePort")`. A `warning` does not
    prevent that the lab is built.
    """

    kind: str
    namespace: str
    name: str
    path: tuple[str | int, ...]
    what: str
    hint: str = ""
    warning: bool = False

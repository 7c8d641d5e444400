"""Who wants to know the results of checks and traces in this process: pytest's plugin, for the report of a failed test.

Nothing is kept here. The module imports nothing, because pytest loads it in every run.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

LISTENERS: list[Callable[[str, object], None]] = []  # each is called with a lab's name and a Report or a Traced


def publish(lab: str, result: object) -> None:
    """Call the listeners with a result of a lab."""
    for listener in LISTENERS:
        listener(lab, result)

"""Many names in one line. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def some(names: Sequence[object], most: int = 12) -> str:
    """The first `most` names, and the number of the others: `a, b and 3 more`."""
    return ", ".join(map(str, names[:most])) + (f" and {len(names) - most} more" if len(names) > most else "")

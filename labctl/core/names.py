"""Many names in one line. Pure."""

from __future__ import annotations

from collections.abc import Sequence


def summarize_names(names: Sequence[object], limit: int = 12) -> str:
    """The first `most` names, and the number of the others: `a, b and 3 more`."""
    return ", ".join(map(str, names[:limit])) + (f" and {len(names) - limit} more" if len(names) > limit else "")

"""Where the time of `labctl up --profile` went: a table, and the same for programs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from labctl.core.sentence import sentence
from labctl.kernel.host.phases import Phase
from labctl.report.table_section import TableSection
from labctl.translation.language import gettext


def profile_table(phases: Sequence[Phase], peak_memory: int) -> TableSection:
    """The phases in the order of time, then all together. `peak_memory` is in bytes."""
    total = sum(one.seconds for one in phases)
    rows = [(gettext(one.name), *_numbers(one.seconds, one.cpu_seconds, total)) for one in phases]
    together = _numbers(total, sum(one.cpu_seconds for one in phases), total)
    rows.append((gettext(sentence("together")), *together))
    memory = gettext(sentence("at most {size} MB of memory", size=f"{peak_memory / 1e6:.0f}"))
    rows.append((memory, "", "", ""))
    title = gettext(sentence("where the time went"))
    columns = ("phase", "time", "share", "processor")
    return TableSection(title, columns, tuple(rows))


def _numbers(seconds: float, cpu_seconds: float, total: float) -> tuple[str, str, str]:
    share = f"{100 * seconds / total:.0f} %" if total else ""
    return f"{1000 * seconds:.0f} ms", share, f"{1000 * cpu_seconds:.0f} ms"


def profile_json(phases: Sequence[Phase], peak_memory: int) -> dict[str, Any]:
    """The value of `profile` in `up --json`: times in seconds, memory in bytes."""
    listed = [
        {"phase": str(one.name), "seconds": round(one.seconds, 4), "cpu_seconds": round(one.cpu_seconds, 4)}
        for one in phases
    ]
    return {"phases": listed, "peak_memory": peak_memory}

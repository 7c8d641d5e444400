"""What `up` did, and the labs that run: results about whole labs. What checks found is in `results`."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.core.diff import Change
from labctl.core.iptables import Backend
from labctl.core.scenario_types import Lab
from labctl.core.text import count, duration, short_repr


@dataclass(frozen=True, slots=True)
class RunningSummary:
    """A lab that has namespaces on this machine."""

    name: str
    nodes: tuple[str, ...]
    model: str | None  # None if its definition is lost
    scenario: str | None
    approximate: tuple[str, ...] = ()  # the kernel features that are replaced by substitutes
    firewall: Backend | None = None  # the back end of its rules
    owner: str | None = None  # the user who made it, if that is known


@dataclass(frozen=True, slots=True)
class UpResult:
    """What `up` did, or would do with `--dry-run`."""

    lab: Lab
    changes: tuple[Change, ...]
    created: bool  # the lab was (or would be) created: it did not exist before, or was replaced
    dry: bool
    seconds: float
    replaced: bool = False  # a lab of that name existed and was (or would be) removed first
    updated: bool = False  # the running lab had other Services, policies or the like, and was (or would be) changed

    def __repr__(self) -> str:
        done = "updated" if self.updated else "repaired"
        what = "created" if self.created else done if self.changes else "as defined"
        what = f"dry run, {what}" if self.dry else what
        return short_repr(
            self, f"{self.lab.name}: {what}, {count(len(self.changes), 'change')}, {duration(self.seconds)}"
        )

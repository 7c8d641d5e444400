"""Remove what killed verbs left: what they made for the time of their run, and half-written or half-removed records."""

from __future__ import annotations

from contextlib import suppress

from labctl.errors import LabError
from labctl.kernel import leftovers
from labctl.kernel.host import lab_state, paths
from labctl.kernel.host.work_record import WorkRecord


def record_temporary_lab(work: str, name: str) -> WorkRecord:
    """Record a lab that is built next and removed at the end of the work, such as `a comparison`. Finish the record by
    removing the lab. Raises KernelError if no record can be written."""
    record = WorkRecord(work)
    record.note(leftovers.LAB, name=name)
    return record


def sweep() -> tuple[str, ...]:
    """Undo what killed verbs left in the kernel and in the directory of state. Needs root. Returns a sentence for each
    verb that left something; the work that goes on is not affected."""
    sentences = leftovers.sweep(_remove_lab)
    for lab in lab_state.locked_labs():
        with suppress(LabError, OSError), lab_state.lock(lab, timeout_s=0):
            lab_state.remove_drafts(lab)
            if lab not in paths.labs():
                lab_state.remove_incomplete(lab)
    return sentences


def _remove_lab(name: str) -> bool:
    """Remove a temporary lab; returns whether there was anything of it."""
    from labctl.lab import lifecycle

    has_files = lab_state.directory(name).is_dir()
    return bool(lifecycle.down(name, force=True)) or has_files

"""Undo what killed verbs have made for the time of their run: every kind of entry in a record of work.

See `host.work_record` for the records. Undoing an entry again, or one that was never made, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from labctl.core.names import summarize_names
from labctl.core.record_shape import a_file_name
from labctl.core.text import count
from labctl.errors import KernelError, LabError
from labctl.kernel.host import modules, paths, work_record
from labctl.kernel.host.work_record import AbandonedRecord, Entry
from labctl.kernel.namespaces.lab_namespaces import is_namespace
from labctl.kernel.namespaces.thread import NetnsThread

LAB = "lab"  # the kind of entry for a lab that exists for one verb, by `name`
RemoveLab = Callable[[str], object]
Undone = dict[str, dict[str, int]]  # by kind of entry and by place: how many objects were removed


def sweep(remove_lab: RemoveLab | None = None) -> tuple[str, ...]:
    """Undo what killed verbs left. Returns a sentence for each verb. The work that goes on is not affected.

    `remove_lab` removes the temporary labs of killed verbs; None leaves them, because their namespaces end anyway. A
    record stays if one of its entries cannot be undone.
    """
    sentences = []
    for record in work_record.abandoned():
        done, problems = _undo(record, remove_lab)
        if not problems:
            work_record.remove(record)
        texts = [_text(kind, places) for kind, places in done.items()]
        sentences += [f"{record.work} was killed; removed what it left: {'; '.join(texts)}"] if texts else []
        sentences += [f"{record.work} was killed; {problem}" for problem in problems]
    work_record.remove_folder()
    return tuple(sentences)


def _undo(record: AbandonedRecord, remove_lab: RemoveLab | None) -> tuple[Undone, list[str]]:
    """What was undone, and why the rest was not."""
    done: Undone = {}
    problems = []
    with NetnsThread() as inside:
        inside.spare_files = 0  # what is removed opens no file that stays open
        for entry in reversed(record.entries):
            try:
                place, removed = _undo_entry(inside, entry, remove_lab)
            except (KeyError, TypeError, ValueError, AttributeError, FileNotFoundError):
                continue  # it is no entry of this version, or its namespace is gone, with all that was in it
            except (OSError, LabError) as error:
                text = _text(entry["kind"], {str(entry.get("node", entry.get("name"))): 1})
                problems.append(f"cannot remove what it left, {text}: {error}")
                continue
            if removed:
                done.setdefault(entry["kind"], {})[place] = removed
    return done, problems


def _undo_entry(inside: NetnsThread, entry: Entry, remove_lab: RemoveLab | None) -> tuple[str, int]:
    """The place of an entry, and how many objects were removed there."""
    kind = entry["kind"]
    if not all(a_file_name(entry[key]) for key in ("lab", "node", "name") if key in entry):
        raise ValueError("a name that would be part of a path")
    if kind == LAB:
        return entry["name"], int(remove_lab is not None and bool(remove_lab(entry["name"])))
    if kind == "tracing":
        from labctl.kernel.rule_trace import tracefs

        return "", int(tracefs.remove(entry["name"]))
    if kind == modules.RECORD_KIND:
        return "", modules.reset_bridge_calls()
    path = paths.netns_path(entry["lab"], entry["node"])
    return entry["node"], inside.run(path, _UNDO_INSIDE[kind], entry) if is_namespace(path) else 0


def _restore_loggers(entry: Entry) -> int:
    from labctl.kernel.rule_trace import nflog

    before = entry["before"]
    if nflog.read_loggers() == before:
        return 0
    nflog.restore_loggers(before)
    return 1


def _remove_nft_table(entry: Entry) -> int:
    from labctl.kernel.rule_trace import nft_mark

    with suppress(KernelError):  # the kernel has removed it together with its owner
        nft_mark.remove(entry["name"])
        return 1
    return 0


def _remove_neighbours(entry: Entry) -> int:
    from labctl.kernel.probes import neighbours

    return neighbours.remove_recorded(entry["entries"])


def _text(kind: str, places: dict[str, int]) -> str:
    names = summarize_names(sorted(places))
    if kind == LAB:
        return f"lab {names}"
    if kind == "tracing":
        return "a tracing instance"
    if kind == modules.RECORD_KIND:
        return f"{', '.join(modules.BRIDGE_CALLS)} = 1 on this machine"
    if kind == "neighbours":
        return f"{count(sum(places.values()), 'neighbour entry')} in {names}"
    return f"{'nf_log' if kind == 'nf_log' else 'an nft table'} in {names}"


# by kind of entry: what is called inside its namespace, and returns how many objects it has removed or restored
_UNDO_INSIDE: dict[str, Callable[[Any], int]] = {
    "nf_log": _restore_loggers,
    "nft_table": _remove_nft_table,
    "neighbours": _remove_neighbours,
}

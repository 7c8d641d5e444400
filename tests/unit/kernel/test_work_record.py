"""Records of work: who holds one, what is in it, and when it goes."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import KernelError
from labctl.kernel import leftovers
from labctl.kernel.host import paths, work_record
from labctl.kernel.host.work_record import WorkRecord, abandoned
from labctl.kernel.rule_trace import tracefs


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("LABCTL_NETNS_DIR", str(tmp_path / "netns"))
    return tmp_path / "state" / paths.WORK_FOLDER


def abandon(record: WorkRecord) -> None:
    """End the work as SIGKILL does: the lock is lost, the file stays."""
    os.close(record._fd)


def read() -> list[tuple[str, tuple[work_record.Entry, ...]]]:
    return [(record.work, record.entries) for record in abandoned()]


def test_a_record_is_abandoned_only_when_its_holder_is_gone(folder: Path) -> None:
    assert not paths.has_unfinished_work()
    first, second = WorkRecord("a trace of lab x"), WorkRecord("a check of lab x")
    first.note("nf_log", node="a", before={"ip": "NONE"})
    first.note("tracing", name="y")
    assert paths.has_unfinished_work()
    assert read() == []

    abandon(first)

    entries = ({"kind": "nf_log", "node": "a", "before": {"ip": "NONE"}}, {"kind": "tracing", "name": "y"})
    assert read() == [("a trace of lab x", entries)]
    assert len(list(folder.iterdir())) == 2
    second.finish(list)
    assert len(list(folder.iterdir())) == 1


def test_nothing_is_left_of_finished_work(folder: Path) -> None:
    undone = []
    record = WorkRecord("a check of lab x")
    record.finish(lambda: undone.append(folder.exists()))
    assert undone == [True]
    assert folder.parent.is_dir()
    assert not folder.exists()


def test_what_cannot_be_undone_is_left_to_the_next_verb() -> None:
    record = WorkRecord("a check of lab x")
    record.note("lab", name="compare-1")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        record.finish(_fail)
    assert read() == [("a check of lab x", ({"kind": "lab", "name": "compare-1"},))]


def _fail(*_: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("tail", [b'{"kind": "nf_l', b"\xff\n", b"[1]\n", b'{"kind": 5}\n', b"[" * 100_000 + b"\n"])
def test_lines_that_are_not_complete_entries_are_ignored(folder: Path, tail: bytes) -> None:
    record = WorkRecord("a trace of lab x")
    record.note("tracing", name="y")
    os.write(record._fd, tail)
    abandon(record)
    assert read() == [("a trace of lab x", ({"kind": "tracing", "name": "y"},))]


def test_a_part_of_an_entry_is_not_taken_for_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """A full file system takes what fits and refuses only the next write."""
    record, room, write = WorkRecord("a trace of lab x"), [5], os.write

    def write_what_fits(fd: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room[0], size = 0, room[0]
        return write(fd, data[:size])

    monkeypatch.setattr(os, "write", write_what_fits)
    with pytest.raises(KernelError, match=r"cannot write the record of .*: No space left") as caught:
        record.note("tracing", name="y")
    assert "make room in " in caught.value.hint


def test_a_file_in_the_way_is_named(folder: Path) -> None:
    folder.parent.mkdir()
    folder.touch()
    with pytest.raises(KernelError, match=f"{folder}: it is a file, not a folder"):
        WorkRecord("a trace of lab x")


def test_a_record_that_a_sweep_removed_before_it_was_locked_is_written_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock, removed = work_record.fcntl.flock, []

    def lock_late(fd: int, how: int) -> None:
        if not removed:
            removed.extend(folder.iterdir())
            removed[0].unlink()
            folder.rmdir()
        lock(fd, how)

    monkeypatch.setattr(work_record.fcntl, "flock", lock_late)
    record = WorkRecord("a trace of lab x")
    assert [path.name for path in folder.iterdir()] != [path.name for path in removed]
    record.finish(list)


def test_a_sweep_says_what_it_removed_and_keeps_what_it_could_not(folder: Path) -> None:
    record = WorkRecord("a comparison")
    record.note("lab", name="compare-1")
    record.note("unknown", of="a later version")
    record.note("neighbours", lab="x", node="gone", entries=[["eth0", "10.0.0.1", "02:00:00:00:00:01"]])
    abandon(record)
    removed: list[str] = []

    def refuse(name: str) -> bool:
        raise KernelError("the kernel refused")

    assert leftovers.sweep(refuse) == (
        "a comparison was killed; cannot remove what it left, lab compare-1: the kernel refused",
    )
    assert folder.exists()
    assert leftovers.sweep(lambda name: removed.append(name) or True) == (
        "a comparison was killed; removed what it left: lab compare-1",
    )
    assert removed == ["compare-1"]
    assert not folder.exists()
    assert leftovers.sweep(refuse) == ()


@pytest.mark.parametrize(
    "make", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd"), lambda path: path.write_bytes(b"\0")]
)
def test_what_is_no_record_in_the_folder_is_not_waited_for(folder: Path, make: Callable[[Path], None]) -> None:
    WorkRecord("a trace of lab x")  # makes the folder
    make(folder / "1-1.jsonl")
    found = [record.path.name for record in work_record.abandoned()]
    assert "1-1.jsonl" not in found or (folder / "1-1.jsonl").read_bytes() == b"\0"


def test_a_dangling_link_in_place_of_the_folder_is_named(folder: Path) -> None:
    folder.parent.mkdir()
    folder.symlink_to(folder.parent / "nowhere")
    with pytest.raises(KernelError, match=f"{folder}: it is a link, not a folder"):
        WorkRecord("a trace of lab x")


@pytest.mark.parametrize("name", ["../../x", "/etc", ".", "", 7, None, ["a"]])
@pytest.mark.parametrize(
    "entry", [{"kind": "lab"}, {"kind": "tracing"}, {"kind": "neighbour", "lab": "k", "node": "a"}]
)
def test_an_entry_with_a_name_that_is_a_path_is_not_undone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: object, entry: dict[str, str]
) -> None:
    record = WorkRecord("a trace of lab x")
    key = "node" if "node" in entry else "name"
    record.note(**{**entry, key: name})  # type: ignore[arg-type]
    abandon(record)
    monkeypatch.setattr(tracefs, "remove", pytest.fail)
    monkeypatch.setattr(leftovers, "is_namespace", pytest.fail)
    assert leftovers.sweep(pytest.fail) == ()

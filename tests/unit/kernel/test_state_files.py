"""Files below the state directory: read without trust, written as a whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.errors import KernelError, LockError, UsageError
from labctl.kernel.host import lab_state, state_files
from labctl.kernel.host.state_files import RecordError
from tests.support.paths import ROOT


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = tmp_path / "state"
    monkeypatch.setenv("LABCTL_STATE_DIR", str(root))
    monkeypatch.setenv("LABCTL_NETNS_DIR", str(tmp_path / "netns"))
    return root


def test_what_is_written_is_read(state: Path) -> None:
    state_files.write_text("k", "cni/made.json", '{"a": "\udcff"}')
    assert state_files.read_json("k", "cni/made.json", {"a": str}) == {"a": "\udcff"}
    assert state_files.names("k", "cni") == ["made.json"]
    modes = [stat.S_IMODE((state / name).stat().st_mode) & 0o022 for name in ("k", "k/cni", "k/cni/made.json")]
    assert modes == [0, 0, 0], "others could replace them"
    state_files.remove("k", "cni/made.json")
    state_files.remove("k", "cni/made.json")
    assert state_files.names("k", "cni") == []


def test_others_can_never_write_whatever_the_umask_is(state: Path) -> None:
    old = os.umask(0)
    try:
        state_files.write_text("k", "cni/made.json", "{}")
        with lab_state.lock("k"):
            modes = [path.stat().st_mode & 0o022 for path in (state, *state.rglob("*"))]
    finally:
        os.umask(old)
    assert modes == [0] * 5


def remove_while_opened(monkeypatch: pytest.MonkeyPatch, path: Path, times: int) -> list[Path]:
    """Remove an empty folder each time that it is opened, as another process may. Returns a list of the removals."""
    removed: list[Path] = []
    real = os.open

    def opened(name: str, flags: int, *more: int, dir_fd: int | None = None) -> int:
        if name == path.name and len(removed) < times:
            path.rmdir()
            removed.append(path)
        return real(name, flags, *more, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", opened)
    return removed


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    "use",
    [
        lambda: state_files.make_folder("k"),
        lambda: state_files.write_text("k", "a.json", "{}"),
        lambda: state_files.lock("k", "a.lock", 1).__enter__(),
    ],
)
def test_a_folder_that_another_process_removes_is_created_again(
    use: Callable[[], object], times: int, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed = remove_while_opened(monkeypatch, state / "k", times)
    use()
    assert (state / "k").is_dir()
    assert len(removed) == times


def test_a_folder_that_cannot_stay_is_an_error(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove_while_opened(monkeypatch, state / "k", state_files.FOLDER_TRIES)
    with pytest.raises(KernelError, match=r"cannot use .*/k: No such file or directory"):
        state_files.make_folder("k")


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (os.mkfifo, "it is a FIFO, not a file"),
        (Path.mkdir, "it is a folder, not a file"),
        (lambda path: path.symlink_to("/etc/passwd"), "it is a link, not a file"),
        (lambda path: path.write_bytes(b""), "it is not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "it is not JSON"),
        (lambda path: path.write_bytes(b"[" * 200_000), "it nests too deeply"),
        (lambda path: path.write_bytes(b"[]"), "the document is not an object"),
        (lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 1 << 40), "it is larger than 32 MiB"),
    ],
)
def test_what_cannot_be_read_is_one_error(state: Path, make: Callable[[Path], None], problem: str) -> None:
    (state / "k").mkdir(parents=True)
    make(state / "k/x.json")
    with pytest.raises(RecordError, match=problem):
        state_files.read_json("k", "x.json", {})


def test_a_folder_that_others_can_write_to_is_not_trusted(state: Path) -> None:
    state_files.write_text("k", "x.json", "{}")
    (state / "k").chmod(0o777)
    with pytest.raises(RecordError, match="other users can write to its folder"):
        state_files.read_json("k", "x.json", {})
    with pytest.raises(KernelError, match="other users can write to its folder"):
        state_files.write_text("k", "x.json", "[]")
    assert (state / "k/x.json").read_text() == "{}"


@pytest.mark.parametrize("place", ["k", "k/cni"])
def test_no_link_on_the_way_is_followed(state: Path, tmp_path: Path, place: str) -> None:
    target = tmp_path / "target"
    (target / "cni").mkdir(parents=True)
    (target / "made.json").write_text("{}")
    (state / place).parent.mkdir(parents=True)
    (state / place).symlink_to(target)
    with pytest.raises(RecordError):
        state_files.read_json("k", "cni/made.json", {})
    with pytest.raises(KernelError, match=f"{state / place} is a link, not a folder") as caught:
        state_files.write_text("k", "cni/made.json", "[]")
    assert f"remove {state / place}" in caught.value.hint
    with pytest.raises(KernelError, match="is a link"):
        state_files.make_folder("k", "cni", "data")
    lab_state.remove_files("k")
    assert sorted(path.name for path in target.rglob("*")) == ["cni", "made.json"]


def test_a_file_that_cannot_be_written_to_its_end_stays_as_it_was(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state_files.write_text("k", "x.json", "old")

    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(state_files.os, "write", write)
    with pytest.raises(KernelError, match="No space left on device") as caught:
        state_files.write_text("k", "x.json", "new")
    assert f"df {state}" in caught.value.hint
    assert (os.listdir(state / "k"), (state / "k/x.json").read_text()) == (["x.json"], "old")


@pytest.mark.parametrize("name", ["", "..", "../k", "a/b", "/etc", ".trace"])
def test_what_is_no_name_of_a_lab_is_no_folder(state: Path, name: str) -> None:
    with pytest.raises(UsageError, match="not the name of a lab"):
        lab_state.directory(name)


def test_a_lock_without_a_file_waits_for_one_with_a_file_and_the_other_way(state: Path, tmp_path: Path) -> None:
    (tmp_path / "netns").mkdir()
    state.mkdir()
    (state / "k.lock").mkdir()
    with lab_state.lock("k", needs_file=False):  # there is no file, as on a full disk
        with (
            pytest.raises(LockError, match="lab k is held by another process"),
            lab_state.lock("k", 0, needs_file=False),
        ):
            pass
        (state / "k.lock").rmdir()
        with pytest.raises(LockError, match="lab k is held by"), lab_state.lock("k", 0):
            pass
    with lab_state.lock("k"), pytest.raises(LockError, match="lab k is held by labctl"):  # noqa: SIM117
        with lab_state.lock("k", 0, needs_file=False):
            pass
    assert os.listdir(state) == []


def test_exec_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys; from labctl.kernel.node_exec import exec; from labctl.kernel.host import definition_record\n"
        "print(sorted({'dataclasses', 'json', 'subprocess', 'labctl.errors'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"

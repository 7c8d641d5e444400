"""The files that checks write packets to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.core.scenario_types import Check
from labctl.errors import UsageError
from labctl.report import output_files
from labctl.report.output_files import pcap_writer


def test_packets_that_cannot_be_kept_are_complained_of_and_the_next_are_kept(tmp_path: Path) -> None:
    said: list[str] = []
    folder = tmp_path / "packets"
    keep = pcap_writer(str(folder), said.append)
    folder.rmdir()
    assert keep(Check("one", "ping", "a", "b"), b"1") == ""
    folder.mkdir()
    assert Path(keep(Check("two", "ping", "a", "b"), b"2")).read_bytes() == b"2"
    assert len(said) == 1
    assert "01-one.pcapng: No such file or directory" in said[0]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder like /tmp, and beside it a file that must stay as it is."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    (tmp_path / "precious").write_text("precious")
    return folder


def another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """What this user owns belongs to another user from now on."""
    monkeypatch.setattr(output_files, "_trusted_users", lambda: {os.geteuid() + 1})


def writers(path: Path) -> list[Callable[[], object]]:
    """Every way by which a verb writes a file."""
    check = Check("one", "ping", "a", "b")
    return [
        lambda: output_files.write(str(path), "text"),
        lambda: output_files.write_bytes(str(path), b"data"),
        lambda: output_files.require_writable(str(path)),
        lambda: os.close(output_files.open_output(str(path))),
        lambda: pcap_writer(str(path.parent), lambda text: pytest.fail(text))(check, b"data"),
    ]


@pytest.mark.parametrize("way", range(5))
@pytest.mark.parametrize("make", ["link", "hard link", "file", "FIFO"])
def test_what_another_user_put_there_is_not_written_to(
    shared: Path, monkeypatch: pytest.MonkeyPatch, make: str, way: int
) -> None:
    path, precious = shared / "01-one.pcapng", shared.parent / "precious"
    if make == "link":
        path.symlink_to(precious)
    elif make == "hard link":
        path.hardlink_to(precious)  # the file can be root's own
    elif make == "file":
        path.write_text("precious")
    else:
        os.mkfifo(path)
    if make != "hard link":
        another_user(monkeypatch)
    with pytest.raises((UsageError, PermissionError, pytest.fail.Exception), match=r"another user|second name"):
        writers(path)[way]()
    assert precious.read_text() == "precious"
    assert make != "file" or path.read_text() == "precious"


def test_a_link_of_another_user_is_not_followed_in_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "target")
    another_user(monkeypatch)
    with pytest.raises(UsageError, match="belongs to another user"):
        output_files.write(str(tmp_path / "out"), "text")
    assert not (tmp_path / "target").exists()


def test_links_of_ones_own_and_devices_are_written_to(shared: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (shared / "out").symlink_to(shared.parent / "precious")
    output_files.write(str(shared / "out"), "text")
    output_files.write("/dev/stdout", "to a device\n")
    output_files.write(os.devnull, "text")
    assert (shared.parent / "precious").read_text() == "text"
    assert capfd.readouterr().out == "to a device\n"


def test_the_user_who_typed_sudo_is_trusted(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shared / "out").write_text("old")
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    monkeypatch.setenv("SUDO_UID", str(owner) if owner else "x")  # root is trusted, whatever the variable says
    output_files.write(str(shared / "out"), "new")
    assert (shared / "out").read_text() == "new"

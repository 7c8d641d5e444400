"""Whatever lies in the state directory: a sentence and an exit code for people, and `down` always works."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import pytest

import labctl
from labctl.cli import main
from labctl.kernel.host import lab_state, paths
from labctl.kernel.host.syscalls import MS_BIND, mount, umount
from tests.support.paths import ROOT

LAB, OTHER = "odd-k", "odd-other"
SCENARIO = ROOT / "scenarios/kubenet.yaml"
MS_RDONLY, MS_REMOUNT = 1, 32
GOOD, DRIFT, USAGE, REFUSED, MISSING = 0, 1, 2, 3, 4
READING = ("list", "status", "show a", "exec a -- true", "shell a", "capture unknown", "fix", "check -k outside")
CHANGING = (f"up {SCENARIO} --name {LAB}", "trace a c", "break route-missing node1")
HANG_S = 30  # far more than any verb here needs


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def is_explained(self) -> bool:
        """Whether the verb worked, or said why not: in a sentence and perhaps a hint, or for each place of a file."""
        first, *more = self.err.strip().splitlines() or [""]
        if self.code in (GOOD, DRIFT):
            return "Traceback" not in self.err
        is_known = self.code in (USAGE, REFUSED, MISSING)
        return is_known and (
            (first.startswith("labctl: ") and len(more) <= 3) or re.match(r"\S+:\d+:\d+: ", first) is not None
        )


Type: TypeAlias = Callable[[str], Done]


@pytest.fixture
def typed(capsys: pytest.CaptureFixture[str]) -> Type:
    """A function that runs labctl in this process, but not for ever."""

    def run(words: str) -> Done:
        capsys.readouterr()
        old = signal.signal(signal.SIGALRM, lambda *_: pytest.fail(f"labctl {words} does not end"))
        signal.alarm(HANG_S)
        try:
            return Done(main(words.split()), *capsys.readouterr())
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, old)

    return run


@pytest.fixture(scope="module")
def other() -> Iterator[None]:
    """A lab beside the one with the odd state."""
    labctl.up(SCENARIO, name=OTHER)
    yield
    labctl.down(OTHER)


@pytest.fixture
def lab(other: None) -> Iterator[Path]:
    """A lab; its folder."""
    before = sorted(os.listdir(paths.state_dir()))
    labctl.up(SCENARIO, name=LAB)
    yield paths.state_dir() / LAB
    labctl.down(LAB)
    assert sorted(os.listdir(paths.state_dir())) == before


def fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))


def device(path: Path) -> None:
    os.mknod(path, 0o644 | 0o020000, os.makedev(1, 7))  # /dev/full


def folder(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    path.symlink_to("/etc/passwd")


def holding(text: str | bytes) -> Callable[[Path], None]:
    data = text.encode() if isinstance(text, str) else text

    def write(path: Path) -> None:
        path.write_bytes(data)

    return write


DEFINITION = {"file": "f", "text": "{model: raw, namespaces: [a]}", "sets": []}
RECORDS = {
    "FIFO": fifo, "socket": a_socket, "device": device, "folder": folder, "link": link,
    "empty": holding(""), "NUL": holding(b"\0" * 100), "no UTF-8": holding(b"\xff\xfe{"), "deep": holding("[" * 100000),
    "list": holding("[]"), "number": holding("7"), "text": holding('"x"'), "null": holding("null"),
    "digits": holding("9" * 100_000), "truncated": holding(json.dumps(DEFINITION)[:-20]),
    "machines": holding(json.dumps({**DEFINITION, "machines": [1]})),
    "addresses": holding(json.dumps({**DEFINITION, "machines": [{"name": "a", "addresses": {"x": 1}}]})),
    "sets": holding(json.dumps({**DEFINITION, "sets": [{}]})),
    "files": holding(json.dumps({**DEFINITION, "files": [["a"]]})),
    "no scenario": holding(json.dumps({**DEFINITION, "text": "{model: raw, nonsense: 1}"})),
    "features": holding(json.dumps({**DEFINITION, "approximate": ["nonsense"]})),
}  # fmt: skip


@pytest.mark.parametrize("name", RECORDS)
def test_a_definition_of_any_shape(lab: Path, typed: Type, name: str) -> None:
    record = lab / "definition.json"
    record.unlink()
    RECORDS[name](record)
    for words in READING:
        assert (done := typed(f"-l {LAB} {words}")).is_explained, (words, done)
    assert OTHER in typed("list").out
    assert typed(f"down {LAB}").code == GOOD
    assert {*paths.labs()} == {OTHER}
    assert not lab.exists()


@pytest.mark.parametrize("name", ["FIFO", "device", "folder", "link", "empty", "deep", "list", "truncated", "no UTF-8"])
def test_a_record_of_faults_of_any_shape(lab: Path, typed: Type, name: str) -> None:
    RECORDS[name](lab / "faults.json")
    for words in ("list", "status", "fix", "break --list"):
        assert (done := typed(f"-l {LAB} {words}")).is_explained, (words, done)
    assert typed(f"down {LAB}").code == GOOD
    assert not lab.exists()


def named(make: Callable[[Path], None]) -> str:
    return make.__name__


@pytest.mark.parametrize("make", [fifo, folder, link, device], ids=named)
@pytest.mark.parametrize("place", ["definition.json", "faults.json", "xtables.lock", "bin"])
def test_up_repairs_a_lab_or_says_what_is_in_the_way(
    lab: Path, typed: Type, place: str, make: Callable[[Path], None]
) -> None:
    there = lab / place
    there.unlink(missing_ok=True)
    make(there)
    before = Path("/etc/passwd").read_bytes()
    done = typed(f"up {SCENARIO} --name {LAB}")
    assert done.is_explained, done
    assert done.code in (GOOD, REFUSED)
    assert typed(f"-l {LAB} exec a -- true").code == GOOD
    assert typed(f"down {LAB}").code == GOOD
    assert not lab.exists()
    assert Path("/etc/passwd").read_bytes() == before


@pytest.mark.parametrize("make", [fifo, folder, a_socket, link], ids=named)
def test_a_lock_file_that_is_none(lab: Path, typed: Type, make: Callable[[Path], None]) -> None:
    lock = lab.with_name(f"{LAB}.lock")
    make(lock)
    before = Path("/etc/passwd").read_bytes()
    for words in CHANGING:
        done = typed(words if words.startswith("up") else f"-l {LAB} {words}")
        assert (done.code, done.is_explained) == (REFUSED, True), (words, done)
        assert f"cannot lock {lock}: it is " in done.err
    assert typed(f"down {LAB}").code == GOOD
    assert LAB not in paths.labs()
    assert Path("/etc/passwd").read_bytes() == before
    if make is folder:
        lock.rmdir()
    assert not os.path.lexists(lock)


def test_a_lab_folder_that_is_a_link_is_not_followed(typed: Type, tmp_path: Path) -> None:
    place = paths.state_dir() / LAB
    place.symlink_to(tmp_path)
    done = typed(f"up {SCENARIO} --name {LAB}")
    assert (done.code, done.is_explained) == (REFUSED, True), done
    assert f"{place} is a link, not a folder" in done.err
    assert (os.listdir(tmp_path), LAB in paths.labs(), place.is_symlink()) == ([], False, False)

    labctl.up(SCENARIO, name=LAB)
    (tmp_path / "definition.json").write_text((place / "definition.json").read_text())
    lab_state.remove_files(LAB)
    place.symlink_to(tmp_path)
    assert "cannot be used" in typed(f"-l {LAB} status").err
    assert typed(f"-l {LAB} exec a -- true").code == GOOD
    assert typed(f"down {LAB}").code == GOOD
    assert os.listdir(tmp_path) == ["definition.json"]
    assert not place.is_symlink()


@pytest.mark.parametrize("make", [fifo, holding("x")], ids=["FIFO", "file"])
def test_a_lab_folder_that_is_no_folder(typed: Type, make: Callable[[Path], None]) -> None:
    place = paths.state_dir() / LAB
    make(place)
    try:
        done = typed(f"up {SCENARIO} --name {LAB}")
        assert (done.code, done.is_explained) == (REFUSED, True), done
        assert "not a folder" in done.err
        assert LAB not in paths.labs()
    finally:
        place.unlink()


def test_a_folder_of_others_is_not_removed(typed: Type) -> None:
    theirs = paths.state_dir() / LAB
    theirs.mkdir()
    letters = theirs / "letters"
    letters.write_text("precious")
    try:
        assert typed(f"down {LAB}").code == GOOD
        assert letters.read_text() == "precious"
    finally:
        letters.unlink(missing_ok=True)
        theirs.rmdir()


# ---- disks ---------------------------------------------------------------------------------------------


@pytest.fixture(params=["no space", "no inodes", "read-only"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The state directory of the lab `odd-full`, on a disk on which nothing can be written any more."""
    root = tmp_path / "state"
    root.mkdir()
    mount("none", str(root), "tmpfs", 0, "size=64k,nr_inodes=40,mode=755")
    monkeypatch.setenv("LABCTL_STATE_DIR", str(root))
    try:
        labctl.up(SCENARIO, name="odd-full")
        if request.param == "no space":
            with open(root / "fill", "wb", 0) as fill, suppress(OSError):
                while fill.write(b"x" * 4096):
                    pass
        elif request.param == "no inodes":
            with suppress(OSError):
                for number in range(50):
                    (root / f"fill{number}").touch()
        else:
            mount(None, str(root), None, MS_REMOUNT | MS_RDONLY)
        with pytest.raises(OSError, match=r"No space left|Read-only"):
            (root / "more").write_text("more")
        yield root
        labctl.down("odd-full")
    finally:
        umount(str(root))


def test_a_disk_that_takes_nothing(disk: Path, typed: Type) -> None:
    record = (disk / "odd-full/definition.json").read_text()
    for words in READING:
        done = typed(f"-l odd-full {words}")
        assert done.is_explained, (words, done)
        expected = {"capture unknown": (USAGE,), "fix": (GOOD, REFUSED)}  # `fix` locks the lab
        assert done.code in expected.get(words, (GOOD,)), (words, done)
    for words in (
        f"up {SCENARIO} --name odd-full",
        f"up {SCENARIO} --name odd-new",
        "-l odd-full trace a c",
        "-l odd-full break route-missing node1",
    ):
        done = typed(words)
        assert (done.code, done.is_explained) == (REFUSED, True), (words, done)
    assert (disk / "odd-full/definition.json").read_text() == record  # nothing is lost
    assert sorted(name for name in os.listdir(disk) if "odd" in name) == ["odd-full"]  # and nothing is left
    assert typed("-l odd-full status").code == GOOD
    assert {*paths.labs()} - {OTHER} == {"odd-full"}
    assert typed("down odd-full").code == GOOD
    assert {*paths.labs()} - {OTHER} == set()


@pytest.mark.parametrize("spare", [0, 3])
def test_no_room_for_the_names_of_namespaces(
    typed: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, spare: int
) -> None:
    mount("none", str(tmp_path), "tmpfs", 0, "nr_inodes=20,mode=755")
    monkeypatch.setenv("LABCTL_NETNS_DIR", str(tmp_path))
    try:
        with suppress(OSError):
            for number in range(30):
                (tmp_path / f"fill{number}").touch()
        for number in range(spare):
            (tmp_path / f"fill{number}").unlink()
        done = typed(f"up {SCENARIO} --name {LAB}")
        assert (done.code, done.is_explained) == (REFUSED, True), done
        assert "No space left on device" in done.err
        assert f"make room in {tmp_path}: df, df -i" in done.err
        assert paths.labs() == {}
        assert not (paths.state_dir() / LAB).exists()
    finally:
        while os.path.ismount(tmp_path):
            umount(str(tmp_path))


# ---- the two directories -------------------------------------------------------------------------------

WRONG = [
    ("LABCTL_STATE_DIR", "/proc", "cannot lock /proc/odd-k.lock"),
    ("LABCTL_STATE_DIR", "{file}", "{file} is a file, not a folder"),
    ("LABCTL_STATE_DIR", "{file}/below", "cannot"),
    ("LABCTL_STATE_DIR", "state", "LABCTL_STATE_DIR=state is not an absolute path"),
    ("LABCTL_STATE_DIR", "/", "must not be the root directory"),
    ("LABCTL_NETNS_DIR", "netns", "LABCTL_NETNS_DIR=netns is not an absolute path"),
    ("LABCTL_NETNS_DIR", ".", "is not an absolute path"),
    ("LABCTL_NETNS_DIR", "/", "must not be the root directory"),
    ("LABCTL_NETNS_DIR", "{file}", "cannot use {file} for namespaces"),
    ("LABCTL_NETNS_DIR", "/proc", "cannot"),
    ("LABCTL_NETNS_DIR", "/sys/x", "cannot use /sys/x for namespaces"),
]


@pytest.mark.parametrize(("variable", "value", "sentence"), WRONG)
def test_a_directory_that_cannot_be_labctls(
    typed: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str, value: str, sentence: str
) -> None:
    file = tmp_path / "file"
    file.write_text("precious")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(variable, value.format(file=file))
    mounts = Path("/proc/self/mountinfo").read_text()
    done = typed(f"up {SCENARIO} --name {LAB}")
    assert (done.code, done.is_explained) == (REFUSED, True), done
    assert sentence.format(file=file) in done.err
    for words in ("list", f"down {LAB}", "list --json", "status", f"-l {LAB} status"):
        assert (done := typed(words)).is_explained, (words, done)
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert (os.listdir(tmp_path), file.read_text()) == (["file"], "precious")
    monkeypatch.delenv(variable)
    assert LAB not in {*paths.labs(), *os.listdir(paths.state_dir())}


def test_an_empty_variable_is_none(typed: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("LABCTL_NETNS_DIR", "LABCTL_STATE_DIR"):
        monkeypatch.setenv(variable, "")
    assert typed(f"up {SCENARIO} --name {LAB}").code == GOOD
    assert os.listdir(tmp_path) == []
    assert (Path("/run/netns") / paths.netns_name(LAB, "a")).exists()
    assert typed(f"down {LAB}").code == GOOD


def test_a_read_only_directory_of_namespaces(typed: Type, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mount(str(tmp_path), str(tmp_path), None, MS_BIND)
    mount(None, str(tmp_path), None, MS_BIND | MS_REMOUNT | MS_RDONLY)
    monkeypatch.setenv("LABCTL_NETNS_DIR", str(tmp_path))
    try:
        done = typed(f"up {SCENARIO} --name {LAB}")
        assert (done.code, done.is_explained) == (REFUSED, True), done
        assert "Read-only file system" in done.err
    finally:
        while os.path.ismount(tmp_path):
            umount(str(tmp_path))
    assert not (paths.state_dir() / LAB).exists()

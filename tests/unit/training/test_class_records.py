"""The records of a class: of this machine, in gathered files, and in pods. Bad ones are named, and harm nothing."""

from __future__ import annotations

import io
import json
import os
import pwd
import shutil
import sys
from pathlib import Path

import pytest

from labctl.board.documents import entry_document
from labctl.board.entry import Entry
from labctl.errors import KernelError, MissingError, UsageError
from labctl.training import class_pods, class_records
from labctl.training.class_records import ClassRecords
from tests.support import classes
from tests.support.classes import lesson_record, record, write

CHANGED = 1_777_890_000  # 2026-05-04T10:20:00Z


def gathered(folder: Path) -> ClassRecords:
    records = ClassRecords()
    records.add_path(str(folder))
    return records


def test_records_of_exercises_and_lessons_are_read(tmp_path: Path) -> None:
    for path in (
        write(tmp_path, ".exercises/ana/x.json", record("ana", "x")),
        write(tmp_path, "vm2/.lessons/ben/y.json", lesson_record("ben", "y")),
        write(tmp_path, "vm2/.lessons/ben/z.json", lesson_record("ben", "z", finished=classes.at(9), at=3)),
    ):
        os.utime(path, (CHANGED, CHANGED))
    records = gathered(tmp_path)
    assert records.problems == []
    assert records.found == [
        Entry("ana", "exercise", "x", classes.START, "", "2026-05-04T10:20:00Z", 1, 2, 2, 6, 2, 2, 1),
        Entry("ben", "lesson", "y", classes.START, "", "2026-05-04T10:20:00Z", 2, 3, right=1, answered=1),
        Entry("ben", "lesson", "z", classes.START, classes.at(9), classes.at(9), 3, 3, right=1, answered=1),
    ]


def test_documents_that_labctl_has_printed_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = classes.entries()
    path = write(tmp_path, "vm1.json", {"entries": [entry_document(one) for one in found]})
    assert gathered(tmp_path).found == found
    records = ClassRecords()
    records.add_path(str(path))
    monkeypatch.setattr(sys, "stdin", io.StringIO(path.read_text()))
    records.add_path("-")
    assert records.found == [*found, *found]
    with pytest.raises(UsageError, match=r"cannot read .*/none: No such file"):
        records.add_path(str(tmp_path / "none"))


def test_bad_files_are_named_and_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_records, "MAX_BYTES", 5000)
    bad = {
        "a.json": ("", "it is not JSON"),
        "b.json": ("[" * 4900, ""),
        "c.json": ("[1]", "the document is not dict"),
        "d.json": ("{}", "it is not what labctl"),
        "e.json": (" " * 5001, "it is larger than"),
        "f.json": (json.dumps(record("../ana", "x")), "'../ana' is not the name of a learner"),
        "g.json": (json.dumps(record("ana", "x", hints=-1)), "hints: -1"),
        "h.json": (json.dumps(record("ana", "x", tasks=[{}])), "tasks[0] has no 'kind'"),
        "i.json": (json.dumps(lesson_record("ana", "x", at=9)), "done: 9 is not from 0 to 3"),
        "j.json": ('{"entries": [{}]}', "entries[0] has no 'learner'"),
        "k.json": ('{"entries": [' + "9" * 4900 + "]}", ""),
    }
    for name, (text, _) in bad.items():
        write(tmp_path, name, text)
    write(tmp_path, "good.json", record("ana", "good"))
    (tmp_path / "l.json").write_bytes(b"\xff\xfe{}")
    records = gathered(tmp_path)
    assert [one.name for one in records.found] == ["good"]
    problems = {Path(place).name: problem for place, problem in records.problems}
    assert sorted(problems) == [*bad, "l.json"]
    for name, (_, problem) in bad.items():
        assert problem in problems[name]


def test_nothing_but_files_below_the_folder_is_read(tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere", "secret.json", record("eve", "secret"))
    folder = tmp_path / "gathered"
    folder.mkdir()
    (folder / "link.json").symlink_to(secret)
    (folder / "folder").symlink_to(secret.parent)
    os.mkfifo(folder / "pipe.json")
    write(folder, "notes.txt", "no record")
    write(folder, ".draft.json", "{")
    write(folder, "1/2/3/4/5/6/7/deep.json", record("ana", "deep"))
    records = gathered(folder)
    assert records.found == []
    assert {Path(place).name: problem for place, problem in records.problems} == {
        "link.json": os.strerror(40),
        "pipe.json": "it is not a file",
    }


def test_too_many_files_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_records, "MAX_FILES", 2)
    for number in range(4):
        write(tmp_path, f"{number}.json", record("ana", f"x{number}"))
    records = gathered(tmp_path)
    assert len(records.found) == 2
    assert records.problems == [(str(tmp_path), "it has more than 2 files; the others are left out")]


def test_the_machine_has_records_of_sudo_and_of_homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "state"))
    accounts = [
        pwd.struct_passwd((name, "x", 1000, 1000, "", home, ""))
        for name, home in (("ben", str(tmp_path / "ben")), ("gone", str(tmp_path / "gone")), ("odd", ""), ("top", "/"))
    ]
    monkeypatch.setattr(pwd, "getpwall", lambda: accounts)
    monkeypatch.delenv("LABCTL_PROGRESS_DIR", raising=False)
    write(tmp_path, "state/.exercises/ana/x.json", record("ana", "x"))
    write(tmp_path, "state/kubenet/definition.json", "{")
    write(tmp_path, "ben/.local/state/labctl/.lessons/ben/y.json", lesson_record("ben", "y"))
    records = ClassRecords()
    records.add_machine()
    assert [(one.learner, one.name) for one in records.found] == [("ana", "x"), ("ben", "y")]
    assert records.problems == []

    write(tmp_path, "kept/.exercises/cho/z.json", record("cho", "z"))
    for variable, learners in (("LABCTL_PROGRESS_DIR", ["cho", "ben"]), ("", ["cho", "ben"])):
        monkeypatch.delenv("LABCTL_STATE_DIR", raising=False)
        monkeypatch.delenv("LABCTL_PROGRESS_DIR", raising=False)
        monkeypatch.setattr(class_records, "KEPT_FOLDER", tmp_path / ("none" if variable else "kept"))
        monkeypatch.setattr("labctl.kernel.host.paths.state_dir", lambda: tmp_path / "empty")
        if variable:
            monkeypatch.setenv(variable, str(tmp_path / "kept"))
        records = ClassRecords()
        records.add_machine()
        assert [one.learner for one in records.found] == learners


# ---- pods ---------------------------------------------------------------------------------------------

KUBECTL = """#!{python}
import json, os, sys, time
folder = {folder!r}
words = sys.argv[1:]
with open(folder + "/calls", "a") as file:
    file.write(json.dumps(words) + "\\n")
assert words[:2] == ["--namespace", "labctl"], words
if words[2] == "get":
    assert words[3:] == ["pods", "--selector", "app.kubernetes.io/name=labctl", "--output", "json"], words
    sys.stdout.write(open(folder + "/pods").read())
    if os.path.exists(folder + "/refused"):
        sys.exit("error: You must be logged in to the server (Unauthorized)")
else:
    assert words[2] == "exec" and words[4:] == ["--", "labctl", "class", "board", "--json"], words
    path = folder + "/" + words[3] + ".json"
    if words[3].endswith("slow"):
        time.sleep(60)
    if words[3].endswith("loud"):
        while True:
            sys.stdout.write("x" * 65536)
    if not os.path.exists(path):
        sys.stderr.write("Defaulted container\\ncommand terminated with exit code 127\\n")
        sys.exit(127)
    sys.stdout.write(open(path).read())
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a kubectl answers as the real one does; the file `pods` is its list of pods."""
    program = write(tmp_path / "bin", "kubectl", KUBECTL.format(python=sys.executable, folder=str(tmp_path)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    return tmp_path


def pods(folder: Path, **phases: str) -> None:
    items = [{"metadata": {"name": name.replace("_", "-")}, "status": {"phase": phase}} for name, phase in
             phases.items()]  # fmt: skip
    write(folder, "pods", {"apiVersion": "v1", "kind": "List", "items": items})


def ask(folder: Path) -> tuple[int, ClassRecords]:
    records = ClassRecords()
    return class_pods.add_pods(records, class_pods.NAMESPACE, class_pods.SELECTOR), records


def test_every_running_pod_is_asked(cluster: Path) -> None:
    names = [f"labctl_{number}" for number in range(25)]
    pods(cluster, **dict.fromkeys(names, "Running"), labctl_25="Pending")
    for name in names:
        pod = name.replace("_", "-")
        write(cluster, f"{pod}.json", {"entries": [entry_document(classes.exercise(pod, "x"))]})
    count, records = ask(cluster)
    assert count == 26
    assert sorted(one.learner for one in records.found) == sorted(name.replace("_", "-") for name in names)
    assert records.problems == [("pod labctl-25", "it is Pending")]


def test_a_pod_that_does_not_answer_well_is_a_problem(cluster: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(class_pods, "TIMEOUT_S", 2.0)
    names = ("good", "old", "text", "list", "bad", "slow", "loud")
    pods(cluster, **dict.fromkeys(names, "Running"))
    write(cluster, "good.json", {"entries": [entry_document(classes.exercise("ana", "x"))]})
    write(cluster, "text.json", "hello")
    write(cluster, "list.json", "[]")
    write(cluster, "bad.json", {"labs": []})
    _, records = ask(cluster)
    assert [one.learner for one in records.found] == ["ana"]
    problems = dict(records.problems)
    assert problems.pop("pod bad").startswith("it is not what labctl class board")
    assert problems == {
        "pod old": "labctl class board --json: command terminated with exit code 127",
        "pod text": "it did not print JSON",
        "pod list": "it did not print a JSON object",
        "pod slow": "it did not answer within 2 s",
        "pod loud": "it printed more than 4 MiB",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [("no", "did not print JSON"), ('{"items": [{}]}', r"something else than pods: items\[0\] has no 'metadata'")],
)
def test_another_answer_of_the_cluster_is_an_error(cluster: Path, text: str, message: str) -> None:
    write(cluster, "pods", text)
    with pytest.raises(KernelError, match=message):
        ask(cluster)


def test_a_cluster_that_refuses_is_an_error(cluster: Path) -> None:
    pods(cluster)
    write(cluster, "refused", "")
    with pytest.raises(KernelError, match="kubectl cannot list the pods: error: You must be logged in"):
        ask(cluster)


def test_without_kubectl_the_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(MissingError, match="no program kubectl"):
        ask(tmp_path)

"""Who learns, in which language, and where it is recorded: learners do not get in each other's way."""

from __future__ import annotations

import json
import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.exercises.progress import to_json
from labctl.kernel.host import lab_state, paths
from labctl.training import learner, progress_records
from tests.support import samples


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "state"))
    for name in ("LABCTL_LEARNER", "SUDO_USER", "USER", "LOGNAME", "LABCTL_PROGRESS_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "state"


def test_the_learner_is_the_user_who_typed_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    assert learner.learner_name() == pwd.getpwuid(os.getuid()).pw_name
    with monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 4_123_456_789)
        assert learner.learner_name() == "user-4123456789", "an account without a name"
    for variable, name in (("USER", "root"), ("SUDO_USER", "ana"), ("LABCTL_LEARNER", "Team 7/../x")):
        monkeypatch.setenv(variable, name)
        assert learner.learner_name() == name.replace(" ", "-").replace("/", "-")


@pytest.mark.parametrize(
    ("text", "name"),
    [("../..", ""), ("a b", "a-b"), (".hidden", "hidden"), ("日本", ""), ("x" * 99, "x" * 32), ("ana.s_1", "ana.s_1")],
)
def test_a_name_can_be_that_of_a_file_and_of_a_lab(text: str, name: str) -> None:
    assert learner.valid_name(text) == name
    assert learner.label(text).replace("-", "").isalnum()


def test_each_learner_has_a_file_for_each_exercise(state: Path) -> None:
    ana = samples.PROGRESS
    ben = replace(ana, learner="ben", checks=3)
    other = replace(ana, exercise="other", started="2026-01-01T00:00:00Z")
    for one in (ana, ben, other):
        progress_records.save(one)

    assert json.loads((state / ".exercises/ana/a-way-out.json").read_text()) == to_json(ana)
    assert progress_records.load("ben", "a-way-out") == ben
    assert progress_records.load("ben", "other") is None
    assert progress_records.load_all("ana") == (other, ana), "in the order in which they were begun"
    assert progress_records.learners() == ("ana", "ben")
    progress_records.remove("ana", "other")
    assert progress_records.load_all("ana") == (ana,)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"learner": "ana"}', "no json"])
def test_a_record_that_cannot_be_read_is_none(state: Path, text: str) -> None:
    (state / ".exercises/ana").mkdir(parents=True)
    (state / ".exercises/ana/x.json").write_text(text)

    assert progress_records.load("ana", "x") is None
    assert progress_records.load_all("ana") == ()


def test_the_records_are_no_lab_and_no_unfinished_work() -> None:
    progress_records.save(samples.PROGRESS)

    assert lab_state.labs_with_files() == ()
    assert not paths.has_unfinished_work()

"""On a machine with several users: which lab a command means, and which labs it may change."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from labctl.cli import _plain_exec, main
from labctl.cli.session import Session
from labctl.errors import UsageError
from labctl.kernel.host import lab_owner, lab_state, paths, user
from labctl.lab import break_fix, lifecycle
from labctl.lab.records import resolve_lab_name
from tests.support.command_line import Run, in_process, pretend_empty_machine

Lab = Callable[..., None]


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lab:
    """A function that pretends that a lab runs, with its owner; ana has typed sudo."""
    machine = pretend_empty_machine(monkeypatch, tmp_path)
    for name in (user.VARIABLE, paths.LAB_VARIABLE, "USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUDO_USER", "ana")

    def make(name: str, owner: str | None, *nodes: str) -> None:
        for node in nodes or ("a",):
            (machine / f"netns/labctl.{name}.{node}").touch()
        if owner is not None:
            lab_owner.record(name, owner)

    return make


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The labs that `down` would have removed."""
    found: list[str] = []
    monkeypatch.setattr(lifecycle, "_remove", lambda name, warn=None: found.append(name) or ("a",))
    return found


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        ({"USER": "root", "SUDO_USER": "ana"}, "ana"),
        ({"SUDO_USER": "ana", "LABCTL_LEARNER": "seat 7"}, "seat-7"),
        ({"LOGNAME": "ben"}, "ben"),
        ({"SUDO_USER": "../.."}, "root"),
        ({}, "root"),
    ],
)
def test_the_user_is_who_typed_the_command(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], name: str
) -> None:
    for variable in (user.VARIABLE, "SUDO_USER", "USER", "LOGNAME"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr("os.getuid", lambda: 0)
    assert user.user_name() == name


def test_a_command_without_a_name_means_the_only_lab_of_the_user(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    lab("kubenet", "ben", "b1")
    assert resolve_lab_name(None) == "kubenet", "the only one of the machine, to look at"
    lab("kubenet-ana", "ana", "a1")
    lab("docker", "cho", "c1")
    assert resolve_lab_name(None) == "kubenet-ana"
    assert paths.command_prefix("kubenet-ana") == "sudo labctl"
    assert paths.command_prefix("kubenet") == "sudo labctl -l kubenet"
    assert _plain_exec(["exec", "a1", "--", "true"]) == ("kubenet-ana", "a1", ["true"])
    assert _plain_exec(["exec", "b1", "--", "true"]) is None
    monkeypatch.setenv("SUDO_USER", "dan")
    with pytest.raises(UsageError, match="several labs run, and none is of dan: docker, kubenet, kubenet-ana"):
        resolve_lab_name(None)
    lab("mine", "dan")
    lab("old", None)
    with pytest.raises(UsageError, match="several labs run: mine, old"):
        resolve_lab_name(None)


def test_the_environment_names_a_lab_as_the_option_does(
    lab: Lab, run: Run, monkeypatch: pytest.MonkeyPatch, gone: list[str]
) -> None:
    for name in ("one", "two"):
        lab(name, "ana", name[0])
    monkeypatch.setenv("LABCTL_LAB", "two")
    assert resolve_lab_name(None) == "two"
    assert resolve_lab_name("one") == "one"
    assert Session(()).chosen_lab == "two"
    assert paths.command_prefix("two") == "sudo labctl"
    assert paths.command_prefix("one") == "sudo labctl -l one"
    assert _plain_exec(["exec", "t", "--", "true"]) == ("two", "t", ["true"])
    assert run("down", "one")[0] == run("down")[0] == 0
    assert gone == ["one", "two"], "the variable adds no lab to those that are named"
    assert json.loads(run("plan", "kubenet", "--json")[1])["lab"] == "two"

    monkeypatch.setenv("LABCTL_LAB", "tow")
    code, _, error = run("status")
    assert (code, error) == (2, "labctl: LABCTL_LAB: no lab 'tow' runs\n    hint: did you mean two?\n")
    monkeypatch.setenv("LABCTL_LAB", "../x")
    for words in (["status"], ["down"], ["exec", "t", "--", "true"], ["up", "kubenet", "--dry-run"], ["explain", "x"]):
        code, _, error = run(*words)
        assert (code, error.splitlines()[0]) == (2, "labctl: LABCTL_LAB='../x' is not the name of a lab")


def test_words_are_completed_for_the_lab_of_the_user(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lab("kubenet", "ben", "b1")
    lab("kubenet-ana", "ana", "a1")

    def completed() -> str:
        for name, value in {
            "_LABCTL_COMPLETE": "bash_complete", "COMP_WORDS": "labctl exec x", "COMP_CWORD": "2",
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("COMP_WORDS", "labctl exec ")
        assert main([]) == 0
        return capsys.readouterr().out

    assert completed() == "plain,a1\n"
    monkeypatch.setenv("LABCTL_LAB", "kubenet")
    assert completed() == "plain,b1\n"


def test_down_removes_only_the_labs_of_the_user(
    lab: Lab, run: Run, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab("bens", "ben")
    code, _, error = run("down")
    assert (code, error.splitlines()[0]) == (2, "labctl: no lab of ana runs")
    assert run("down", "--all")[:2] == (0, "no lab of ana runs: nothing to remove\n")
    code, _, error = run("down", "bens")
    assert (code, error.splitlines()) == (
        2,
        [
            "labctl: lab bens belongs to ben",
            "    hint: labctl list shows all owners; sudo labctl down --force bens removes it all the same",
        ],
    )
    assert gone == []

    for name, owner in (("mine", "ana"), ("mine-too", "ana"), ("old", None)):
        lab(name, owner)
    assert run("down", "--all")[0] == 0
    assert gone == ["mine", "mine-too", "old"]
    assert run("down", "--force", "bens")[0] == 0
    assert gone.pop() == "bens"
    gone.clear()
    assert run("down", "--force", "--all")[0] == 0
    assert gone == ["bens", "mine", "mine-too", "old"]


def test_root_without_sudo_may_change_every_lab(
    lab: Lab, run: Run, gone: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab("anas", "ana")
    lab("bens", "ben")
    monkeypatch.setenv("SUDO_USER", "root")
    assert run("down", "bens")[0] == run("down", "--all")[0] == 0
    assert gone == ["bens", "anas", "bens"]


def test_the_lab_of_another_user_is_neither_built_again_nor_broken_nor_fixed(lab: Lab, run: Run) -> None:
    lab("kubenet", "ben")
    for words in (["--name", "kubenet"], ["--name", "kubenet", "--replace"], ["-l", "kubenet", "--dry-run"]):
        code, _, error = run("up", "kubenet", *words)
        assert (code, error.splitlines()) == (
            2,
            [
                "labctl: lab kubenet belongs to ben",
                "    hint: use another --name, or --force to change it all the same",
            ],
        )
    with pytest.raises(UsageError, match="lab kubenet belongs to ben"):
        break_fix.break_at_random(lifecycle.define("kubenet").compiled, 1)
    with pytest.raises(UsageError, match="lab kubenet belongs to ben"):
        break_fix.fix(lifecycle.define("kubenet").compiled, ())


def test_a_name_that_another_user_has_gets_the_name_of_this_user(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lab_owner.free_name("kubenet") == "kubenet"
    lab("kubenet", "ana")
    assert lab_owner.free_name("kubenet") == "kubenet", "the next `up` repairs it"
    lab("docker", "ben")
    assert lab_owner.free_name("docker") == "docker-ana"
    assert lab_owner.free_name("docker-ana") == "docker-ana"
    lab("gke-ana", "ana")
    assert lab_owner.free_name("gke") == "gke-ana", "it runs, although the other user's lab is gone"
    monkeypatch.setenv("SUDO_USER", "Ana.Maria_" + "x" * 60)
    lab("y" * 63, "ben")
    long = lab_owner.free_name("y" * 63)
    assert len(long) == 63
    assert long.startswith("yyy")
    assert long.endswith("-ana-maria-" + "x" * 22)


def test_owners_are_listed_if_there_are_several(lab: Lab, run: Run) -> None:
    lab("one", "ana")
    assert "owner" not in run("list")[1]
    assert json.loads(run("list", "--json")[1])["labs"][0]["owner"] == "ana"
    lab("two", "ben")
    lab("three", None)
    assert [line.split()[:2] for line in run("list")[1].splitlines()] == [
        ["lab", "owner"],
        ["one", "ana"],
        ["three", "?"],
        ["two", "ben"],
    ]


def test_an_owner_that_cannot_be_read_is_none(lab: Lab, tmp_path: Path) -> None:
    lab("one", None)
    file = lab_state.directory("one") / paths.OWNER_FILE
    file.parent.mkdir()
    (tmp_path / "other").write_text("ben\n")
    file.symlink_to(tmp_path / "other")
    assert paths.owner_of("one") is None, "no link is followed"
    file.unlink()
    for text in ("", "\n", "../..", "\0"):
        file.write_text(text)
        assert paths.owner_of("one") is None
    file.write_bytes(b"\xff" * 200)
    assert paths.owner_of("one") is None
    assert lab_state.labs_with_files() == ("one",), "it is a file of labctl's"


def test_a_lab_that_another_user_removes_meanwhile_is_not_meant(lab: Lab) -> None:
    lab("mine", "ana")
    before = {**paths.labs(), "theirs": ("a",)}
    assert paths.default_lab(before) == "mine", "its owner cannot be read any more"
    lab("old", None)
    assert paths.own_labs([*before, "old"]) == ("mine", "old")

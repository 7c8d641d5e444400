"""labctl class board on the command line."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.classes import record, write
from tests.support.command_line import Run, error, in_process, pretend_empty_machine


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("pwd.getpwall", lambda: [])
    return pretend_empty_machine(monkeypatch, tmp_path)


def test_the_board_of_this_machine_needs_no_root(run: Run, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert run("class", "board")[1].endswith("  0 learners\n")
    write(machine, "state/.exercises/ana/first-cable.json", record("ana", "first-cable"))
    code, out, _ = run("class", "board")
    assert code == 0
    assert "\nana      working  >          2/6     0 min\n" in out


def test_a_board_is_gathered_from_the_boards_of_other_machines(run: Run, machine: Path) -> None:
    for learner in ("ana", "ben"):
        write(machine, f"state/.exercises/{learner}/first-cable.json", record(learner, "first-cable"))
    first = run("class", "board", "--json")[1]
    path = write(machine, "gathered/vm1.json", first)
    bad = write(machine, "gathered/vm2.json", "Connection to 127.0.0.1 closed.")
    other = write(machine, "other.json", record("cho", "first-cable"))
    code, out, err = run("class", "board", "--from", str(path), str(bad), str(other), "--json")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert [one["learner"] for one in document["learners"]] == ["ana", "ben", "cho"]
    assert document["entries"][:2] == json.loads(first)["entries"]
    assert [one["place"] for one in document["problems"]] == [str(bad)]
    code, _, err = run("class", "board", "--from", str(machine / "gathered"))
    assert (code, err.startswith(f"labctl: {bad} is left out: it is not JSON")) == (0, True)


def test_a_page_or_a_table_is_written_to_a_file(run: Run, machine: Path) -> None:
    records = write(machine, "records/x.json", record("ana", "first-cable"))
    page, table = machine / "board.html", machine / "board.txt"
    assert run("class", "board", "--from", str(records), "--as", "html", "-o", str(page)) == (0, "", "")
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert run("class", "board", "--from", str(records), "--as", "html")[1] == page.read_text()
    assert run("class", "board", "--from", str(records), "-o", str(table))[0] == 0
    assert "\nana      working" in table.read_text()


def test_a_watched_board_is_written_until_it_is_interrupted(
    run: Run, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, seen = machine / "board.html", []

    def sleep(seconds: float) -> None:
        seen.append((seconds, "ana" in page.read_text()))
        if len(seen) == 2:
            raise KeyboardInterrupt
        write(machine, "state/.exercises/ana/first-cable.json", record("ana", "first-cable"))

    monkeypatch.setattr(time, "sleep", sleep)
    words = ("class", "board", "--as", "html", "-o", str(page), "--watch", "--interval", "7")
    assert run(*words)[0] == 0
    assert seen == [(7, False), (7, True)]
    assert '<meta http-equiv="refresh" content="7">' in page.read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--as", "html", "--watch"], "--watch writes the page again and again, so it needs a file"),
        (["--interval", "3"], "--interval is for --watch"),
        (["-n", "x"], "-n is for --kubernetes"),
        (["--selector", "x"], "--selector is for --kubernetes"),
        (["--from", "/none/at/all"], "cannot read /none/at/all: No such file or directory"),
        (["-o", "/none/at/all"], "cannot write /none/at/all: there is no directory /none/at"),
        (["--sort", "age"], "board: invalid value for '--sort': 'age' is not one of 'name', 'points', 'state'"),
    ],
)
def test_a_mistake_is_explained(run: Run, words: list[str], message: str) -> None:
    code, _, err = run("class", "board", *words)
    assert (code, err.splitlines()[0]) == (2, f"labctl: {message}")


def test_json_is_one_document(run: Run) -> None:
    for words in (["--watch"], ["-o", "x"], ["--as", "html"]):
        code, out, _ = run("class", "board", "--json", *words)
        assert (code, "one document" in error(out)["message"]) == (2, True)


def test_a_mistyped_verb_is_suggested(run: Run) -> None:
    code, _, err = run("class", "bord")
    assert (code, err.splitlines()[1].strip()) == (2, "hint: did you mean `labctl class board`?")

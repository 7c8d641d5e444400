"""The law of exercises, for each built-in one: unsolved it fails, its solution passes, and nothing gives it away.

Then the verbs in a life of two learners, and random exercises of all levels.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import labctl
from labctl.cli import main
from labctl.core.exercise_types import Exercise
from labctl.errors import UsageError
from labctl.exercises.observed_state import without_free_fields
from labctl.exercises.random_fault import SCENARIOS
from labctl.faults.catalogue import applicable
from labctl.kernel.host import lab_state, paths
from labctl.lab import break_fix, exercise_record, fault_records, lifecycle
from labctl.lab.records import load_definition
from labctl.scenario.catalog import exercise_files
from labctl.training import progress_records, session
from tests.support import forked

FILES = exercise_files()
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def learner(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("LABCTL_LEARNER", "ana")
    monkeypatch.setenv("LANG", "C.UTF-8")
    yield "ana"
    for running in exercise_record.load_all():
        labctl.down(running.lab, force=True)
    for name in progress_records.learners():
        for one in progress_records.load_all(name):
            progress_records.remove(name, one.exercise)
    assert paths.labs() == {}


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(words)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


def no_step(_: str) -> None:
    pass


def begin(name: str) -> session.ExerciseRun:
    started, is_new = session.start(*session.find_definition(name), None, "en", no_step)
    assert is_new
    return started


def secrets(exercise: Exercise, lab: str) -> set[str]:
    """What must not be shown: faults, solutions of more than a name, and the explanation."""
    definition = load_definition(lab)
    assert definition is not None
    found = {fault.kind for fault in definition.compiled.faults}
    for task in exercise.tasks:
        found |= {line.strip() for step in task.steps for line in step.for_lab(lab).splitlines()}
    found |= {line for line in exercise.explain.splitlines() if line}
    return found


READERS = (
    ["status"], ["status", "--json"], ["list"], ["list", "--json"], ["graph"], ["graph", "--json"], ["show"],
    ["show", "--json"], ["exercise"], ["exercise", "--json"], ["exercise", "list"], ["exercise", "list", "--json"],
    ["exercise", "check", "--json"], ["fix", "--show"], ["fix", "--show", "--json"], ["fix"], ["break", "--list"],
    ["break", "--random", "--json"], ["exercise", "start"],
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_unsolved_it_fails_its_solution_passes_and_nothing_gives_it_away(name: str, run: Run) -> None:
    before = begin(name)
    exercise, lab = before.exercise, before.lab.name
    hidden = secrets(exercise, lab)
    assert hidden

    assert run("status")[0] == 0, "the start of the lab is its definition"
    for words in READERS:
        arguments = [*words, name] if words[-1] == "start" else [*words]
        _, out, err = run(*arguments)
        leaked = {secret for secret in hidden if secret in out or secret in err}
        assert not leaked, (words, leaked)
    for file in lab_state.directory(lab).iterdir():
        if file.suffix == ".json":
            assert not [secret for secret in hidden if secret in file.read_text()], file

    for number, task in enumerate(exercise.tasks):
        if not task.takes_answer:
            found = session.judge(before.lab, number, None, no_step)
            assert found.state == "failed", f"task {number + 1} passes without any work"
            assert found.seen, "it says what was seen"
            assert not [secret for secret in hidden if secret in " ".join(found.seen)]
    assert lifecycle.status(lab, before.lab) == (), "judging changes nothing"

    code, out, err = run("exercise", "solve")
    assert code == 0, out + err
    done = progress_records.load("ana", name)
    assert done is not None
    assert done.is_finished
    assert {task.state for task in done.tasks} == {"solved"}
    assert done.points == 0
    assert not fault_records.active(lab)
    assert run("status")[0] == 0, "the first law holds again, with what the learner has made"
    assert lifecycle.up(load_definition(lab)).changes == ()  # type: ignore[arg-type]
    assert run("exercise", "check")[0] == 0
    assert run("fix", "--show")[0] == 0, "a finished exercise hides nothing any more"


@pytest.mark.parametrize("kind", ["predict", "locate", "compare"])
def test_a_wrong_answer_does_not_pass(kind: str) -> None:
    """One question of each kind: the answer is another machine, place or scenario."""
    wrong = {"predict": "b", "locate": "a/eth0", "compare": "calico"}[kind]
    started = begin({"predict": "route-table", "locate": "route-table", "compare": "bridge-or-routes"}[kind])
    number = next(at for at, task in enumerate(started.exercise.tasks) if task.kind == kind)
    found = session.judge(started.lab, number, wrong, no_step)

    assert found.state == ("missed" if kind == "predict" else "failed")
    assert found.seen


def test_when_all_are_finished_next_has_a_document(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "next_name", lambda _: None)

    code, out, _ = run("exercise", "next", "--json")
    assert code == 0
    assert json.loads(out)["learner"] == "ana"
    assert run("exercise", "next")[1] == "you have finished all exercises; --random makes new ones\n"


def test_a_learner_works_through_an_exercise(run: Run) -> None:
    code, out, _ = run("exercise", "start", "first-cable")
    assert code == 0
    assert "1. Make a veth pair" in out
    assert "hint:" in out

    code, out, _ = run("exercise", "check")
    assert (code, "NOT YET 1." in out) == (1, True)
    assert "host lacks a link; its links: none" in out

    host = labctl.RunningLab("first-cable")["host"]
    assert host.run("ip link add veth-c1 type veth peer name eth0 netns labctl.first-cable.c1").ok
    code, out, _ = run("exercise", "check")
    assert (code, "host: link veth-c1: it is down" in out) == (1, True)
    assert host.run("ip link set veth-c1 up; ip -n labctl.first-cable.c1 link set eth0 up").ok
    code, out, _ = run("exercise", "check")
    assert (code, "PASS 1." in out, "NOT YET 2." in out) == (1, True, True)
    assert "10.0.0.2" not in out.split("PASS 1.")[1].split("\n", 2)[2].split("check:")[0].replace("10.0.0.2/24. ", "")

    code, out, err = run("exercise", "check", "4")
    assert (code, "task 4 comes after task 2" in err) == (2, True)
    code, out, err = run("exercise", "check", "2", "an answer")
    assert (code, "task 2 is not a question" in err) == (2, True)
    code, out, _ = run("exercise", "hint", "--json")
    assert json.loads(out)["number"] == 1

    assert host.run("ip addr add 10.0.0.1/24 dev veth-c1").ok
    assert labctl.RunningLab("first-cable")["c1"].run("ip addr add 10.0.0.2/24 dev eth0").ok
    code, out, _ = run("exercise", "check")
    assert (code, "PASS 2." in out, "answer: " in out) == (0, True, True)
    code, out, err = run("exercise", "check", "3")
    assert (code, "task 3 is a question" in err) == (2, True)
    code, out, err = run("exercise", "check", "3", "answerd")
    assert (code, "did you mean answered?" in err) == (2, True)
    code, out, _ = run("exercise", "check", "3", "answered")
    assert (code, "MISSED 3." in out, "measured: " in out) == (1, True, True)
    code, out, err = run("exercise", "check", "3", "lost")
    assert (code, "task 3 is closed" in err) == (2, True)

    assert labctl.RunningLab("first-cable")["c1"].run("ip route add default via 10.0.0.1").ok
    code, out, _ = run("exercise", "check", "--json")
    document = json.loads(out)
    assert (code, document["finished"]) == (0, True)
    assert document["explain"]
    assert document["progress"]["points"] == 3 + 2 + 0 + 2 - 1
    assert document["progress"]["hints"] == 1

    code, out, _ = run("exercise", "next")
    assert (code, "first-cable" in paths.labs()) == (0, False)
    assert exercise_record.load_all()[0].name == list(FILES)[1]


def test_a_repair_by_a_learner_is_not_undone(run: Run) -> None:
    started = begin("pods-without-internet")
    lab = started.lab.name
    assert run("exercise", "check", "1", "a")[0] == 0
    node1 = labctl.RunningLab(lab)["node1"]
    assert node1.run("iptables -t nat -A POSTROUTING -s 10.244.0.0/24 -o eth0 -j MASQUERADE").ok
    code, out, _ = run("exercise", "check")
    assert code == 1
    assert "the lab is not as it should be" in out or "the check does not pass" in out
    assert node1.run("iptables -t nat -D POSTROUTING -s 10.244.0.0/24 -o eth0 -j MASQUERADE").ok

    assert node1.run("iptables -t nat -A IP-MASQ-AGENT -j MASQUERADE").ok, "without the comment of the original"
    assert run("exercise", "check")[0] == 0
    assert fault_records.active(lab) == ()
    lifecycle.up(load_definition(lab))  # type: ignore[arg-type]
    assert labctl.RunningLab(lab).check("outside the cluster").verdict == "pass"


def test_two_learners_have_two_labs_and_two_records(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("exercise", "start", "first-cable")[0] == 0
    monkeypatch.setenv("LABCTL_LEARNER", "Ben B.")
    code, out, _ = run("exercise", "start", "first-cable")
    assert (code, "lab first-cable-ben-b" in out) == (0, True)
    assert {*paths.labs()} == {"first-cable", "first-cable-ben-b"}
    run("exercise", "hint")
    assert run("exercise", "solve")[0] == 0

    ana, ben = (progress_records.load(name, "first-cable") for name in ("ana", "Ben-B"))
    assert ana is not None
    assert ben is not None
    assert (ana.hints, ana.is_finished, ben.hints, ben.is_finished) == (0, False, 1, True)
    code, out, _ = run("exercise", "list", "--learners")
    assert re.search(r"ana +first-cable +0 of 8 +begun", out)
    assert re.search(r"Ben-B +first-cable +0 of 8 +done", out)
    assert {one["learner"] for one in json.loads(run("exercise", "list", "--learners", "--json")[1])["progress"]} == {
        "ana", "Ben-B",
    }  # fmt: skip


def test_reset_builds_the_start_again_and_forget_begins_again(run: Run) -> None:
    begin("first-cable")
    assert run("exercise", "solve", "1")[0] == 0
    assert run("status")[0] == 0, "the cable belongs to the lab now"
    assert run("exec", "host", "--", "ip", "link", "del", "veth-c1")[0] == 0
    assert run("status")[0] == 1
    assert run("exercise", "reset")[0] == 0
    assert run("status")[0] == 0
    assert run("exec", "host", "--", "ip", "link", "show", "veth-c1")[0] == 1, "the start has no cable"
    kept = progress_records.load("ana", "first-cable")
    assert kept is not None
    assert (kept.tasks[0].state, kept.resets) == ("solved", 1)
    assert run("exercise", "reset", "--forget")[0] == 0
    again = progress_records.load("ana", "first-cable")
    assert again is not None
    assert ([task.state for task in again.tasks], again.resets) == (["open"] * 4, 0)


def test_a_shown_solution_is_worth_nothing(run: Run) -> None:
    begin("first-cable")
    code, out, _ = run("exercise", "solve", "1", "--show")
    assert (code, "ip link add veth-c1 type veth" in out) == (0, True)
    assert "$LAB" not in out
    host = labctl.RunningLab("first-cable")["host"]
    assert host.run("\n".join(line.split("host: ")[1] for line in out.splitlines() if "host: " in line)).ok
    code, out, _ = run("exercise", "check", "1")
    assert (code, "(0 of 3 points)" in out) == (0, True)


def completions(*words: str) -> str:
    line = ("labctl", *words)
    environ = {**os.environ, "_LABCTL_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(line)}
    environ["COMP_CWORD"] = str(len(line) - 1)
    return subprocess.run(
        [forked.labctl_program()], env=environ, capture_output=True, text=True, timeout=60, check=False
    ).stdout


def test_completion_knows_no_more_than_in_a_lab_without_the_fault(run: Run) -> None:
    asked = (
        ["fix", ""], ["fix", "udr-missing", ""], ["break", "udr-missing", ""], ["trace", ""], ["exercise", "check", ""],
        ["exercise", "start", ""], ["show", ""], ["capture", "fabric/"],
    )  # fmt: skip
    begin("route-table")
    shown = [completions(*words) for words in asked]
    labctl.down("route-table")
    nodes = {"node1": {"pods": ["a", "b"]}, "node2": {"pods": ["c"]}}
    labctl.up({"name": "route-table", "model": "kubenet", "nodes": nodes})
    try:
        assert shown == [completions(*words) for words in asked]
    finally:
        labctl.down("route-table")
    assert "fabric/10.244.1.0/24@100" in shown[1], "the route is offered, as every other one"
    assert "first-cable" in shown[5]


def test_a_finished_exercise_says_how_to_begin_again(run: Run) -> None:
    begin("first-cable")
    assert run("exercise", "solve")[0] == 0
    labctl.down("first-cable")
    code, out, _ = run("exercise", "start", "first-cable")
    assert (code, "exercise reset --forget" in out) == (0, True)
    assert run("exercise", "reset", "--forget")[0] == 0
    assert run("exercise", "check")[0] == 1


QUIET = ["arp-ignore: node2/cbr0", "drop-tcp-port: node2/filter/FORWARD", "mtu-router: node2/eth0"]
UNNOTICED = """
name: quiet
model: kubenet
nodes: {node1: {pods: [a]}, node2: {pods: [b]}}
break: [FAULT]
checks: [{ping: a -> node1}]
exercise:
  title: Quiet
  text: Find it.
  tasks: [{say: Repair it., fix: lab, solve: []}]
"""


@pytest.mark.parametrize("fault", QUIET)
def test_a_fault_that_no_check_notices_is_not_passed(fault: str, tmp_path: Path, run: Run) -> None:
    """Also one of a setting that is not in the plan."""
    (tmp_path / "quiet.yaml").write_text(UNNOTICED.replace("FAULT", fault))
    started = begin(f"{tmp_path}/quiet.yaml")
    lab = started.lab
    quiet = [replace(check, within=1.0) for check in lab.checks if check.probe == "ping" and check.target == "node1"]
    lab = replace(lab, checks=tuple(quiet))
    assert labctl.RunningLab(lab.name, definition=lab).check().verdict == "pass"

    assert session.judge(lab, 0, None, no_step).state == "failed"
    assert run("exercise", "solve")[0] == 0
    assert run("status")[0] == 0


def test_every_kind_of_fault_is_a_difference_and_its_repair_is_none() -> None:
    """What a repair is judged by: a fault of which nothing is seen would pass without any work."""
    lab = labctl.up("kubenet", name="kinds").compiled
    unseen, left = [], []
    try:
        for kind, faults in applicable(lab):
            if faults[0].changes:
                record = break_fix.break_lab(lab, faults[0], hidden=True)
                found = lifecycle.differences_from_plan(lab, lab.plan)[0]
                unseen += [] if without_free_fields(found) else [kind.name]
                break_fix.fix(lab, [record])
                found = lifecycle.differences_from_plan(lab, lab.plan)[0]
                left += [(kind.name, found)] if found else []
        assert unseen == []
        assert left == []
    finally:
        labctl.down("kinds")


def test_no_fault_is_added_or_undone_by_a_program_either() -> None:
    lab = labctl.RunningLab(begin("route-table").lab.name)

    with pytest.raises(UsageError, match="would give its answer away"), lab.fault("forwarding-off"):
        pytest.fail("it was broken")
    with pytest.raises(UsageError, match="would give its answer away"):
        break_fix.fix(lab.compiled, fault_records.active(lab.name))


def test_an_exercise_that_runs_is_left_as_it_is(run: Run) -> None:
    begin("first-cable")
    labctl.RunningLab("first-cable")["host"].run("ip link add mine type veth peer name mine2")
    code, out, _ = run("exercise", "start", "first-cable")
    assert (code, "runs already" in out) == (0, True)
    assert run("status")[0] == 1


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["exercise"], 2, "no exercise of ana runs"),
        (["exercise", "check"], 2, "no exercise of ana runs"),
        (["exercise", "chek"], 2, "did you mean `labctl exercise check`?"),
        (["exercise", "start"], 2, "no exercise is named"),
        (["exercise", "start", "first-cabel"], 2, "did you mean first-cable?"),
        (["exercise", "start", "x", "--seed", "1"], 2, "--seed is for --random"),
        (["exercise", "start", "--random", "kubent"], 2, "did you mean kubenet?"),
        (["exercise", "start", "scenarios/kubenet.yaml"], 2, "has no section 'exercise'"),
        (["exercise", "start", "--random", "kubenet", "--level", "9"], 2, "not a whole number from 1 to 3"),
        (["-l", "nothing", "exercise", "check"], 2, "no exercise runs in a lab nothing"),
    ],
)
def test_a_mistake_is_explained(
    words: list[str], code: int, message: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(labctl.__file__).resolve().parents[1])
    found = run(*words)

    assert found[0] == code
    assert message in found[2].replace("\n    ", " ")


def test_another_lab_of_the_name_is_left_alone(run: Run) -> None:
    labctl.up("{name: first-cable, model: raw, namespaces: [x]}\n")
    try:
        code, out, _ = run("exercise", "start", "first-cable")
        assert (code, "lab first-cable-ana" in out) == (0, True)
        code, _, err = run("exercise", "start", "first-cable", "--name", "first-cable")
        assert (code, "is not this exercise" in err) == (2, True)
        assert labctl.RunningLab("first-cable").nodes == ("x",)
    finally:
        labctl.down("first-cable")


@pytest.mark.parametrize(("number", "scenario"), [*enumerate(SCENARIOS)])
def test_a_random_exercise_obeys_the_law(number: int, scenario: str, run: Run) -> None:
    words = ("--level", str(number % 3 + 1), "--seed", str(number))
    code, out, err = run("exercise", "start", "--random", scenario, *words)
    assert code == 0, err
    (running,) = exercise_record.load_all()
    lab = running.lab
    definition = load_definition(lab)
    assert definition is not None
    (fault,) = definition.compiled.faults
    for words in READERS[:-1]:
        _, shown, err = run(*words)
        assert fault.kind not in shown + err, words
    assert not [file for file in lab_state.directory(lab).glob("*.json") if fault.kind in file.read_text()]
    assert fault.kind not in out
    with pytest.raises(UsageError, match="already"):
        session.start("another", definition, lab, "en", no_step)

    found = session.judge(definition.compiled, 1, None, no_step)
    assert found.state == "failed"
    code, out, err = run("exercise", "solve")
    assert code == 0, out + err
    assert fault.kind in out, "the end names it"
    assert run("status")[0] == 0
    assert lab_state.directory(lab).exists()

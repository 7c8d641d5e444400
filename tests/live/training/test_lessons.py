"""Every lesson, played in both languages: all is as it says, and the three laws hold after it. Then the verb, in the
life of its learners: at a terminal, in a pipe, in two terminals, with a lab or a file that is another one meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import labctl
from labctl.cli import main
from labctl.core.lesson_types import LessonStep
from labctl.kernel.host import paths
from labctl.lab import learner_lab, lifecycle
from labctl.lessons.outcome import StepOutcome
from labctl.scenario.catalog import lesson_files
from labctl.scenario.definition import define
from labctl.training import lesson_session, lesson_steps
from tests.support import forked
from tests.support.paths import ROOT
from tests.support.typist import Typist, at_a_terminal

FILE = ROOT / "tests/data/lessons/two-ends.yaml"
FILES = {**lesson_files(), "two-ends": str(FILE)}
LANGUAGES = {"en": "C.UTF-8", "ja": "ja_JP.UTF-8"}
Run = Callable[..., tuple[int, str, str]]
ENTER = "\n"


@pytest.fixture(autouse=True)
def learner(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("LABCTL_LEARNER", "ana")
    monkeypatch.setenv("LANG", "C.UTF-8")
    # the verbs of steps, of lessons that are played in this process
    monkeypatch.setattr(lesson_steps, "sys", SimpleNamespace(executable=forked.python_program()))
    yield "ana"
    for running in learner_lab.LESSON.load_all():
        labctl.down(running.lab, force=True)
    for name in lesson_session.FILES.learners():
        for lesson in lesson_session.progress_of(name):
            lesson_session.FILES.remove(name, lesson)
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


@pytest.mark.parametrize("name", FILES)
def test_all_is_as_the_lesson_says_in_both_languages(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lesson_session.build(define(FILES[name]), no_step)
    lesson = lab.lesson
    assert lesson is not None
    steps: list[LessonStep] = []

    def begun(number: int, step: LessonStep) -> None:
        steps.append(step)

    def ended(step: LessonStep, outcome: StepOutcome) -> None:
        assert outcome.number == len(outcomes)
        outcomes.append(outcome)

    try:
        for language, locale in LANGUAGES.items():
            monkeypatch.setenv("LANG", locale)
            outcomes: list[StepOutcome] = []
            if lab.faults and language != "en":  # the lesson has repaired what was broken from the start
                labctl.up(FILES[name], name=lab.name, replace=True)
            problems = lesson_session.play(lab, language, no_step, {"LABCTL_LANG": language}, begun, ended)
            assert not problems, "\n".join(f"{one}: {outcomes}" for one in problems)
            assert steps[-len(outcomes) :] == list(lesson.in_language(language).steps)
        assert labctl.check(lab.name).verdict == "pass"
        assert lifecycle.status(lab.name, lab) == ()
        assert labctl.up(FILES[name], name=lab.name).result.changes == ()
    finally:
        labctl.down(lab.name)
    assert lab.name not in paths.labs()


def wrong_lesson(folder: Path) -> str:
    text = FILE.read_text()
    for old, new in (
        ("shows: [eth0, 10.0.0.2/24]", "shows: [eth0, 10.0.0.3/24]"),
        ("solve: answered", "solve: lost"),
        ("exits: 2", "exits: 1"),
        ("see: {at: host/veth1, src: c1, dst: host, ttl: 64}", "see: {at: host/veth1, src: c1, dst: host, ttl: 63}"),
        ("    - labctl: fix\n", "    - labctl: fix --show\n"),
    ):
        assert old in text
        text = text.replace(old, new, 1)
    file = folder / "wrong.yaml"
    file.write_text(text.replace("name: two-ends", "name: wrong"))
    return str(file)


def test_a_lesson_that_is_wrong_fails_and_each_place_is_named(run: Run, tmp_path: Path) -> None:
    code, out, _ = run("learn", wrong_lesson(tmp_path), "--play")

    assert code == 1
    last = out.split("-- step 9 of 9")[1]
    for problem in (
        "step 2: the output does not show '10.0.0.3/24'",
        "step 4: the lesson says 'lost', and something else was measured",
        "step 7: the exit code is 2, not 1",
        "step 9: the check is the evidence, and it does not pass: ",
        "at the end, the lab differs from its definition in ",
    ):
        assert f"not as the lesson says: {problem}" in last
    assert paths.labs() == {}
    code, out, _ = run("learn", wrong_lesson(tmp_path), "--play", "--json", "--keep")
    assert (code, len(json.loads(out)["problems"])) == (1, 5)
    assert [*paths.labs()] == ["wrong"]
    labctl.down("wrong")


def test_playing_says_so_and_changes_no_progress(run: Run) -> None:
    code, out, _ = run("learn", str(FILE), "--play")

    assert code == 0, out
    assert "labctl plays this lesson, with its own answers" in out
    assert "answer: lost" in out
    assert out.splitlines()[-1].startswith("played 9 steps in ")
    assert lesson_session.progress_of("ana") == {}
    assert paths.labs() == {}


def document(run: Run, *words: str) -> dict[str, object]:
    found: dict[str, object] = json.loads(run("learn", *words, "--json")[1])
    return found


def test_in_a_pipe_one_command_is_one_step(run: Run) -> None:
    code, out, _ = run("learn", str(FILE))
    assert code == 0
    assert "-- step 1 of 9" in out
    assert f"next: labctl learn {FILE} --next" in out
    assert run("learn", "--step")[1] == out, "it is still there"
    for number, shown in ((2, "labctl exec c1 -- ip -br addr"), (3, "10.0.0.2/24"), (4, "request")):
        code, out, _ = run("learn", "--next")
        assert (code, f"-- step {number} of 9" in out) == (0, True), out
        assert shown in out
    assert f"answer: labctl learn {FILE} --answer ANSWER" in out

    code, _, err = run("learn", "--next")
    assert (code, "step 4 is a question" in err) == (2, True)
    code, _, err = run("learn", "--answer", "los")
    assert (code, "did you mean lost?" in err) == (2, True)
    code, out, _ = run("learn", "--answer", "lost")
    assert (code, "NOT SO  measured: a ping from c1 to host: answered" in out) == (1, True)
    code, _, err = run("learn", "--answer", "lost")
    assert (code, "the current step is not a question" in err) == (2, True)

    assert run("learn", "--next")[0] == 0  # break
    code, out, _ = run("learn", "--answer", "lost", "--lang", "ja")
    assert (code, "正解" in out) == (0, True)
    for _ in range(3):
        code, out, _ = run("learn", "--next")
        assert code == 0, out
    assert "1 of 2 predictions were right" in out
    assert "labctl exercise start first-cable" in out
    code, out, _ = run("learn", "--next", "--json")
    assert (code, "--restart begins again" in out) == (2, True)
    assert labctl.RunningLab("two-ends")["c1"].run("ip link set eth0 mtu 1400").ok
    assert "-- step 1 of 9" in run("learn", str(FILE))[1], "a lesson can be done again"
    assert run("status")[0] == 0, "in a new lab"
    assert lesson_session.progress_of("ana")["two-ends"].finished


def test_documents_have_the_step_and_what_happened(run: Run) -> None:
    first = document(run, str(FILE), "--lang", "ja")
    assert (first["title"], first["outcome"]) == ("二つの端", None)
    said = {"say": "マシンが二つあるラボができました。", "commands": [], "claim": None, "answer": None}
    assert first["step"] == {"number": 1, "kind": "text", **said}
    document(run, "--next")
    second = document(run, "--next")
    outcome = second["outcome"]
    assert isinstance(outcome, dict)
    assert (outcome["exit_code"], outcome["problems"], "10.0.0.2/24" in outcome["output"]) == (0, [], True)
    progress = second["progress"]
    assert isinstance(progress, dict)
    assert (progress["step"], progress["steps"], progress["finished"]) == (3, 9, None)
    listed = json.loads(run("learn", "--json")[1])
    assert [one["lesson"] for one in listed["progress"]] == ["two-ends"]
    assert [one["name"] for one in listed["lessons"]] == list(lesson_files())


def test_two_learners_have_two_labs(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("learn", str(FILE))
    monkeypatch.setenv("LABCTL_LEARNER", "Ben")
    run("learn", str(FILE), "--next")
    run("learn", "--next")

    assert sorted(paths.labs()) == ["two-ends", "two-ends-ben"]
    assert [lesson_session.progress_of(who)["two-ends"].at for who in ("ana", "Ben")] == [0, 2]


def test_a_lab_that_was_removed_is_built_again_as_it_was_at_that_step(run: Run) -> None:
    run("learn", str(FILE), "--next")
    for words in (["--next"], ["--next"], ["--answer", "answered"], ["--next"]):  # up to the one after `break`
        run("learn", *words)
    labctl.down("two-ends")
    code, _, err = run("learn", "--next")
    assert (code, "no lesson of ana runs" in err) == (2, True)

    code, out, _ = run("learn", str(FILE))
    assert (code, "the lab was built again; the commands before step 6 ran again" in out) == (0, True)
    assert lifecycle.status("two-ends", define(str(FILE)).compiled), "it is broken again"
    assert run("learn", "--answer", "lost")[0] == 0

    code, out, _ = run("learn", str(FILE), "--restart")
    assert (code, "-- step 1 of 9" in out) == (0, True)
    assert lifecycle.status("two-ends", define(str(FILE)).compiled) == ()


def test_a_file_that_has_changed_is_seen(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "lesson.yaml"
    file.write_text(FILE.read_text())
    run("learn", str(file), "--next")
    run("learn", "--next")
    file.write_text(FILE.read_text().replace("labctl: trace c1 host", "labctl: trace host c1"))

    code, out, _ = run("learn", str(file))
    assert (code, f"the file of {file} has changed; --restart begins with the new one" in out) == (0, True)
    assert "labctl trace c1 host" in out, "the lesson of the lab that runs"
    labctl.down("two-ends")
    out = run("learn", str(file))[1]
    assert "-- step 1 of 9" in out, "other steps begin again"


def test_another_lab_with_the_name_is_left_alone(run: Run) -> None:
    run("learn", str(FILE))
    labctl.up(str(ROOT / "scenarios/docker-bridge.yaml"), name="two-ends", replace=True)

    try:
        code, _, err = run("learn", "--next")
        assert (code, "no lesson of ana runs" in err) == (2, True)
        assert run("learn", str(FILE))[0] == 0
        assert sorted(paths.labs()) == ["two-ends", "two-ends-ana"]
    finally:
        labctl.down("two-ends")


def test_options_that_do_not_go_together_are_refused(run: Run) -> None:
    for words, text in (
        (["x", "--step", "--next"], "--step and --next cannot be used together"),
        (["--play"], "--play needs the name of a lesson"),
        (["x", "--keep"], "--keep is for --play"),
        (["first-cable"], "first-cable is an exercise"),
        (["--answer", "x"], "no lesson of ana runs"),
        ([str(ROOT / "scenarios/kubenet.yaml")], "has no section 'lesson'"),
    ):
        code, _, err = run("learn", *words)
        assert (code, text in err) == (2, True), err


def begin(person: Typist) -> None:
    person.wait_for("Enter begins, q leaves:")
    person.type(ENTER)
    person.wait_for("step 1 of 9")


def test_at_a_terminal_enter_goes_through_the_lesson() -> None:
    with at_a_terminal("learn", str(FILE)) as person:
        begin(person)
        person.type(ENTER)
        person.wait_for("Enter runs it, n goes on without it")
        person.type("ip a" + ENTER)
        person.wait_for("to type a command, use another terminal")
        person.type(ENTER)
        person.wait_for("It has an address.")
        person.wait_for("step 3 of 9")
        person.type("b" + ENTER)
        person.wait_for("step 2 of 9", 2)
        person.type("n" + ENTER)
        person.wait_for("step 3 of 9", 2)
        person.type(ENTER)
        person.wait_for("your answer (or back, quit):")
        person.type(ENTER)
        person.wait_for("possible answers: answered or refused")
        person.type("anserwed" + ENTER)
        person.wait_for("did you mean answered?")
        person.type("answered" + ENTER)
        assert "RIGHT" in person.wait_for("step 5 of 9")
        person.type(ENTER)
        person.wait_for("step 6 of 9")
        person.type("lost" + ENTER)
        person.wait_for("step 7 of 9")
        person.type(ENTER)
        person.wait_for("step 8 of 9")
        person.type(ENTER)
        person.wait_for("true or not? Enter proves it")
        person.type(ENTER)
        person.wait_for("exercise start first-cable")
        assert person.end() == 0
        assert "2 of 2 predictions were right" in person.shown
        assert "Traceback" not in person.shown
    assert lesson_session.progress_of("ana")["two-ends"].finished


@pytest.mark.parametrize(("typed", "code"), [("q\n", 0), ("\x04", 0), ("\x03", 130)], ids=["q", "end of input", "^C"])
def test_who_leaves_goes_on_there(typed: str, code: int) -> None:
    with at_a_terminal("learn", str(FILE)) as person:
        begin(person)
        person.type(ENTER)
        person.wait_for("Enter runs it")
        person.type(typed)
        assert person.end() == code
        assert "the lab stays; " in person.shown
        assert "goes on at step 2" in " ".join(person.shown.split())
        assert "Traceback" not in person.shown
    with at_a_terminal("learn", str(FILE)) as person:
        person.wait_for("step 2 of 9")
        person.type("q\n")
        assert person.end() == 0


def test_a_second_terminal_is_kept_out_of_the_lesson_and_not_of_the_lab(run: Run) -> None:
    with at_a_terminal("learn", str(FILE)) as person:
        begin(person)
        code, _, err = run("learn", str(FILE), "--next")
        assert (code, "the lesson two-ends is open in another terminal" in err) == (2, True)
        assert run("learn", "--step")[0] == 2
        assert run("exec", "c1", "--", "true")[0] == 0
        person.type("q\n")
        assert person.end() == 0
    assert run("learn", str(FILE), "--next")[0] == 0


def test_a_lab_that_is_removed_meanwhile_ends_the_lesson(run: Run) -> None:
    with at_a_terminal("learn", str(FILE)) as person:
        begin(person)
        labctl.down("two-ends")
        person.type(ENTER)
        assert person.end() == 2
        assert "the lab two-ends of this lesson is gone" in person.shown
        assert "Traceback" not in person.shown

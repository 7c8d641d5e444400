"""The pure part of lessons: the session from step to step, what a step says, and what is not as the lesson says."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from labctl.core.judgement import Judgement
from labctl.core.lesson_types import LessonStep, ReadText, RunCommand, RunVerb
from labctl.core.record_shape import shape_problem
from labctl.errors import UsageError
from labctl.lessons import progress as progresses
from labctl.lessons.outcome import StepOutcome, answer_problems, claim_problems, command_problems
from labctl.lessons.session import LessonSession
from labctl.lessons.steps import changes_lab, minutes, typed_commands
from tests.support import samples

NOW = "2026-11-30T12:05:00Z"
QUESTION = 3  # the step of the sample that is a question
SESSION = samples.LESSON_SESSION


def at(number: int) -> LessonSession:
    return replace(SESSION, progress=progresses.moved(SESSION.progress, number, NOW))


def judged(state: str, answer: str = "lost") -> StepOutcome:
    return StepOutcome(QUESTION, answer=answer, judgement=Judgement(state, ("measured",)))  # type: ignore[arg-type]


def test_a_session_goes_on_with_what_happened_and_ends_after_the_last_step() -> None:
    session = SESSION
    for number in range(len(session.lesson.steps)):
        assert session.number == number
        outcome = judged("passed", "answered") if number == QUESTION else StepOutcome(number)
        session = session.after(outcome, NOW)

    assert session.step is None
    assert session.progress.finished == NOW
    assert session.progress.predictions == (1, 1)
    assert all(step.done for step in session.progress.steps)


def test_a_question_waits_for_its_answer() -> None:
    session = at(QUESTION)

    assert session.waits_for_answer
    with pytest.raises(UsageError, match="step 4 is a question"):
        session.skipped(NOW)
    assert session.after(judged("unclear"), NOW) == session, "nothing was measured"
    after = session.after(judged("missed"), NOW)
    assert (after.number, after.progress.steps[QUESTION].right) == (QUESTION + 1, False)


def test_only_the_first_answer_counts() -> None:
    session = at(QUESTION).after(judged("missed"), NOW).back(NOW)

    assert not session.waits_for_answer
    assert session.skipped(NOW).number == QUESTION + 1
    again = session.after(judged("passed", "answered"), NOW)
    assert again.progress.steps[QUESTION] == progresses.StepProgress(True, "lost", False)


def test_back_and_forth_stay_inside_the_lesson() -> None:
    assert SESSION.back(NOW) == SESSION
    assert at(2).back(NOW).number == 1
    assert at(1).skipped(NOW).number == 2
    end = at(99)
    assert (end.number, end.step) == (len(end.lesson.steps), None)
    assert end.back(NOW).progress.finished == NOW, "a lesson that was finished stays so"


def test_a_lesson_that_is_opened_again_goes_on() -> None:
    fresh = replace(SESSION.progress, lab="other", started="later")

    assert progresses.continued(None, fresh) == fresh
    old = at(2).progress
    assert progresses.continued(old, fresh) == replace(old, lab="other")
    finished = at(99).progress
    assert progresses.continued(finished, fresh) == replace(finished, lab="other")
    again = progresses.moved(finished, 0, "later")
    assert (again.at, again.finished) == (0, NOW)


def test_other_steps_begin_again_and_other_texts_do_not() -> None:
    old = at(2).progress
    steps = samples.LESSON.steps
    texts = replace(samples.LESSON, steps=(replace(steps[0], say="Other words."), *steps[1:]))
    command = replace(samples.LESSON, steps=(*steps[:2], LessonStep(RunVerb(("status",))), *steps[3:]))
    for lesson, number in ((texts, 2), (command, 0)):
        fresh = progresses.begun(lesson, "one", "ana", "one", NOW)
        assert progresses.continued(old, fresh).at == number
    assert progresses.continued(replace(old, at=-1), SESSION.progress).at == 0


def test_a_progress_is_a_document_and_back() -> None:
    progress = at(QUESTION).after(judged("missed"), NOW).progress
    document = json.loads(json.dumps(progresses.to_json(progress)))

    assert shape_problem(document, progresses.SHAPE) == ""
    assert progresses.from_json(document) == progress
    assert progresses.from_json({**document, "later": 1}) == progress
    assert shape_problem({**document, "steps": [{"done": 1}]}, progresses.SHAPE)


@pytest.mark.parametrize(
    ("action", "typed"),
    [
        (RunCommand("c1", "ip -br addr"), ("sudo labctl exec c1 -- ip -br addr",)),
        (
            RunCommand("c1", "ip netns exec labctl.$LAB.c1 true"),
            ("sudo labctl exec c1 -- ip netns exec labctl.x.c1 true",),
        ),
        (RunCommand("c1", "ip a | grep 'eth0'"), ("""sudo labctl exec c1 -- sh -c 'ip a | grep '"'"'eth0'"'"''""",)),
        (RunCommand("c1", "ls *"), ("sudo labctl exec c1 -- sh -c 'ls *'",)),
        (RunCommand("c1", "ip a\nip r"), ("sudo labctl shell c1", "ip a", "ip r")),
        (RunVerb(("trace", "a", "c")), ("sudo labctl trace a c",)),
        (RunVerb(("exec", "a", "--", "sh", "-c", "ip a")), ("sudo labctl exec a -- sh -c 'ip a'",)),
        (ReadText(), ()),
    ],
)
def test_a_command_can_be_typed(action: RunCommand | RunVerb | ReadText, typed: tuple[str, ...]) -> None:
    assert typed_commands(LessonStep(action), "x", "sudo labctl") == typed


def test_steps_that_change_a_lab_are_known() -> None:
    assert changes_lab(LessonStep(RunCommand("a", "ip a")))
    assert [changes_lab(LessonStep(RunVerb((verb,)))) for verb in ("break", "fix", "trace")] == [True, True, False]
    assert not changes_lab(samples.LESSON.steps[QUESTION])


def test_a_longer_lesson_takes_longer() -> None:
    longer = replace(samples.LESSON, text="word " * 600)
    assert minutes(samples.LESSON) < minutes(longer) < 12


OUTPUT = "\033[32m2: eth0\033[0m   10.0.0.2/24\n     ttl 64\n"


def test_an_output_is_compared_without_colours_and_with_any_white_space() -> None:
    action = RunCommand("c1", "ip a", 0, ("eth0 10.0.0.2/24 ttl 64", "2: eth0"))

    assert command_problems(action, 0, OUTPUT) == ()
    assert command_problems(action, 1, OUTPUT) == ("the exit code is 1, not 0",)
    wrong = replace(action, shows=("eth1", "ttl 64"), exits=1)
    assert command_problems(wrong, 0, OUTPUT) == ("the exit code is 0, not 1", "the output does not show 'eth1'")


def test_a_wrong_answer_is_the_learners_and_a_wrong_solution_is_the_lessons() -> None:
    missed = Judgement("missed", ("measured: lost",))

    assert answer_problems(missed, "lost", "answered") == ()
    assert answer_problems(missed, "answered", "answered") == (
        "the lesson says 'answered', and something else was measured",
    )
    assert answer_problems(Judgement("passed"), "lost", "lost") == ()
    assert answer_problems(Judgement("unclear", ("no socket",)), "lost", "x") == ("nothing was measured: no socket",)


def test_a_claim_needs_a_check_that_passes() -> None:
    assert claim_problems(samples.report(samples.PASSED)) == ()
    found = claim_problems(samples.report(samples.FAILED))
    assert found == ("the check is the evidence, and it does not pass: fail",)

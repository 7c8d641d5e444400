"""What a learner can type next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labctl.exercises import progress
from labctl.report import exercise_text
from labctl.scenario import exercise_catalog
from tests.support import samples
from tests.support.command_line import in_process, pretend_empty_machine

LOCATE_ONLY = replace(samples.EXERCISE, tasks=samples.EXERCISE.tasks[2:], texts=())


def test_what_can_be_typed_next_is_in_one_column() -> None:
    begun = progress.begun(LOCATE_ONLY, "x", "ana", "x", "2026-11-30T12:00:00Z")
    lines = list(exercise_text.next_commands(LOCATE_ONLY, begun, "sudo labctl"))

    assert lines == [
        "answer: sudo labctl exercise check 1 ANSWER",
        "        an answer is MACHINE/OBJECT: node1/eth0, node1/10.0.0.0/24, node1/filter/INPUT, or a sysctl",
        "hint:   sudo labctl exercise hint",
    ]


def test_the_list_ends_with_the_first_exercise_that_is_not_done(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_empty_machine(monkeypatch, tmp_path)
    run = in_process(capsys)
    first, second = (entry.name for entry in exercise_catalog.entries()[:2])
    assert run("exercise", "list")[1].endswith(f"\nnext: labctl exercise start {first}\n")

    exercise = exercise_catalog.entries()[0].exercise
    done = progress.begun(exercise, first, "ana", first, "2026-11-30T12:00:00Z")
    done = replace(done, tasks=tuple(replace(task, state="solved") for task in done.tasks))
    monkeypatch.setattr("labctl.training.progress_records.load_all", lambda who: [done])
    assert run("exercise", "list")[1].endswith(f"\nnext: labctl exercise start {second}\n")

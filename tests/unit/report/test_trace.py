"""A trace as text: colours and width."""

from __future__ import annotations

from labctl.report.trace import lines
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.result import with_command
from tests.support.traces import recording


def test_on_a_terminal_the_story_has_colours() -> None:
    painted = "\n".join(lines(diagnose(recording("drop")), lambda text, colour: f"<{colour}>{text}</>"))

    assert "<red>LOST</>  the request was last seen entering r2/r1" in painted
    assert "<red>a rule of FORWARD in r2 dropped the request</>" in painted


def test_stories_fit_a_hundred_columns_but_for_sentences_and_rules() -> None:
    for name in ("delivered-6", "tunnel-6", "service-tcp", "dead-backend", "loop-6"):
        wide = [line for line in lines(diagnose(recording(name))) if len(line) > 100]
        assert [line for line in wide if not line.startswith("  ") or " us  " in line] == []


def test_advice_begins_as_the_user_types_it() -> None:
    story = diagnose(recording("no-route"))
    assert story.tries
    assert all(text.startswith("labctl exec ") for text in story.tries)

    typed = with_command(story, "sudo labctl -l t", "sudo ")

    assert [text.replace("sudo labctl -l t", "labctl") for text in typed.tries] == list(story.tries)
    assert typed.why is not None
    assert typed.why.tries == typed.tries
    assert [line for line in lines(typed) if line.startswith("  try ")] == [f"  try       {typed.tries[0]}"]

"""A trace as text: colours and width."""

from __future__ import annotations

from labctl.report.trace import lines
from labctl.tracing.diagnosis import diagnose
from tests.support.traces import recording


def test_on_a_terminal_the_story_has_colours() -> None:
    painted = "\n".join(lines(diagnose(recording("drop")), lambda text, colour: f"<{colour}>{text}</>"))

    assert "<red>LOST</>  the request was last seen entering r2/r1" in painted
    assert "<red>a rule of FORWARD in r2 dropped the request</>" in painted


def test_stories_fit_a_hundred_columns_but_for_sentences_and_rules() -> None:
    for name in ("delivered-6", "tunnel-6", "service-tcp", "dead-backend", "loop-6"):
        wide = [line for line in lines(diagnose(recording(name))) if len(line) > 100]
        assert [line for line in wide if not line.startswith("  ") or " us  " in line] == []

"""Text on a terminal of 80 columns: names stay whole, sentences break between words."""

from __future__ import annotations

from labctl.report import lists
from labctl.report.rich_tables import draw
from labctl.report.trace import lines
from labctl.scenario import catalog
from labctl.tracing.diagnosis import diagnose
from tests.support.traces import recording


def test_names_of_scenarios_are_not_broken() -> None:
    drawn = draw(lists.scenarios(catalog.entries()), colour=False, width=80)

    assert max(len(line) for line in drawn.splitlines()) <= 80
    first_words = {line.split(" ")[0] for line in drawn.splitlines()}
    assert set(catalog.names()) <= first_words


def test_a_hop_takes_two_lines_if_it_is_wider_than_the_terminal() -> None:
    result = diagnose(recording("drop"))
    hops = [line for line in lines(result) if " ttl " in line]
    width = max(map(len, hops))

    assert all(" us " in line for line in hops)
    narrow = [line for line in lines(result, width=width - 1) if " ttl " in line or " us " in line]
    assert len(narrow) == 2 * len(hops)
    assert max(map(len, narrow)) < width

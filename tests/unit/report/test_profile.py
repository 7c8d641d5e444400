"""Where the time of a command went: phases one after the other, as a table."""

from __future__ import annotations

from labctl.core.sentence import sentence
from labctl.kernel.host import phases
from labctl.kernel.host.phases import Phase
from labctl.report.profile import profile_json, profile_table

DONE = (Phase(sentence("namespaces"), 0.25, 0.1), Phase(sentence("links"), 0.75, 0.02))


def test_the_table_has_each_phase_its_share_and_all_together() -> None:
    table = profile_table(DONE, 31_000_000)

    assert table.rows == (
        ("namespaces", "250 ms", "25 %", "100 ms"),
        ("links", "750 ms", "75 %", "20 ms"),
        ("together", "1000 ms", "100 %", "120 ms"),
        ("at most 31 MB of memory", "", "", ""),
    )


def test_programs_read_seconds_and_bytes() -> None:
    assert profile_json(DONE, 5)["phases"][0] == {"phase": "namespaces", "seconds": 0.25, "cpu_seconds": 0.1}
    assert profile_json(DONE, 5)["peak_memory"] == 5


def test_nothing_is_recorded_unless_it_is_asked_for() -> None:
    phases.begin(sentence("links"))

    assert phases.finish() == ()


def test_a_phase_lasts_until_the_next_one_begins() -> None:
    phases.measure(sentence("start"))
    phases.begin(sentence("links"))
    phases.begin(sentence("checks"))

    done = phases.finish()

    assert [one.name for one in done] == ["start", "links", "checks"]
    assert all(one.seconds >= 0 and one.cpu_seconds >= 0 for one in done)
    assert done[0].seconds > 0  # since the process began
    assert phases.finish() == ()
    assert phases.peak_memory() > 1_000_000

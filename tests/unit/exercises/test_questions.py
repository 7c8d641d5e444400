"""Questions: an answer that cannot be one is refused, a wrong one says what was measured, a right one passes."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from labctl.compare.cell import Cell
from labctl.compare.measurements import Skipped
from labctl.compare.table import ROWS, Table
from labctl.core.exercise_types import CompareGoal, ExerciseProbe, PredictGoal
from labctl.core.resources import Interface
from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.exercises.comparison import judge_comparison, require_names
from labctl.exercises.locate import Place, judge_location, place_of, require_place
from labctl.exercises.predict import AnswerWords, judge_prediction, require_answer
from labctl.faults.catalogue import find_fault
from labctl.scenario.definition import define
from labctl.tracing.diagnosis import diagnose
from tests.support import samples
from tests.support.traces import recording

PROBE = ExerciseProbe("a", "c")
LAB = define("kubenet").compiled
WORDS = AnswerWords(Topology(LAB).namespaces, Topology(LAB).addresses)


def goal(ask: str, at: str = "") -> PredictGoal:
    machine, _, device = at.partition("/")
    return PredictGoal(PROBE, ask, Interface(machine, device) if at else None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("ask", "answer", "problem", "hint"),
    [
        ("verdict", "answerd", "is not a verdict", "did you mean answered?"),
        ("path", "a nod1 c", "there is no machine 'nod1'", "did you mean node1?"),
        ("last", "a c", "is not one machine", "the name of a machine"),
        ("ttl", "sixty", "is not a TTL", "a number"),
        ("src", "nowhere", "is not an address of this lab", "a machine, a point or an address"),
    ],
)
def test_an_answer_that_cannot_be_one_is_refused(ask: str, answer: str, problem: str, hint: str) -> None:
    with pytest.raises(UsageError, match=problem) as raised:
        require_answer(goal(ask, "c/eth0"), answer, WORDS)
    assert hint in raised.value.hint


@pytest.mark.parametrize(
    ("ask", "answer"),
    [("verdict", "lost"), ("path", "a -> node1, node2 c"), ("last", "c"), ("ttl", "63"), ("ttl", "nothing"),
     ("src", "a"), ("src", "node1/eth0"), ("dst", "10.244.1.2"), ("dst", "never")],
)  # fmt: skip
def test_every_form_of_an_answer_is_accepted(ask: str, answer: str) -> None:
    require_answer(goal(ask, "c/eth0"), answer, WORDS)


@pytest.mark.parametrize(
    ("ask", "right", "wrong", "seen"),
    [
        ("verdict", "lost", "answered", "lost"),
        ("path", "node1", "a node1 c", "passed node1"),
        ("last", "node1", "a", "came as far as node1"),
    ],
)
def test_the_measured_answer_decides_and_is_shown(ask: str, right: str, wrong: str, seen: str) -> None:
    for answer, state in ((right, "passed"), (wrong, "missed")):
        judgement = judge_prediction(goal(ask), answer, samples.TRACE, samples.STORY, WORDS)
        assert judgement.state == state
        assert seen in judgement.seen[0]


def test_a_point_shows_the_packet_there() -> None:
    first = next(item for item in samples.TRACE.observations if item.role == "request")
    at = f"{first.node}/{first.dev}"
    words = replace(WORDS, addresses=lambda name: (IPv4Address(name),) if name[0].isdigit() else ())

    for ask, right in (("src", str(first.src)), ("dst", str(first.dst)), ("ttl", str(first.ttl))):
        assert judge_prediction(goal(ask, at), right, samples.TRACE, samples.STORY, words).state == "passed"
        missed = judge_prediction(goal(ask, at), "9.9.9.9", samples.TRACE, samples.STORY, words)
        assert missed.state == "missed"
        assert f"{first.src} > {first.dst} ttl {first.ttl}" in missed.seen[0]
    nowhere = judge_prediction(goal("ttl", "node9/eth0"), "nothing", samples.TRACE, samples.STORY, words)
    assert (nowhere.state, nowhere.seen) == ("passed", ("measured: a ping from a to c is not seen at node9/eth0",))


def test_a_packet_that_never_left_its_source_came_as_far_as_that() -> None:
    nowhere = replace(samples.STORY, legs=())

    for ask in ("last", "path"):
        judgement = judge_prediction(goal(ask), "a", samples.TRACE, nowhere, WORDS)
        assert (judgement.state, judgement.seen) == ("passed", ("measured: a ping from a to c never left a",))


def test_a_packet_that_could_not_be_sent_is_no_attempt() -> None:
    broken = replace(samples.TRACE, answer="broken", detail="no ping")

    assert judge_prediction(goal("verdict"), "lost", broken, samples.STORY, WORDS).state == "unclear"


def test_a_place_has_several_spellings() -> None:
    assert place_of("node1/filter/FORWARD") == place_of(" node1 filter  FORWARD ") == Place("node1", "filter/FORWARD")
    assert place_of("fabric/10.244.0.0/24@100") == place_of("fabric 10.244.0.0/24")
    assert place_of("node1") == Place("node1", "")


@pytest.mark.parametrize(
    ("answer", "problem"), [("nod1/eth0", "there is no machine 'nod1'"), ("node1", "names no object of node1")]
)
def test_a_place_that_cannot_be_one_is_refused(answer: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        require_place(answer, WORDS.machines)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("drop", "r2/filter/FORWARD/1", "r2/filter/INPUT"),
        ("drop-chain", "r2/filter/MINE", "r2/filter/FORWARD"),
        ("drop-6", "r2/ip6tables/filter/FORWARD", "r2/filter/FORWARD"),
        ("link-down", "r2/h2", "r2/r1"),
        ("stale-neighbour", "h1/eth0", "h3/eth0"),
        ("stale-neighbour", "h1/eth0/192.0.2.2", "h1/lo"),
        ("blackhole", "r1/10.2.0.2/32", "r1/10.1.0.0/24"),
        ("vxlan-vni", "v2/vx0", "v2/eth0"),
        ("policy-ingress", "node1/filter/cali-tw-caliacd53aa4120", "node1/filter/FORWARD"),
    ],
)
def test_the_place_that_the_trace_names_is_right_and_no_other(name: str, right: str, wrong: str) -> None:
    evidence = recording(name)
    story = diagnose(evidence)

    assert judge_location(place_of(right), evidence, story, ()).state == "passed"
    assert judge_location(place_of(wrong), evidence, story, ()).state == "failed"


def test_an_answered_packet_has_no_place_and_the_answer_does_not_count() -> None:
    evidence = recording("delivered")

    assert judge_location(place_of("r1/h1"), evidence, diagnose(evidence), ()).state == "unclear"


def test_the_place_of_a_fault_of_the_lab_is_right_whatever_the_trace_says() -> None:
    fault = find_fault(LAB, "masquerade-missing")

    assert judge_location(place_of(fault.on), samples.TRACE, samples.STORY, (fault,)).state == "passed"
    assert judge_location(place_of("node1/nat/IP-MASQ-AGENT"), samples.TRACE, samples.STORY, (fault,)).state == "passed"


def test_a_wrong_place_says_what_was_seen_there() -> None:
    fault = find_fault(LAB, "masquerade-missing")
    seen = {
        answer: judge_location(place_of(answer), samples.TRACE, samples.STORY, (fault,))
        for answer in ("node1/eth9", "node2/eth0")
    }

    assert {one.state for one in seen.values()} == {"failed"}
    assert "node1 is the right machine, but eth9 is not the reason" in seen["node1/eth9"].seen[0]
    assert "no packet of the probe came to node2" in seen["node2/eth0"].seen[0]
    assert not [one for one in seen.values() if "MASQ" in " ".join(one.seen)]


def test_a_machine_that_the_packet_only_passed_is_said_with_its_devices() -> None:
    evidence = recording("drop")
    judgement = judge_location(place_of("r1/h1"), evidence, diagnose(evidence), ())

    assert judgement.state == "failed"
    assert judgement.seen == ("r1 is not the reason: packets of the probe passed r1/h1, r1/r2",)


COMPARE = CompareGoal(("kubenet", "calico", "flannel"), "same_node_ttl", "64")


def measured(**texts: str) -> Table:
    number = next(index for index, row in enumerate(ROWS) if row.key == "same_node_ttl")
    columns = tuple(Skipped(name, name, "", 0) for name in texts)
    cells = tuple(
        tuple(Cell(text) if at == number else Cell("x") for at in range(len(ROWS))) for text in texts.values()
    )
    return Table(ROWS, columns, cells)


TABLE = measured(kubenet="64", calico="63", flannel="64")


def test_exactly_the_scenarios_of_the_row_are_right() -> None:
    assert judge_comparison(COMPARE, require_names(COMPARE, "kubenet, flannel"), TABLE).state == "passed"
    assert (
        judge_comparison(COMPARE, require_names(COMPARE, "none"), measured(kubenet="1", calico="2")).state == "passed"
    )


def test_a_wrong_comparison_shows_the_rows_that_were_named_and_no_other() -> None:
    judgement = judge_comparison(COMPARE, require_names(COMPARE, "calico kubenet"), TABLE)

    assert judgement.state == "failed"
    assert judgement.seen == ("measured: calico: 63", "1 that is not in your answer also fit")


def test_a_name_that_is_not_in_the_question_is_refused() -> None:
    with pytest.raises(UsageError, match="'kubent' is not one of") as raised:
        require_names(COMPARE, "kubent")
    assert raised.value.hint == "did you mean kubenet?"


def test_a_row_that_could_not_be_measured_is_no_attempt() -> None:
    cells = tuple(tuple(Cell("skipped", "skipped") for _ in ROWS) for _ in range(3))

    assert judge_comparison(COMPARE, frozenset(), replace(TABLE, cells=cells)).state == "unclear"

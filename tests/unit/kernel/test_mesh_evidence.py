"""What follows for each pair of a mesh from the packets that its sockets received."""

from __future__ import annotations

import pytest

from labctl.kernel.probes.echo_batch import ECHO_REPLY, ECHO_REQUEST, Echo
from labctl.kernel.probes.mesh_evidence import MeshEvidence, Observation

TAG = b"labmsalt"
OWN = {1: (b"\x0a\0\0\1", b"\x0a\1\0\1"), 2: (b"\x0a\0\0\2",), 3: (b"\x0a\0\0\3",)}
ELSEWHERE = b"\xcb\0\x71\x07"


def request(source: int, target: int, address: bytes | None = None, tag: bytes = TAG) -> Echo:
    return (address or OWN[source][0], ECHO_REQUEST[4], tag, source, target)


def reply(source: int, target: int, address: bytes | None = None) -> Echo:
    return (address or OWN[target][0], ECHO_REPLY[4], TAG, source, target)


@pytest.fixture
def evidence() -> MeshEvidence:
    """Member 1 asks 2 and 3."""
    made = MeshEvidence(TAG, lambda number: frozenset(OWN[number]))
    made.begin(OWN)
    made.expect(4, [1], [2, 3], [OWN[2][0], OWN[3][0]])
    return made


def test_a_pair_is_proven_by_its_request_at_the_target_and_its_reply_at_the_source(evidence: MeshEvidence) -> None:
    assert evidence.waiting_count() == 4
    evidence.record(2, [request(1, 2)])
    evidence.record(1, [reply(1, 2), reply(1, 3)])
    assert evidence.waiting() == [3], "the reply was read before its request, which may be on its way"
    evidence.record(3, [request(1, 3)])

    assert (evidence.waiting(), evidence.waiting_count(), evidence.unproven()) == ([], 0, {})


def test_one_pair_among_many_that_gets_no_answer_is_named(evidence: MeshEvidence) -> None:
    evidence.record(2, [request(1, 2)])
    evidence.record(1, [reply(1, 2)])

    assert evidence.unproven() == {(1, 3): Observation(False)}


def test_a_request_that_is_seen_and_not_answered_is_told_from_one_that_is_never_seen(evidence: MeshEvidence) -> None:
    evidence.record(2, [request(1, 2)])
    evidence.record(1, [reply(1, 3)])

    assert evidence.unproven() == {(1, 2): Observation(False, OWN[1][0]), (1, 3): Observation(True)}


def test_a_wrong_source_address_is_kept_whatever_comes_first(evidence: MeshEvidence) -> None:
    evidence.record(2, [request(1, 2, ELSEWHERE)])
    evidence.record(1, [reply(1, 2), reply(1, 3)])
    evidence.record(3, [request(1, 3, ELSEWHERE)])

    assert evidence.waiting() == []
    assert evidence.unproven() == {cell: Observation(True, ELSEWHERE) for cell in ((1, 2), (1, 3))}


def test_a_late_copy_with_a_wrong_address_says_nothing_about_a_proven_pair(evidence: MeshEvidence) -> None:
    evidence.record(2, [request(1, 2)])
    evidence.record(1, [reply(1, 2)])
    evidence.record(2, [request(1, 2, ELSEWHERE)])

    assert set(evidence.unproven()) == {(1, 3)}


def test_any_own_address_of_the_source_proves_it(evidence: MeshEvidence) -> None:
    for target in (2, 3):
        evidence.record(target, [request(1, target, OWN[1][1])])
        evidence.record(1, [reply(1, target)])

    assert evidence.unproven() == {}


@pytest.mark.parametrize(
    ("number", "echo"),
    [
        (3, request(1, 2)),  # the packet came to another machine
        (2, request(1, 2, tag=b"labmelse")),  # of another mesh
        (2, reply(1, 2)),  # a reply at the target
        (1, reply(1, 2, ELSEWHERE)),  # another machine answered
        (1, request(1, 2)),
    ],
)
def test_what_is_not_the_packet_of_the_pair_proves_nothing(evidence: MeshEvidence, number: int, echo: Echo) -> None:
    evidence.record(number, [echo])

    assert evidence.waiting_count() == 4
    assert evidence.unproven() == {(1, 2): Observation(False), (1, 3): Observation(False)}


def test_a_packet_that_could_not_be_sent_is_not_waited_for(evidence: MeshEvidence) -> None:
    evidence.refuse(4, (1, 2), OWN[2][0], 101)
    evidence.record(3, [request(1, 3)])
    evidence.record(1, [reply(1, 3)])

    assert evidence.waiting() == []
    assert evidence.unproven() == {(1, 2): Observation(False, errno=101)}

"""What a trace and a check work out once: a frame is decoded when it arrives, and hops are found once per packet."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any

import pytest

from labctl.checks.attempt import CheckAttempt
from labctl.checks.context import CheckContext
from labctl.core.resources import Interface
from labctl.core.scenario_types import Check, Lab
from labctl.core.topology import Topology
from labctl.kernel.capture.tap import Taps
from labctl.packets import probe_id
from labctl.packets.decode import Frame, Packet
from labctl.tracing import collect, run
from labctl.tracing import evidence as trace_evidence
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import Question
from labctl.tracing.probe_packets import ProbePackets
from tests.support.busy_taps import busy_taps
from tests.support.traces import recording

TICKS = 40
TOPOLOGY = Topology(Lab("flood", "raw", (), (), ()))
QUESTION = Question("flood", "a", "b", IPv4Address("10.0.0.2"), "b", "icmp")
MARKER = probe_id.MAGIC + b"once"
# who has 10.0.0.2, tell 10.0.0.1
ARP_REQUEST = bytes.fromhex(
    "ffffffffffff 020000000001 0806 0001080006040001 020000000001 0a000001 000000000000 0a000002"
)


class FloodedTap:
    """A tap that has three more neighbour requests whenever it is read."""

    node = "a"

    def __init__(self) -> None:
        self.frame_count = 0

    def read(self) -> list[Frame]:
        first, self.frame_count = self.frame_count, self.frame_count + 3
        return [
            Frame(Interface("a", "eth0"), time.time_ns(), "out", ARP_REQUEST + number.to_bytes(4, "big"), 0x0806)
            for number in range(first, self.frame_count)
        ]

    def count_losses(self) -> int:
        return 0


@pytest.fixture
def tap() -> FloodedTap:
    return FloodedTap()


@pytest.fixture
def taps(tap: FloodedTap, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taps]:
    """The taps of a lab in which frames keep arriving."""
    with busy_taps("flood", tap, None, monkeypatch) as made:
        yield made


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each frame was decoded."""
    counts: Counter[bytes] = Counter()
    decode = probe_id.decode

    def counting(frame: Frame) -> Packet | None:
        counts[frame.data] += 1
        return decode(frame)

    monkeypatch.setattr(probe_id, "decode", counting)
    return counts


def test_a_trace_decodes_each_frame_of_a_flood_once(
    tap: FloodedTap, taps: Taps, decoded: Counter[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = lambda *words: None  # noqa: E731
    setup = SimpleNamespace(remove_tracing=nothing, beside=lambda _: SimpleNamespace(result=nothing))
    instruments: Any = SimpleNamespace(
        taps=taps, setup=setup, nodes=(), tracing=None, unknown=[], rules_traced=True, remove_taps=nothing
    )
    probe: Any = SimpleNamespace(answer=None, detail="", fds=list, step=nothing, time_out=nothing, close=nothing)
    monkeypatch.setattr(run, "QUIET_TIMEOUT_S", 0)  # look at the frames at each tick
    for name in ("add_rules_and_flows", "add_namespace_state"):
        monkeypatch.setattr(collect, name, lambda instruments, topology, evidence, *words: evidence)
    ticks = iter(range(TICKS))
    monkeypatch.setattr(run._ProbeWait, "_step", lambda self, seconds=0.0: next(ticks, None) is None)
    wait = run._ProbeWait(instruments, TOPOLOGY, QUESTION, probe_id.PayloadMarker(MARKER), 0, 1, probe, None, ())
    evidence = wait.wait_and_collect()

    assert [(one.node, str(one.ip)) for one in evidence.unanswered_neighbours] == [("a", "10.0.0.2")]
    assert tap.frame_count > 3 * TICKS
    assert len(decoded) == tap.frame_count
    assert set(decoded.values()) == {1}


def test_in_a_flood_the_evidence_is_new_only_if_it_says_more(tap: FloodedTap, taps: Taps) -> None:
    packets = ProbePackets(probe_id.PayloadMarker(MARKER), 0, (QUESTION.address, QUESTION.port))

    assert [packets.update(taps.packets()) for _ in range(TICKS)] == [True] + [False] * (TICKS - 1)
    assert len(packets.frames) == tap.frame_count
    assert [str(one.ip) for one in packets.unanswered_neighbours()] == ["10.0.0.2"]


def test_a_check_decodes_each_frame_of_a_flood_once(tap: FloodedTap, taps: Taps, decoded: Counter[bytes]) -> None:
    context = CheckContext(TOPOLOGY, None, taps, None)  # type: ignore[arg-type]
    attempt = CheckAttempt(context, Check("", "ping", "a", "10.0.0.2"), IPv4Address("10.0.0.2"))
    for _ in range(TICKS):
        evidence = attempt._evidence(None)

    assert len(evidence.trail.neighbour_requests) == tap.frame_count == 3 * TICKS
    assert len(decoded) == tap.frame_count
    assert set(decoded.values()) == {1}


def test_a_new_check_begins_without_frames(taps: Taps, decoded: Counter[bytes]) -> None:
    assert len(taps.packets()) == 3
    taps.discard()

    assert len(taps.packets()) == 3
    assert set(decoded.values()) == {1}


@pytest.mark.parametrize("name", ["delivered", "arp", "closed-port", "dead-backend", "black-hole"])
def test_hops_are_found_once_for_each_role(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()
    path = trace_evidence.path

    def counting(observations: Any, role: Any, *others: Any) -> Any:
        counts[role] += 1
        return path(observations, role, *others)

    monkeypatch.setattr(trace_evidence, "path", counting)
    evidence = recording(name)
    diagnose(evidence)
    diagnose(evidence.with_details(seconds=1.0))

    assert set(counts.values()) == {1}


def test_other_observations_have_other_hops() -> None:
    evidence = recording("delivered")
    shorter = evidence.with_details(observations=evidence.observations[:1])

    assert len(evidence.hops["request"]) > 1
    assert len(shorter.hops["request"]) == 1

"""Bridges in a loop, where frames for all go round for ever: checks and traces come to their end, and say it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
from test_trace_live import TRACES, traced

from labctl.checks import runner
from labctl.core.resources import Interface
from labctl.core.scenario_types import Check
from labctl.kernel.capture.tap import MAX_LOOP_PASSES, Taps
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.lab import lifecycle
from labctl.packets.decode import Frame
from labctl.render import dataclass_json
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence

LOOP = """
name: loop
model: raw
namespaces: [h1, h2, s]
links:
  - {bridge: s/left}
  - {bridge: s/right}
  - {veth: [{at: s/l0, master: left}, h1/eth0]}
  - {veth: [{at: s/r0, master: right}, h2/eth0]}
  - {veth: [{at: s/l1, master: left}, {at: s/r1, master: right}]}
  - {veth: [{at: s/l2, master: left}, {at: s/r2, master: right}]}
addresses:
  h1/eth0: [192.0.2.1/24]
  h2/eth0: [192.0.2.2/24]
checks: [{ping: h1 -> h2}]
"""
ENDS = tuple(Interface("s", dev) for dev in ("l1", "l2", "r1", "r2"))


class Endless:
    """A tap in which every read finds another frame: the same, or each time another."""

    def __init__(self, same: bool) -> None:
        self.node, self.reads, self.same = "s", 0, same

    def read(self) -> list[Frame]:
        self.reads += 1
        data = b"the same" if self.same else self.reads.to_bytes(8, "big")
        way = "in" if self.reads % 2 else "out"
        return [Frame(Interface("s", "l1"), time.time_ns(), way, data, 0x0806)]


def taps(tap: Endless, monkeypatch: pytest.MonkeyPatch) -> Iterator[Taps]:
    """Taps of which one always has something to read."""
    monkeypatch.setattr(Taps, "_await_stamps", lambda self: None)
    monkeypatch.setattr(Taps, "verify_receiving", lambda self: {})
    with NetnsThread() as inside:
        made = Taps("loop", (), inside)
    ready, writer = os.pipe()
    try:
        os.write(writer, b"!")
        made._poll.register(ready)
        made._by_fd[ready] = tap  # type: ignore[assignment]
        yield made
    finally:
        os.close(ready)
        os.close(writer)


def test_frames_that_never_end_are_read_up_to_now(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = Endless(same=False)
    for made in taps(tap, monkeypatch):
        assert len(made.frames()) == tap.reads == 1
        assert len(made.frames()) == tap.reads == 2
        made.discard()
        assert made._frames == []
        assert tap.reads == 3


@pytest.mark.parametrize("same", [True, False], ids=["one frame", "many frames"])
def test_of_the_same_frame_so_many_are_kept_and_more_is_told(same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    tap = Endless(same)
    for made in taps(tap, monkeypatch):
        for _ in range(2 * MAX_LOOP_PASSES + 10):
            found = made.frames()
        assert len(found) == (2 * MAX_LOOP_PASSES if same else tap.reads)
        assert made.looping() == ((Interface("s", "l1"),) if same else ())
        made.discard()
        assert made.looping() == ()


def test_what_only_comes_goes_round_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tap = SimpleNamespace(node="s", read=lambda: [Frame(Interface("s", "l1"), time.time_ns(), "in", b"again", 0x0806)])
    for made in taps(tap, monkeypatch):  # type: ignore[arg-type]
        for _ in range(2 * MAX_LOOP_PASSES):
            made.frames()
        assert made.looping() == ()


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The lab, up, with a brake on the two cables, for the sake of the tests beside this one."""
    file = tmp_path_factory.mktemp("loop") / "loop.yaml"
    file.write_text(LOOP)
    lifecycle.up(lifecycle.define(str(file)))
    try:
        for dev in ("l1", "l2", "r1", "r2"):
            brake = f"tc qdisc add dev {dev} root tbf rate 200kbit burst 2k limit 20k"
            subprocess.run(["ip", "netns", "exec", paths.netns_name("loop", "s"), *brake.split()], check=True)
        begin = ["ip", "netns", "exec", paths.netns_name("loop", "h1"), "ping", "-c", "1", "-W", "1", "192.0.2.9"]
        assert subprocess.run(begin, capture_output=True).returncode != 0  # it asked all for one who is not there
        yield
    finally:
        lifecycle.down("loop")


@pytest.mark.root
@pytest.mark.usefixtures("storm")
def test_a_check_says_that_frames_go_round() -> None:
    compiled = lifecycle.load_compiled_lab("loop")
    impatient = Check("h1 reaches nobody", "ping", "h1", "192.0.2.9", within=3)
    outcome = runner.run(replace(compiled, checks=(impatient,))).outcomes[0]
    expected = "frames circulate in a loop of bridges, again and again past s/l1, s/l2, s/r1, s/r2"
    assert expected in outcome.evidence, outcome.evidence


@pytest.mark.root
@pytest.mark.usefixtures("storm")
def test_a_trace_takes_it_down() -> None:
    evidence, _ = traced("loop", "h1 192.0.2.9")
    assert evidence.looping == ENDS


def test_a_loss_that_nothing_else_explains_is_the_loops() -> None:
    whole = dataclass_json.from_json(TraceEvidence, json.loads((TRACES / "delivered.json").read_text()))
    evidence = replace(whole, answer="timeout", observations=whole.observations[:4], flows=())
    assert (diagnose(evidence).verdict, diagnose(evidence).why) == ("lost", None)
    story = diagnose(replace(evidence, looping=ENDS))
    assert story.why is not None
    assert (story.why.kind, story.facts[0].text) == (
        "bridge-loop", "the same frames pass again and again at s/l1, s/l2, s/r1, s/r2",
    )  # fmt: skip
    assert story.tries == ("labctl exec s -- ip link set l1 down",)

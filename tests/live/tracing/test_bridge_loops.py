"""Bridges in a loop, where frames for all go round for ever: checks and traces come to their end, and say it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from labctl.checks import runner
from labctl.core.resources import Interface
from labctl.core.scenario_types import Check
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support.traces import traced

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


@pytest.mark.usefixtures("storm")
def test_a_check_says_that_frames_go_round() -> None:
    compiled = lifecycle.load_compiled_lab("loop")
    impatient = Check("h1 reaches nobody", "ping", "h1", "192.0.2.9", within=3)
    outcome = runner.run(replace(compiled, checks=(impatient,))).outcomes[0]
    expected = "frames circulate in a loop of bridges, again and again past s/l1, s/l2, s/r1, s/r2"
    assert expected in outcome.evidence, outcome.evidence


@pytest.mark.usefixtures("storm")
def test_a_trace_takes_it_down() -> None:
    evidence, _ = traced("loop", "h1 192.0.2.9")
    assert evidence.looping == ENDS

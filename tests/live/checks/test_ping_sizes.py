"""Pings of a size across a router with a smaller MTU on the far side: the proof that one is too big."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.checks import runner
from labctl.core.scenario_types import Check
from labctl.lab import lifecycle

NARROW = """
name: narrow
model: raw
namespaces: [h1, h2, r]
links:
  - {veth: [h1/eth0, r/eth1]}
  - {veth: [h2/eth0, r/eth2], mtu: 1400}
addresses:
  h1/eth0: [192.0.2.1/24, "2001:db8:1::1/64"]
  r/eth1: [192.0.2.254/24, "2001:db8:1::fe/64"]
  h2/eth0: [198.51.100.1/24, "2001:db8:2::1/64"]
  r/eth2: [198.51.100.254/24, "2001:db8:2::fe/64"]
sysctls:
  r: {net.ipv4.ip_forward: 1, net.ipv6.conf.all.forwarding: 1}
routes:
  h1: [default via 192.0.2.254, "default via 2001:db8:1::fe"]
  h2: [default via 198.51.100.254, "default via 2001:db8:2::fe"]
checks:
  - {ping: h1 -> h2, size: 1372, see: {at: h2/eth0, src: h1}}
  - {ping: h1 -> h2, size: 1373, expect: fail, see: {at: r/eth1, direction: in}, not see: {at: r/eth2}}
  - {ping: "h1 -> 2001:db8:2::1", size: 1352, see: {at: h2/eth0}}
  - {ping: "h1 -> 2001:db8:2::1", size: 1353, expect: fail, see: {at: r/eth1, direction: in}, not see: {at: r/eth2}}
"""


@pytest.fixture
def narrow(tmp_path: Path) -> Iterator[str]:
    """The lab, up."""
    file = tmp_path / "narrow.yaml"
    file.write_text(NARROW)
    lifecycle.up(lifecycle.define(str(file)))
    yield "narrow"
    lifecycle.down("narrow")


@pytest.mark.parametrize("ping", [True, False], ids=["the real ping", "labctl's own echo"])
def test_a_router_says_what_is_too_big_every_time(narrow: str, ping: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not ping:
        monkeypatch.setattr("labctl.checks.attempt.ping_program", lambda: None)
    outcomes = runner.run(lifecycle.load_compiled_lab(narrow)).outcomes
    assert [one.verdict for one in outcomes] == ["pass"] * 4, "\n".join(
        line for one in outcomes for line in one.evidence
    )
    assert outcomes[0].sightings[0].length == 14 + 20 + 8 + 1372
    assert "too big: 192.0.2.254 reported to 192.0.2.1: fragmentation needed" in outcomes[1].evidence
    assert "too big: 2001:db8:1::fe reported to 2001:db8:1::1: packet too big" in outcomes[3].evidence
    again = runner.run(lifecycle.load_compiled_lab(narrow), "1373").outcomes[
        0
    ]  # what that taught h1 about the path is forgotten
    assert again.verdict == "pass", again.evidence
    assert "too big: 192.0.2.254 reported to 192.0.2.1: fragmentation needed" in again.evidence


def test_the_sources_own_kernel_says_it_too(narrow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.checks.attempt.ping_program", lambda: None)
    compiled = lifecycle.load_compiled_lab(narrow)
    own = Check("too big for the card", "ping", "h1", "h2", size=1473, expect="fail")
    outcome = runner.run(replace(compiled, checks=(own,))).outcomes[0]
    assert outcome.verdict == "pass"
    assert "the kernel of h1 did not send it: Message too long" in outcome.evidence

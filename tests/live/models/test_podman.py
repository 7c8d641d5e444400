"""podman by packets: every kind of network and of published port, with both drivers and in both releases."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from labctl.checks import runner
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support import kernels
from tests.support.drift import drift

pytestmark = pytest.mark.firewall

NAME = "containers"
TEXT = """
model: podman
routed: true
networks:
  front: {mtu: 1400, metric: 200, ipv6: true}
  inner: {internal: true}
  quiet: {isolate: true}
  shy: {isolate: true}
  strict: {isolate: strict}
hosts:
  host1:
    containers:
      i1: {networks: [inner]}
      c1:
      f1: {networks: [front], publish: ["8080:80", "127.0.0.1:90:90/udp", "9000-9002:9100-9102", "[::]:94:94"]}
      f2: {networks: [front]}
      q1: {networks: [quiet]}
      s1: {networks: [strict], publish: [8082:82]}
      y1: {networks: [shy]}
      m1: {networks: [quiet, shy]}
  host2: {containers: {d1: }}
checks:
  - {say: a port of a range leads to the one at its place, tcp: "internet -> host1:9002", listen: "f1:9102"}
  - {say: a client outside reaches an IPv6 port, tcp: "internet -> [fd00:192:168:50::b]:94", listen: "f1:94"}
  - {say: a container of its network reaches it too, tcp: "f2 -> [fd00:192:168:50::b]:94", listen: "f1:94"}
  - {say: a port published at 127.0.0.1 is closed outside, udp: "internet -> host1:90", expect: refused}
  - {say: a container on a network of another host, ping: d1 -> host1}
"""
CASES = {
    "1.17": (),
    "1.17 iptables": ("firewall_driver=iptables",),
    "2.0": ("release=2.0",),
    "2.0 without isolation": ("release=2.0", "networks.front.isolate=false"),
    "another port of the name server": ("dns_bind_port=5353",),
}


@pytest.fixture
def gone() -> Iterator[None]:
    """No lab is left, whatever a test finds."""
    yield
    lifecycle.down(NAME)


@pytest.mark.parametrize("case", CASES)
def test_what_packets_prove(case: str, gone: None) -> None:
    if problem := kernels.backend_problem("nft"):
        pytest.skip(problem)
    lifecycle.up(define_text("podman.yaml", TEXT, NAME, CASES[case]))
    found = runner.run(lifecycle.load_compiled_lab(NAME)).outcomes

    assert [f"{one.verdict}: {one.check.say}: {one.evidence}" for one in found if one.verdict != "pass"] == []
    assert len(found) > 10
    assert drift(NAME) == []


def test_podman_5_holds_ports_with_conmon(gone: None) -> None:
    lifecycle.up(define_text("podman.yaml", TEXT, NAME))

    words = ["ip", "netns", "exec", paths.netns_name(NAME, "host1"), "ss", "-H", "-4ltunp"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    found = {(one[0], one[4]) for one in map(str.split, lines) if "conmon" in one[6]}
    ranges = {("tcp", f"0.0.0.0:{port}") for port in (9000, 9001, 9002)}
    assert found == {("tcp", "0.0.0.0:8080"), ("udp", "127.0.0.1:90"), ("tcp", "0.0.0.0:8082"), *ranges}

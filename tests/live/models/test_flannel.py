"""flannel on a live lab: what breaks when a part of a node is taken away, and that `up` restores it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from labctl.checks import runner
from labctl.core.resources import Fdb, Interface
from labctl.core.scenario_types import Check, Lab, See
from labctl.core.topology import Topology
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.request import question_of
from labctl.tracing.run import trace_packet

pytestmark = pytest.mark.firewall

VTEPS = {"node2": "02:07:c2:80:9a:74", "node3": "02:2c:81:c4:0a:03"}


@contextmanager
def running(name: str, *sets: str) -> Iterator[Lab]:
    """A built-in scenario that is up, with some options."""
    definition = lifecycle.define(name, overrides=sets)
    lifecycle.up(definition)
    try:
        yield lifecycle.load_compiled_lab(name)
    finally:
        lifecycle.down(name)


def typed(name: str, node: str, command: str) -> subprocess.CompletedProcess[str]:
    words = ["ip", "netns", "exec", paths.netns_name(name, node), *command.split()]
    return subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)


def proven(compiled: Lab, *claims: Check) -> list[str]:
    report = runner.run(replace(compiled, checks=claims), "")
    return [outcome.verdict for outcome in report.outcomes]


def test_a_trace_tells_the_hop_that_the_program_takes() -> None:
    options: dict[str, object] = {"icmp": False, "tcp": None, "udp": None, "size": None, "fragment": False}
    with running("flannel-udp") as compiled:
        who = Topology(compiled)
        evidence, _ = trace_packet(who.lab, question_of(who, "a", "c", {**options, "sport": None, "listen": False}))
    request = diagnose(evidence).legs[0].steps
    assert [(step.node, step.ttl) for step in request] == [
        ("a", 64), ("node1", 62), ("fabric", 62), ("node2", 61), ("c", 61),
    ]  # fmt: skip
    assert request[1].devices[-2:] == ("flannel0", "eth0")
    assert [step.tunnel.split()[:1] for step in request] == [[], ["udp"], ["udp"], [], []]


def seen(at: str, *, negate: bool = False, **what: str) -> See:
    return See(Interface(*at.split("/")), negate=negate, **what)


def test_host_gw_has_no_route_across_a_router_because_the_kernel_takes_none() -> None:
    with running("flannel-host-gw"):
        near = typed("flannel-host-gw", "node1", "ip route replace 10.244.2.0/24 via 192.168.0.2 dev eth0")
        far = typed("flannel-host-gw", "node1", "ip route replace 10.244.3.0/24 via 192.168.1.3 dev eth0")
    assert (near.returncode, near.stderr) == (0, "")
    assert far.returncode != 0
    assert "invalid gateway" in far.stderr or "unreachable" in far.stderr


def test_a_forgotten_peer_is_silence_on_the_wire() -> None:
    lost = (seen("node1/flannel.1", src="a", dst="c"), seen("node1/eth0", negate=True, src="a"))
    claim = Check("nothing is flooded", "ping", "a", "c", expect="fail", sees=lost)
    with running("flannel") as compiled:
        before = proven(compiled, claim)
        gone = typed("flannel", "node1", f"bridge fdb del {VTEPS['node2']} dev flannel.1 dst 192.168.0.2 self")
        wanted = tuple(item for item in compiled.plan if not (isinstance(item, Fdb) and item.mac == VTEPS["node2"]))
        after = proven(replace(compiled, plan=wanted), claim)  # a lab that has drifted proves no silence
    assert (gone.returncode, before, after) == (0, ["fail"], ["pass"])


def test_who_does_not_masquerade_shows_nodes_the_pod_and_never_leaves() -> None:
    node = Check("node2 sees a", "ping", "a", "node2", sees=(seen("node2/eth0", src="a", dst="node2"),))
    way = (seen("fabric/node1", src="a", dst="internet"), seen("internet/eth0", src="fabric/igw"))
    out = Check("no answer finds a", "ping", "a", "internet", expect="fail", sees=way)
    with running("flannel", "ip_masq=false") as compiled:
        assert proven(compiled, node, out) == ["pass", "pass"]

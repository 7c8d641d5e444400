"""Antrea on a live lab: what breaks when a part of a node is taken away, and that `up` restores it."""

from __future__ import annotations

import pytest

from labctl.checks import runner
from labctl.lab import lifecycle
from tests.support import kernels

pytestmark = pytest.mark.firewall


def test_a_first_packet_goes_to_its_pod_alone() -> None:
    """Nobody has spoken yet, and there is a third port that a flood would reach."""
    claim = "{say: heard by no other, ping: a -> c, not see: [{at: d/eth0, src: a}, {at: b/eth0, src: a}]}"
    lifecycle.up(lifecycle.define("antrea", overrides=("nodes.node2.pods=[c, d]", f"checks=[{claim}]")))
    try:
        report = runner.run(lifecycle.load_compiled_lab("antrea"), "heard by no other")
        assert report.verdict == "pass", report.outcomes
    finally:
        lifecycle.down("antrea")


def test_without_tunnels_pods_have_the_ethernets_mtu() -> None:
    big = "{ping: a -> c, size: 1472, see: {at: fabric/node2, src: a, encap: none}}"
    made = lifecycle.define(
        "antrea-hybrid", name="plain", overrides=("traffic_mode=no-encap", "elsewhere=[]", f"checks=[{big}]")
    )
    lifecycle.up(made)
    try:
        report = runner.run(lifecycle.load_compiled_lab("plain"))
        assert (report.verdict, len(report.outcomes)) == ("pass", 4), report.outcomes
    finally:
        lifecycle.down("plain")


@pytest.mark.kernel
@pytest.mark.skipif(bool(kernels.missing_text(("geneve",))), reason=kernels.missing_text(("geneve",)))
def test_geneve_carries_packets_where_the_kernel_has_it() -> None:
    definition = lifecycle.define("antrea", overrides=("tunnel=geneve", "checks=[]", "nodes.node3.pods=[d]"))
    lifecycle.up(definition)
    try:
        assert runner.run(lifecycle.load_compiled_lab("antrea")).verdict == "pass"
    finally:
        lifecycle.down("antrea")

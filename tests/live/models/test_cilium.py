"""Cilium on a live lab."""

from __future__ import annotations

import pytest

from labctl.checks import runner
from labctl.lab import lifecycle

pytestmark = pytest.mark.firewall


def test_without_masquerading_another_node_sees_the_pod_and_answers_by_the_tunnel() -> None:
    see = "[{at: node2/eth0, src: a, encap: none}, {at: node1/eth0, packet: reply, encap: vxlan 6, outer_src: node2}]"
    asked = f"checks=[{{ping: a -> node2, see: {see}}}]"
    lifecycle.up(lifecycle.define("cilium", name="unmasked", overrides=("masquerade=false", asked)))
    try:
        report = runner.run(lifecycle.load_compiled_lab("unmasked"))
        assert (report.verdict, len(report.outcomes)) == ("pass", 4), report.outcomes
    finally:
        lifecycle.down("unmasked")

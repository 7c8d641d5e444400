"""A packet that a rule of nft drops, which iptables shows as another rule: the trace, `status` and `up` name it so."""

from __future__ import annotations

import pytest

import labctl
from labctl.core.iptables import UNSHOWN
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from tests.support import kernels, nft_rules

LAB = "traced-unshown"
ROUTED = f"""
name: {LAB}
model: raw
namespaces: [a, r, b]
links: [{{veth: [a/eth0, r/a]}}, {{veth: [b/eth0, r/b]}}]
addresses: {{a/eth0: 10.0.1.2/24, r/a: 10.0.1.1/24, r/b: 10.0.2.1/24, b/eth0: 10.0.2.2/24}}
routes: {{a: default via 10.0.1.1, b: default via 10.0.2.1}}
sysctls: {{r: {{net.ipv4.ip_forward: 1}}}}
firewall: {{r: {{filter: {{FORWARD: [-s 10.9.9.9 -j ACCEPT]}}}}}}
"""


@pytest.mark.skipif(bool(kernels.backend_problem("nft")), reason="no iptables-nft")
def test_a_trace_and_a_status_name_a_rule_of_nft_that_iptables_shows_as_another() -> None:
    with labctl.up(ROUTED, firewall="nft") as lab:
        with NetnsThread() as inside:
            inside.run(paths.netns_path(LAB, "r"), nft_rules.add_set_rule, "filter", "FORWARD", "10.0.2.2", "10.0.2.3")
        traced = lab.trace("a", "b")
        assert not traced.answered
        assert f'filter/FORWARD rule 2: "{UNSHOWN}" -j DROP' in str(traced)
        assert "nft list chain ip filter FORWARD" in str(traced)
        (change,) = lab.status()
        assert UNSHOWN in str(change.have.rules[-1])
        labctl.up(ROUTED, firewall="nft")
        assert not lab.status()
        assert lab.trace("a", "b").answered

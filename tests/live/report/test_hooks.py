"""`show --hooks` of a machine with tables of nft beside those of iptables: the order is the kernel's."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

import labctl
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.kernel.observe.hooks import read_hooks
from labctl.lab import lifecycle
from labctl.report.hooks import hook_sections, hooks_document, node_hooks, notes
from labctl.running_lab import RunningLab

ROUTED = """
name: shown-hooks
model: raw
namespaces: [a, r, b]
links: [{veth: [a/eth0, r/a]}, {veth: [b/eth0, r/b]}]
addresses: {a/eth0: 10.0.1.2/24, r/a: 10.0.1.1/24, r/b: 10.0.2.1/24, b/eth0: 10.0.2.2/24}
routes: {a: default via 10.0.1.1, b: default via 10.0.2.1}
sysctls: {r: {net.ipv4.ip_forward: 1}}
firewall: {r: {filter: {FORWARD: [-p udp -j DROP, -j ACCEPT]}}}
"""
TABLES = """
table inet user {
  chain first { type filter hook forward priority 5; policy accept; counter
  }
  chain second { type filter hook forward priority 5; policy accept; ip protocol icmp counter accept
  }
  chain early { type filter hook forward priority -10; policy drop; accept
  }
}
table netdev dev {
  chain in { type filter hook ingress device "a" priority 0; ip protocol udp drop
  }
}
"""


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    with labctl.up(ROUTED) as lab:
        command = ["nsenter", f"--net={paths.netns_path(lab.name, 'r')}", "nft", "-f", "-"]
        subprocess.run(command, input=TABLES, text=True, check=True, timeout=20)
        yield lab


def test_the_chains_of_each_hook_are_shown_in_the_order_of_the_kernel(lab: RunningLab) -> None:
    chains, listed = read_hooks(lab.name, ["r"])["r"]
    hooks = node_hooks("r", chains, listed, lifecycle.load_compiled_lab(lab.name).plan, backend.backend_of(lab.name))
    found = {section.title: section.rows for section in hook_sections(hooks)}
    iptables = "iptables" if backend.backend_of(lab.name) == "legacy" else "ip"

    assert found["devices: ingress"] == (("0 filter", "netdev dev in @a", "accept", "1", "stranger"),)
    assert found["IP: forward"] == (
        ("-10 filter - 10", "inet user early", "drop", "1", "stranger"),
        ("0 filter", f"{iptables} filter FORWARD", "accept", "2", "lab"),
        ("5 filter + 5", "inet user second", "accept", "1", "stranger"),
        ("5 filter + 5", "inet user first", "accept", "1", "stranger"),
    )
    assert all(len(" ".join(row)) < 80 for rows in found.values() for row in rows)
    assert next(iter(notes(hooks))).startswith("The order ")
    assert hooks_document(lab.name, [hooks])["nodes"][0]["order"] == ("kernel" if listed else "derived")
    traced = str(lab.trace("a", "b"))
    order = "inet user/early (-10) accept, iptables filter/FORWARD (0) accept, inet user/second (5) accept"
    assert f"forward: {order}, inet user/first (5) policy accept" in traced

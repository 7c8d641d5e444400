"""A model with the file's own objects on top is built with both firewall back ends, has no drift, and is repaired."""

from __future__ import annotations

import subprocess

import pytest

from labctl.core.features import required_features
from labctl.core.iptables import BACKENDS, Backend
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support import kernels
from tests.support.drift import drift

pytestmark = pytest.mark.kernel
OWN = """
machines: {{admin: {{role: vm}}}}
links:
  - veth: [admin/eth0, {node}/own0]
addresses: {{admin/eth0: [198.18.77.2/24, 2001:db8:77::2/64], {node}/own0: [198.18.77.1/24, 2001:db8:77::1/64]}}
routes: {{admin: default via 198.18.77.1, {node}: 198.18.78.0/24 via 198.18.77.2}}
rules: {{{node}: from 198.18.77.0/24 lookup main pref 7700}}
neighbours: {{admin: 198.18.77.9 lladdr 02:00:00:00:00:09 dev eth0}}
sysctls: {{{node}: {{net.ipv4.conf.own0.rp_filter: 2, net.ipv4.conf.all.log_martians: 1}}}}
ipsets: {{{node}: {{own: [198.18.77.0/24]}}}}
firewall:
  {node}:
    filter: {{INPUT: [-i own0 -m set --match-set own src -j OWN], OWN: [-p tcp --dport 22 -j DROP], FORWARD: [-j OWN]}}
    nat: {{POSTROUTING: [-o own0 -j MASQUERADE]}}
firewall6:
  {node}: {{filter: {{INPUT: [-i own0 -p tcp --dport 22 -j DROP]}}}}
ebtables:
  {node}: {{filter: {{FORWARD: [-i own0 -j DROP]}}}}
nftables:
  {node}: |
    table inet own {{
      chain c {{ type filter hook input priority 10; iif own0 tcp dport {{ 23,24 }} counter drop; }}
    }}
"""
LABS = {
    "docker-bridge": ("hosts: {host1: {containers: [c1, c2]}}\n", "host1"),
    "docker-bridge-nft": (
        "hosts: {host1: {containers: [c1, c2]}}\nrelease: 29\nfirewall_backend: nftables\n", "host1",
    ),
    "kubenet": (
        "nodes: {node1: {pods: {a: {labels: {app: web}}, b: }}, node2: {pods: [c]}}\n"
        "services: {web: {selector: {app: web}, ports: [80]}}\npolicies: {deny: {podSelector: {}}}\n", "node1",
    ),
    "calico": ("nodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\n", "node1"),
}  # fmt: skip
MORE = {
    "docker-bridge-nft": "    insert rule ip docker-bridges filter-FORWARD ip saddr 192.0.2.1 counter drop\n"
    "    add rule ip docker-bridges filter-FORWARD counter\n",
}


def define(name: str, backend: Backend) -> lifecycle.Definition:
    if reason := kernels.backend_problem(backend):
        pytest.skip(reason)
    text, node = LABS[name]
    model = name.removesuffix("-nft")
    own = OWN.format(node=node) + MORE.get(name, "")
    definition = define_text("x.yaml", f"name: x\nmodel: {model}\n{text}{own}", f"own-{name}", firewall=backend)
    if reason := kernels.missing_text(tuple(required_features(definition.compiled.plan))):
        pytest.skip(reason)
    return definition


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", LABS)
def test_a_model_with_own_objects_has_no_drift(name: str, backend: Backend) -> None:
    definition = define(name, backend)
    node = LABS[name][1]
    lifecycle.up(definition)
    try:
        assert drift(definition.name) == []
        assert lifecycle.up(definition).changes == ()
        namespace = paths.netns_name(definition.name, node)
        for command in ("ip link del own0", "nft flush chain inet own c", "ip rule del pref 7700"):
            subprocess.run(["ip", "netns", "exec", namespace, *command.split()], check=True)
        assert len(drift(definition.name)) >= 3
        lifecycle.up(definition)
        assert drift(definition.name) == []
        ping = ["ip", "netns", "exec", paths.netns_name(definition.name, "admin"), "ping", "-c1", "-W2", "198.18.77.1"]
        assert subprocess.run(ping, capture_output=True, check=False).returncode == 0
    finally:
        lifecycle.down(definition.name)
    assert definition.name not in paths.labs()

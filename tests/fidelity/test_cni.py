"""kubenet against the CNI plugins that it runs: one node wired by them, and one by labctl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl import lab
from labctl.kernel import places
from tests.fidelity import subjects
from tests.fidelity.alike import AT_ONCE, differences, observed
from tests.fidelity.differences import unexplained
from tests.fidelity.replay import replayed, settled
from tests.fidelity.subjects import Cni, add, cable, ip, write

pytestmark = pytest.mark.root

NODE, PODS = "node1", ("a", "b")
ALL = (NODE, "fabric", *PODS)
# what a node is before a plugin runs: settings of its image (AgentBaker's sysctl.d), a card, a way out
IMAGE = {
    "ipv4.conf.all.rp_filter": 1, "ipv4.conf.default.rp_filter": 1,
    "ipv4.conf.all.send_redirects": 0, "ipv4.conf.default.send_redirects": 0,
    "ipv4.conf.all.accept_redirects": 0, "ipv4.conf.default.accept_redirects": 0,
    "ipv4.conf.all.accept_source_route": 0, "ipv4.conf.default.accept_source_route": 0,
    "bridge.bridge-nf-call-iptables": 1,
}  # fmt: skip
SUBNET = {"ranges": [[{"subnet": "10.244.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}
IPAM = {"type": "host-local", **SUBNET}
# kubelet's own template of the network, NET_CONFIG_TEMPLATE in kubenet_linux.go, and its loopback
KUBENET: list[dict[str, Any]] = [
    {"type": "loopback"},
    {
        "type": "bridge", "bridge": "cbr0", "mtu": 1500, "addIf": "eth0", "isGateway": True, "ipMasq": False,
        "promiscMode": True, "ipam": IPAM,
    },
]  # fmt: skip
BRIDGE: dict[str, Any] = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipam": IPAM}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
TUNING = {"type": "tuning", "mtu": 1400, "promisc": True, "sysctl": {"net.ipv4.conf.eth0.rp_filter": "2"}}
# other shapes of network that the same plugins make; labctl has no model of them
SHAPES: dict[str, list[dict[str, Any]]] = {
    "kubenet": KUBENET,
    "hairpin": [BRIDGE | {"hairpinMode": True}],
    "ipMasq": [BRIDGE | {"ipMasq": True}],
    "ptp": [{"type": "ptp", "ipMasq": True, "ipam": IPAM}],
    "portmap": [BRIDGE | {"ipMasq": True}, PORTMAP],
    "firewall": [BRIDGE, {"type": "firewall", "backend": "iptables"}],
    "tuning": [BRIDGE, TUNING],
}


@contextmanager
def bare_node(work: Path, born: dict[str, int]) -> Iterator[Cni]:
    """A node without a network for its pods, as the image leaves it, and two pods without any.

    `born` are settings that all namespaces have before they get devices.
    """
    folder = subjects.cni_folder()
    if folder is None:
        pytest.skip("no CNI plugins here: scripts/test unpacks Debian's containernetworking-plugins")
    name = places.netns_name("real", NODE)
    try:
        add("real", *ALL)
        for one in ALL:
            write("real", one, born)
        for pod in PODS:
            write("real", pod, {"ipv4.ip_forward": 0})
        write("real", NODE, IMAGE)
        cable("real", NODE, "fabric", NODE)
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} addr add 10.224.0.4/16 broadcast + dev eth0")
        ip(f"-n {name} route add default via 10.224.0.1 dev eth0")
        yield Cni("real", NODE, folder, work)
    finally:
        subjects.remove("real")


def test_kubenet(tmp_path: Path) -> None:
    with bare_node(tmp_path, {}) as node:
        for pod in PODS:
            node.add(pod, KUBENET)
        settled("real", ALL)
        real = observed("real", (NODE, *PODS))
    sets = ("masquerade=kubelet", "non_masquerade_cidr=0.0.0.0/0", "dedup=false")
    lab.up(lab.define("kubenet", sets=sets))
    try:
        found = differences(observed("kubenet", (NODE, *PODS)), real)
    finally:
        lab.down("kubenet")
    assert unexplained("kubenet", found) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_what_plugins_make_labctl_makes_again(tmp_path: Path, shape: str) -> None:
    with bare_node(tmp_path, AT_ONCE) as node:
        for pod in PODS:
            node.add(pod, SHAPES[shape], PORTS if pod == "a" else {})
        assert unexplained(f"replay of {shape}", replayed("real", ALL)) == []

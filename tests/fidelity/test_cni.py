"""kubenet against the CNI plugins that it runs: one node wired by them, and one by labctl."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from labctl.core.iptables import BACKENDS, Backend
from labctl.core.resources import NftObject
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.fidelity import subjects
from tests.fidelity.alike import AT_ONCE, Side, differences, observed
from tests.fidelity.differences import unexplained
from tests.fidelity.replay import replayed, settled
from tests.fidelity.subjects import Cni, add, cable, ip, write
from tests.support.drift import drift
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.root

NODE, PODS = "node1", ("a", "b")
ALL = (NODE, "fabric", *PODS)
# what a node is before a plugin runs: settings of its image (AgentBaker's sysctl.d), a card, a way out
IMAGE = {
    "ipv4.conf.all.rp_filter": 0, "ipv4.conf.default.rp_filter": 0,
    "ipv4.conf.all.secure_redirects": 0, "ipv4.conf.default.secure_redirects": 0,
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
MARK = "KUBE-MARK-MASQ"
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
def bare_node(
    work: Path,
    born: dict[str, int],
    lab: str = "real",
    own: Path | None = None,
    image: dict[str, int] = IMAGE,
    backend: Backend = subjects.BACKEND,
    folder: Path | None = None,
) -> Iterator[Cni]:
    """A node without a network for its pods, as the image leaves it, and two pods without any.

    `born` are settings that all namespaces have before they get devices, `own` a folder of plugins to use first,
    `image` the settings of the node's image, `folder` is where the reference plugins are.
    """
    folder = folder or subjects.cni_folder()
    if folder is None:
        pytest.skip("no CNI plugins here: scripts/test unpacks Debian's containernetworking-plugins")
    name = paths.netns_name(lab, NODE)
    try:
        add(lab, *ALL)
        for one in ALL:
            write(lab, one, born)
        for pod in PODS:
            write(lab, pod, {"ipv4.ip_forward": 0})
        write(lab, NODE, image)
        cable(lab, NODE, "fabric", NODE)
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} addr add 10.224.0.4/16 broadcast + dev eth0")
        ip(f"-n {name} route add default via 10.224.0.1 dev eth0")
        yield Cni(lab, NODE, work, *([own] if own else []), folder, backend=backend)
    finally:
        subjects.remove(lab)


def test_kubenet(tmp_path: Path) -> None:
    with bare_node(tmp_path, {}) as node:
        for pod in PODS:
            node.add(pod, KUBENET)
        settled("real", ALL)
        real = observed("real", (NODE, *PODS))
    sets = ("masquerade=kubelet", "non_masquerade_cidr=0.0.0.0/0", "dedup=false")
    lifecycle.up(lifecycle.define("kubenet", overrides=sets))
    try:
        found = differences(observed("kubenet", (NODE, *PODS)), real)
    finally:
        lifecycle.down("kubenet")
    assert unexplained("kubenet", found) == []


# what flannel's CNI plugin asks of `bridge`, of a subnet.env with FLANNEL_MTU=1450 and FLANNEL_IPMASQ=true, with
# the delegate of kube-flannel.yml (flannel-io/cni-plugin, delegateAdd)
FLANNEL: list[dict[str, Any]] = [
    {"type": "loopback"},
    {
        "type": "bridge", "bridge": "cni0", "hairpinMode": True, "isDefaultGateway": True, "isGateway": True,
        "ipMasq": False, "mtu": 1450,
        "ipam": {"type": "host-local", "subnet": "10.244.1.0/24", "routes": [{"dst": "10.244.0.0/16"}]},
    },
]  # fmt: skip


PLAIN = {name: value for name, value in IMAGE.items() if "send" in name or "bridge" in name} | {
    "ipv4.conf.all.rp_filter": 0, "ipv4.conf.default.rp_filter": 0,
}  # fmt: skip


def test_the_bridge_of_flannel(tmp_path: Path) -> None:
    """Pods in whole, and of the node what is cni0 or a port of it: the rest of it is flanneld's."""
    with bare_node(tmp_path, {}, image=PLAIN) as node:
        for pod in PODS:
            node.add(pod, FLANNEL)
        settled("real", ALL)
        real = observed("real", (NODE, *PODS))
    lifecycle.up(lifecycle.define("flannel"))
    try:
        found = differences(observed("flannel", (NODE, *PODS)), real)
    finally:
        lifecycle.down("flannel")
    wired = [line for line in found if not line.startswith(NODE) or "cni0" in line or "veth" in line]
    assert len(found) > len(wired)
    assert unexplained("flannel", wired) == []


# kubenet's template on AKS (kubenetCniTemplate in Azure/AgentBaker): the bridge, and portmap with the kubelet's mark
HOSTPORT: list[dict[str, Any]] = [
    {**KUBENET[1], "name": "kubenet"},
    {"type": "portmap", "name": "kubenet", "capabilities": {"portMappings": True}, "externalSetMarkChain": MARK},
]
MAPPED = {
    "portMappings": [
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "10.224.0.4"},
    ]
}


@pytest.mark.parametrize("backend", BACKENDS)
def test_ports_of_the_node(tmp_path: Path, backend: Backend) -> None:
    with bare_node(tmp_path, {}, backend=backend) as node:
        # what the kubelet writes before it starts a pod (kubelet_network_linux.go of Kubernetes 1.23)
        kubelet = (
            f"-N {MARK}", f"-A {MARK} -j MARK --or-mark 0x4000", "-N KUBE-POSTROUTING",
            "-A POSTROUTING -m comment --comment kubernetes_postrouting_rules -j KUBE-POSTROUTING",
            "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
            "-A KUBE-POSTROUTING -m comment --comment kubernetes_service_traffic_requiring_SNAT -j MASQUERADE"
            " --random-fully",
        )  # fmt: skip
        for words in kubelet:
            spaced = [word.replace("_", " ") for word in words.split()]
            subjects.inside("real", NODE, f"iptables-{backend}", "-t", "nat", *spaced)
        for pod in PODS:
            node.add(pod, [KUBENET[0], *HOSTPORT], MAPPED if pod == "a" else {})
        settled("real", ALL)
        real = observed("real", (NODE, *PODS))
    sets = ("masquerade=kubelet", "non_masquerade_cidr=0.0.0.0/0", "dedup=false")
    lifecycle.up(lifecycle.define("kubenet-hostport", overrides=sets, firewall=backend))
    try:
        found = differences(observed("kubenet-hostport", (NODE, *PODS)), real)
    finally:
        lifecycle.down("kubenet-hostport")
    assert unexplained("kubenet-hostport", found) == []


@pytest.mark.parametrize("shape", SHAPES)
def test_what_plugins_make_labctl_makes_again(tmp_path: Path, shape: str) -> None:
    with bare_node(tmp_path, AT_ONCE) as node:
        for pod in PODS:
            node.add(pod, SHAPES[shape], PORTS if pod == "a" else {})
        assert unexplained(f"replay of {shape}", replayed("real", ALL)) == []


# labctl's own plugin and the reference plugin that it follows: the reference's chain, and labctl's
OWN = {"type": "labctl-cni", "ipam": IPAM}
BARE = {"type": "host-local", "ranges": SUBNET["ranges"]}  # no routes
FOLLOWED: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "bridge": ([BRIDGE], [OWN | {"isGateway": True}]),
    "hairpin": ([BRIDGE | {"hairpinMode": True}], [OWN | {"isGateway": True, "hairpinMode": True}]),
    "promisc": (
        [BRIDGE | {"promiscMode": True, "mtu": 1400}], [OWN | {"isGateway": True, "promiscMode": True, "mtu": 1400}],
    ),
    "ipMasq": ([BRIDGE | {"ipMasq": True}], [OWN | {"isGateway": True, "ipMasq": True}]),
    "default gateway": (
        [BRIDGE | {"isDefaultGateway": True, "ipam": BARE}], [OWN | {"isDefaultGateway": True, "ipam": BARE}],
    ),
    "ptp": ([{"type": "ptp", "ipMasq": True, "ipam": IPAM}], [OWN | {"shape": "routed", "ipMasq": True}]),
    "firewall": (
        [BRIDGE, {"type": "firewall", "backend": "iptables"}], [OWN | {"isGateway": True, "firewall": True}],
    ),
    "portmap": ([BRIDGE | {"ipMasq": True}, PORTMAP], [OWN | {"isGateway": True, "ipMasq": True}, PORTMAP]),
}  # fmt: skip


@pytest.mark.parametrize("shape", FOLLOWED)
def test_labctl_as_a_plugin_wires_as_the_reference_does(tmp_path: Path, own_plugin: Path, shape: str) -> None:
    theirs, ours = FOLLOWED[shape]
    with bare_node(tmp_path / "real", AT_ONCE) as node:
        real = come_and_gone(node, theirs)
    with bare_node(tmp_path / "ours", AT_ONCE, "ours", own_plugin) as node:
        made = come_and_gone(node, ours)
    for is_made, is_real in zip(made, real, strict=True):
        assert unexplained(f"labctl-cni {shape}", differences(is_made, is_real)) == []


NFT = {"ipMasqBackend": "nftables"}
OWN_NFT = OWN | {"ipMasq": True} | NFT
FOLLOWED_WITH_NFT: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {
    "bridge": ([BRIDGE | {"ipMasq": True} | NFT], [OWN_NFT | {"isGateway": True}]),
    "ptp": ([{"type": "ptp", "ipMasq": True, "ipam": IPAM} | NFT], [OWN_NFT | {"shape": "routed"}]),
    "portmap": (
        [BRIDGE | {"ipMasq": True} | NFT, PORTMAP | {"backend": "nftables"}],
        [OWN_NFT | {"isGateway": True}, PORTMAP | {"backend": "nftables"}],
    ),
}


@pytest.mark.parametrize("shape", FOLLOWED_WITH_NFT)
def test_labctl_as_a_plugin_writes_the_rules_of_nft_of_the_reference(
    tmp_path: Path, own_plugin: Path, shape: str
) -> None:
    """Against the plugins of 1.9, which have the back end."""
    folder = subjects.newer_cni_folder()
    if folder is None:
        pytest.skip("no CNI plugins 1.9 here: scripts/test unpacks those of Debian forky")
    theirs, ours = FOLLOWED_WITH_NFT[shape]
    with bare_node(tmp_path / "real", AT_ONCE, folder=folder) as node:
        real = come_and_gone(node, theirs)
    with bare_node(tmp_path / "ours", AT_ONCE, "ours", own_plugin, folder=folder) as node:
        made = come_and_gone(node, ours)
    tables = {item.table for item in real[0].plan if isinstance(item, NftObject)}
    assert "inet cni_plugins_masquerade" in tables
    for is_made, is_real in zip(made, real, strict=True):
        assert unexplained(f"labctl-cni {shape} with nft", differences(is_made, is_real)) == []


WITH_PLUGINS = """
name: nft-plugins
model: cni
cni_path: {folder}
conflist:
  cniVersion: 1.1.0
  name: kubenet
  plugins:
    - {{type: bridge, bridge: cbr0, isGateway: true, ipMasq: true, ipMasqBackend: nftables, hairpinMode: true,
       ipam: {{type: host-local, ranges: [[{{subnet: "{{pod_cidr}}"}}]], routes: [{{dst: 0.0.0.0/0}}]}}}}
    - {{type: portmap, snat: true, backend: nftables, capabilities: {{portMappings: true}}}}
nodes: {{node1: {{pods: [a]}}, node2: {{pods: {{c-one: {{host_ports: ["8080:80"]}}, c-two: }}}}}}
"""


def test_a_lab_wants_the_rules_of_nft_that_plugins_wrote(tmp_path: Path) -> None:
    """They are those of the files in tests/golden/cni-plugins-1.9.1, with nft 1.0.6 or later; and they come back."""
    folder = subjects.newer_cni_folder()
    if folder is None:
        pytest.skip("no CNI plugins 1.9 here: scripts/test unpacks those of Debian forky")
    golden = GOLDEN / "cni-plugins-1.9.1"
    wanted = (golden / "ipmasq.txt").read_text() + (golden / "portmap.txt").read_text()
    file = tmp_path / "lab.yaml"
    file.write_text(WITH_PLUGINS.format(folder=folder))
    try:
        lifecycle.up(lifecycle.define(str(file)))
        listed = subjects.inside("nft-plugins", "node2", "nft", "list", "ruleset")
        assert listed.replace("output priority -100", "output priority dstnat") == wanted  # as nft 1.1 prints it
        for words in ("flush chain ip cni_hostport hostports", "delete table inet cni_plugins_masquerade"):
            subjects.inside("nft-plugins", "node2", "nft", *words.split())
        assert "missing nft table inet cni_plugins_masquerade" in drift("nft-plugins")
        lifecycle.up(lifecycle.define(str(file)))
        assert drift("nft-plugins") == []
    finally:
        warnings: list[str] = []
        lifecycle.down("nft-plugins", warn=warnings.append)
    assert warnings == []  # the known error of DEL is none


def come_and_gone(node: Cni, plugins: list[dict[str, Any]]) -> tuple[Side, Side]:
    """What there is when both pods are wired, and what is left when one of them went."""
    results = {pod: node.add(pod, plugins, PORTS if pod == "a" else {}) for pod in PODS}
    settled(node.lab, ALL)
    both = observed(node.lab, (NODE, *PODS))
    node.remove("a", plugins, results["a"], PORTS)
    settled(node.lab, ALL)
    return both, observed(node.lab, (NODE, *PODS))

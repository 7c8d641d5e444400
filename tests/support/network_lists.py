"""The network lists in `tests/data/network_lists`: their shapes are those that the projects of these names publish."""

from __future__ import annotations

from dataclasses import dataclass

from tests.support.paths import ROOT

FOLDER = ROOT / "tests/data/network_lists"
PODS = {1: "{node1: {pods: {a: SETTINGS, b: }}}", 2: "{node1: {pods: {a: SETTINGS, b: }}, node2: {pods: [c]}}"}
MESH = "every"  # the first words of what is claimed
SAME_NODE, NODES, CHECK = "pods", "each", "CHECK"


@dataclass(frozen=True, slots=True)
class NetworkList:
    """What a list must do: come up with these claims, or be refused with these words.

    `nodes` is the number of nodes, `settings` those of pod a, `kernel` the plugin whose ADD fails on a kernel that
    lacks what it needs: its kind of link, or the VLANs of bridges.
    """

    claims: frozenset[str] = frozenset()
    nodes: int = 1
    settings: str = ""
    refused: str = ""
    kernel: str = ""


def _up(*claims: str, nodes: int = 1, settings: str = "", kernel: str = "") -> NetworkList:
    return NetworkList(frozenset(claims), nodes, settings, kernel=kernel)


def _no(words: str) -> NetworkList:
    return NetworkList(refused=words)


def _without(plugin: str) -> NetworkList:
    return _no(f"cannot find the CNI plugin {plugin!r}")


PORT = "{host_ports: ['8080:80']}"
KUBERNETES, ONE_NODE = (MESH, NODES), (CHECK, MESH, NODES)
LISTS = {
    # container runtimes
    "podman.conflist": _up(CHECK, SAME_NODE, NODES, nodes=2, settings=PORT),
    "podman-dnsname.conflist": _without("dnsname"),
    "podman-macvlan.conflist": _no("macvlan ADD of a/eth0 on node1 failed: error dialing DHCP daemon"),
    "crio-bridge.conflist": _up(*ONE_NODE),
    "crio-ipv4.conf": _up(*KUBERNETES),
    "crio-loopback.conf": _no("the list loopback (loopback) gives a pod no eth0"),
    "containerd.conflist": _up(*ONE_NODE, settings=PORT),
    "nerdctl.conflist": _up(*ONE_NODE, settings=PORT),
    "nomad.conflist": _up(*ONE_NODE, settings=PORT),
    "buildkit.conflist": _up(*ONE_NODE),
    "firecracker.conflist": _without("tc-redirect-tap"),
    "no-version.conf": _up(*KUBERNETES),
    # Kubernetes
    "kindnet.conflist": _up(*KUBERNETES, nodes=2, settings=PORT),
    "minikube.conflist": _up(CHECK, SAME_NODE, NODES, nodes=2, settings=PORT),
    "kubenet.conf": _up(*KUBERNETES, nodes=2),
    "flannel.conflist": _without("flannel"),
    "flannel-delegate.conflist": _up(*KUBERNETES, nodes=2),
    "k3s-flannel-ipv6.conflist": _up(CHECK, *KUBERNETES, nodes=2),
    "calico.conflist": _without("calico"),
    "cilium.conflist": _without("cilium-cni"),
    "weave.conflist": _without("weave-net"),
    "antrea.conflist": _without("antrea"),
    "aws-vpc.conflist": _without("aws-cni"),
    "azure-vnet.conflist": _without("azure-vnet"),
    "gke-ptp.conflist": _up(*KUBERNETES, nodes=2),
    "kube-router.conflist": _up(*KUBERNETES, nodes=2),
    # Multus
    "multus.conf": _without("multus"),
    "nad-bridge.yaml": _up(*ONE_NODE),
    "nad-macvlan.yaml": _up(MESH, kernel="macvlan"),
    "nad-sriov.yaml": _without("sriov"),
    "nad-whereabouts.yaml": _without("whereabouts"),
    # kinds of devices
    "macvlan.conf": _up(MESH, kernel="macvlan"),
    "macvlan-private.conf": _up(CHECK, kernel="macvlan"),
    "ipvlan.conf": _up(MESH, kernel="ipvlan"),
    "vlan.conf": _up(kernel="vlan"),
    "host-device.conf": _no("host-device ADD of a/eth0 on node1 failed: failed to find host device: Link not found"),
    "bridge-layer2.conf": _up(MESH),
    "bridge-no-ipam.conf": _up(CHECK),
    "bridge-overlap.conflist": _no("gives its bridge an address of 192.168.1.0/24, which overlaps node_cidr"),
    "bridge-vlan.conf": _up(CHECK, MESH, kernel="bridge"),
    "vrf.conflist": _up(kernel="vrf"),
    # families and addresses
    "ptp-dual-stack.conflist": _up(*ONE_NODE),
    "ipv6-first.conflist": _up(CHECK, SAME_NODE, NODES, nodes=2),
    "ipv6-only.conflist": _up(*ONE_NODE),
    "ipv6-ptp.conf": _up(*ONE_NODE),
    "static.conflist": _no("bridge ADD of a/eth0 on node1 failed: IPAM plugin returned missing IP config"),
    "ptp-0.2.0.conf": _up(*KUBERNETES),
    # plugins that follow in a chain
    "tuning.conflist": _up(*ONE_NODE),
    "bandwidth.conflist": _up(*ONE_NODE),
    "portmap-options.conflist": _up(*ONE_NODE, settings=PORT),
    "sbr.conflist": _no("the list sbr (bridge, host-local, sbr) leaves a pod without a route"),
    "firewall-firewalld.conflist": _no("firewall ADD of a/eth0 on node1 failed: dial unix"),
    "portmap-first.conflist": _no("portmap ADD of a/eth0 on node1 failed: must be called as chained plugin"),
}
UP = [name for name, expected in LISTS.items() if not expected.refused]
REFUSED = [name for name, expected in LISTS.items() if expected.refused]


def scenario_text(name: str, nodes: int) -> str:
    """A scenario with this list: two pods on one node, and one on another."""
    return f"model: cni\nconflist: {FOLDER / name}\nnodes: {PODS[nodes].replace('SETTINGS', LISTS[name].settings)}\n"

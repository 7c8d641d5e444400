"""The benchmark's network in plain pyroute2, as in its documentation: one NetNS object per namespace.

Called as `rival_pyroute2.py up|down PREFIX NODES PODS LEAVES`.
"""

from __future__ import annotations

import sys

from pyroute2 import NetNS, netns
from topology import Network


def up(net: Network, prefix: str) -> None:
    for name in net.names:
        netns.create(f"{prefix}.{name}")
    with NetNS(f"{prefix}.hub", flags=0) as hub:
        start(hub, "lo")
        for number, far_end in enumerate(net.far_ends):
            peer = {"ifname": "eth0", "net_ns_fd": f"{prefix}.{far_end}"}
            hub.link("add", ifname=f"eth{number}", kind="veth", peer=peer)
            index = start(hub, f"eth{number}")
            hub.addr("add", index=index, address=f"10.224.{number}.1", prefixlen=24)
            if number < net.nodes:
                hub.route("add", dst=net.pod_net(number), gateway=f"10.224.{number}.2")
    for number, far_end in enumerate(net.far_ends):
        with NetNS(f"{prefix}.{far_end}", flags=0) as at:
            start(at, "lo")
            at.addr("add", index=start(at, "eth0"), address=f"10.224.{number}.2", prefixlen=24)
            at.route("add", dst="default", gateway=f"10.224.{number}.1")
            if number < net.nodes:
                bridge(net, prefix, at, number)
    for node in range(net.nodes):
        for pod in range(net.pods):
            with NetNS(f"{prefix}.n{node}p{pod}", flags=0) as at:
                start(at, "lo")
                address = net.pod_ip(node, pod + 2)
                at.addr("add", index=start(at, "eth0"), address=address, prefixlen=net.pod_length)
                at.route("add", dst="default", gateway=net.pod_ip(node, 1))


def bridge(net: Network, prefix: str, at: NetNS, node: int) -> None:
    at.link("add", ifname="br0", kind="bridge")
    index = start(at, "br0")
    at.addr("add", index=index, address=net.pod_ip(node, 1), prefixlen=net.pod_length)
    for pod in range(net.pods):
        peer = {"ifname": "eth0", "net_ns_fd": f"{prefix}.n{node}p{pod}"}
        at.link("add", ifname=f"veth{pod}", kind="veth", peer=peer)
        at.link("set", index=start(at, f"veth{pod}"), master=index)


def start(at: NetNS, name: str) -> int:
    """Set a device up and return its index."""
    index = int(at.link_lookup(ifname=name)[0])
    at.link("set", index=index, state="up")
    return index


def main() -> None:
    verb, prefix, *numbers = sys.argv[1:]
    net = Network("", "", *map(int, numbers))
    if verb == "up":
        up(net, prefix)
    else:
        for name in net.names:
            netns.remove(f"{prefix}.{name}")


if __name__ == "__main__":
    main()

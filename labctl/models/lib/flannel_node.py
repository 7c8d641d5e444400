"""What flanneld creates on a node: the backend's routes to each peer's pod range, and its iptables chains. Pure.

Follows pkg/backend and pkg/trafficmngr/iptables of flannel-io/flannel.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import TypeAlias

from labctl.core.resources import Fdb, Interface, Link, Neighbour, Process, Resource, Route
from labctl.models.lib import primitives
from labctl.models.lib.datacenter import UnderlayNic

Lease: TypeAlias = tuple[UnderlayNic, IPv4Network]  # a node, and its pod range
OVERHEAD_BYTES = {"vxlan": 50, "host-gw": 0, "udp": 28, "ipip": 20}  # bytes of headers that a backend adds to a packet
TUNNEL_DEVICES = {"vxlan": "flannel.1", "udp": "flannel0", "ipip": "flannel.ipip"}
VNI, VXLAN_PORT = "1", "8472"  # the port is the Linux kernel's default, which is older than the assigned 4789
_MASQ = '-m comment --comment "flanneld masq"'
_FORWARD = '-m comment --comment "flanneld forward"'


def vtep_mac(nic: UnderlayNic) -> str:
    """The MAC address of a node's flannel.1. Every other node has it as a neighbour entry."""
    return primitives.mac(f"{nic.machine}/flannel.1")


def vxlan_backend(lease: Lease, peers: tuple[Lease, ...], mtu: int, *, direct_routing: bool) -> Iterator[Resource]:
    """The tunnel device, and for each peer a route, a neighbour entry and a forwarding entry with the peer's address.

    With `direct_routing`, a peer on the same Ethernet gets a plain route instead.
    """
    nic, pods = lease
    at = Interface(nic.machine, TUNNEL_DEVICES["vxlan"])
    options = (("id", VNI), ("local", str(nic.address)), ("dev", "eth0"), ("dstport", VXLAN_PORT))
    silent = (*options, ("learning", "off"))
    yield Link(
        at,
        "vxlan",
        mtu=mtu - OVERHEAD_BYTES["vxlan"],
        mac=vtep_mac(nic),
        txqueuelen=primitives.NO_QUEUE,
        options=silent,
    )
    yield from primitives.addresses(at, primitives.with_prefix_length(pods.network_address, 32))
    for peer, peer_range in peers:
        if direct_routing and nic.same_subnet(peer):
            yield Route(nic.machine, peer_range, peer.address, "eth0")
            continue
        yield Neighbour(at, peer_range.network_address, vtep_mac(peer))
        yield Fdb(at, vtep_mac(peer), peer.address)
        yield Route(nic.machine, peer_range, peer_range.network_address, at.dev, onlink=True)


def host_gw_backend(lease: Lease, peers: tuple[Lease, ...]) -> Iterator[Resource]:
    """A route to each peer's range, with the peer as gateway. The kernel refuses a gateway that is not on the link;
    flanneld logs that and continues. So there is no route to a node behind a router."""
    nic, _ = lease
    for peer, peer_range in peers:
        if nic.same_subnet(peer):
            yield Route(nic.machine, peer_range, peer.address, "eth0")


def udp_backend(lease: Lease, peers: tuple[Lease, ...], pod_cidr: IPv4Network, mtu: int) -> Iterator[Resource]:
    """A TUN device, a route of the whole pod CIDR into it, and the program that sends the packets to the peers."""
    nic, pods = lease
    at = Interface(nic.machine, TUNNEL_DEVICES["udp"])
    yield Link(at, "tun", mtu=mtu - OVERHEAD_BYTES["udp"])
    yield from primitives.addresses(at, primitives.with_prefix_length(pods.network_address, 32))
    yield Route(nic.machine, pod_cidr, dev=at.dev, scope="global")
    yield _tunnel_process("udp", lease, peers)


def ipip_backend(
    lease: Lease, peers: tuple[Lease, ...], mtu: int, *, direct_routing: bool, kernel_ipip: bool
) -> Iterator[Resource]:
    """The tunnel device, which sends a packet to the gateway of its route; without `kernel_ipip`, a program on a
    TUN device does that."""
    nic, pods = lease
    at = Interface(nic.machine, TUNNEL_DEVICES["ipip"])
    options = (("local", str(nic.address)),) if kernel_ipip else ()
    yield Link(at, "ipip" if kernel_ipip else "tun", mtu=mtu - OVERHEAD_BYTES["ipip"], options=options)
    yield from primitives.addresses(at, primitives.with_prefix_length(pods.network_address, 32))
    for peer, peer_range in peers:
        device = "eth0" if direct_routing and nic.same_subnet(peer) else at.dev
        yield Route(nic.machine, peer_range, peer.address, device, onlink=True)
    if not kernel_ipip:
        yield _tunnel_process("ipip", lease, peers)


def _tunnel_process(backend: str, lease: Lease, others: tuple[Lease, ...]) -> Process:
    """The program that carries packets between a TUN device and the peers; it knows the range of each peer."""
    nic, _ = lease
    remotes = (f"{peer_range}={peer.address}" for peer, peer_range in others)
    return Process(nic.machine, "flanneld", ("tunnel", backend, TUNNEL_DEVICES[backend], str(nic.address), *remotes))


def iptables_chains(ns: str, pod_range: IPv4Network, pod_cidr: IPv4Network, *, masquerade: bool) -> Iterator[Resource]:
    """The chains of a node: pods' packets are forwarded, and packets that leave the pod CIDR are masqueraded."""
    yield primitives.chain(ns, "filter", "FORWARD", f"{_FORWARD} -j FLANNEL-FWD")
    accept_rules = (f"-s {pod_cidr} {_FORWARD} -j ACCEPT", f"-d {pod_cidr} {_FORWARD} -j ACCEPT")
    yield primitives.chain(ns, "filter", "FLANNEL-FWD", *accept_rules)
    if not masquerade:
        return
    yield primitives.chain(ns, "nat", "POSTROUTING", f"{_MASQ} -j FLANNEL-POSTRTG")
    yield primitives.chain(
        ns,
        "nat",
        "FLANNEL-POSTRTG",
        f"-m mark --mark 0x4000/0x4000 {_MASQ} -j RETURN",
        f"-s {pod_range} -d {pod_cidr} {_MASQ} -j RETURN",
        f"-s {pod_cidr} -d {pod_range} {_MASQ} -j RETURN",
        f"! -s {pod_cidr} -d {pod_range} {_MASQ} -j RETURN",
        f"-s {pod_cidr} ! -d 224.0.0.0/4 {_MASQ} -j MASQUERADE --random-fully",
        f"! -s {pod_cidr} -d {pod_cidr} {_MASQ} -j MASQUERADE --random-fully",
    )

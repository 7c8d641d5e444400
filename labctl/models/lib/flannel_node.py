"""What flanneld creates on a node: the backend's routes to each peer's pod range, and its iptables chains. Pure.

Follows pkg/backend and pkg/trafficmngr/iptables of flannel-io/flannel.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import TypeAlias

from labctl.core.resources import Fdb, Interface, Link, Neighbour, Process, Resource, Route
from labctl.core.why import LABCTL, Component, Source, explained
from labctl.models.lib import primitives
from labctl.models.lib.datacenter import UnderlayNic

_PROJECT = "flannel-io/flannel"
_VXLAN = Component("flanneld (backend vxlan)", Source(_PROJECT, "pkg/backend/vxlan"))
_HOST_GW = Component("flanneld (backend host-gw)", Source(_PROJECT, "pkg/backend/hostgw"))
_UDP = Component("flanneld (backend udp)", Source(_PROJECT, "pkg/backend/udp"))
_IPIP = Component("flanneld (backend ipip)", Source(_PROJECT, "pkg/backend/ipip"))
_IPTABLES = Component("flanneld", Source(_PROJECT, "pkg/trafficmngr/iptables"))
_VXLAN_LINK = _VXLAN.why(
    "It is the tunnel to the other nodes (VNI {id}): it puts packets of pods into UDP packets between nodes, so that"
    " the network below needs no routes to pods. It learns nothing: flanneld writes its table."
)
_TUNNEL_ADDRESS = (
    "It is the address of {ns} in the tunnel, the first of its range of pods: the source of what the node itself"
    " sends to pods of other nodes."
)
_DIRECT = (
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}). Both nodes are on one"
    " Ethernet, so nothing is put into a tunnel."
)
_NEIGHBOUR = _VXLAN.why(
    "{ns} knows the MAC address of flannel.1 of the node behind {ip}: no ARP request crosses the tunnel."
)
_FDB = _VXLAN.why("Frames for this MAC address go to {owner} ({dst}): the tunnel floods nothing.")
_INTO_VXLAN = _VXLAN.why(
    "It leads packets for {dst} ({dst_machines}) into the tunnel. {via} is the address of the other node in it."
)
_UDP_LINK = _UDP.why("It is the device of the tunnel: the program flanneld gets each packet that is sent to it.")
_UDP_ROUTE = _UDP.why(
    "It leads packets for all pods of other nodes ({dst}) to the program, which knows the node of each."
)
_UDP_PROGRAM = _UDP.why(
    "It is the tunnel itself: it carries each packet in a UDP packet (port 8285) to the right node."
)
_IPIP_LINK = _IPIP.why(
    "It is the tunnel to the other nodes: it puts packets of pods into IP packets between nodes, with the least"
    " overhead."
)
_IPIP_ROUTE = _IPIP.why("It leads packets for {dst} ({dst_machines}) to {via_machine}: by {dev}.")
_IPIP_PROGRAM = LABCTL.why("It takes the place of the kernel's IP in IP device, which this kernel does not have.")
_JUMP_FORWARD = _IPTABLES.why(
    "Packets that {ns} forwards pass flanneld's chain: Docker may have set the policy to DROP."
)
_FWD_CHAIN = _IPTABLES.why("It lets packets from and to pods pass.")
_FWD_FROM = _IPTABLES.why("Packets from a pod ({src}) pass.")
_FWD_TO = _IPTABLES.why("Packets to a pod ({dst}) pass.")
_JUMP_POST = _IPTABLES.why("Packets that leave {ns} pass flanneld's chain, which masquerades.")
_POST_CHAIN = _IPTABLES.why("It decides which packets of pods get the address of the node (--ip-masq).")
_POST_MARKED = _IPTABLES.why("kube-proxy has marked the packet and masquerades it itself.")
_POST_OUT = _IPTABLES.why("From a pod of {ns} to any pod: the packet keeps its address.")
_POST_IN = _IPTABLES.why("From any pod to a pod of {ns}: the packet keeps its address.")
_POST_FOREIGN = _IPTABLES.why(
    "From outside to a pod of {ns}: the packet keeps its address, so that the pod sees the client."
)
_POST_MASQ = _IPTABLES.why(
    "All other packets of pods get the address of {ns}: machines outside have no way back to a pod. Multicast is left"
    " out."
)
_POST_MASQ_IN = _IPTABLES.why(
    "From outside to a pod of another node: the packet gets the address of {ns}, so that the answer comes back"
    " through it."
)
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
        why=_VXLAN_LINK,
    )
    yield from _tunnel_address(at, pods, _VXLAN)
    for peer, peer_range in peers:
        if direct_routing and nic.same_subnet(peer):
            yield Route(nic.machine, peer_range, peer.address, "eth0", why=_VXLAN.why(_DIRECT))
            continue
        yield Neighbour(at, peer_range.network_address, vtep_mac(peer), why=_NEIGHBOUR)
        yield Fdb(at, vtep_mac(peer), peer.address, why=_FDB)
        yield Route(nic.machine, peer_range, peer_range.network_address, at.dev, onlink=True, why=_INTO_VXLAN)


def _tunnel_address(at: Interface, pods: IPv4Network, backend: Component) -> Iterator[Resource]:
    """The address of a tunnel device: the first of the node's range."""
    address = primitives.with_prefix_length(pods.network_address, 32)
    return explained(backend.why(_TUNNEL_ADDRESS), primitives.addresses(at, address))


def host_gw_backend(lease: Lease, peers: tuple[Lease, ...]) -> Iterator[Resource]:
    """A route to each peer's range, with the peer as gateway. The kernel refuses a gateway that is not on the link;
    flanneld logs that and continues. So there is no route to a node behind a router."""
    nic, _ = lease
    for peer, peer_range in peers:
        if nic.same_subnet(peer):
            yield Route(nic.machine, peer_range, peer.address, "eth0", why=_HOST_GW.why(_DIRECT))


def udp_backend(lease: Lease, peers: tuple[Lease, ...], pod_cidr: IPv4Network, mtu: int) -> Iterator[Resource]:
    """A TUN device, a route of the whole pod CIDR into it, and the program that sends the packets to the peers."""
    nic, pods = lease
    at = Interface(nic.machine, TUNNEL_DEVICES["udp"])
    yield Link(at, "tun", mtu=mtu - OVERHEAD_BYTES["udp"], why=_UDP_LINK)
    yield from _tunnel_address(at, pods, _UDP)
    yield Route(nic.machine, pod_cidr, dev=at.dev, scope="global", why=_UDP_ROUTE)
    yield _tunnel_process("udp", lease, peers)


def ipip_backend(
    lease: Lease, peers: tuple[Lease, ...], mtu: int, *, direct_routing: bool, kernel_ipip: bool
) -> Iterator[Resource]:
    """The tunnel device, which sends a packet to the gateway of its route; without `kernel_ipip`, a program on a
    TUN device does that."""
    nic, pods = lease
    at = Interface(nic.machine, TUNNEL_DEVICES["ipip"])
    options = (("local", str(nic.address)),) if kernel_ipip else ()
    kind, inner_mtu = "ipip" if kernel_ipip else "tun", mtu - OVERHEAD_BYTES["ipip"]
    yield Link(at, kind, mtu=inner_mtu, options=options, why=_IPIP_LINK)
    yield from _tunnel_address(at, pods, _IPIP)
    for peer, peer_range in peers:
        device = "eth0" if direct_routing and nic.same_subnet(peer) else at.dev
        yield Route(nic.machine, peer_range, peer.address, device, onlink=True, why=_IPIP_ROUTE)
    if not kernel_ipip:
        yield _tunnel_process("ipip", lease, peers)


def _tunnel_process(backend: str, lease: Lease, others: tuple[Lease, ...]) -> Process:
    """The program that carries packets between a TUN device and the peers; it knows the range of each peer."""
    nic, _ = lease
    remotes = (f"{peer_range}={peer.address}" for peer, peer_range in others)
    command = ("tunnel", backend, TUNNEL_DEVICES[backend], str(nic.address), *remotes)
    return Process(nic.machine, "flanneld", command, why=_UDP_PROGRAM if backend == "udp" else _IPIP_PROGRAM)


def iptables_chains(ns: str, pod_range: IPv4Network, pod_cidr: IPv4Network, *, masquerade: bool) -> Iterator[Resource]:
    """The chains of a node: pods' packets are forwarded, and packets that leave the pod CIDR are masqueraded."""
    yield primitives.chain(ns, "filter", "FORWARD", (f"{_FORWARD} -j FLANNEL-FWD", _JUMP_FORWARD))
    source, target = f"-s {pod_cidr} {_FORWARD} -j ACCEPT", f"-d {pod_cidr} {_FORWARD} -j ACCEPT"
    yield primitives.chain(ns, "filter", "FLANNEL-FWD", (source, _FWD_FROM), (target, _FWD_TO), why=_FWD_CHAIN)
    if not masquerade:
        return
    yield primitives.chain(ns, "nat", "POSTROUTING", (f"{_MASQ} -j FLANNEL-POSTRTG", _JUMP_POST))
    yield primitives.chain(
        ns,
        "nat",
        "FLANNEL-POSTRTG",
        (f"-m mark --mark 0x4000/0x4000 {_MASQ} -j RETURN", _POST_MARKED),
        (f"-s {pod_range} -d {pod_cidr} {_MASQ} -j RETURN", _POST_OUT),
        (f"-s {pod_cidr} -d {pod_range} {_MASQ} -j RETURN", _POST_IN),
        (f"! -s {pod_cidr} -d {pod_range} {_MASQ} -j RETURN", _POST_FOREIGN),
        (f"-s {pod_cidr} ! -d 224.0.0.0/4 {_MASQ} -j MASQUERADE --random-fully", _POST_MASQ),
        (f"! -s {pod_cidr} -d {pod_cidr} {_MASQ} -j MASQUERADE --random-fully", _POST_MASQ_IN),
        why=_POST_CHAIN,
    )

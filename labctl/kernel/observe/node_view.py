"""What `show` reads from a running lab beside the objects of a plan, namespace by namespace."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.core.node_state import PORT_STATES, BridgePort, FdbEntry, NodeState
from labctl.core.resources import Interface
from labctl.kernel.host import paths
from labctl.kernel.namespaces import device_state, ports
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import conntrack, dump
from labctl.kernel.netlink.messages import AF_BRIDGE, IFF_UP, NTF_SELF, NUD
from labctl.kernel.netlink.rtnetlink import Channel
from labctl.kernel.observe import snapshot

if TYPE_CHECKING:
    from labctl.core.iptables import Backend

ALWAYS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter")
IF_THERE = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
PER_DEVICE = ("proxy_arp", "rp_filter", "accept_local", "route_localnet", "arp_ignore", "arp_announce", "arp_filter")
PER_DEVICE_6 = ("proxy_ndp", "accept_ra")


def read_sysctls() -> dict[str, str]:
    """The sysctls of this thread's namespace that affect packets, by their names in sysctl(8).

    Forwarding, the reverse-path filter and the bridge's calls to iptables are always included. Those of one device are
    included only if they differ from the default and from the value for all devices.
    """
    found = {path: value for path in (*ALWAYS, *IF_THERE) if (value := _read(path)) is not None}
    for family, names in (("ipv4", PER_DEVICE), ("ipv6", PER_DEVICE_6)):
        folder = f"net/{family}/conf"
        for name in names:
            default = "1" if name == "accept_ra" else "0"
            everywhere = _read(f"{folder}/all/{name}")
            for device in _devices(f"/proc/sys/{folder}"):
                value = _read(f"{folder}/{device}/{name}")
                if value not in (None, default, everywhere) or (device == "all" and value not in (None, default)):
                    found[f"{folder}/{device}/{name}"] = str(value)
    return {_sysctl_name(path): value for path, value in found.items()}


def read_nodes(lab: str, nodes: Iterable[str], *, details: bool = True) -> dict[str, NodeState]:
    """The state of each of these nodes. It only reads, and creates no table.

    Without `details`, what costs most is left out: connections (only their number is read), counters of rules,
    sysctls, and which process holds a socket.
    Raises KernelError, MissingError.
    """
    from labctl.kernel.firewall.backend import backend_of

    with NetnsThread() as thread:
        backend = backend_of(lab)
        return {
            node: thread.run(path, _read_node, node, path, backend if details else None)
            for node, path in ((node, paths.netns_path(lab, node)) for node in nodes)
        }


def _read_node(node: str, path: Path, backend: Backend | None) -> NodeState:
    """The state of this thread's namespace, which is bound to `path`. Without `backend`, no details."""
    from labctl.kernel.firewall import chains, nft_program

    with closing(Channel()) as channel:
        links = snapshot.Snapshot(complete=False)
        links.add(node, dump.links(channel))
        connected = tuple(snapshot.connected_routes(channel, links, node))
        fdb = tuple(_fdb(channel, links, node))
    connections = conntrack.count()
    return NodeState(
        node,
        connected,
        connections,
        conntrack.flows(node) if backend is not None and connections else (),
        tuple(_ports(links, node)),
        fdb,
        ports.listening_sockets(path if backend is not None else None),
        tuple(_without_carrier(links.links[node].values())),
        chains.read_chain_counters(node, backend) if backend is not None else (),
        read_sysctls() if backend is not None else {},
        nft_program.read_counters(node, chains.native_tables(backend)) if backend is not None else (),
    )


def _ports(links: snapshot.Snapshot, node: str) -> Iterator[BridgePort]:
    for link in links.links[node].values():
        if link.port_state is not None:
            bridge, state = links.name(node, link.master), PORT_STATES[link.port_state]
            yield BridgePort(Interface(node, link.name), bridge, state, link.hairpin, link.isolated)


def _fdb(channel: Channel, links: snapshot.Snapshot, node: str) -> Iterator[FdbEntry]:
    """The forwarding entries, without the multicast addresses that every device accepts."""
    table = links.links[node]
    if not any(link.kind in ("bridge", "vxlan") for link in table.values()):
        return
    found: dict[FdbEntry, None] = {}  # a bridge reports one for each VLAN of a port
    for raw in dump.neighbours(channel, family=AF_BRIDGE):
        link = table.get(raw.index)
        if link is None or raw.mac is None or (raw.flags & NTF_SELF and link.kind != "vxlan"):
            continue
        of_vxlan = bool(raw.flags & NTF_SELF)
        state = {NUD["permanent"]: "permanent", NUD["noarp"]: "static"}.get(raw.state, "dynamic")
        bridge = links.name(node, link.master) if link.master else link.name if link.kind == "bridge" else None
        at = Interface(node, link.name)
        found[FdbEntry(at, raw.mac, state, None if of_vxlan else bridge, raw.ip)] = None  # type: ignore[arg-type]
    yield from found


def _without_carrier(links: Iterable[dump.RawLink]) -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for link in links:
            is_up_veth = link.kind == "veth" and link.flags & IFF_UP
            if is_up_veth and device_state.device_problem(sock, link.name) == device_state.NO_CARRIER:
                yield link.name


def _devices(folder: str) -> list[str]:
    try:
        return sorted(set(os.listdir(folder)) - {"default"})
    except FileNotFoundError:
        return []


def _read(path: str) -> str | None:
    try:
        with open(f"/proc/sys/{path}") as file:
            return file.read().strip()
    except OSError:
        return None


def _sysctl_name(path: str) -> str:
    """The name in sysctl(8)'s form: slashes become dots, and dots (in a device's name) become slashes."""
    return path.translate(str.maketrans("/.", "./"))

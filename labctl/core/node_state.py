"""What a namespace's kernel holds beside the objects that a plan is made of. Frozen data without I/O.

A plan does not ask for these: the kernel makes them from packets (connections, learned entries), from addresses
(connected routes) and from devices (the states of bridge ports), and programs make sockets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from labctl.core.resources import IP, Interface, Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from labctl.core.iptables_save import ChainCounters
    from labctl.core.nft_counters import NftCounters
    from labctl.core.observations import Flow

PortState: TypeAlias = Literal["disabled", "listening", "learning", "forwarding", "blocking"]
PORT_STATES: tuple[PortState, ...] = ("disabled", "listening", "learning", "forwarding", "blocking")  # BR_STATE_*


@dataclass(frozen=True, slots=True)
class BridgePort:
    """A device that is a port of a bridge. `state` is that of the spanning tree: only `forwarding` passes frames.

    A port with `hairpin` may send a frame back to where it came from; `isolated` ports pass nothing to each other.
    """

    at: Interface
    bridge: str
    state: PortState
    hairpin: bool = False
    isolated: bool = False


@dataclass(frozen=True, slots=True)
class FdbEntry:
    """An entry of a bridge's or a VXLAN device's forwarding database, as `bridge fdb` shows it.

    `state` is `permanent` (an address of the host, or set and never forgotten), `static` (set), or `dynamic` (learned
    from a frame). `dst` is the remote VTEP of a VXLAN device's entry.
    """

    at: Interface
    mac: str
    state: Literal["permanent", "static", "dynamic"]
    bridge: str | None = None
    dst: IP | None = None


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A socket that waits for clients (TCP) or datagrams (UDP), and the processes that hold it: `web (process 47)`."""

    protocol: Literal["tcp", "udp"]
    address: IP
    port: int
    processes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeState:
    """One namespace: its connected routes (the kernel's own), the number of its connections and the connections,
    bridge ports, forwarding entries, listening sockets, veth ends that are up without carrier, firewall chains with
    counters, sysctls by name, and the tables of nft with counters that are not those of iptables."""

    node: str
    connected_routes: tuple[Route, ...] = ()
    connections: int = 0
    flows: tuple[Flow, ...] = ()
    ports: tuple[BridgePort, ...] = ()
    fdb: tuple[FdbEntry, ...] = ()
    sockets: tuple[ListeningSocket, ...] = ()
    no_carrier: tuple[str, ...] = ()
    chains: tuple[ChainCounters, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    nft: tuple[NftCounters, ...] = ()

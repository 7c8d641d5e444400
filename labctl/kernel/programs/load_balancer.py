"""A load balancer for packets: `load-balancer DEVICE MARK=NODE... PROTOCOL:ADDRESS:PORT@HEALTH_PORT[/client]...`.

Packets that are routed into the TUN device DEVICE go to a node: the program sends them again, unchanged, with the MARK
of the node, and policy routing leads them there. A flow (addresses, ports and protocol) stays at its node until it
ends. A new flow goes to a healthy node by a hash of the flow, or with `/client` of the client's address alone. The hash
is a rendezvous hash: if a node fails or comes back, only the new flows of this node move.

A node is healthy if it answers 200 to an HTTP request at HEALTH_PORT. Without any healthy node, new flows are dropped,
and so is every packet to another port of the address. Fragments after the first have no ports, and are dropped.
"""

from __future__ import annotations

import hashlib
import os
import selectors
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException

from labctl.kernel.host.tun import open_tun
from labctl.kernel.programs.daemon import daemonize, report_ready

PROTOCOLS = {"tcp": socket.IPPROTO_TCP, "udp": socket.IPPROTO_UDP}
SO_MARK = 36
CHECK_INTERVAL_S, CHECK_TIMEOUT_S = 0.5, 1.0
FAILED_CHECKS = 2  # checks that must fail one after the other before a healthy node counts as unhealthy
IDLE_TIMEOUT_S = 240.0  # seconds after which a silent flow is forgotten, as at Azure's load balancer by default
CLOSED_TIMEOUT_S = 10.0  # the same for a connection that both sides or a reset have ended
MAX_FLOWS = 65536
MAX_PACKET_BYTES = 65535
MIN_HEADER_BYTES = 20  # of IPv4
FRAGMENT_OFFSET = 0x1FFF
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


@dataclass(frozen=True)
class Flow:
    """The flow of a packet: its addresses as four bytes each, its ports and its protocol."""

    protocol: int
    source: bytes
    sport: int
    target: bytes
    dport: int

    @property
    def frontend(self) -> tuple[int, bytes, int]:
        """The address and port that the client sent to."""
        return self.protocol, self.target, self.dport


@dataclass(frozen=True)
class Frontend:
    """A port of an address: where nodes answer health checks for it, and whether a client stays at one node."""

    protocol: int
    address: bytes
    port: int
    health_port: int
    by_client: bool


class Flows:
    """Which flow is at which node, by the node's mark."""

    def __init__(
        self, frontends: Iterable[Frontend], healthy: Callable[[int], Sequence[int]], clock: Callable[[], float]
    ) -> None:
        """`healthy` gives the marks of the nodes that are healthy at a health port."""
        self._frontends = {(one.protocol, one.address, one.port): one for one in frontends}
        self._healthy, self._clock = healthy, clock
        self._nodes: dict[Flow, tuple[int, float]] = {}  # the mark of the node, and until when the flow is kept

    def node(self, packet: bytes) -> int | None:
        """The mark of the node that gets this packet; None if no node does."""
        flow = flow_of(packet)
        frontend = None if flow is None else self._frontends.get(flow.frontend)
        if flow is None or frontend is None:
            return None
        now, flags = self._clock(), tcp_flags(packet)
        mark, kept_until = self._nodes.pop(flow, (None, 0.0))
        if mark is None or kept_until < now or flags & SYN:
            mark = choose(self._healthy(frontend.health_port), key(flow, frontend))
        if mark is not None:
            timeout_s = CLOSED_TIMEOUT_S if flags & (FIN | RST) else IDLE_TIMEOUT_S
            self._nodes[flow] = (mark, now + timeout_s)  # the last of the dict, which is in the order of use
            if len(self._nodes) > MAX_FLOWS:
                del self._nodes[next(iter(self._nodes))]
        return mark


def flow_of(packet: bytes) -> Flow | None:
    """The flow of an IPv4 packet; None for a packet without ports."""
    if len(packet) < MIN_HEADER_BYTES or packet[0] >> 4 != 4 or packet[9] not in PROTOCOLS.values():
        return None
    size = (packet[0] & 15) * 4
    (fragment,) = struct.unpack_from("!H", packet, 6)
    if fragment & FRAGMENT_OFFSET or len(packet) < size + 4:
        return None
    sport, dport = struct.unpack_from("!HH", packet, size)
    return Flow(packet[9], packet[12:16], sport, packet[16:20], dport)


def tcp_flags(packet: bytes) -> int:
    """The flags of a TCP segment; 0 for another packet."""
    at = (packet[0] & 15) * 4 + 13
    return packet[at] if packet[9] == socket.IPPROTO_TCP and len(packet) > at else 0


def key(flow: Flow, frontend: Frontend) -> bytes:
    """What decides which node gets a flow."""
    if frontend.by_client:
        return flow.source + flow.target
    return flow.source + flow.target + struct.pack("!HHB", flow.sport, flow.dport, flow.protocol)


def choose(marks: Sequence[int], flow_key: bytes) -> int | None:
    """The node for a flow: the one with the highest hash of the node and the flow. None if there is no node."""

    def digest(mark: int) -> bytes:
        return hashlib.blake2b(flow_key + mark.to_bytes(4, "big"), digest_size=8).digest()

    return max(marks, key=digest, default=None)


class Health:
    """The results of the health checks of all nodes at all health ports. One thread checks each pair."""

    def __init__(self, nodes: dict[int, str], ports: Iterable[int]) -> None:
        self._nodes = nodes
        self._failures = {(mark, port): FAILED_CHECKS for port in ports for mark in nodes}

    def healthy(self, port: int) -> tuple[int, ...]:
        """The marks of the nodes that are healthy at a port."""
        return tuple(mark for mark in self._nodes if self._failures[mark, port] < FAILED_CHECKS)

    def start(self) -> None:
        """Check once at the same time, then again and again."""
        threads = [threading.Thread(target=self._watch, args=pair, daemon=True) for pair in self._failures]
        for thread in threads:
            thread.start()

    def record(self, mark: int, port: int, good: bool) -> None:
        """Count the result of a check."""
        self._failures[mark, port] = 0 if good else self._failures[mark, port] + 1

    def _watch(self, mark: int, port: int) -> None:
        while True:
            self.record(mark, port, good=is_healthy(self._nodes[mark], port))
            time.sleep(CHECK_INTERVAL_S)


def is_healthy(address: str, port: int) -> bool:
    """Whether a node answers 200 to a health check."""
    connection = HTTPConnection(address, port, timeout=CHECK_TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def parse_frontend(word: str) -> Frontend:
    """The frontend of an argument such as `tcp:203.0.113.9:80@30999/client`."""
    place, _, health = word.partition("@")
    protocol, address, port = place.split(":")
    health_port, _, affinity = health.partition("/")
    return Frontend(PROTOCOLS[protocol], socket.inet_aton(address), int(port), int(health_port), affinity == "client")


def marked_socket(mark: int) -> socket.socket:
    """A socket that sends whole IPv4 packets with this mark."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
    return sock


def main(args: Sequence[str]) -> int:
    """Forward packets until a signal ends the process. Returns 1 if the device cannot be used."""
    device, *words = args
    nodes = {int(mark): ip for mark, _, ip in (word.partition("=") for word in words if "=" in word)}
    frontends = [parse_frontend(word) for word in words if "@" in word]
    daemonize("load-balancer")
    try:
        tun = open_tun(device)
        sockets = {mark: marked_socket(mark) for mark in nodes}
    except OSError as error:
        print(f"{device}: {error.strerror}", flush=True)
        return 1
    health = Health(nodes, {one.health_port for one in frontends})
    health.start()
    report_ready()
    forward(tun, Flows(frontends, health.healthy, time.monotonic), sockets)
    return 0


def forward(tun: int, flows: Flows, sockets: dict[int, socket.socket]) -> None:
    """Send every packet of the device to its node, until the device is deleted."""
    selector = selectors.DefaultSelector()
    selector.register(tun, selectors.EVENT_READ)
    while True:
        selector.select()
        try:
            packet = os.read(tun, MAX_PACKET_BYTES)
        except OSError:
            return
        mark = flows.node(packet)
        if mark is not None:
            try:
                sockets[mark].sendto(packet, (socket.inet_ntoa(packet[16:20]), 0))
            except OSError:
                continue  # only this packet could not be sent: there is no such host

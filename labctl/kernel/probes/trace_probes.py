"""The probes of a trace: an echo, a datagram or a SYN of a chosen size and identity, sent in the caller's thread.

The kernel moves a packet through veth pairs in the thread that sends it, so the thread id of the sender distinguishes a
probe from other packets of the machine. The identity of each probe is known before it is sent: its marker, or a TCP
initial sequence number that is chosen here (TCP_REPAIR). So the firewalls can be set up to watch for it.
"""

from __future__ import annotations

import errno
import select
import socket
import struct

from labctl.core.observations import ProbeMatch
from labctl.core.resources import IP
from labctl.kernel.probes.clients import ICMP_FILTER, MTU_DISCOVER, SOL_RAW, Echo, UdpClient, _Client
from labctl.kernel.probes.unused_ids import ICMP_IDS
from labctl.packets.decode import ICMP, ICMPV6, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, TCP, UDP
from labctl.packets.icmp import echo_request
from labctl.packets.probe_id import REQUEST_SUFFIX, TIMESTAMP_BYTES, PayloadMarker, TcpProbeId

PMTUDISC_PROBE, PMTUDISC_INTERFACE = 3, 4  # DF, and no DF; both without regard to a remembered path MTU
PMTUDISC_DONT = 0  # the kernel fragments as it needs to
IPV6_DONTFRAG = 62
TCP_REPAIR, TCP_REPAIR_QUEUE, TCP_QUEUE_SEQ, SEND_QUEUE = 19, 20, 21, 2
DEFAULT_PAYLOAD_BYTES = 61  # default size of the payload in bytes: a length that ping and others do not use
MIN_PAYLOAD_BYTES = {"icmp": TIMESTAMP_BYTES + 8, "udp": 9}  # bytes of payload that the marker needs


class SizedEcho(Echo):
    """An ICMP echo request with a payload of `payload_bytes` bytes, fragmented only if `fragment` allows it."""

    reply_text = "the echo was answered"

    def __init__(self, address: IP, marker: bytes, payload_bytes: int, fragment: bool) -> None:
        self._open_socket(address, marker)
        if address.version == 4:
            keep = (1 << 0) | (1 << 3) | (1 << 11) | (1 << 12)  # echo reply and errors
            self._socket.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", ~keep & 0xFFFFFFFF))
        try:
            _set_fragmentation(self._socket, address.version, fragment)
            self._socket.connect((str(address), 0))
            self.source_address = self._socket.getsockname()[0]
            self._socket.send(echo_request(address.version, ICMP_IDS.next_id(), 1, marker, payload_bytes))
        except OSError as error:
            self._fail_to_send(error.errno or 0)

    def _fail(self, number: int, otherwise: object) -> None:
        """An error that came back ends the probe; the answer `refused` exists only for TCP and UDP."""
        super()._fail(number, "unreachable")
        if self.answer == "refused":
            self.answer = "unreachable"


class SizedDatagram(UdpClient):
    """A UDP datagram with a payload of `payload_bytes` bytes. Raises OSError if it cannot have its source port."""

    def __init__(
        self, address: IP, port: int, marker: bytes, payload_bytes: int, fragment: bool, sport: int | None = None
    ) -> None:
        _Client.__init__(self, _datagram(address))
        self.probe_id = PayloadMarker(marker)
        self._marker = marker
        self._bind(sport, port)
        try:
            _set_fragmentation(self._socket, address.version, fragment)
            self._socket.connect((str(address), port))
            self._socket.send((marker + REQUEST_SUFFIX).ljust(payload_bytes, b"\0"))
        except OSError as error:
            self._fail_to_send(error.errno or 0)


class SynProbe(_Client):
    """A TCP connection with the sequence number `isn` in its SYN; a reset closes it as soon as it is established.
    Raises OSError if it cannot have its source port."""

    def __init__(self, address: IP, port: int, isn: int, sport: int | None = None) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        super().__init__(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        self.probe_id = TcpProbeId(frozenset((isn,)))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        self._bind(sport, port)
        for option, value in ((TCP_REPAIR, 1), (TCP_REPAIR_QUEUE, SEND_QUEUE), (TCP_QUEUE_SEQ, isn), (TCP_REPAIR, 0)):
            self._socket.setsockopt(socket.IPPROTO_TCP, option, struct.pack("=I", value))
        number = self._socket.connect_ex((str(address), port))
        if number not in (0, errno.EINPROGRESS):
            self._fail_to_send(number)

    def _events(self) -> int:
        return int(select.POLLOUT)

    def _step(self) -> None:
        if self._check_connection():
            self.set_answer("reply", "connected")


def matches(protocol: str, version: int, identity: bytes) -> tuple[ProbeMatch, ...]:
    """What a firewall must match to find the probe, its answer, ICMP errors that quote it, and for IPv6 also neighbour
    discovery. `identity` is the marker or the initial sequence number."""
    icmp, head = (ICMP, 20) if version == 4 else (ICMPV6, 40)
    number, offset = {"icmp": (icmp, 8 + TIMESTAMP_BYTES), "udp": (UDP, 8), "tcp": (TCP, 4)}[protocol]
    found = [ProbeMatch(number, offset, identity), ProbeMatch(icmp, 8 + head + offset, identity)]
    if protocol == "tcp":
        ack = (int.from_bytes(identity, "big") + 1) & 0xFFFFFFFF  # the answer acknowledges the SYN
        found.append(ProbeMatch(TCP, 8, ack.to_bytes(4, "big")))
    if version == 6:  # a neighbour solicitation without an answer holds the probe back
        found += [ProbeMatch(ICMPV6, 0, bytes([kind])) for kind in (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT)]
    return tuple(found)


def lengths(protocol: str, version: int, payload_bytes: int) -> tuple[int, ...]:
    """The lengths that the kernel may report for the probe and its answer: with and without the Ethernet header, and
    with the headers of a tunnel."""
    head = 20 if version == 4 else 40
    inner = [head + 40, head + 20] if protocol == "tcp" else [head + 8 + payload_bytes]
    tunnels = (0, 20, 50, 70)  # none, IPIP, VXLAN over IPv4 and IPv6
    return tuple(length + tunnel + ethernet for length in inner for tunnel in tunnels for ethernet in (0, 14))


def _datagram(address: IP) -> socket.socket:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)


def _set_fragmentation(sock: socket.socket, version: int, fragment: bool) -> None:
    level, option = MTU_DISCOVER[version]
    free = PMTUDISC_INTERFACE if version == 4 else PMTUDISC_DONT  # only the sender may fragment IPv6 packets
    sock.setsockopt(level, option, free if fragment else PMTUDISC_PROBE)
    if version == 6 and not fragment:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_DONTFRAG, 1)

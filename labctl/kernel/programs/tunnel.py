"""A tunnel in user space with the wire format of the real one:

    tunnel udp|ipip DEVICE LOCAL RANGE=HOST...

A packet that is routed into the TUN device DEVICE goes to the HOST of the RANGE that contains its destination. Packets
that arrive from a host go into the kernel. `udp` is flannel's oldest backend (pkg/backend/udp of flannel-io/flannel):
the datagram from port 8285 to port 8285 contains the packet without any further header, and the packet's TTL is one
less. `ipip` is IP in IP (RFC 2003, protocol 4) like the kernel's module, for a kernel without it.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
from collections.abc import Callable, Sequence

from labctl.kernel.host.tun import open_tun
from labctl.kernel.programs.daemon import daemonize, report_ready

PORT = 8285  # of flannel's udp backend
IPPROTO_IPIP, IP_MTU_DISCOVER, IP_PMTUDISC_DO = 4, 10, 2
MAX_PACKET_BYTES = 65535
MIN_HEADER_BYTES = 20  # bytes of an IPv4 header without options
Table = list[tuple[int, int, str]]  # network, mask, and the host behind which it is


def main(args: Sequence[str]) -> int:
    """Forward packets until a signal ends the process. Returns 1 if the device or the address cannot be used."""
    mode, device, local, *entries = args
    table = routes(entries)
    daemonize("flanneld" if mode == "udp" else "ipip")
    try:
        tun = open_tun(device)
        wire = datagrams(local) if mode == "udp" else packets(local, {host for _, _, host in table})
    except OSError as error:
        print(f"{device} at {local}: {error.strerror}", flush=True)
        return 1
    report_ready()
    forward(tun, wire, table, mode)
    return 0


def routes(entries: Sequence[str]) -> Table:
    """The table of `RANGE=HOST` arguments, longest prefix first."""
    table: Table = []
    for entry in entries:
        network, _, host = entry.partition("=")
        address, _, length = network.partition("/")
        mask = 0xFFFFFFFF << (32 - int(length)) & 0xFFFFFFFF
        table.append((struct.unpack("!I", socket.inet_aton(address))[0], mask, host))
    return sorted(table, key=lambda row: -row[1])


def lookup(table: Table, packet: bytes) -> str | None:
    """The host for a packet's destination, or None."""
    (target,) = struct.unpack_from("!I", packet, 16)
    return next((host for network, mask, host in table if target & mask == network), None)


def datagrams(local: str) -> socket.socket:
    """The socket of flannel's udp backend. It never sends fragments."""
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    wire.bind((local, PORT))
    return wire


def packets(local: str, hosts: set[str]) -> socket.socket:
    """The socket of IP in IP. What it receives begins with the outer header.

    A tunnel with only one host receives only from that host, like a device with a `remote`: a node may have several
    such tunnels.
    """
    wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, IPPROTO_IPIP)
    wire.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
    wire.bind((local, 0))
    if len(hosts) == 1:
        wire.connect((*hosts, 0))
    return wire


def decrement_ttl(packet: bytes) -> bytes | None:
    """The packet with its TTL decremented and its checksum updated (RFC 1141), as flannel's proxy does it; None if the
    TTL is used up."""
    if packet[8] <= 1:
        return None
    (old,) = struct.unpack_from("!H", packet, 10)
    new = old + 0x100
    new = (new + (new >> 16)) & 0xFFFF
    return packet[:8] + bytes([packet[8] - 1]) + packet[9:10] + struct.pack("!H", new) + packet[12:]


def forward(tun: int, wire: socket.socket, table: Table, mode: str) -> None:
    """Forward both directions until the device is deleted."""
    selector = selectors.DefaultSelector()
    send, receive = (_sender(wire, table, mode), _receiver(tun, wire, mode))
    selector.register(tun, selectors.EVENT_READ, lambda: send(os.read(tun, MAX_PACKET_BYTES)))
    selector.register(wire, selectors.EVENT_READ, receive)
    while True:
        for key, _ in selector.select():
            try:
                key.data()
            except OSError as error:
                if error.errno == errno.EBADFD:
                    return
                # otherwise only this packet could not be sent: it is too big, or there is no such host


def _sender(wire: socket.socket, table: Table, mode: str) -> Callable[[bytes], None]:
    def send(packet: bytes) -> None:
        if len(packet) < MIN_HEADER_BYTES or packet[0] >> 4 != 4:
            return
        host = lookup(table, packet)
        outgoing = decrement_ttl(packet) if mode == "udp" else packet
        if host is not None and outgoing is not None:
            wire.sendto(outgoing, (host, PORT if mode == "udp" else 0))

    return send


def _receiver(tun: int, wire: socket.socket, mode: str) -> Callable[[], None]:
    def receive() -> None:
        data = wire.recv(MAX_PACKET_BYTES)
        inner = data if mode == "udp" else data[(data[0] & 15) * 4 :]
        if len(inner) >= MIN_HEADER_BYTES and inner[0] >> 4 == 4:
            os.write(tun, inner)

    return receive

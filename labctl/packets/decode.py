"""Decode one frame: Ethernet, VLAN, ARP, IPv4 or IPv6, ICMP, TCP, UDP, and the packets inside tunnels.

Only the fields that checks and traces need are decoded, without a packet library. A truncated or unknown
frame gives None, never an exception. IPv6 extension headers are not followed.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Literal, TypeAlias

from labctl.core.resources import IP, Interface

ETHERNET, LOOPBACK = 1, 772  # ARPHRD of devices whose frames begin with an Ethernet header
IPV4, ARP, VLAN, QINQ, IPV6, CANARY = 0x0800, 0x0806, 0x8100, 0x88A8, 0x86DD, 0x88B5
VXLAN_PORTS = (4789, 8472, 6784)  # IANA's, Linux's default (flannel, Cilium), and Weave's
VXLAN_FLAGS = bytes.fromhex("08000000")  # the first half of a VXLAN header without extensions
GENEVE_PORT, FLANNEL_UDP_PORT = 6081, 8285  # Geneve; flannel's udp backend: an IP packet without a tunnel header
OTHERHOST, OUTGOING = 3, 4  # sll_pkttype of a frame for another machine, and of an outgoing one; all others came in
SYN, RST, ACK = 2, 4, 16
ICMP, IPIP, TCP, UDP, IP6IP, ICMPV6 = 1, 4, 6, 17, 41, 58  # IP protocol numbers
ECHO_TYPES = {4: (8, 0), 6: (128, 129)}  # types of an ICMP echo request and reply
NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT = 135, 136  # types of ICMPv6

PacketKind: TypeAlias = Literal["echo", "echo-reply", "error", "tcp", "udp", "arp", "other"]

ICMP_ERRORS = {
    (4, 3, 0): "net unreachable",
    (4, 3, 1): "host unreachable",
    (4, 3, 2): "protocol unreachable",
    (4, 3, 3): "port unreachable",
    (4, 3, 4): "fragmentation needed",
    (4, 3, 9): "net prohibited",
    (4, 3, 10): "host prohibited",
    (4, 3, 13): "administratively prohibited",
    (4, 11, 0): "ttl exceeded",
    (4, 11, 1): "reassembly time exceeded",
    (6, 1, 0): "no route",
    (6, 1, 1): "administratively prohibited",
    (6, 1, 3): "address unreachable",
    (6, 1, 4): "port unreachable",
    (6, 1, 5): "source address failed policy",
    (6, 1, 6): "route rejected",
    (6, 2, 0): "packet too big",
    (6, 3, 0): "hop limit exceeded",
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame from a tap: where and when it was seen, and its bytes.

    `hatype` is the device's ARPHRD number, `protocol` the ethertype that the kernel reports, `vlan` the tag that the
    kernel removed from the bytes (0: none), `time_ns` nanoseconds since the epoch. `for_other_host` means that the
    frame came in and is addressed to another machine. `checksum_partial` means that its TCP or UDP checksum is not
    computed.
    """

    at: Interface
    time_ns: int
    direction: Literal["in", "out"]
    data: bytes
    protocol: int = 0
    hatype: int = ETHERNET
    vlan: int = 0
    for_other_host: bool = False
    checksum_partial: bool = False


@dataclass(frozen=True, slots=True)
class Packet:
    """The innermost packet of a frame. `encap` is the tunnel that carried it: `none`, `vxlan 42`, `geneve 42`, `ipip`,
    `udp`; `outer` are the tunnel's addresses, source and destination.

    For an ICMP error, `quote` is the packet that it is about, and `text` the error in words. The kind `arp` (also IPv6
    neighbour discovery) is a question about `dst` if `is_request`, else the answer with the MAC address of `src`. `seq`
    and `ack` are TCP's numbers, or an echo's identifier and sequence number.
    """

    src: IP
    dst: IP
    kind: PacketKind
    ttl: int = 0
    sport: int = 0
    dport: int = 0
    seq: int = 0
    ack: int = 0
    flags: int = 0
    payload: bytes = b""
    encap: str = "none"
    quote: Packet | None = None
    text: str = ""
    is_request: bool = False
    eth_src: str = ""
    eth_dst: str = ""
    vlan: int = 0
    length: int = 0
    outer: tuple[IP, IP] | None = None

    @property
    def proto(self) -> str:
        """The protocol's common name: `icmp`, `tcp`, `udp` or the kind itself."""
        return "icmp" if self.kind in ("echo", "echo-reply", "error") else self.kind


def decode(frame: Frame) -> Packet | None:
    """The innermost packet of a frame; None if the frame cannot be decoded."""
    try:
        if frame.hatype not in (ETHERNET, LOOPBACK):
            packet = _network(frame.protocol, frame.data)
        else:
            packet = _ethernet(frame.data)
    except (struct.error, IndexError, ValueError):
        return None
    if packet is None:
        return None
    return replace(packet, vlan=packet.vlan or frame.vlan & 0xFFF, length=len(frame.data))


def _mac(data: bytes) -> str:
    return data.hex(":")


def _ethernet(data: bytes) -> Packet | None:
    kind, start, vlan = struct.unpack_from("!H", data, 12)[0], 14, 0
    while kind in (VLAN, QINQ):
        tag, kind = struct.unpack_from("!HH", data, start)
        vlan, start = vlan or tag & 0xFFF, start + 4
    packet = _network(kind, data[start:])
    if packet is None:
        return None
    return replace(packet, vlan=vlan, eth_dst=_mac(data[:6]), eth_src=_mac(data[6:12]))


def _network(kind: int, data: bytes) -> Packet | None:
    if kind == IPV4:
        return _ipv4(data)
    if kind == IPV6:
        return _ipv6(data)
    return _arp(data) if kind == ARP else None


def _arp(data: bytes) -> Packet | None:
    hardware, protocol, _, _, operation = struct.unpack_from("!HHBBH", data)
    if (hardware, protocol) != (1, IPV4) or len(data) < 28:
        return None
    sender, target = IPv4Address(data[14:18]), IPv4Address(data[24:28])
    question = f"who has {target}? tell {sender}"
    text = question if operation == 1 else f"{sender} is at {_mac(data[8:14])}"
    return Packet(sender, target, "arp", text=text, is_request=operation == 1)


def _ipv4(data: bytes) -> Packet | None:
    if data[0] >> 4 != 4:
        return None
    head, total = (data[0] & 15) * 4, struct.unpack_from("!H", data, 2)[0]
    body = data[head:total] if head <= total <= len(data) else data[head:]  # an ICMP error quotes only the beginning
    base = Packet(IPv4Address(data[12:16]), IPv4Address(data[16:20]), "other", data[8])
    if struct.unpack_from("!H", data, 6)[0] & 0x1FFF:
        return base  # later fragments have no transport header
    return _transport(base, data[9], body)


def _ipv6(data: bytes) -> Packet | None:
    if data[0] >> 4 != 6:
        return None
    total = struct.unpack_from("!H", data, 4)[0]
    base = Packet(IPv6Address(data[8:24]), IPv6Address(data[24:40]), "other", data[7])
    return _transport(base, data[6], data[40 : 40 + total])


def _transport(base: Packet, protocol: int, body: bytes) -> Packet | None:
    if protocol == (ICMP if base.src.version == 4 else ICMPV6):
        return _icmp(base, body)
    if protocol == TCP:
        return _tcp(base, body)
    if protocol == UDP:
        return _udp(base, body)
    if protocol in (IPIP, IP6IP):
        inner = _ipv4(body) if protocol == IPIP else _ipv6(body)
        return inner and replace(inner, encap="ipip" if protocol == IPIP else "ip6ip", outer=(base.src, base.dst))
    return replace(base, payload=body)


def _icmp(base: Packet, body: bytes) -> Packet:
    version = base.src.version
    kind, code = body[0], body[1]
    echo_request, echo_reply = ECHO_TYPES[version]
    if kind in (echo_request, echo_reply):
        identifier, sequence = struct.unpack_from("!HH", body, 4)
        name: PacketKind = "echo" if kind == echo_request else "echo-reply"
        return replace(base, kind=name, seq=identifier, ack=sequence, payload=body[8:])
    if kind in ((3, 11, 12) if version == 4 else (1, 2, 3, 4)):
        text = ICMP_ERRORS.get((version, kind, code), f"ICMP type {kind} code {code}")
        try:
            quote = _ipv4(body[8:]) if version == 4 else _ipv6(body[8:])
        except (struct.error, IndexError, ValueError):
            quote = None
        return replace(base, kind="error", text=text, quote=quote, payload=body[8:])
    if version == 6 and kind in (NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT) and len(body) >= 24:
        target, is_request = IPv6Address(body[8:24]), kind == NEIGHBOUR_SOLICITATION
        text = f"who has {target}?" if is_request else f"{target} is at {_mac(body[26:32]) or base.src}"
        ends = {"dst": target} if is_request else {"src": target}
        return replace(base, kind="arp", text=text, is_request=is_request, **ends)  # type: ignore[arg-type]
    return replace(base, payload=body[8:])


def _tcp(base: Packet, body: bytes) -> Packet:
    sport, dport, seq = struct.unpack_from("!HHI", body)
    packet = replace(base, kind="tcp", sport=sport, dport=dport, seq=seq)
    if len(body) < 20:  # an ICMP error may quote only 8 bytes
        return replace(packet, flags=SYN)
    ack, offset, flags = struct.unpack_from("!IBB", body, 8)
    return replace(packet, ack=ack, flags=flags, payload=body[(offset >> 4) * 4 :])


def is_vxlan(dport: int, header: bytes) -> bool:
    """Whether a datagram is VXLAN, by the first eight bytes of its data: the VNI is marked as valid. At a port that is
    not usual for VXLAN, all other bits, except those of the VNI, must be zero."""
    return bool(header[0] & 0x08) if dport in VXLAN_PORTS else header[:4] == VXLAN_FLAGS and header[7:8] == b"\0"


def _udp(base: Packet, body: bytes) -> Packet | None:
    sport, dport = struct.unpack_from("!HH", body)
    if len(body) > 16 and is_vxlan(dport, body[8:16]):
        inner = _ethernet(body[16:])
        if inner is not None:
            vni = int.from_bytes(body[12:15], "big")
            return replace(inner, encap=f"vxlan {vni}", outer=(base.src, base.dst))
    if dport == GENEVE_PORT and len(body) > 16 and body[8] >> 6 == 0 and body[10:12] == b"\x65\x58":
        inner = _ethernet(body[16 + (body[8] & 0x3F) * 4 :])
        if inner is not None:
            return replace(inner, encap=f"geneve {int.from_bytes(body[12:15], 'big')}", outer=(base.src, base.dst))
    if dport == FLANNEL_UDP_PORT and len(body) > 28 and body[8] >> 4 == 4:
        inner = _ipv4(body[8:])
        if inner is not None:
            return replace(inner, encap="udp", outer=(base.src, base.dst))
    return replace(base, kind="udp", sport=sport, dport=dport, payload=body[8:])

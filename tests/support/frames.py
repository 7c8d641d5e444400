"""Frames made of bytes: Ethernet, IP, UDP, TCP, ARP and the tunnels."""

from __future__ import annotations

import struct
from ipaddress import ip_address

from labctl.core.resources import Interface
from labctl.packets.decode import Frame
from labctl.packets.probe_id import (
    MAGIC,
)

MARK = MAGIC + b"\x01?\xff!"
MACS = bytes.fromhex("020000000002") + bytes.fromhex("020000000001")
HERE = Interface("node1", "eth0")


def ethernet(kind: int, body: bytes) -> bytes:
    return MACS + struct.pack("!H", kind) + body


def ipv4(protocol: int, body: bytes, src: str = "10.0.0.1", dst: str = "10.0.0.2", ttl: int = 63) -> bytes:
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, ttl, protocol, 0)
    return head + ip_address(src).packed + ip_address(dst).packed + body


def ipv6(protocol: int, body: bytes, src: str = "2001:db8::1", dst: str = "2001:db8::2", ttl: int = 62) -> bytes:
    return (
        struct.pack("!IHBB", 6 << 28, len(body), protocol, ttl) + ip_address(src).packed + ip_address(dst).packed + body
    )


def udp(body: bytes, sport: int = 40000, dport: int = 53) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(body), 0) + body


def tcp(flags: int, seq: int, ack: int = 0, sport: int = 40000, dport: int = 80, options: bytes = b"") -> bytes:
    words = 5 + len(options) // 4
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, words << 4, flags, 1024, 0, 0) + options


def vxlan(inner: bytes, vni: int = 42, port: int = 4789) -> bytes:
    return udp(struct.pack("!II", 0x08000000, vni << 8) + inner, dport=port)


def geneve(inner: bytes, vni: int = 42, options: bytes = b"") -> bytes:
    return udp(struct.pack("!BBHI", len(options) // 4, 0, 0x6558, vni << 8) + options + inner, dport=6081)


def frame(data: bytes, way: str = "in", when: int = 1, at: Interface = HERE, **more: int) -> Frame:
    return Frame(at, when, way, data, **more)  # type: ignore[arg-type]


def arp(operation: int, sender: str, target: str) -> bytes:
    ends = [ip_address(text).packed for text in (sender, target)]
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + MACS[:6] + ends[0] + bytes(6) + ends[1]
    return ethernet(0x0806, body)


def discovery(kind: int, src: str, dst: str, about: str) -> bytes:
    body = struct.pack("!BBHI", kind, 0, 0, 0) + ip_address(about).packed + b"\x02\x01" + MACS[:6]
    return ethernet(0x86DD, ipv6(58, body, src, dst))

"""The kernel-side filter of the taps: a classic BPF program that accepts probes, their answers, ARP and canaries.

Without it, a busy lab sends more frames than any reader can take; with it, a tap costs nothing until a probe passes.
Offsets count from the network header, so that devices without an Ethernet header are filtered in the same way.
"""

from __future__ import annotations

import struct
from functools import lru_cache

from labctl.packets.decode import (
    ARP,
    CANARY,
    FLANNEL_UDP_PORT,
    GENEVE_PORT,
    ICMP,
    ICMPV6,
    IP6IP,
    IPIP,
    IPV4,
    IPV6,
    TCP,
    UDP,
    VXLAN_FLAGS,
    VXLAN_PORTS,
)
from labctl.packets.probe_id import HTTP_GET, MAGIC, TIMESTAMP_BYTES

NET = 0xFFF00000  # SKF_NET_OFF: offsets from the network header
ETHERTYPE_OFFSET = 0xFFFFF000  # SKF_AD_OFF + SKF_AD_PROTOCOL: the packet's ethertype
LD_W, LD_H, LD_B, JEQ, JSET, RET = 0x20, 0x28, 0x30, 0x15, 0x45, 0x06
AND, RSH, TAX, LD_W_X = 0x54, 0x74, 0x07, 0x40  # the last one loads from an offset plus X
SYN_OR_RST = 0x06
ACCEPT_BYTES = 0x40000
ICMP_ERROR_TYPES, ICMPV6_ERROR_TYPES, NEIGHBOUR_TYPES = (3, 11, 12), (1, 2, 3, 4), (135, 136)


class _Program:
    """Instructions with labels to jump to, forward only. Each block ends with its own return instructions."""

    def __init__(self) -> None:
        self.code: list[tuple[int, int, str, str]] = []
        self.labels: dict[str, int] = {}
        self.block = 0

    def add_label(self, name: str) -> None:
        self.labels[name] = len(self.code)

    def load(self, op: int, offset: int) -> None:
        self.code.append((op, offset & 0xFFFFFFFF, "", ""))

    def do(self, op: int, value: int = 0) -> None:
        self.code.append((op, value, "", ""))

    def jump(self, op: int, value: int, then: str = "", other: str = "") -> None:
        self.code.append((op, value, then, other))

    def ret(self, value: int) -> None:
        self.code.append((RET, value, "", ""))

    def assemble(self) -> bytes:
        out = bytearray()
        for number, (op, value, then, other) in enumerate(self.code):
            jt, jf = (self.labels[name] - number - 1 if name else 0 for name in (then, other))
            out += struct.pack("=HBBI", op, jt, jf, value)
        return bytes(out)


@lru_cache(maxsize=1)
def probe_filter() -> bytes:
    """The filter, as an array of `struct sock_filter`."""
    program = _Program()
    program.load(LD_H, ETHERTYPE_OFFSET)
    program.jump(JEQ, CANARY, "accept")
    program.jump(JEQ, ARP, "accept")
    program.jump(JEQ, IPV4, "four")
    program.jump(JEQ, IPV6, "six", "reject")
    program.add_label("accept")
    program.ret(ACCEPT_BYTES)
    program.add_label("reject")
    program.ret(0)
    program.add_label("four")
    _ip(program, "4", NET, 4)
    program.add_label("six")
    _ip(program, "6", NET, 6)
    return program.assemble()


def _ip(program: _Program, name: str, base: int, version: int, depth: int = 0) -> None:
    """Accept or reject the IP packet at `base`. The packet inside a tunnel is checked too, for one level of tunnels."""
    head = 20 if version == 4 else 40
    program.load(LD_B, base + (9 if version == 4 else 6))  # the protocol
    program.jump(JEQ, ICMP if version == 4 else ICMPV6, f"icmp{name}")
    program.jump(JEQ, UDP, f"udp{name}")
    if depth == 0:
        program.jump(JEQ, IPIP, f"tunnel{name}4")
        program.jump(JEQ, IP6IP, f"tunnel{name}6")
    program.jump(JEQ, TCP, f"tcp{name}", f"no{name}")
    program.add_label(f"icmp{name}")
    program.load(LD_B, base + head)
    for kind in ICMP_ERROR_TYPES if version == 4 else (*ICMPV6_ERROR_TYPES, *NEIGHBOUR_TYPES):
        program.jump(JEQ, kind, f"yes{name}")
    program.load(LD_W, base + head + 8 + TIMESTAMP_BYTES)
    program.jump(JEQ, int.from_bytes(MAGIC, "big"), f"yes{name}", f"no{name}")
    program.add_label(f"tcp{name}")
    program.load(LD_B, base + head + 13)
    program.jump(JSET, SYN_OR_RST, f"yes{name}")
    program.load(LD_B, base + head + 12)
    program.do(AND, 0xF0)
    program.do(RSH, 2)  # the length of the TCP header with its options, after which the data comes
    program.do(TAX)
    program.load(LD_W_X, base + head)
    program.jump(JEQ, int.from_bytes(HTTP_GET, "big"), f"yes{name}")
    program.jump(JEQ, int.from_bytes(MAGIC, "big"), f"yes{name}", f"no{name}")
    program.add_label(f"udp{name}")
    program.load(LD_H, base + head + 2)
    if depth == 0:
        for port in (*VXLAN_PORTS, GENEVE_PORT):  # the two headers have the same length, if Geneve's has no options
            program.jump(JEQ, port, f"vxlan{name}")
        program.jump(JEQ, FLANNEL_UDP_PORT, f"ip{name}")
    program.load(LD_W, base + head + 8)
    if depth == 0:
        program.jump(JEQ, int.from_bytes(VXLAN_FLAGS, "big"), f"vxlan{name}")
    program.jump(JEQ, int.from_bytes(MAGIC, "big"), f"yes{name}", f"no{name}")
    program.add_label(f"yes{name}")
    program.ret(ACCEPT_BYTES)
    program.add_label(f"no{name}")
    program.ret(0)
    if depth == 0:
        _tunnels(program, name, base + head)


def _tunnels(program: _Program, name: str, body: int) -> None:
    """The packet inside a tunnel: IP directly, or after UDP, or after UDP, VXLAN (or Geneve) and Ethernet."""
    for version in (4, 6):
        program.add_label(f"tunnel{name}{version}")
        _ip(program, f"{name}t{version}", body, version, 1)
    program.add_label(f"ip{name}")
    _ip(program, f"{name}b", body + 8, 4, 1)
    program.add_label(f"vxlan{name}")
    program.load(LD_H, body + 8 + 8 + 12)
    program.jump(JEQ, ARP, f"arp{name}")
    program.jump(JEQ, IPV4, f"four{name}v")
    program.jump(JEQ, IPV6, f"six{name}v")
    program.ret(0)
    program.add_label(f"arp{name}")
    program.ret(ACCEPT_BYTES)
    for version, label in ((4, "four"), (6, "six")):
        program.add_label(f"{label}{name}v")
        _ip(program, f"{name}v{version}", body + 8 + 8 + 14, version, 1)

"""One captured frame as a text line: time, device, direction, source, destination, kind of packet. Pure."""

from __future__ import annotations

import time
from collections.abc import Mapping

from labctl.core.resources import IP
from labctl.packets.decode import Frame, Packet, decode

_FLAGS = ((2, "SYN"), (16, "ACK"), (1, "FIN"), (4, "RST"), (8, "PSH"))


def frame_line(frame: Frame, names: Mapping[IP, str], width: int = 0) -> str:
    """A frame's line. `names` replace addresses; the point is padded to `width` characters."""
    seconds, rest = divmod(frame.time_ns, 1_000_000_000)
    clock = time.strftime("%H:%M:%S", time.localtime(seconds))
    arrow = "<" if frame.direction == "in" else ">"
    packet = decode(frame)
    text = _unknown(frame) if packet is None else _packet(packet, names)
    return f"{clock}.{rest // 1000:06d}  {frame.at!s:<{width}} {arrow}  {text}"


def _unknown(frame: Frame) -> str:
    return f"ethertype {frame.protocol:#06x}, {len(frame.data)} bytes"


def _packet(packet: Packet, names: Mapping[IP, str]) -> str:
    src, dst = (names.get(ip, str(ip)) for ip in (packet.src, packet.dst))
    if packet.kind == "arp":
        return f"who has {dst}? tell {src}" if packet.is_request else f"{src} is at {packet.eth_src}"
    if packet.kind in ("tcp", "udp"):
        src, dst = f"{src}:{packet.sport}", f"{dst}:{packet.dport}"
    what = {"echo": "echo request", "echo-reply": "echo reply", "error": packet.text}.get(packet.kind, packet.kind)
    if packet.kind == "tcp":
        flags = "+".join(word for bit, word in _FLAGS if packet.flags & bit)
        what = f"tcp {flags}" + (f", {len(packet.payload)} bytes" if packet.payload else "")
    elif packet.kind == "udp":
        what = f"udp, {len(packet.payload)} bytes"
    tags = [f"ttl {packet.ttl}"] + ([packet.encap] if packet.encap != "none" else [])
    tags += [f"vlan {packet.vlan}"] if packet.vlan else []
    quote = f" about {_packet(packet.quote, names)}" if packet.quote is not None else ""
    return f"{src} > {dst}  {what}  {', '.join(tags)}{quote}"

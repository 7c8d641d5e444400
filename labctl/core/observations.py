"""What the kernel reports of one packet: events, route lookups, connections. Frozen data, read by traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.core.resources import IP

PacketRole: TypeAlias = Literal["request", "reply", "error"]


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One thing that the kernel did with some packet, known by its address in memory: queued for sending, received,
    or dropped, with its `reason` ("" on kernels that give none) and the kernel function (`location`)."""

    kind: Literal["queue", "receive", "drop"]
    when: int
    pid: int
    skb: str
    dev: str = ""
    length: int = 0
    protocol: int = 0
    reason: str = ""
    location: str = ""


@dataclass(frozen=True, slots=True)
class RouteLookup:
    """A question to the kernel's routing, right after the probe: for a packet that comes in at `iif` (None: made
    here), and the answer. `mark` is the packet's where the answer is another without it, else 0; `error` is the
    errno's name where it refuses; `route` in the words of ip."""

    node: str
    dst: IP
    src: IP | None = None
    iif: str | None = None
    mark: int = 0
    route: str = ""
    kind: str = "unicast"
    via: IP | None = None
    dev: str | None = None
    table: int = 254
    error: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """A connection as conntrack remembers it in one namespace: both directions' addresses and ports (or ICMP id)."""

    node: str
    protocol: int
    src: IP
    dst: IP
    sport: int
    dport: int
    reply_src: IP
    reply_dst: IP
    reply_sport: int
    reply_dport: int
    state: str = ""

    @property
    def is_translated(self) -> bool:
        """Whether an address or a port is rewritten."""
        there = (self.src, self.dst, self.sport, self.dport)
        return there != (self.reply_dst, self.reply_src, self.reply_dport, self.reply_sport)


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """What a routing decision was made from."""

    node: str
    dst: IP
    src: IP | None = None
    iif: str | None = None


@dataclass(frozen=True, slots=True)
class ProbeMatch:
    """Packets of one protocol with these bytes so many bytes into their transport header."""

    protocol: int
    offset: int
    value: bytes

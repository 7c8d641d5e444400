"""What the kernel reports of one packet: events, route lookups, connections. Frozen data, read by traces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.core.resources import IP

PacketRole: TypeAlias = Literal["request", "reply", "error"]
RuleRole: TypeAlias = Literal["request", "reply", "error", "solicitation", "advertisement"]
# reply; refused (reset, port unreachable); unreachable (an error came back, or no neighbour answered);
# timeout (nothing came); blocked (the source's own kernel did not send); broken (the tool itself failed)
Answer: TypeAlias = Literal["reply", "refused", "unreachable", "timeout", "blocked", "broken"]


@dataclass(frozen=True, slots=True)
class KernelEvent:
    """One event of a packet in the kernel: it was queued for sending, received, or dropped.

    `skb` is the packet's address in memory, `when` is in nanoseconds. A drop has its `reason` ("" on kernels that give
    none) and the kernel function (`location`).
    """

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
    """A question to the kernel's routing, asked right after the probe, and its answer.

    The question is for a packet that comes in at `iif`; None means that the node itself sends it. `mark` is the
    packet's mark if the answer depends on it, else 0. `route` is the answer in the syntax of `ip route`; `error` is the
    name of the errno if the kernel refuses.
    """

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
    """An entry of conntrack in one namespace: the addresses and ports (or the ICMP id) of both directions.

    `id` is the kernel's identifier of the entry, 0 if it gives none. `zone` is its conntrack zone. `expires_s` is the
    time in seconds after which the kernel removes it if no packet comes. `age_s` is the time since its first packet,
    None if the kernel does not keep it (net.netfilter.nf_conntrack_timestamp = 0).
    """

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
    id: int = 0
    zone: int = 0
    expires_s: int | None = None
    age_s: int | None = None

    @property
    def is_translated(self) -> bool:
        """Whether an address or a port is rewritten."""
        original = (self.src, self.dst, self.sport, self.dport)
        return original != (self.reply_dst, self.reply_src, self.reply_dport, self.reply_sport)


@dataclass(frozen=True, slots=True)
class RouteQuery:
    """The input of a routing decision: the node, the addresses of the packet, and the device that it came in by."""

    node: str
    dst: IP
    src: IP | None = None
    iif: str | None = None


@dataclass(frozen=True, slots=True)
class NftMatch:
    """Where and how a rule of an nft table ended or led a packet, as the kernel reported it.

    `handle` is the rule's number in its table, 0 for a policy. `verdict` is nft's word with the chain that it leads to:
    `drop`, `jump NAME`. `base` is the chain through which the packet came there from `hook`, with its `type` and
    `priority`. `element` is the one of a set or map that decided, "" if it is not certain. `ct` is what the kernel says
    of the packet's connection (Linux 6.16 and later).
    """

    handle: int
    verdict: str
    base: str
    hook: str
    priority: int
    type: str
    element: str = ""
    ct: str = ""


@dataclass(frozen=True, slots=True)
class ProbeMatch:
    """Packets of one protocol that have the bytes `value` at `offset` (in bytes) of their transport header."""

    protocol: int
    offset: int
    value: bytes

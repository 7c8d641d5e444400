"""Packets that taps saw, and the cables between the taps: evidence of a trace, made without a kernel."""

from __future__ import annotations

from ipaddress import IPv4Address

from labctl.core.resources import Interface, Link
from labctl.tracing.evidence import NamespaceState, Question, TraceEvidence
from labctl.tracing.hops import PacketObservation

A, B = IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")
SECOND = 1_000_000_000


def crossing(node: str, dev: str, way: str, when: int, ttl: int = 64, ours: bool = True) -> PacketObservation:
    return PacketObservation(node, dev, way, when, "request", A, B, ttl, 103, addressed_here=ours)  # type: ignore[arg-type]


def cable(one: str, other: str, master: str | None = None) -> tuple[Link, Link]:
    here, there = Interface(*one.split("/")), Interface(*other.split("/"))
    return Link(here, "veth", peer=there), Link(there, "veth", peer=here, master=master)


def lab(*crossings: PacketObservation) -> TraceEvidence:
    """a, b and c, each with a cable to a port of sw's bridge."""
    ends = [cable(f"{name}/eth0", f"sw/p{name}", "br0") for name in "abc"]
    rooms = [NamespaceState(name, (end[0],)) for name, end in zip("abc", ends, strict=True)]
    rooms.append(NamespaceState("sw", (*(end[1] for end in ends), Link(Interface("sw", "br0"), "bridge"))))
    question = Question("lab", "a", "b", B, "b", "icmp")
    return TraceEvidence(question, "reply", "", 1, tuple(rooms), crossings, machines={"b": (B,)})

"""The results of checks: verdicts with their evidence. Frozen data; reports convert it to text, JSON, JUnit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.plan import IP, Port
from labctl.scenario import Check

Verdict: TypeAlias = Literal["pass", "fail", "skip", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One probe packet, seen once: where, when (nanoseconds since the epoch), its direction, and its headers.

    `other` marks an incoming packet with the MAC address of another machine, as a switch port receives them.
    """

    at: Port
    when: int
    direction: Literal["in", "out"]
    src: IP
    dst: IP
    ttl: int
    proto: str  # icmp, tcp, udp; arp: a request of src for the neighbour dst
    reply: bool
    encap: str = "none"
    outer: tuple[IP, IP] | None = None  # the endpoints of the tunnel, source and destination
    eth_src: str = ""
    eth_dst: str = ""
    length: int = 0
    other: bool = False

    def __str__(self) -> str:
        ends = "" if self.outer is None else f" {self.outer[0]} > {self.outer[1]}"
        tunnel = "" if self.encap == "none" else f" in {self.encap}{ends}"
        arrow = "entering" if self.direction == "in" else "leaving"
        what = f"{self.src} > {self.dst} ttl {self.ttl}"
        what = what if self.proto != "arp" else f"{self.src} asks who has {self.dst}"
        return f"{arrow} {self.at}: {what}{tunnel}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The verdict on one check, its evidence as sentences, and the equivalent command for a person."""

    check: Check
    verdict: Verdict
    evidence: tuple[str, ...] = ()
    command: str = ""
    sightings: tuple[Sighting, ...] = ()
    seconds: float = 0.0
    pcap: str = ""  # the file with its packets, if they were saved


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes of one run over one lab."""

    lab: str
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        """The verdict of all checks: fail if one failed, else inconclusive, else pass; skip if all were skipped."""
        found = {outcome.verdict for outcome in self.outcomes}
        for verdict in ("fail", "inconclusive", "pass"):
            if verdict in found:
                return verdict
        return "skip"

"""What checks return: verdicts with their evidence. Frozen data; reports turn it into text, JSON, JUnit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.plan import IP, Port
from labctl.scenario import Check

Verdict: TypeAlias = Literal["pass", "fail", "skip", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One marked packet, seen once: where, when (ns since the epoch), which way, and what it looked like.

    `other` is one that came in and is addressed to another machine, as a switch's port gets them.
    """

    at: Port
    when: int
    direction: Literal["in", "out"]
    src: IP
    dst: IP
    ttl: int
    proto: str  # icmp, tcp, udp; arp: a question of src for the neighbour dst
    reply: bool
    encap: str = "none"
    outer: tuple[IP, IP] | None = None  # the ends of the tunnel, source and destination
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
    """The verdict on one check, the evidence for it as sentences, and the command a person would type."""

    check: Check
    verdict: Verdict
    evidence: tuple[str, ...] = ()
    command: str = ""
    sightings: tuple[Sighting, ...] = ()
    seconds: float = 0.0
    pcap: str = ""  # the file that has its packets, if they were kept


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes of one run over one lab."""

    lab: str
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        """fail beats inconclusive beats pass; all skipped is skip."""
        found = {outcome.verdict for outcome in self.outcomes}
        for verdict in ("fail", "inconclusive", "pass"):
            if verdict in found:
                return verdict
        return "skip"

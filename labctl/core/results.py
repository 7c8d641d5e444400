"""What checks return: verdicts with their evidence. Frozen data; reports turn it into text, JSON, JUnit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.core.diff import Change
from labctl.core.iptables import Backend
from labctl.core.resources import IP, Port
from labctl.core.scenario_types import Check, Lab

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


# reply; refused (reset, port unreachable); unreachable (an error came back, or no neighbour answered);
# timeout (nothing came); blocked (the source's own kernel did not send); broken (the tool itself failed)
Answer: TypeAlias = Literal["reply", "refused", "unreachable", "timeout", "blocked", "broken"]


@dataclass(frozen=True, slots=True)
class Pair:
    """One source and one target of a mesh, and what became of the probe between them.

    `seen_as` is the source address that the target itself saw, None if the request never reached it.
    `doubt` is a trouble of the tool's own that explains why an answer or a sighting is missing.
    """

    source: str
    target: str
    address: IP
    replied: bool
    seen_as: IP | None = None
    own: bool = False  # `seen_as` is one of the source's own addresses
    said: str = ""
    doubt: str = ""

    @property
    def good(self) -> bool:
        """Answered, and seen with the source's own address."""
        return self.replied and self.own

    def __str__(self) -> str:
        seen = f"seen there as {self.seen_as}" if self.seen_as is not None else "never seen there"
        what = "replied" if self.replied else self.said or "no reply"
        note = f", which is not {self.source}'s own" if self.seen_as is not None and not self.own else ""
        return f"{self.source} -> {self.target} ({self.address}): {what}, {seen}{note}" + (
            f"; {self.doubt}" if self.doubt else ""
        )


@dataclass(frozen=True, slots=True)
class Running:
    """A lab that has namespaces on this machine."""

    name: str
    nodes: tuple[str, ...]
    model: str | None  # None if its definition is lost
    scenario: str | None
    approximate: tuple[str, ...] = ()  # the kernel features that are built otherwise
    firewall: Backend | None = None  # the back end of its rules


@dataclass(frozen=True, slots=True)
class Result:
    """What `up` did (or, dry, would do)."""

    lab: Lab
    changes: tuple[Change, ...]
    created: bool  # the lab was (or, dry, would be) made anew: it was not there before, or was replaced
    dry: bool
    seconds: float
    replaced: bool = False  # a lab of that name was there and went (or, dry, would go) first

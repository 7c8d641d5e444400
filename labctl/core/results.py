"""What checks return: verdicts with their evidence. Frozen data; reports turn it into text, JSON, JUnit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.core.resources import IP, Interface
from labctl.core.scenario_types import Check
from labctl.core.sentence import Sentence, in_a_row, joined, sentence
from labctl.core.text import COMMAND_PREFIX, VERDICT_LABELS, count, duration, short_repr

INDENT = "    "
PARTICIPLES = {
    "pass": sentence("passed"),
    "fail": sentence("failed"),
    "inconclusive": sentence("inconclusive"),
    "skip": sentence("skipped"),
}
Verdict: TypeAlias = Literal["pass", "fail", "skip", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One probe packet, seen once: where, when (nanoseconds since the epoch), its direction, and its headers.

    `otherhost` is set for an incoming packet with the MAC address of another machine, as a switch port receives them.
    """

    at: Interface
    time_ns: int
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
    otherhost: bool = False
    sport: int | None = None  # the source port of tcp and udp

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Sentence:
        """Where it was seen, and what it was, as a sentence."""
        what = f"{self.src} > {self.dst} ttl {self.ttl}"
        if self.proto == "arp":
            what = sentence("{src} asks who has {dst}", src=self.src, dst=self.dst)
        if self.encap != "none":
            ends = "" if self.outer is None else f" {self.outer[0]} > {self.outer[1]}"
            what = sentence("{packet} in {tunnel}{ends}", packet=what, tunnel=self.encap, ends=ends)
        if self.direction == "in":
            return sentence("entering {point}: {packet}", point=self.at, packet=what)
        return sentence("leaving {point}: {packet}", point=self.at, packet=what)


@dataclass(frozen=True, slots=True)
class PairCounts:
    """How many pairs a mesh has, how many of them a check chose, and how many it asked before its time was up.

    `node_noun` and `machine_noun` are what the lab calls the nodes and the machines on them.
    """

    total: int
    chosen: int
    asked: int
    node_noun: str = "node"
    machine_noun: str = "pod"

    @property
    def sampled(self) -> bool:
        """Whether only some pairs were chosen."""
        return self.chosen < self.total

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Sentence:
        """What the sample contains, as a sentence."""
        return sentence(
            "a sample of {chosen} of {total} pairs: every pair of {node}s, every {machine} as sender and as receiver",
            chosen=self.chosen,
            total=self.total,
            node=self.node_noun,
            machine=self.machine_noun,
        )


@dataclass(frozen=True, slots=True)
class BackendAnswer:
    """What came back through one connection to an address with several servers behind it.

    `machine` is the one that answered, "" if the answer does not say it; `client` and `client_port` are what that
    machine saw as the other end, `name` is what its program is called. `problem` says why no answer came,
    `tool_fault` whether that is a problem of labctl itself. `forwarded_for` is the header X-Forwarded-For that the
    machine got.
    """

    machine: str = ""
    client: IP | None = None
    client_port: int = 0
    name: str = ""
    problem: str = ""
    tool_fault: bool = False
    forwarded_for: str = ""


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
    pairs: PairCounts | None = None  # of a mesh
    answers: tuple[BackendAnswer, ...] = ()  # of a check of balancing

    def __repr__(self) -> str:
        return short_repr(self, f"{self.verdict}: {self.check.say}")

    def __str__(self) -> str:
        return "\n".join(outcome_lines(self))


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

    def __repr__(self) -> str:
        bad = next((one for one in self.outcomes if one.verdict in ("fail", "inconclusive")), None)
        first = "" if bad is None else f"; {bad.verdict}: {bad.check.say}"
        return short_repr(self, f"{self.verdict}, {tally(self)}{first}")

    def __str__(self) -> str:
        return "\n".join([*(line for one in self.outcomes for line in outcome_lines(one)), tally(self)])


@dataclass(frozen=True, slots=True)
class Pair:
    """One source and one target of a mesh, and the result of the probe between them.

    `observed_source` is the source address that the target itself saw, None if the request never reached it.
    `tool_fault` is a problem of labctl itself that explains why an answer or a sighting is missing.
    """

    source: str
    target: str
    address: IP
    replied: bool
    observed_source: IP | None = None
    source_unchanged: bool = False  # `observed_source` is one of the source's own addresses
    detail: str = ""
    tool_fault: str = ""

    @property
    def ok(self) -> bool:
        """Answered, and seen with the source's own address."""
        return self.replied and self.source_unchanged

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Sentence:
        """What happened to the probe, as a sentence."""
        seen = sentence("never seen there")
        if self.observed_source is not None and self.source_unchanged:
            seen = sentence("seen there as {address}", address=self.observed_source)
        elif self.observed_source is not None:
            seen = sentence(
                "seen there as {address}, which is not {node}'s own", address=self.observed_source, node=self.source
            )
        what = sentence("replied") if self.replied else self.detail or sentence("no reply")
        ends = f"{self.source} -> {self.target} ({self.address})"
        text = joined(": ", (ends, in_a_row((what, seen))))
        return joined("; ", (text, self.tool_fault)) if self.tool_fault else text


@dataclass(frozen=True, slots=True)
class MeshResult:
    """The number of pairs that were asked, and those of them that are not proven."""

    asked: int
    bad: tuple[Pair, ...] = ()


def evidence_lines(outcome: Outcome, *, verbose: bool = False) -> list[str]:
    """The lines under a check that did not pass: what was expected, seen, and where. With `verbose`, for all checks."""
    lines: list[str] = []
    if outcome.verdict == "pass" and not verbose and outcome.pairs is not None and outcome.pairs.sampled:
        lines.append(joined("", (INDENT, outcome.pairs.sentence)))
    if outcome.verdict != "pass" or verbose:
        lines += [joined("", (INDENT, line)) for text in outcome.evidence for line in text_lines(text)]
        if outcome.command and outcome.verdict != "skip":
            lines.append(joined("", (COMMAND_PREFIX, outcome.command)))
        if outcome.pcap:
            lines.append(sentence("    packets: {file}", file=outcome.pcap))
    return lines


def text_lines(text: str) -> list[str]:
    """The lines of a text: a sentence is one, and stays a sentence."""
    lines = text.splitlines()
    return [text] if lines == [text] else lines


def outcome_lines(outcome: Outcome) -> list[str]:
    """One check as `labctl check` prints it in a pipe: the verdict, the sentence, and the evidence unless it passed."""
    return [f"{VERDICT_LABELS[outcome.verdict]} {outcome.check.say}", *evidence_lines(outcome)]


def tally(report: Report, seconds: float | None = None) -> str:
    """The last line of `check`: the number of each verdict, and the time if it is given."""
    verdicts = [outcome.verdict for outcome in report.outcomes]
    if not verdicts:
        return sentence("{lab} has no checks", lab=report.lab)
    parts = [
        joined(" ", (verdicts.count(verdict), word)) for verdict, word in PARTICIPLES.items() if verdict in verdicts
    ]
    words = in_a_row((count(len(verdicts), "check"), *parts))
    if seconds is None:
        return joined(": ", (report.lab, words))
    return sentence("{lab}: {numbers} in {time}", lab=report.lab, numbers=words, time=duration(seconds))

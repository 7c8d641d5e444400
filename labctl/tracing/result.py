"""The result of a trace as data, and its small texts. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.core.iptables import CHAIN_TOOLS, FirewallRule
from labctl.core.observations import Flow, NftMatch, RouteLookup
from labctl.core.resources import IP
from labctl.core.sentence import Sentence, joined, sentence
from labctl.core.text import short_repr
from labctl.tracing.evidence import CounterIncrease, RuleHit, TraceEvidence, UnansweredNeighbour
from labctl.tracing.hops import PacketDirection, PacketObservation

TraceVerdict: TypeAlias = Literal["answered", "refused", "unanswered", "lost"]
TOOLS = CHAIN_TOOLS
PROGRAM = "labctl"  # the first word of advised commands
ROLE_WORDS = {
    "request": sentence("request"), "reply": sentence("reply"), "error": sentence("error"),
    "solicitation": sentence("solicitation"), "advertisement": sentence("advertisement"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Note:
    """One event at a hop, or one fact about a loss: its kind (`label`) and its text."""

    label: str
    text: str


@dataclass(frozen=True, slots=True)
class Step:
    """One hop: the devices crossed, the addresses and the TTL as the packet left (or, if it did not leave, as it came),
    the tunnel it is in, and what happened there. `when` is nanoseconds since the leg began."""

    node: str
    devices: tuple[str, ...]
    when: int
    src: str
    dst: str
    ttl: int
    tunnel: str = ""
    notes: tuple[Note, ...] = ()


@dataclass(frozen=True, slots=True)
class Leg:
    """The path of one packet: `request`, `reply` or `error`."""

    name: Literal["request", "reply", "error"]
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Cause:
    """The cause of a loss: a short name for programs, a sentence, the facts that prove it, and commands to try."""

    kind: str
    sentence: str
    facts: tuple[Note, ...] = ()
    tries: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TraceResult:
    """The result of one trace. `facts` are all known facts about a loss, `unknown` what could not be observed."""

    probe: str
    legs: tuple[Leg, ...]
    verdict: TraceVerdict
    sentence: str
    why: Cause | None = None
    facts: tuple[Note, ...] = ()
    tries: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()

    def __repr__(self) -> str:
        why = "" if self.why is None else f", because {self.why.sentence}"
        return short_repr(self, f"{self.verdict}: {self.probe}: {self.sentence}{why}")


def endpoint_text(ip: IP, port: int | None) -> str:
    """An address, with its port if it has one."""
    if port is None:
        return str(ip)
    return f"[{ip}]:{port}" if ip.version == 6 else f"{ip}:{port}"


def flow_text(flow: Flow) -> Sentence:
    """An entry of conntrack with its namespace, as far as the packets decide it: both directions."""
    ports = (flow.sport, flow.dport, flow.reply_sport, flow.reply_dport)
    here, far, back_src, back_dst = ports if flow.protocol in (6, 17) else (None, None, None, None)
    there = f"{endpoint_text(flow.src, here)} > {endpoint_text(flow.dst, far)}"
    back = f"{endpoint_text(flow.reply_src, back_src)} > {endpoint_text(flow.reply_dst, back_dst)}"
    return sentence("{node}: {there}, answered as {back}", node=flow.node, there=there, back=back)


def service_notes(evidence: TraceEvidence) -> Iterator[Note]:
    """What the cluster knows about the target."""
    if evidence.question.service:
        yield Note("service", evidence.question.service)


def nat_notes(evidence: TraceEvidence, known: Sequence[Note] = ()) -> Iterator[Note]:
    """The translations in conntrack, except those that the notes `known` report already."""
    for flow in evidence.flows:
        if flow.is_translated and not any(note.text.startswith(f"{flow_text(flow)} [") for note in known):
            yield Note("conntrack", flow_with_state(flow))


def flow_with_state(flow: Flow) -> Sentence:
    """An entry of conntrack, with its state."""
    return joined(" ", (flow_text(flow), f"[{flow.state}]"))


def rule_text(hit: RuleHit | CounterIncrease) -> Sentence:
    """A rule with its place: `nat/POSTROUTING rule 1: -o eth0 -j MASQUERADE`, with its comment as in iptables -L; of an
    nft table `inet fw/input handle 7: tcp dport @closed drop (element 22)`."""
    if isinstance(hit, RuleHit) and hit.nft is not None:
        return _nft_rule_text(hit, hit.nft)
    tool = "" if hit.family == "ip" else f"{TOOLS.get(hit.family, hit.family)} "
    policy = hit.kind == "policy" if isinstance(hit, RuleHit) else hit.number == 0
    if policy:
        return sentence(
            "{table}/{chain} policy {target}", table=f"{tool}{hit.table}", chain=hit.chain, target=hit.target or "?"
        )
    text: str = sentence("(its text could not be read)")
    if hit.rule:
        rule = FirewallRule.from_text(hit.rule)
        comment = rule.option("--comment")
        text = str(rule.without_match("comment")) + (f" /* {comment.values[0]} */" if comment is not None else "")
    return sentence(
        "{table}/{chain} rule {number}: {text}",
        table=f"{tool}{hit.table}",
        chain=hit.chain,
        number=hit.number,
        text=text,
    )


def _nft_rule_text(hit: RuleHit, nft: NftMatch) -> Sentence:
    place = f"{hit.family} {hit.table}/{hit.chain}"
    if hit.kind == "policy":
        return sentence("{table}/{chain} policy {target}", table=f"{hit.family} {hit.table}", chain=hit.chain,
                        target=nft.verdict)  # fmt: skip
    text = hit.rule or sentence("(its text could not be read)")
    words = {"place": place, "handle": nft.handle, "text": text}
    if nft.element:
        return sentence("{place} handle {handle}: {text} (element {element})", **words, element=nft.element)
    return sentence("{place} handle {handle}: {text}", **words)


def rule_place(hit: RuleHit) -> Sentence:
    """Where a rule is: `nat/POSTROUTING rule 1`, of an nft table `inet fw/input handle 7`."""
    if hit.nft is not None:
        place = f"{hit.family} {hit.table}/{hit.chain}"
        return sentence("{place} handle {handle}", place=place, handle=hit.nft.handle)
    return sentence("{table}/{chain} rule {number}", table=hit.table, chain=hit.chain, number=hit.number)


def rule_note(hit: RuleHit | CounterIncrease) -> Note:
    """The note that names a rule and its namespace."""
    return Note("rule", joined(": ", (hit.node, rule_text(hit))))


def asked_note(asked: UnansweredNeighbour) -> Note:
    """The note that a question for a MAC address had no answer."""
    return Note(
        "arp",
        sentence(
            "{node}/{dev} asked for the MAC address of {ip} and got no answer",
            node=asked.node,
            dev=asked.dev,
            ip=asked.ip,
        ),
    )


def route_get_command(lookup: RouteLookup) -> str:
    """The equivalent `ip route get` command."""
    arguments = ["ip", *(["-6"] if lookup.dst.version == 6 else []), "route get", str(lookup.dst)]
    arguments += ["from", str(lookup.src)] if lookup.src is not None else []
    arguments += ["iif", lookup.iif] if lookup.iif is not None else []
    arguments += ["mark", hex(lookup.mark)] if lookup.mark else []
    return " ".join(arguments)


ROUTE_ERROR_TEXTS: Mapping[str, str] = {
    "ENETUNREACH": "Network is unreachable",
    "EHOSTUNREACH": "No route to host",
    "EINVAL": "Invalid argument",
    "EXDEV": "Invalid cross-device link",
    "EACCES": "Permission denied",
    "ENODEV": "No such device",
}


def lookup_text(lookup: RouteLookup) -> str:
    """The routing's answer, with the packet's mark if the mark affects the route."""
    answer = lookup.route if not lookup.error else ROUTE_ERROR_TEXTS.get(lookup.error, lookup.error)
    return f"{answer} (mark {lookup.mark:#x})" if lookup.mark else answer


def observation_text(item: PacketObservation) -> Sentence:
    """The place of a sighting: `entering node1/eth0`."""
    return place_text(item.direction, item.node, item.dev)


def place_text(direction: PacketDirection, node: str, dev: str) -> Sentence:
    """Where a packet was seen: `entering node1/eth0`."""
    if direction == "in":
        return sentence("entering {node}/{dev}", node=node, dev=dev)
    return sentence("leaving {node}/{dev}", node=node, dev=dev)


def with_command(result: TraceResult, command: str, sudo: str) -> TraceResult:
    """The result with its advice as a user types it: with `command` (such as `sudo labctl`) instead of `labctl`, and
    with `sudo` before what needs the machine's root."""

    def typed(tries: tuple[str, ...]) -> tuple[str, ...]:
        others = (sudo if text.startswith("sysctl ") else "" for text in tries)
        return tuple(
            command + text.removeprefix(PROGRAM) if text.startswith(PROGRAM) else other + text
            for text, other in zip(tries, others, strict=True)
        )

    why = None if result.why is None else replace(result.why, tries=typed(result.why.tries))
    return replace(result, why=why, tries=typed(result.tries))


def chain_command(hit: RuleHit) -> str:
    """The command that lists the chain of a rule, in the machine."""
    if hit.nft is not None:
        return f"nft -a list chain {hit.family} {hit.table} {hit.chain}"
    return f"{TOOLS.get(hit.family, 'iptables')} -t {hit.table} -L {hit.chain} -n -v --line-numbers"


def exec_command(evidence: TraceEvidence, node: str, command_line: str) -> str:
    """A command to try in the node. `with_command` adds what this user types before it."""
    return f"{PROGRAM} exec {node} -- {command_line}"

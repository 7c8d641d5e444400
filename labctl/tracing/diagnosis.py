"""From evidence to a result: the probe's path, hop by hop, and if it was lost, where and why. Pure.

The same evidence always gives the same result, so recordings serve as tests. Unknown facts are reported as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.sentence import Sentence, joined, sentence
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hop_notes import legs
from labctl.tracing.hop_routing import untranslated
from labctl.tracing.result import Note, TraceResult, endpoint_text, nat_notes, service_notes
from labctl.tracing.taker import taker

PROBES = {"icmp": sentence("ICMP echo"), "tcp": sentence("TCP SYN"), "udp": sentence("UDP datagram")}


def diagnose(evidence: TraceEvidence) -> TraceResult:
    """Explain one probe. `labctl.tracing.loss`, which finds the cause of a loss, is imported only after a loss."""
    paths, probe = legs(evidence), describe_probe(evidence)
    if evidence.answer != "reply" or taker(evidence) is not None:
        from labctl.tracing.loss import explain_loss

        return explain_loss(evidence, probe, paths)
    notes: tuple[Note, ...] = ()
    tries: tuple[str, ...] = ()
    if evidence.flows_before:
        from labctl.tracing.causes.stale_nat import stale_nat

        if (stale := stale_nat(evidence)) is not None:
            notes, tries = (Note("stale", stale.sentence), *stale.facts), stale.tries
    facts = (*service_notes(evidence), *_fragment_notes(evidence), *notes, *nat_notes(evidence, notes))
    return TraceResult(
        probe, paths, "answered", _answered_sentence(evidence), None, facts, tries, evidence.unknown_lines
    )


def describe_probe(evidence: TraceEvidence) -> Sentence:
    """The probe in a line: `ICMP echo, 61 bytes: a 10.244.0.2 > c 10.244.1.2`."""
    question = evidence.question
    what = PROBES[question.protocol]
    if question.size is not None:
        what = sentence("{probe}, {size} bytes", probe=what, size=question.size)
    if question.fragment:
        what = sentence("{probe}, may be fragmented", probe=what)
    first = next((item for item in evidence.observations if item.role == "request"), None)
    own = untranslated(evidence, first) if first is not None and first.encap == "none" else None
    sender = own[0] if own is not None else first.src if first is not None else None
    source = f"{question.source} ({sender})" if sender is not None else question.source
    address = endpoint_text(question.address, question.port)
    target = f"{question.target} ({address})" if question.target != str(question.address) else address
    return joined(": ", (what, f"{source} -> {target}"))


def _answered_sentence(evidence: TraceEvidence) -> Sentence:
    requests = [item for item in evidence.observations if item.role == "request"]
    replies = [item for item in evidence.observations if item.role == "reply"]
    own = [found for item in requests[:1] if item.encap == "none" and (found := untranslated(evidence, item))]
    sources = list(dict.fromkeys(str(ip) for ip in (*(one[0] for one in own), *(item.src for item in requests))))
    text = sentence("source unchanged end to end")
    if len(sources) > 1:
        text = sentence("source rewritten: {addresses}", addresses=" > ".join(sources))
    ends = (*(one[2:] for one in own), *((item.dst, item.dport) for item in requests))
    targets = list(dict.fromkeys(str(ip) for ip, _ in ends))
    if len(targets) == 1:
        targets = list(dict.fromkeys(endpoint_text(*end) for end in ends))
    if len(targets) > 1:
        text = sentence("{text}; destination rewritten: {addresses}", text=text, addresses=" > ".join(targets))
    if not requests:
        return sentence("answered")
    if not replies:
        return sentence("answered; {text}", text=text)
    took = (replies[-1].when - requests[0].when) / 1000
    return sentence("answered after {microseconds:.0f} us; {text}", microseconds=took, text=text)


def _fragment_notes(evidence: TraceEvidence) -> Iterator[Note]:
    """The namespaces that fragmented the packet."""
    for namespace in evidence.namespaces:
        count = namespace.counters.get("Ip.FragCreates", 0) + namespace.counters.get("Ip6FragCreates", 0)
        if count:
            text = sentence(
                "{node} fragmented it, or the reply, for the next link: {number} fragments",
                node=namespace.node,
                number=count,
            )
            yield Note("cut", text)

"""From evidence to a result: the probe's path, hop by hop, and if it was lost, where and why. Pure.

The same evidence always gives the same result, so recordings serve as tests. Unknown facts are reported as unknown.
"""

from __future__ import annotations

from collections.abc import Iterator

from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hop_notes import legs
from labctl.tracing.hop_routing import untranslated
from labctl.tracing.result import Note, TraceResult, endpoint_text, nat_notes, service_notes
from labctl.tracing.taker import taker


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


def describe_probe(evidence: TraceEvidence) -> str:
    """The probe in a line: `ICMP echo, 61 bytes: a 10.244.0.2 > c 10.244.1.2`."""
    question = evidence.question
    what = {"icmp": "ICMP echo", "tcp": "TCP SYN", "udp": "UDP datagram"}[question.protocol]
    size = f", {question.size} bytes" if question.size is not None else ""
    cut = ", may be fragmented" if question.fragment else ""
    first = next((item for item in evidence.observations if item.role == "request"), None)
    own = untranslated(evidence, first) if first is not None and first.encap == "none" else None
    sender = own[0] if own is not None else first.src if first is not None else None
    source = f"{question.source} ({sender})" if sender is not None else question.source
    address = endpoint_text(question.address, question.port)
    target = f"{question.target} ({address})" if question.target != str(question.address) else address
    return f"{what}{size}{cut}: {source} -> {target}"


def _answered_sentence(evidence: TraceEvidence) -> str:
    requests = [item for item in evidence.observations if item.role == "request"]
    replies = [item for item in evidence.observations if item.role == "reply"]
    own = [found for item in requests[:1] if item.encap == "none" and (found := untranslated(evidence, item))]
    sources = list(dict.fromkeys(str(ip) for ip in (*(one[0] for one in own), *(item.src for item in requests))))
    kept = "source unchanged end to end" if len(sources) < 2 else "source rewritten: " + " > ".join(sources)
    ends = (*(one[2:] for one in own), *((item.dst, item.dport) for item in requests))
    targets = list(dict.fromkeys(str(ip) for ip, _ in ends))
    if len(targets) == 1:
        targets = list(dict.fromkeys(endpoint_text(*end) for end in ends))
    moved = f"; destination rewritten: {' > '.join(targets)}" if len(targets) > 1 else ""
    if not replies or not requests:
        return f"answered; {kept}{moved}" if requests else "answered"
    took = (replies[-1].when - requests[0].when) / 1000
    return f"answered after {took:.0f} us; {kept}{moved}"


def _fragment_notes(evidence: TraceEvidence) -> Iterator[Note]:
    """The namespaces that fragmented the packet."""
    for namespace in evidence.namespaces:
        count = namespace.counters.get("Ip.FragCreates", 0) + namespace.counters.get("Ip6FragCreates", 0)
        if count:
            yield Note("cut", f"{namespace.node} fragmented it, or the reply, for the next link: {count} fragments")

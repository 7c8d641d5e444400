"""From evidence to a verdict. Everything here is pure, so that each of the rules below has a test.

- A reply counts only if its packet came back to the source's own tap, and only if the request entered the
  namespace that the target's name means. A reply of another machine does not count.
- The absence of a packet counts only if the packet could have been seen: canaries proved the taps at the start
  and at the end, no frame was lost, and the probe itself was seen leaving its source.
- A missing reply proves something about the firewall, or about the lab as planned. It proves nothing if a link,
  an address or a route on the path is not as planned.
- If the probe entered the target and got no reply, the check passes only if the reason is known: a rule
  counted a drop meanwhile, or there is no route back.
- A refusal counts only if its packet was seen, or if a rule of the source itself rejected what never left it.
- That a packet is too big is proven only by a kernel or a router that reports it, never by a missing reply.
- A missing reply of a dead target (no namespace, device down, address missing) proves nothing.
- A missing reply proves nothing if the machine's neighbour table was full meanwhile, unless its reason is known: a rule
  that dropped the packet, a route that is missing, a device that is down.
- If evidence was lost, the verdict is inconclusive, never pass.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from labctl.checks.http_verdict import judge_answer
from labctl.core.names import summarize_names
from labctl.core.results import MeshResult, PairCounts, Sighting, Verdict
from labctl.core.sentence import Sentence, joined, sentence

if TYPE_CHECKING:
    from labctl.checks.evidence import CheckEvidence, Expectation
    from labctl.core.observations import Answer
    from labctl.packets.trail import Trail

Evaluation: TypeAlias = tuple[Verdict, tuple[str, ...]]

ACCEPTED_ANSWERS: dict[str, tuple[Answer, ...]] = {
    "reply": ("reply",),
    "fail": ("timeout", "unreachable", "refused", "blocked"),
    "refused": ("refused",),
    "timeout": ("timeout",),
}
EXPECTED_TEXT: dict[str, Sentence] = {
    "reply": sentence("a reply"),
    "fail": sentence("no reply"),
    "refused": sentence("a refusal (reset or port unreachable)"),
    "timeout": sentence("no answer of any kind"),
}
ANSWER_TEXT: dict[Answer, Sentence] = {
    "reply": sentence("reply"),
    "refused": sentence("refused"),
    "unreachable": sentence("unreachable"),
    "timeout": sentence("timeout"),
    "blocked": sentence("blocked"),
    "broken": sentence("broken"),
}
TOO_BIG = ("fragmentation needed", "packet too big")  # of ICMP and ICMPv6


def evaluate(evidence: CheckEvidence) -> Evaluation:
    """The verdict on one probe, with the sentences that support it."""
    verdict, sentences = _evaluate_answer(evidence)
    lines = [*sentences]
    if verdict == "pass" and evidence.http is not None:
        lines = []  # the first of these has the status as well
        for found, line in judge_answer(evidence.check, evidence.http):
            verdict = worse(verdict, found)
            lines.append(line)
    if verdict == "pass":
        for want in evidence.expectations:
            found, words = _evaluate_expectation(evidence, want)
            verdict = worse(verdict, found)
            lines += words
    if evidence.lost_frames and verdict == "pass":
        verdict = "inconclusive"
    if evidence.full_tables and _needed_neighbours(evidence):
        verdict = "inconclusive"
        lines += map(str, evidence.full_tables)
    if evidence.lost_frames:
        lines += [
            sentence("{count} frames were lost by the tap in {node}", count=count, node=node)
            for node, count in sorted(evidence.lost_frames.items())
        ]
    if evidence.looping:
        lines.append(
            sentence(
                "frames circulate in a loop of bridges, again and again past {names}",
                names=summarize_names(evidence.looping, 6),
            )
        )
    return verdict, (*lines, *evidence.notes)


def worse(one: Verdict, other: Verdict) -> Verdict:
    """The verdict that decides when both hold: fail, then inconclusive, then pass."""
    return min(one, other, key=("fail", "inconclusive", "pass", "skip").index)


def _evaluate_answer(evidence: CheckEvidence) -> Evaluation:
    check, answer = evidence.check, evidence.answer
    gone = [line for line in evidence.faults.get(evidence.source, ()) if "namespace" in line]
    if gone:
        return "fail", (*gone,)
    if answer == "broken":
        return "inconclusive", (sentence("the probe itself failed: {detail}", detail=evidence.detail),)
    if answer not in ACCEPTED_ANSWERS[check.expect]:
        return "fail", (*_unmet_expectations(evidence),)
    if answer == "reply":
        return _evaluate_reply(evidence)
    if answer == "refused" and check.expect == "refused":
        return _evaluate_refusal(evidence)
    verdict, sentences = _evaluate_silence(evidence)
    if verdict == "pass" and evidence.drift:
        return "inconclusive", (
            *sentences,
            *evidence.drift,
            sentence("so the missing reply may have a reason other than the rules"),
        )
    return verdict, sentences


def _needed_neighbours(evidence: CheckEvidence) -> bool:
    """Whether a full neighbour table can be the reason of what happened: nothing came back, or no neighbour answered,
    and no other reason is known."""
    answer, detail = evidence.answer, evidence.detail.lower()
    if answer == "blocked":  # what IPv6 says about a full table
        return "invalid argument" in detail
    known = evidence.silence_reasons or any(evidence.faults.values())
    return answer in ("timeout", "unreachable", "broken") and not known


def _unmet_expectations(evidence: CheckEvidence) -> list[str]:
    check = evidence.check
    got = EXPECTED_TEXT["reply"]
    if evidence.answer != "reply":
        word, detail = ANSWER_TEXT[evidence.answer], evidence.detail
        got = joined(": ", [word, detail])
        if evidence.probe_count > 1:
            got = sentence(
                "{answer} after {count} probes: {detail}", answer=word, count=evidence.probe_count, detail=detail
            )
    wanted = EXPECTED_TEXT[check.expect]
    if check.expect == "reply":
        wanted = sentence("{what} within {seconds:g} s", what=wanted, seconds=check.timeout_s)
    lines: list[str] = [sentence("expected {what}, got {got}", what=wanted, got=got)]
    if evidence.answer == "reply":
        return [*lines, *_sighting_lines(evidence.trail)]
    lines += [*_last_seen(evidence)]
    return [*lines, *(line for node in sorted(evidence.faults) for line in evidence.faults[node])]


def _evaluate_reply(evidence: CheckEvidence) -> Evaluation:
    trail = evidence.trail
    back = [seen for seen in trail.replies if seen.at.ns == evidence.source and seen.direction == "in"]
    if evidence.reply_has_probe_id and not back:
        why = evidence.untrusted_taps([evidence.source]) or (
            sentence("its packet was never seen entering {source}", source=evidence.source),
        )
        return "inconclusive", (sentence("a reply was reported ({detail}), but", detail=evidence.detail), *why)
    if evidence.target_ns is not None and not evidence.delivered:
        blind = evidence.untrusted_taps([evidence.target_ns])
        if blind or evidence.lost_frames:
            return "inconclusive", (
                sentence("a reply came, but it is not known whether {node} sent it", node=evidence.target_ns),
                *blind,
            )
        return "fail", (
            sentence(
                "something else answered for {target}: the request never entered {node}",
                target=evidence.check.target,
                node=evidence.target_ns,
            ),
            *_sighting_lines(trail),
        )
    return "pass", (evidence.detail,)


def _evaluate_refusal(evidence: CheckEvidence) -> Evaluation:
    trail = evidence.trail
    teller = next((seen for seen in trail.replies if seen.direction == "out"), None) if trail.has_reset else None
    complaint = next((item for item in trail.icmp_errors if "port" in item.text or "prohibited" in item.text), None)
    if teller is not None:
        return "pass", (sentence("refused: a reset, first seen {teller}", teller=teller),)
    if complaint is not None:
        return "pass", (sentence("refused: {complaint}", complaint=complaint),)
    if evidence.own_rejects:
        return "pass", tuple(sentence("refused: {text}", text=text) for text in evidence.own_rejects)
    blind = evidence.untrusted_taps([evidence.source])
    return "inconclusive", (
        sentence("a refusal was reported ({detail}), but its packet was never seen", detail=evidence.detail),
        *blind,
    )


def _evaluate_silence(evidence: CheckEvidence) -> Evaluation:
    """No reply came, as expected. Decide whether that proves anything."""
    check, target_ns, source = evidence.check, evidence.target_ns, evidence.source
    dead = [line for node in (source, target_ns or "") for line in evidence.faults.get(node, ())]
    if dead:
        return "fail", (*dead, sentence("so the missing reply proves nothing"))
    if check.size is not None:
        return _evaluate_size(evidence)
    if evidence.answer == "blocked":
        return "pass", (
            sentence("the kernel of {source} did not send it: {detail}", source=source, detail=evidence.detail),
        )
    blind = evidence.untrusted_taps(
        dict.fromkeys((source, *((target_ns,) if target_ns else ()), *_namespaces_passed(evidence.trail)))
    )
    if blind:
        return "inconclusive", blind
    if evidence.departure is None and any(at.ns == source for at, _ in evidence.unanswered_neighbours):
        return _evaluate_silent_neighbour(evidence)
    if evidence.departure is None and evidence.own_drops:
        return "pass", (sentence("no reply: {detail}", detail=evidence.detail), *evidence.own_drops)
    if evidence.departure is None:
        return "inconclusive", (
            sentence("no reply came, but the probe was never seen leaving {source} either", source=source),
        )
    elsewhere = [line for node in _namespaces_passed(evidence.trail) for line in evidence.faults.get(node, ())]
    if elsewhere:
        return "inconclusive", (*elsewhere, sentence("so the missing reply proves nothing about the rules on the path"))
    if any(seen.at.ns == source and seen.direction == "in" for seen in evidence.trail.replies):
        return "inconclusive", (
            sentence("the probe reports no reply, but a reply was seen coming back"),
            evidence.detail,
        )
    lines = (sentence("no reply: {detail}", detail=evidence.detail), *_last_seen(evidence))
    if (mute := evidence.silent_ns) is not None and not evidence.silence_reasons:
        deaf = sentence(
            "the request entered {node}, which did not answer, and nothing there shows that it was dropped", node=mute
        )
        return "inconclusive", (*lines, deaf)
    return "pass", (*lines, *evidence.silence_reasons)


def _evaluate_size(evidence: CheckEvidence) -> Evaluation:
    """A packet of a given size, never fragmented, got no reply. A kernel or a router must report that it is too big."""
    complaint = next((item for item in evidence.trail.icmp_errors if item.text in TOO_BIG), None)
    if complaint is not None:
        return "pass", (sentence("too big: {complaint}", complaint=complaint),)
    if evidence.answer == "blocked" and "message too long" in evidence.detail.lower():
        return "pass", (
            sentence(
                "the kernel of {source} did not send it: {detail}", source=evidence.source, detail=evidence.detail
            ),
        )
    return "inconclusive", (
        sentence("no reply: {detail}", detail=evidence.detail),
        *_last_seen(evidence),
        sentence("nothing reported it as too big"),
    )


def _evaluate_silent_neighbour(evidence: CheckEvidence) -> Evaluation:
    """The probe waited at its source for a neighbour that did not answer."""
    broken = [line for lines in evidence.faults.values() for line in lines]
    if broken:
        return "inconclusive", (*broken, sentence("so a neighbour that does not answer proves nothing"))
    return "pass", (sentence("no reply: {detail}", detail=evidence.detail), *_neighbour_lines(evidence))


def _neighbour_lines(evidence: CheckEvidence) -> list[str]:
    """The neighbours that did not answer, and the device that asked."""
    return [
        sentence("{device} asked for the MAC address of {ip} and got no answer", device=at, ip=ip)
        for at, ip in evidence.unanswered_neighbours[:3]
    ]


def _namespaces_passed(trail: Trail) -> tuple[str, ...]:
    """The namespaces that a probe was seen in."""
    return tuple(dict.fromkeys(seen.at.ns for seen in (*trail.requests, *trail.replies)))


def _last_seen(evidence: CheckEvidence) -> list[str]:
    """Where the trail ends, and the ICMP errors about it."""
    trail = evidence.trail
    ports = (
        sentence("snat-port-exhaustion: {node} has no source port left, {use}", node=use.node, use=use)
        for use in evidence.port_uses
    )
    lines = [
        *ports,
        *dict.fromkeys(sentence("icmp: {error}", error=error) for error in trail.icmp_errors),
        *_neighbour_lines(evidence),
    ]
    if trail.replies:
        return [sentence("the reply was last seen {packet}", packet=trail.replies[-1]), *lines]
    if trail.requests:
        return [sentence("the request was last seen {packet}", packet=trail.requests[-1]), *lines]
    return [sentence("the request was never seen, not even leaving {source}", source=evidence.source), *lines]


def _sighting_lines(trail: Trail) -> list[str]:
    return [joined("", ["  ", seen]) for seen in (*trail.requests, *trail.replies)]


def _evaluate_expectation(evidence: CheckEvidence, expectation: Expectation) -> Evaluation:
    see = expectation.see
    if expectation.problem:
        return "fail", (expectation.problem,)
    tapped = _packets(evidence.trail, expectation)
    observed = tapped
    if evidence.check.via == "tcpdump":
        if see.at not in evidence.tcpdump_trails:
            return "inconclusive", (sentence("tcpdump did not watch {at}", at=see.at),)
        observed = _packets(evidence.tcpdump_trails[see.at], expectation)
    hit = next((sighting for sighting in observed if expectation.matches(sighting)), None)
    if see.negate:
        hit = hit or next((seen for seen in tapped if expectation.matches(seen)), None)
        return _evaluate_absence(evidence, expectation, hit, tapped)
    if hit is not None:
        by_tcpdump = evidence.check.via == "tcpdump"
        return "pass", (
            sentence("tcpdump: {packet}", packet=hit) if by_tcpdump else sentence("seen {packet}", packet=hit),
        )
    blind = evidence.untrusted_taps([see.at.ns])
    lines = [
        sentence("expected {expectation}", expectation=expectation),
        *_observed_instead(evidence, expectation, observed),
    ]
    return ("inconclusive" if blind or evidence.lost_frames else "fail"), (*lines, *blind)


def _evaluate_absence(
    evidence: CheckEvidence, expectation: Expectation, hit: Sighting | None, all_seen: tuple[Sighting, ...]
) -> Evaluation:
    at = expectation.see.at
    if hit is not None:
        return "fail", (
            sentence("not expected: {expectation}", expectation=expectation),
            sentence("seen {packet}", packet=hit),
        )
    blind = evidence.untrusted_taps([at.ns])
    if blind:
        return "inconclusive", (sentence("not seen {expectation}, but", expectation=expectation), *blind)
    dead = evidence.faults.get(str(at), ())
    if dead:
        return "inconclusive", (*dead, sentence("so it proves nothing that it was not seen there"))
    here = next((seen for seen in all_seen if seen.at == at), None)
    first = _packets(evidence.trail, expectation)
    proof = here or (first[-1] if first else None)
    if proof is None and expectation.see.packet == "arp":
        return "inconclusive", (
            sentence("not seen {expectation}, but no such question was seen anywhere", expectation=expectation),
        )
    if proof is None:
        return "inconclusive", (
            sentence("not seen {expectation}, but the packet itself was never seen anywhere", expectation=expectation),
        )
    return "pass", (
        sentence("not seen {expectation}; the packet itself was seen {proof}", expectation=expectation, proof=proof),
    )


def _packets(trail: Trail, expectation: Expectation) -> tuple[Sighting, ...]:
    """The packets that a `see:` is about, wherever seen: the request, the reply, or the ARP question that it names."""
    if expectation.see.packet == "arp":
        asked = (sighting for sighting in trail.neighbour_requests if expectation.dst in (None, sighting.dst))
        return tuple(seen for seen in asked if expectation.src in (None, seen.src))
    return trail.replies if expectation.see.packet == "reply" else trail.requests


def _observed_instead(evidence: CheckEvidence, expectation: Expectation, observed: tuple[Sighting, ...]) -> list[str]:
    """What was seen at the point, else where the packet was seen last."""
    here = [seen for seen in observed if seen.at == expectation.see.at]
    if here:
        return [sentence("seen {packet}", packet=seen) for seen in here[:5]]
    everywhere = _packets(evidence.trail, expectation)
    if not everywhere:
        return [sentence("it was never seen at {at}, nor anywhere else", at=expectation.see.at)]
    return [sentence("it was never seen at {at}; last seen {packet}", at=expectation.see.at, packet=everywhere[-1])]


def cannot_change(evidence: CheckEvidence) -> bool:
    """Whether no other probe can change the verdict: a forbidden packet was seen, or an unexpected reply came. An HTTP
    answer that contradicts the check is final: with another one, a server that answers only sometimes would pass."""
    if evidence.check.expect != "reply" and evidence.answer == "reply":
        return True
    if evidence.http is not None and any(found == "fail" for found, _ in judge_answer(evidence.check, evidence.http)):
        return evidence.http.status is not None
    forbidden = (want for want in evidence.expectations if want.see.negate)
    return any(want.matches(seen) for want in forbidden for seen in _packets(evidence.trail, want))


def evaluate_mesh(result: MeshResult, counts: PairCounts, unasked_reason: str = "", max_lines: int = 10) -> Evaluation:
    """The verdict on the pairs of a mesh: each must get a reply, and be seen at its target with the source's own
    address. `unasked_reason` says why not all chosen pairs were asked.

    A pair that failed because of the tool itself proves nothing, and neither does a pair that was not asked in time.
    One pair that failed otherwise is enough to fail.
    """
    bad = sorted(result.bad, key=lambda pair: bool(pair.tool_fault))
    sample = (counts.sentence,) if counts.sampled else ()
    good = sentence(
        "{good} of {asked} pairs: replied, seen with own address", good=result.asked - len(bad), asked=result.asked
    )
    unasked = _unasked(counts.chosen - result.asked, counts.chosen, unasked_reason)
    more = (sentence("and {number} more", number=len(bad) - max_lines),) if len(bad) > max_lines else ()
    verdict: Verdict = "fail" if bad and not bad[0].tool_fault else "inconclusive" if bad or unasked else "pass"
    return verdict, (*sample, good, *unasked, *(pair.sentence for pair in bad[:max_lines]), *more)


def _unasked(number: int, chosen: int, reason: str) -> tuple[str, ...]:
    """How many of the chosen pairs were not asked, and why; empty if all were."""
    if not number:
        return ()
    text = sentence("{number} of {chosen} pairs were not asked", number=number, chosen=chosen)
    return (joined(": ", [text, reason] if reason else [text]),)

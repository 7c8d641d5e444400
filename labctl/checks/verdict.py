"""From evidence to a verdict. Everything here is pure, so that each of the rules below has a test.

- A reply counts only if its packet came back to the source's own tap, and only if the request entered the
  namespace that the target's name means. A reply of another machine does not count.
- The absence of a packet counts only if the packet could have been seen: canaries proved the taps at the start
  and at the end, no frame was lost, and the probe itself was seen leaving its source.
- A missing reply proves something about the firewall, or about the lab as planned. It proves nothing if a link,
  an address or a route on the path is not as planned.
- If the probe entered the target and got no reply, the check passes only if the reason is known: a rule
  counted a drop meanwhile, or there is no route back.
- That a packet is too big is proven only by a kernel or a router that reports it, never by a missing reply.
- A missing reply of a dead target (no namespace, device down, address missing) proves nothing.
- If evidence was lost, the verdict is inconclusive, never pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from labctl.checks.evidence import Evidence, Want
from labctl.core.names import some
from labctl.core.results import Answer, Pair, Sighting, Verdict
from labctl.packets.probe_id import Trail

Judgement: TypeAlias = tuple[Verdict, tuple[str, ...]]

ACCEPTED: dict[str, tuple[Answer, ...]] = {
    "reply": ("reply",),
    "fail": ("timeout", "unreachable", "refused", "blocked"),
    "refused": ("refused",),
    "timeout": ("timeout",),
}
WANTED = {
    "reply": "a reply",
    "fail": "no reply",
    "refused": "a refusal (reset or port unreachable)",
    "timeout": "no answer of any kind",
}
TOO_BIG = ("fragmentation needed", "packet too big")  # of ICMP and ICMPv6


def judge(evidence: Evidence) -> Judgement:
    """The verdict on one probe, with the sentences that support it."""
    verdict, said = _answer(evidence)
    lines = [*said]
    if verdict == "pass":
        for want in evidence.wants:
            found, words = _want(evidence, want)
            verdict = worse(verdict, found)
            lines += words
    if evidence.lost and verdict == "pass":
        verdict = "inconclusive"
    if evidence.lost:
        lines += [f"{count} frames were lost by the tap in {node}" for node, count in sorted(evidence.lost.items())]
    if evidence.circling:
        lines.append(f"frames circulate in a loop of bridges, again and again past {some(evidence.circling, 6)}")
    return verdict, (*lines, *evidence.notes)


def worse(one: Verdict, other: Verdict) -> Verdict:
    """The verdict that decides when both hold: fail, then inconclusive, then pass."""
    return min(one, other, key=("fail", "inconclusive", "pass", "skip").index)


def _answer(evidence: Evidence) -> Judgement:
    check, answer = evidence.check, evidence.answer
    gone = [line for line in evidence.dead.get(evidence.source, ()) if "namespace" in line]
    if gone:
        return "fail", (*gone,)
    if answer == "broken":
        return "inconclusive", (f"the probe itself failed: {evidence.said}",)
    if answer not in ACCEPTED[check.expect]:
        return "fail", (*_disappointed(evidence),)
    if answer == "reply":
        return _replied(evidence)
    if answer == "refused" and check.expect == "refused":
        return _refused(evidence)
    verdict, said = _silent(evidence)
    if verdict == "pass" and evidence.drift:
        return "inconclusive", (*said, *evidence.drift, "so the missing reply may have a reason other than the rules")
    return verdict, said


def _disappointed(evidence: Evidence) -> list[str]:
    check = evidence.check
    tries = f" after {evidence.probes} probes" if evidence.probes > 1 else ""
    within = f" within {check.deadline:g} s" if check.expect == "reply" else ""
    got = "a reply" if evidence.answer == "reply" else f"{evidence.answer}{tries}: {evidence.said}"
    lines = [f"expected {WANTED[check.expect]}{within}, got {got}"]
    if evidence.answer == "reply":
        return [*lines, *_journey(evidence.trail)]
    lines += [*_whereabouts(evidence)]
    return [*lines, *(line for node in sorted(evidence.dead) for line in evidence.dead[node])]


def _replied(evidence: Evidence) -> Judgement:
    trail = evidence.trail
    back = [seen for seen in trail.replies if seen.at.ns == evidence.source and seen.direction == "in"]
    if evidence.marked_reply and not back:
        why = evidence.blind([evidence.source]) or (f"its packet was never seen entering {evidence.source}",)
        return "inconclusive", (f"a reply was reported ({evidence.said}), but", *why)
    if evidence.home is not None and not evidence.delivered:
        blind = evidence.blind([evidence.home])
        if blind or evidence.lost:
            return "inconclusive", (f"a reply came, but it is not known whether {evidence.home} sent it", *blind)
        return "fail", (
            f"something else answered for {evidence.check.target}: the request never entered {evidence.home}",
            *_journey(trail),
        )
    return "pass", (evidence.said,)


def _refused(evidence: Evidence) -> Judgement:
    trail = evidence.trail
    teller = next((seen for seen in trail.replies if seen.direction == "out"), None) if trail.resets else None
    complaint = next((item for item in trail.complaints if "port" in item.text or "prohibited" in item.text), None)
    if teller is not None:
        return "pass", (f"refused: a reset, first seen {teller}",)
    if complaint is not None:
        return "pass", (f"refused: {complaint}",)
    blind = evidence.blind([evidence.source])
    return "inconclusive", (f"a refusal was reported ({evidence.said}), but its packet was never seen", *blind)


def _silent(evidence: Evidence) -> Judgement:
    """No reply came, as expected. Decide whether that proves anything."""
    check, home, source = evidence.check, evidence.home, evidence.source
    dead = [line for node in (source, home or "") for line in evidence.dead.get(node, ())]
    if dead:
        return "fail", (*dead, "so the missing reply proves nothing")
    if check.size is not None:
        return _too_big(evidence)
    if evidence.answer == "blocked":
        return "pass", (f"the kernel of {source} did not send it: {evidence.said}",)
    blind = evidence.blind(dict.fromkeys((source, *((home,) if home else ()), *_touched(evidence.trail))))
    if blind:
        return "inconclusive", blind
    if evidence.left is None and any(at.ns == source for at, _ in evidence.unanswered):
        return _unheard(evidence)
    if evidence.left is None:
        return "inconclusive", (f"no reply came, but the probe was never seen leaving {source} either",)
    elsewhere = [line for node in _touched(evidence.trail) for line in evidence.dead.get(node, ())]
    if elsewhere:
        return "inconclusive", (*elsewhere, "so the missing reply proves nothing about the rules on the path")
    if any(seen.at.ns == source and seen.direction == "in" for seen in evidence.trail.replies):
        return "inconclusive", ("the probe reports no reply, but a reply was seen coming back", evidence.said)
    lines = (f"no reply: {evidence.said}", *_whereabouts(evidence))
    if (mute := evidence.mute) is not None and not evidence.felled:
        deaf = f"the request entered {mute}, which did not answer, and nothing there shows that it was dropped"
        return "inconclusive", (*lines, deaf)
    return "pass", (*lines, *evidence.felled)


def _too_big(evidence: Evidence) -> Judgement:
    """A packet of a given size, never fragmented, got no reply. A kernel or a router must report that it is too big."""
    complaint = next((item for item in evidence.trail.complaints if item.text in TOO_BIG), None)
    if complaint is not None:
        return "pass", (f"too big: {complaint}",)
    if evidence.answer == "blocked" and "message too long" in evidence.said.lower():
        return "pass", (f"the kernel of {evidence.source} did not send it: {evidence.said}",)
    return "inconclusive", (f"no reply: {evidence.said}", *_whereabouts(evidence), "nothing reported it as too big")


def _unheard(evidence: Evidence) -> Judgement:
    """The probe waited at its source for a neighbour that did not answer."""
    broken = [line for lines in evidence.dead.values() for line in lines]
    if broken:
        return "inconclusive", (*broken, "so a neighbour that does not answer proves nothing")
    return "pass", (f"no reply: {evidence.said}", *_questions(evidence))


def _questions(evidence: Evidence) -> list[str]:
    """The neighbours that did not answer, and the device that asked."""
    return [f"{at} asked for the MAC address of {ip} and got no answer" for at, ip in evidence.unanswered[:3]]


def _touched(trail: Trail) -> tuple[str, ...]:
    """The namespaces that a probe was seen in."""
    return tuple(dict.fromkeys(seen.at.ns for seen in (*trail.requests, *trail.replies)))


def _whereabouts(evidence: Evidence) -> list[str]:
    """Where the trail ends, and the ICMP errors about it."""
    trail = evidence.trail
    lines = [*dict.fromkeys(f"icmp: {complaint}" for complaint in trail.complaints), *_questions(evidence)]
    if trail.replies:
        return [f"the reply was last seen {trail.replies[-1]}", *lines]
    if trail.requests:
        return [f"the request was last seen {trail.requests[-1]}", *lines]
    return [f"the request was never seen, not even leaving {evidence.source}", *lines]


def _journey(trail: Trail) -> list[str]:
    return [f"  {seen}" for seen in (*trail.requests, *trail.replies)]


def _want(evidence: Evidence, want: Want) -> Judgement:
    see = want.see
    if want.problem:
        return "fail", (want.problem,)
    tapped = _packets(evidence.trail, want)
    witness = tapped
    if evidence.check.via == "tcpdump":
        if see.at not in evidence.dumped:
            return "inconclusive", (f"tcpdump did not watch {see.at}",)
        witness = _packets(evidence.dumped[see.at], want)
    hit = next((seen for seen in witness if want.meets(seen)), None)
    if see.negate:
        hit = hit or next((seen for seen in tapped if want.meets(seen)), None)
        return _absent(evidence, want, hit, tapped)
    if hit is not None:
        by = "tcpdump: " if evidence.check.via == "tcpdump" else "seen "
        return "pass", (f"{by}{hit}",)
    blind = evidence.blind([see.at.ns])
    lines = [f"expected {want}", *_instead(evidence, want, witness)]
    return ("inconclusive" if blind or evidence.lost else "fail"), (*lines, *blind)


def _absent(evidence: Evidence, want: Want, hit: Sighting | None, all_seen: tuple[Sighting, ...]) -> Judgement:
    at = want.see.at
    if hit is not None:
        return "fail", (f"not expected: {want}", f"seen {hit}")
    blind = evidence.blind([at.ns])
    if blind:
        return "inconclusive", (f"not seen {want}, but", *blind)
    dead = evidence.dead.get(str(at), ())
    if dead:
        return "inconclusive", (*dead, "so it proves nothing that it was not seen there")
    here = next((seen for seen in all_seen if seen.at == at), None)
    first = _packets(evidence.trail, want)
    proof = here or (first[-1] if first else None)
    if proof is None and want.see.packet == "arp":
        return "inconclusive", (f"not seen {want}, but no such question was seen anywhere",)
    if proof is None:
        return "inconclusive", (f"not seen {want}, but the packet itself was never seen anywhere",)
    return "pass", (f"not seen {want}; the packet itself was seen {proof}",)


def _packets(trail: Trail, want: Want) -> tuple[Sighting, ...]:
    """The packets that a `see:` is about, wherever seen: the request, the reply, or the ARP question that it names."""
    if want.see.packet == "arp":
        asked = (seen for seen in trail.questions if want.dst in (None, seen.dst))
        return tuple(seen for seen in asked if want.src in (None, seen.src))
    return trail.replies if want.see.packet == "reply" else trail.requests


def _instead(evidence: Evidence, want: Want, witness: tuple[Sighting, ...]) -> list[str]:
    """What was seen at the point, else where the packet was seen last."""
    here = [seen for seen in witness if seen.at == want.see.at]
    if here:
        return [f"seen {seen}" for seen in here[:5]]
    everywhere = _packets(evidence.trail, want)
    if not everywhere:
        return [f"it was never seen at {want.see.at}, nor anywhere else"]
    return [f"it was never seen at {want.see.at}; last seen {everywhere[-1]}"]


def hopeless(evidence: Evidence) -> bool:
    """Whether no other probe can change the verdict: a forbidden packet was seen, or an unexpected reply came."""
    if evidence.check.expect != "reply" and evidence.answer == "reply":
        return True
    forbidden = (want for want in evidence.wants if want.see.negate)
    return any(want.meets(seen) for want in forbidden for seen in _packets(evidence.trail, want))


def judge_mesh(pairs: Sequence[Pair], most: int = 10) -> Judgement:
    """The verdict on all pairs: each must get a reply, and be seen at its target with the source's own address.

    A pair that failed because of the tool itself proves nothing. One pair that failed otherwise is enough to fail.
    """
    bad = sorted((pair for pair in pairs if not pair.good), key=lambda pair: bool(pair.doubt))
    if not pairs:
        return "inconclusive", ("no pair was tested",)
    good = f"{len(pairs) - len(bad)} of {len(pairs)} pairs: replied, seen with own address"
    more = (f"and {len(bad) - most} more",) if len(bad) > most else ()
    verdict: Verdict = "pass" if not bad else "inconclusive" if bad[0].doubt else "fail"
    return verdict, (good, *(str(pair) for pair in bad[:most]), *more)

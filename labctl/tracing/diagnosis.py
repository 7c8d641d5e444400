"""From evidence to a result: the probe's path, hop by hop, and if it was lost, where and why. Pure.

The same evidence always gives the same result, so recordings serve as tests. Unknown facts are reported as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from labctl.tracing.causes import bridges, endpoints, links, routes, rules
from labctl.tracing.drop_reasons import kernel
from labctl.tracing.evidence import Evidence
from labctl.tracing.hop_notes import legs
from labctl.tracing.loss_point import Scene, scene
from labctl.tracing.result import Note, Story, Verdict, Why, answer_text, at, end_text, named, route_get

EXPLANATIONS: tuple[Callable[[Scene], Why | None], ...] = (
    rules.rule,
    endpoints.stranger,
    routes.loop,
    routes.too_big,
    links.cable,
    links.unplugged,
    bridges.address,
    links.neighbour,
    routes.forwarding,
    routes.reverse_path,
    routes.no_route,
    links.tunnel,
    bridges.bridge,
    endpoints.refused,
    endpoints.no_way_back,
    endpoints.ignored,
    endpoints.unsent,
    kernel,
    bridges.circling,
)


UNANSWERED = ("neighbour", "proxy-arp-off", "vxlan-neighbour", "no-route-back", "link-down")  # of a reply


def tell(evidence: Evidence) -> Story:
    """Explain one probe. The first cause in `EXPLANATIONS` that applies is the cause."""
    told = legs(evidence)
    if evidence.answer == "reply":
        return Story(
            probe_text(evidence),
            told,
            "answered",
            _answered(evidence),
            None,
            (*_pieces(evidence), *_flows(evidence)),
            (),
            _unknown(evidence),
        )
    place = scene(evidence)
    why = next((found for explain in EXPLANATIONS if (found := explain(place)) is not None), None)
    verdict, sentence = _verdict(place, why)
    facts = tuple(_facts(place, why))
    tries = why.tries if why is not None else ()
    return Story(probe_text(evidence), told, verdict, sentence, why, facts, tries, _unknown(evidence, place, why))


def probe_text(evidence: Evidence) -> str:
    """The probe in a line: `ICMP echo, 61 bytes: a 10.244.0.2 > c 10.244.1.2`."""
    asked = evidence.question
    what = {"icmp": "ICMP echo", "tcp": "TCP SYN", "udp": "UDP datagram"}[asked.protocol]
    size = f", {asked.size} bytes" if asked.size is not None else ""
    cut = ", may be fragmented" if asked.fragment else ""
    first = next((item for item in evidence.crossings if item.role == "request"), None)
    source = f"{asked.source} ({first.src})" if first is not None else asked.source
    address = end_text(asked.address, asked.port)
    target = f"{asked.target} ({address})" if asked.target != str(asked.address) else address
    return f"{what}{size}{cut}: {source} -> {target}"


def _answered(evidence: Evidence) -> str:
    requests = [item for item in evidence.crossings if item.role == "request"]
    replies = [item for item in evidence.crossings if item.role == "reply"]
    sources = list(dict.fromkeys(str(item.src) for item in requests))
    kept = "source unchanged end to end" if len(sources) < 2 else "source rewritten: " + " > ".join(sources)
    targets = list(dict.fromkeys(str(item.dst) for item in requests))
    moved = f"; destination rewritten: {' > '.join(targets)}" if len(targets) > 1 else ""
    if not replies or not requests:
        return f"answered; {kept}{moved}" if requests else "answered"
    took = (replies[-1].when - requests[0].when) / 1000
    return f"answered after {took:.0f} us; {kept}{moved}"


def _verdict(place: Scene, why: Why | None) -> tuple[Verdict, str]:
    evidence = place.evidence
    if (
        why is not None
        and why.kind in ("closed-port", "loopback-only", "other-address", "dead-backend")
        and evidence.answer == "refused"
    ):
        end = next((leg.steps[-1].node for leg in legs(evidence) if leg.name == "request"), place.node)
        return "refused", f"the probe arrived in {end} and was refused there"
    if place.tip is None:
        if place.delivered and evidence.answer == "refused":
            return "refused", f"{place.node} refused it"
        return "lost", f"the {place.role} never left {place.node}"
    if place.role == "request" and place.delivered and why is None:
        asked = evidence.question
        took = ", where a socket received it" if asked.protocol == "udp" and place.room.listening else ""
        return "unanswered", f"the request arrived in {place.node}{took}, but no reply was seen"
    answering = why is not None and (why.kind in UNANSWERED or why.sentence.endswith("reply to it"))
    if place.role == "request" and place.delivered and answering:
        return "lost", f"the request arrived in {place.node}, but the reply never left {place.node}"
    return "lost", f"the {place.role} was last seen {at(place.tip)}"


def _facts(place: Scene, why: Why | None) -> Iterator[Note]:
    """All facts about a loss: the kernel's drop, the cause's facts, the route, ICMP errors, connections, counters."""
    evidence = place.evidence
    if place.drop is not None:
        reason = place.drop.reason or "(this kernel gives no reason)"
        yield Note("kernel", f"skb:kfree_skb {reason} at {place.drop.location}()")
    yield from why.facts if why is not None else ()
    told = {note.text for note in why.facts} if why is not None else set()
    if place.lookup is not None and not place.delivered:
        text = f"{place.node}: {route_get(place.lookup)}  =>  {answer_text(place.lookup)}"
        if text not in told:
            yield Note("route", text)
    seen = {(item.src, item.dst, item.text) for item in evidence.crossings if item.role == "error"}
    for src, dst, text in sorted(seen, key=str):
        yield Note("icmp", f"{named(evidence, src)} reported to {named(evidence, dst)}: {text}")
    yield from _flows(evidence)
    for room in evidence.rooms:
        if room.counters and room.node in {item.node for item in evidence.crossings} | {
            place.node,
            evidence.question.source,
        }:
            moved = ", ".join(f"{name} +{count}" for name, count in room.counters.items())
            yield Note("counters", f"{room.node}: {moved}")


def _flows(evidence: Evidence) -> Iterator[Note]:
    for flow in evidence.flows:
        if flow.translated:
            ports = (flow.sport, flow.dport, flow.reply_sport, flow.reply_dport)
            here, far, back_src, back_dst = ports if flow.protocol in (6, 17) else (None, None, None, None)
            there = f"{end_text(flow.src, here)} > {end_text(flow.dst, far)}"
            back = f"{end_text(flow.reply_src, back_src)} > {end_text(flow.reply_dst, back_dst)}"
            yield Note("conntrack", f"{flow.node}: {there}, answered as {back} [{flow.state}]")


def _pieces(evidence: Evidence) -> Iterator[Note]:
    """The namespaces that fragmented the packet."""
    for room in evidence.rooms:
        count = room.counters.get("Ip.FragCreates", 0) + room.counters.get("Ip6FragCreates", 0)
        if count:
            yield Note("cut", f"{room.node} fragmented it, or the reply, for the next link: {count} fragments")


def _unknown(evidence: Evidence, place: Scene | None = None, why: Why | None = None) -> tuple[str, ...]:
    """The sentences about what is not known."""
    lines = list(evidence.unknown)
    if evidence.missed:
        lines.append(f"{evidence.missed} kernel events were lost because of the load: a drop may have been missed")
    if place is not None and place.drop is None and evidence.traced and why is None and not place.delivered:
        lines.append("the kernel reported no drop that certainly belongs to this packet")
    if why is None and place is not None and place.tip is not None and not place.delivered:
        lines.append("it is not known why it went no further")
    return tuple(lines)

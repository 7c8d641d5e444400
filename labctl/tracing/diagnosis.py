"""From evidence to a result: the probe's path, hop by hop, and if it was lost, where and why. Pure.

The same evidence always gives the same result, so recordings serve as tests. Unknown facts are reported as unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labctl.core.resources import IP
from labctl.tracing import translated_source
from labctl.tracing.address_owners import address_text, has_address
from labctl.tracing.causes import (
    addresses,
    bridge_mtu,
    bridges,
    endpoints,
    links,
    loops,
    macvlan,
    neighbour_entries,
    neighbours,
    routes,
    rules,
    segments,
    stale_nat,
    tunnels,
)
from labctl.tracing.dead_destination import with_dead_destination
from labctl.tracing.drop_reasons import drop_text, kernel_reason
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hop_notes import legs
from labctl.tracing.hop_routing import untranslated
from labctl.tracing.kept_source import with_kept_source
from labctl.tracing.loss_point import LossPoint, find_loss_point
from labctl.tracing.result import (
    Cause,
    Leg,
    Note,
    TraceResult,
    TraceVerdict,
    endpoint_text,
    flow_text,
    lookup_text,
    observation_text,
    route_get_command,
)
from labctl.tracing.route_behind import with_route_behind
from labctl.tracing.untracked import with_notrack_rule

EXPLANATIONS: tuple[Callable[[LossPoint], Cause | None], ...] = (
    addresses.wrong_machine,
    rules.rule,
    neighbours.neighbour_rule,
    neighbours.underlay_rule,
    endpoints.reply_not_untranslated,
    endpoints.reply_not_tracked,
    endpoints.reply_elsewhere,
    bridges.bridge_down,
    bridges.hairpin_off,
    loops.loop,
    bridge_mtu.bridge_mtu,
    routes.too_big,
    links.veth_peer,
    links.link_down,
    segments.stale_entry,
    segments.isolated_ports,
    tunnels.tunnel_settings,
    macvlan.stacked_frame,
    neighbour_entries.does_not_ask,
    neighbour_entries.wrong_entry,
    neighbour_entries.own_mac,
    bridges.wrong_mac,
    segments.broken_segment,
    links.neighbour,
    addresses.martian,
    addresses.no_address,
    segments.same_mac,
    routes.forwarding_off,
    routes.reverse_path,
    addresses.ipv6_off,
    segments.routes_gone,
    addresses.routes_lost,
    routes.no_route,
    tunnels.tunnel,
    bridges.bridge,
    endpoints.closed_port,
    routes.no_route_back,
    endpoints.ignores_pings,
    endpoints.not_sent_by_source,
    kernel_reason,
    bridges.bridge_loop,
)
# the causes of a refusal that came back: nothing was lost on the path
REFUSAL_EXPLANATIONS = (addresses.wrong_machine, rules.rule, endpoints.closed_port, kernel_reason)

REPLY_LOSS_CAUSES = (
    "neighbour",
    "proxy-arp-off",
    "proxy-arp-route",
    "proxy-entry",
    "arp-ignore",
    "arp-filter",
    "other-device",
    "macvlan",
    "no-address",
    "ipv6-off",
    "vxlan-neighbour",
    "vxlan-remote",
    "vxlan-vni",
    "vxlan-own-remote",
    "vxlan-port",
    "no-route-back",
    "link-down",
    "isolated",
    "port-detached",
    "duplicate-mac",
)  # of a reply that never left; fmt: skip


def diagnose(evidence: TraceEvidence) -> TraceResult:
    """Explain one probe. The first cause in `EXPLANATIONS` that applies is the cause."""
    paths = legs(evidence)
    if evidence.answer == "reply" and addresses.taker(evidence) is None:
        stale = stale_nat.stale_nat(evidence)
        notes = (Note("stale", stale.sentence), *stale.facts) if stale is not None else ()
        return TraceResult(
            describe_probe(evidence),
            paths,
            "answered",
            _answered_sentence(evidence),
            None,
            (*_fragment_notes(evidence), *notes, *_nat_notes(evidence, notes)),
            stale.tries if stale is not None else (),
            _unknown_lines(evidence),
        )
    loss_point = find_loss_point(evidence)
    explanations = REFUSAL_EXPLANATIONS if evidence.answer == "refused" else EXPLANATIONS
    cause = next((found for explain in explanations if (found := explain(loss_point)) is not None), None)
    cause = _with_cause_behind(loss_point, with_route_behind(loss_point, cause)) if cause is not None else None
    verdict, sentence = _verdict(loss_point, cause, paths)
    cause = stale_nat.cause_behind(loss_point, cause)
    facts = tuple(_facts(loss_point, cause))
    tries = cause.tries if cause is not None else ()
    return TraceResult(
        describe_probe(evidence),
        paths,
        verdict,
        sentence,
        cause,
        facts,
        tries,
        _unknown_lines(evidence, loss_point, cause),
    )


def _with_cause_behind(loss_point: LossPoint, cause: Cause) -> Cause:
    """The cause with the rule behind it: one because of which a connection is not known, or one that rewrote the
    destination to an address of no machine, or one because of which the packet had that source: it gave it an address
    of no machine or of another one, or kept it, or gave it an address of the machine itself."""
    for behind in (with_notrack_rule, with_dead_destination):
        if (found := behind(loss_point, cause)) != cause:
            return found
    rewritten = translated_source.behind(loss_point, cause)
    if rewritten is None or has_address(loss_point.evidence, rewritten.node, rewritten.new):
        kept = with_kept_source(loss_point, cause)
        if rewritten is None or kept != cause:
            return kept
    return translated_source.with_translated_source(loss_point, cause, rewritten)


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


def _verdict(loss_point: LossPoint, cause: Cause | None, paths: Sequence[Leg]) -> tuple[TraceVerdict, str]:
    evidence = loss_point.evidence
    end = next((leg.steps[-1].node for leg in paths if leg.name == "request"), loss_point.node)
    if cause is not None and cause.kind == "wrong-machine":
        done = {"reply": ", which answered", "refused": ", which refused it"}.get(evidence.answer, "")
        return (
            "lost",
            f"the request went to {addresses.taker(evidence)}{done}; it never arrived in {evidence.question.target}",
        )
    if evidence.answer == "refused":
        if cause is not None and cause.kind == "rule":
            return "refused", _refusal_sentence(loss_point)
        return "refused", f"the probe arrived in {end} and was refused there"
    if loss_point.last_observation is None:
        return "lost", f"the {loss_point.role} never left {loss_point.node}"
    if loss_point.role == "request" and loss_point.delivered and cause is None:
        asked = evidence.question
        took = ", where a socket received it" if asked.protocol == "udp" and endpoints.has_socket(loss_point) else ""
        return "unanswered", f"the request arrived in {loss_point.node}{took}, but no reply was seen"
    answering = cause is not None and (cause.kind in REPLY_LOSS_CAUSES or cause.sentence.endswith("reply to it"))
    if loss_point.role == "request" and loss_point.delivered and answering:
        return "lost", f"the request arrived in {loss_point.node}, but the reply never left {loss_point.node}"
    return "lost", f"the {loss_point.role} was last seen {observation_text(loss_point.last_observation)}"


def _refusal_sentence(loss_point: LossPoint) -> str:
    """Where a firewall refused the probe, and what came back to the sender, as a closed port would have sent it."""
    place = f"never left {loss_point.node}"
    if loss_point.last_observation is not None:
        place = f"was last seen {observation_text(loss_point.last_observation)}"
    seen = loss_point.evidence.observations
    reset = any(one.role == "reply" and one.text == "reset" for one in seen)
    error = next((one.text for one in seen if one.role == "error"), None)
    back = "a TCP reset" if reset else f"an ICMP error ({error})" if error is not None else "a refusal"
    return f"the request {place}, and {back} came back"


def _facts(loss_point: LossPoint, cause: Cause | None) -> Iterator[Note]:
    """All facts about a loss: the kernel's drop, the cause's facts, the route, ICMP errors, connections, counters."""
    evidence = loss_point.evidence
    if loss_point.drop is not None and evidence.answer != "reply":
        yield Note("kernel", drop_text(loss_point.drop, loss_point.node))
    yield from cause.facts if cause is not None else ()
    cause_texts = {note.text for note in cause.facts} if cause is not None else set()
    if loss_point.lookup is not None and not loss_point.delivered:
        text = f"{loss_point.node}: {route_get_command(loss_point.lookup)}  =>  {lookup_text(loss_point.lookup)}"
        if text not in cause_texts:
            yield Note("route", text)
    yield from _icmp_notes(evidence)
    yield from _nat_notes(evidence, cause.facts if cause is not None else ())
    for namespace in evidence.namespaces:
        if namespace.counters and namespace.node in {item.node for item in evidence.observations} | {
            loss_point.node,
            evidence.question.source,
        }:
            moved = ", ".join(f"{name} +{count}" for name, count in namespace.counters.items())
            yield Note("counters", f"{namespace.node}: {moved}")


def _icmp_notes(evidence: TraceEvidence) -> Iterator[Note]:
    """The ICMP errors, with the names of their sender and receiver as seen from where they were first and last seen."""
    found: dict[tuple[IP, IP, str], list[str]] = {}
    for item in evidence.observations:
        if item.role == "error":
            found.setdefault((item.src, item.dst, item.text), []).append(item.node)
    for (src, dst, text), nodes in sorted(found.items(), key=str):
        sender, receiver = address_text(evidence, src, nodes[0]), address_text(evidence, dst, nodes[-1])
        yield Note("icmp", f"{sender} reported to {receiver}: {text}")


def _nat_notes(evidence: TraceEvidence, told: Sequence[Note] = ()) -> Iterator[Note]:
    """The translations in conntrack, except those in the notes that are `told` already."""
    for flow in evidence.flows:
        if flow.is_translated and not any(note.text.startswith(f"{flow_text(flow)} [") for note in told):
            yield Note("conntrack", f"{flow_text(flow)} [{flow.state}]")


def _fragment_notes(evidence: TraceEvidence) -> Iterator[Note]:
    """The namespaces that fragmented the packet."""
    for namespace in evidence.namespaces:
        count = namespace.counters.get("Ip.FragCreates", 0) + namespace.counters.get("Ip6FragCreates", 0)
        if count:
            yield Note("cut", f"{namespace.node} fragmented it, or the reply, for the next link: {count} fragments")


def _unknown_lines(
    evidence: TraceEvidence, loss_point: LossPoint | None = None, cause: Cause | None = None
) -> tuple[str, ...]:
    """The sentences about what is not known."""
    lines = list(evidence.unknown)
    if evidence.lost_events:
        lines.append(f"{evidence.lost_events} kernel events were lost because of the load: a drop may have been missed")
    if (
        loss_point is not None
        and loss_point.drop is None
        and evidence.drops_traced
        and cause is None
        and not loss_point.delivered
    ):
        lines.append("the kernel reported no drop that certainly belongs to this packet")
    if (
        cause is None
        and loss_point is not None
        and loss_point.last_observation is not None
        and not loss_point.delivered
    ):
        lines.append("it is not known why it went no further")
    return tuple(lines)

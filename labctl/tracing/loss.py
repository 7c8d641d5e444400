"""The cause of a loss: where the probe was lost, why, and the facts that prove it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labctl.core.resources import IP
from labctl.core.sentence import Sentence, sentence
from labctl.tracing import translated_source
from labctl.tracing.address_owners import address_text, has_address
from labctl.tracing.causes import (
    addresses,
    bridge_mtu,
    bridges,
    endpoints,
    links,
    load_balancers,
    loops,
    macvlan,
    neighbour_entries,
    neighbour_table,
    neighbours,
    routes,
    rules,
    segments,
    snat_ports,
    stale_nat,
    tunnels,
)
from labctl.tracing.dead_destination import with_dead_destination
from labctl.tracing.drop_reasons import drop_text, kernel_reason
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hops import PacketObservation
from labctl.tracing.kept_source import with_kept_source
from labctl.tracing.loss_point import LossPoint, find_loss_point
from labctl.tracing.result import (
    ROLE_WORDS,
    Cause,
    Leg,
    Note,
    TraceResult,
    TraceVerdict,
    lookup_text,
    nat_notes,
    observation_text,
    route_get_command,
    service_notes,
)
from labctl.tracing.route_behind import with_route_behind
from labctl.tracing.taker import taker
from labctl.tracing.untracked import with_notrack_rule

EXPLANATIONS: tuple[Callable[[LossPoint], Cause | None], ...] = (
    addresses.wrong_machine,
    snat_ports.exhausted,
    rules.rule,
    neighbours.neighbour_rule,
    neighbours.underlay_rule,
    neighbour_table.no_entry,
    endpoints.reply_not_untranslated,
    endpoints.reply_not_tracked,
    endpoints.reply_elsewhere,
    bridges.bridge_down,
    bridges.hairpin_off,
    loops.loop,
    bridge_mtu.bridge_mtu,
    routes.too_big,
    load_balancers.no_node,
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
    neighbour_table.no_trace,
    endpoints.not_sent_by_source,
    kernel_reason,
    bridges.bridge_loop,
)
# the causes of a refusal that came back: nothing was lost on the path
REFUSAL_EXPLANATIONS = (addresses.wrong_machine, rules.rule, endpoints.closed_port, kernel_reason)

REPLY_LOSS_CAUSES = (
    "neighbour",
    "neighbour-table",
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


def explain_loss(evidence: TraceEvidence, probe: str, paths: tuple[Leg, ...]) -> TraceResult:
    """Explain a lost or refused probe, which the text `probe` describes. The first cause in `EXPLANATIONS` that applies
    is the cause."""
    loss_point = find_loss_point(evidence)
    explanations = REFUSAL_EXPLANATIONS if evidence.answer == "refused" else EXPLANATIONS
    cause = next((found for explain in explanations if (found := explain(loss_point)) is not None), None)
    cause = _with_cause_behind(loss_point, with_route_behind(loss_point, cause)) if cause is not None else None
    verdict, sentence = _verdict(loss_point, cause, paths)
    cause = stale_nat.cause_behind(loss_point, cause)
    facts = tuple(_facts(loss_point, cause))
    tries = cause.tries if cause is not None else ()
    return TraceResult(probe, paths, verdict, sentence, cause, facts, tries, _unknown_lines(loss_point, cause))


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


def _verdict(loss_point: LossPoint, cause: Cause | None, paths: Sequence[Leg]) -> tuple[TraceVerdict, Sentence]:
    evidence, node, role = loss_point.evidence, loss_point.node, ROLE_WORDS[loss_point.role]
    end = next((leg.steps[-1].node for leg in paths if leg.name == "request"), loss_point.node)
    if cause is not None and cause.kind == "wrong-machine":
        went = sentence("the request went to {node}", node=taker(evidence))
        if evidence.answer == "reply":
            went = sentence("{text}, which answered", text=went)
        if evidence.answer == "refused":
            went = sentence("{text}, which refused it", text=went)
        return "lost", sentence("{text}; it never arrived in {target}", text=went, target=evidence.question.target)
    if evidence.answer == "refused":
        if cause is not None and cause.kind == "rule":
            return "refused", _refusal_sentence(loss_point)
        return "refused", sentence("the probe arrived in {node} and was refused there", node=end)
    if loss_point.last_observation is None:
        return "lost", sentence("the {packet} never left {node}", packet=role, node=node)
    if loss_point.role == "request" and loss_point.delivered and cause is None:
        asked = evidence.question
        if asked.protocol == "udp" and endpoints.has_socket(loss_point):
            text = sentence(
                "the request arrived in {node}, where a socket received it, but no reply was seen", node=node
            )
            return "unanswered", text
        return "unanswered", sentence("the request arrived in {node}, but no reply was seen", node=node)
    answering = cause is not None and (cause.kind in REPLY_LOSS_CAUSES or cause.sentence.endswith("reply to it"))
    if loss_point.role == "request" and loss_point.delivered and answering:
        return "lost", sentence("the request arrived in {node}, but the reply never left {node}", node=node)
    return "lost", _last_seen(role, loss_point.last_observation)


def _last_seen(packet: Sentence, item: PacketObservation) -> Sentence:
    return sentence("the {packet} was last seen {place}", packet=packet, place=observation_text(item))


def _refusal_sentence(loss_point: LossPoint) -> Sentence:
    """Where a firewall refused the probe, and what came back to the sender, as a closed port would have sent it."""
    packet = ROLE_WORDS["request"]
    text = sentence("the {packet} never left {node}", packet=packet, node=loss_point.node)
    if loss_point.last_observation is not None:
        text = _last_seen(packet, loss_point.last_observation)
    seen = loss_point.evidence.observations
    reset = any(one.role == "reply" and one.text == "reset" for one in seen)
    error = next((one.text for one in seen if one.role == "error"), None)
    if reset:
        return sentence("{text}, and a TCP reset came back", text=text)
    if error is not None:
        return sentence("{text}, and an ICMP error ({error}) came back", text=text, error=error)
    return sentence("{text}, and a refusal came back", text=text)


def _facts(loss_point: LossPoint, cause: Cause | None) -> Iterator[Note]:
    """All facts about a loss: the kernel's drop, the cause's facts, the route, ICMP errors, connections, counters."""
    evidence = loss_point.evidence
    if loss_point.drop is not None and evidence.answer != "reply":
        yield Note("kernel", drop_text(loss_point.drop, loss_point.node))
    yield from cause.facts if cause is not None else ()
    yield from service_notes(evidence)
    cause_texts = {note.text for note in cause.facts} if cause is not None else set()
    if loss_point.lookup is not None and not loss_point.delivered:
        text = f"{loss_point.node}: {route_get_command(loss_point.lookup)}  =>  {lookup_text(loss_point.lookup)}"
        if text not in cause_texts:
            yield Note("route", text)
    yield from _icmp_notes(evidence)
    yield from nat_notes(evidence, cause.facts if cause is not None else ())
    for namespace in evidence.namespaces:
        if namespace.counters and namespace.node in {item.node for item in evidence.observations} | {
            loss_point.node,
            evidence.question.source,
        }:
            moved = ", ".join(f"{name} +{count}" for name, count in namespace.counters.items())
            yield Note("counters", f"{namespace.node}: {moved}")


def _icmp_notes(evidence: TraceEvidence) -> Iterator[Note]:
    """The ICMP errors, with the names of their sender and receiver as seen from where they were first and last seen.
    A router may translate the addresses of an error back, as those of the packet that it is about: one message."""
    origin: dict[tuple[IP, IP, str], tuple[IP, IP, str]] = {}
    for hop in evidence.hops["error"]:
        before, after = hop.outside_tunnel[0], hop.outside_tunnel[-1]
        if _message(before) != _message(after):
            origin[_message(after)] = origin.get(_message(before), _message(before))
    found: dict[tuple[IP, IP, str], list[PacketObservation]] = {}
    for item in evidence.observations:
        if item.role == "error":
            found.setdefault(origin.get(_message(item), _message(item)), []).append(item)
    for (src, _, text), items in sorted(found.items(), key=lambda one: str(one[0])):
        first, last = next((item for item in items if item.src == src), items[0]), items[-1]
        sender, receiver = address_text(evidence, src, first.node), address_text(evidence, last.dst, last.node)
        said = sentence("{sender} reported to {receiver}: {error}", sender=sender, receiver=receiver, error=text)
        if last.src != src:
            said = sentence(
                "{sender} reported to {receiver}, who saw it from {address}: {error}",
                sender=sender,
                receiver=receiver,
                address=last.src,
                error=text,
            )
        yield Note("icmp", said)


def _message(item: PacketObservation) -> tuple[IP, IP, str]:
    return item.src, item.dst, item.text


def _unknown_lines(loss_point: LossPoint, cause: Cause | None) -> tuple[str, ...]:
    """The sentences about what is not known."""
    evidence = loss_point.evidence
    lines = list(evidence.unknown_lines)
    if cause is None and not loss_point.delivered:
        if loss_point.drop is None and evidence.drops_traced:
            lines.append(sentence("the kernel reported no drop that certainly belongs to this packet"))
        if loss_point.last_observation is not None:
            lines.append(sentence("it is not known why it went no further"))
    return tuple(lines)

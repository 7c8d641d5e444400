"""The machines that got the question for a neighbour's MAC address, and the questions to their routing. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.observations import RouteQuery
from labctl.core.resources import IP, Interface
from labctl.tracing.evidence import TraceEvidence, UnansweredNeighbour

MAX_MACHINES = 16  # machines whose routing is asked about a neighbour at most


@dataclass(frozen=True, slots=True)
class ReceivedQuestion:
    """A question for the MAC address of `ip` that came in at an interface; `src` is the address of the sender."""

    at: Interface
    ip: IP
    src: IP


def received_questions(evidence: TraceEvidence, asked: UnansweredNeighbour) -> tuple[ReceivedQuestion, ...]:
    """Where the question for a neighbour arrived, as the stack of each machine sees it: at the bridge, not at its port.
    The other end of the cable comes first. If no question was seen, because the kernel waits for an earlier one, the
    other end of the cable is assumed, unless it is a bridge port."""
    link = evidence.link(asked.node, asked.dev)
    peer = link.peer if link is not None else None
    found: dict[Interface, ReceivedQuestion] = {}
    seen = False
    for one in evidence.neighbour_observations:
        if not one.is_request or one.ip != asked.ip:
            continue
        seen = True
        at = Interface(one.node, one.dev)
        there = evidence.link(one.node, one.dev)
        if one.direction == "in" and there is not None and there.master is None:
            found.setdefault(at, ReceivedQuestion(at, one.ip, one.src))
    other = evidence.link(peer.ns, peer.dev) if peer is not None else None
    if not seen and other is not None and other.master is None and other.up:
        addresses = evidence.namespace(asked.node).addresses
        own = [one for one in addresses if one.addr.version == asked.ip.version and not one.addr.ip.is_loopback]
        first = next((one for one in own if one.at.dev == asked.dev), own[0] if own else None)
        if first is not None:
            found[other.at] = ReceivedQuestion(other.at, asked.ip, first.addr.ip)
    return tuple(sorted(found.values(), key=lambda one: one.at != peer))


def source_query(question: ReceivedQuestion) -> RouteQuery:
    """The routing of the address that the question is about, as the kernel does it before it answers."""
    return RouteQuery(question.at.ns, question.ip, question.src, question.at.dev)


def answer_query(question: ReceivedQuestion) -> RouteQuery:
    """The routing of the answer, which arp_filter compares with the device of the question."""
    return RouteQuery(question.at.ns, question.src, question.ip)


def neighbour_route_queries(evidence: TraceEvidence) -> Iterator[RouteQuery]:
    """The questions to the routing of the machines that got an ARP request without an answer."""
    if evidence.answer == "reply":
        return
    asked = list(evidence.unanswered_neighbours)
    for state in evidence.namespaces:
        asked += [
            UnansweredNeighbour(state.node, one.at.dev, one.ip)
            for one in state.neighbours
            if one.state in ("failed", "incomplete")
        ]
    for one in dict.fromkeys(asked):
        if one.ip.version == 4:  # neighbour discovery does not ask the routing
            for question in received_questions(evidence, one)[:MAX_MACHINES]:
                yield source_query(question)
                yield answer_query(question)

"""Find the kernel's drop event of the probe, and never that of another packet on the same path. Pure.

The kernel keeps a packet at the same memory address (skb) across veth pairs, bridges, routing and namespaces. So the
last sighting is matched with the kernel's event of the same device, length and time. The earlier sightings confirm
the skb of that event. If the next event of that skb is a drop, soon and in the same thread, then it is the probe's
drop. The limits are needed because the kernel reuses an address at once. If two packets match equally, no drop is
reported.
"""

from __future__ import annotations

from collections.abc import Sequence

from labctl.core.observations import KernelEvent
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hops import Hop, PacketObservation

MATCH_WINDOW_NS = (
    200_000  # ns: the largest difference between a tap's timestamp and the kernel's event of the same passage
)
DROP_WINDOW_NS = 3_000_000  # ns: the longest time from the last passage to the drop, unless it waits for a neighbour
DELAYED_REASONS = ("NEIGH_", "QUEUE_PURGE", "FRAG_REASM")  # these drops may come later
IGNORED_REASONS = {
    "OTHERHOST",
    "SOCKET_FILTER",
    "PACKET_SOCK_ERROR",
    "CONSUMED",
    "TCP_RESET",
}  # copies for others, or not a loss
ETHERNET_HEADER_BYTES = 14


def find_drop_event(evidence: TraceEvidence, hops: Sequence[Hop]) -> KernelEvent | None:
    """The drop event of the packet that took these hops (none: it never left its source); None if not found."""
    seen = [item for hop in hops for item in hop.observations]
    if not seen:
        return _drop_before_device(evidence)
    last = seen[-1]
    scores: dict[str, tuple[int, int, int]] = {}
    for event in evidence.events:
        if _is_passage_of(event, last) and (gap := abs(event.when - last.when)) <= MATCH_WINDOW_NS:
            confirmed = sum(_confirms(evidence, event.skb, item) for item in seen[:-1])
            scores[event.skb] = max(scores.get(event.skb, (-1, 0, 0)), (confirmed, -gap, event.when))
    if not scores:
        return None
    ranked = sorted(scores.items(), key=lambda pair: pair[1], reverse=True)
    if len(ranked) > 1 and ranked[0][1][0] == ranked[1][1][0] and ranked[1][1][1] > 4 * ranked[0][1][1] - 2000:
        return None  # two packets match equally
    skb, (_, _, since) = ranked[0]
    passage = next(event for event in evidence.events if event.skb == skb and event.when == since)
    return _drop_after(evidence, passage)


def _drop_after(evidence: TraceEvidence, passage: KernelEvent) -> KernelEvent | None:
    """The event after a packet's last passage, if that is its drop."""
    later = [event for event in evidence.events if event.skb == passage.skb and event.when >= passage.when]
    for event in later[later.index(passage) + 1 :]:
        own = event.when - passage.when <= DROP_WINDOW_NS and event.pid == passage.pid
        if event.kind == "queue" and own:
            continue  # a queue may drop it before a tap sees it
        if event.kind != "drop":
            return None  # the address passes a device again: it belongs to another packet now
        if event.reason.startswith(DELAYED_REASONS):
            return event
        if event.reason not in IGNORED_REASONS:
            return event if own else None
    return None


def _drop_before_device(evidence: TraceEvidence) -> KernelEvent | None:
    """A drop in the sending thread itself, before any device was reached. Once the source has asked for the MAC address
    of the next hop, the probe waits for the answer: a later drop in the same thread is that of the question, wherever
    it was then, unless the reason is the missing neighbour itself."""
    source = evidence.question.source
    missing = {one.ip for one in evidence.unanswered_neighbours}
    missing |= {one.ip for one in evidence.namespace(source).neighbours if one.state in ("failed", "incomplete")}
    asked = [
        one.when
        for one in evidence.neighbour_observations
        if one.is_request and (one.node, one.direction) == (source, "out") and one.ip in missing
    ]
    latest = min((DROP_WINDOW_NS, *asked))
    for event in evidence.events:
        if event.kind != "drop" or event.pid != evidence.pid or event.reason in IGNORED_REASONS:
            continue
        limit = DROP_WINDOW_NS if event.reason.startswith("NEIGH_") else latest
        if -1_000_000 <= event.when <= limit:
            return event
    return None


def _is_passage_of(event: KernelEvent, item: PacketObservation) -> bool:
    """Whether an event matches a sighting's device, direction and length. The length includes the Ethernet header
    when queued; when received, it may be without it."""
    if event.dev != item.dev:
        return False
    if item.direction == "out":
        return event.kind == "queue" and event.length == item.length
    return event.kind == "receive" and event.length in (item.length - ETHERNET_HEADER_BYTES, item.length)


def _confirms(evidence: TraceEvidence, skb: str, item: PacketObservation) -> bool:
    return any(
        event.skb == skb and _is_passage_of(event, item) and abs(event.when - item.when) <= MATCH_WINDOW_NS
        for event in evidence.events
    )

"""Which machine took the request as its own. Pure."""

from __future__ import annotations

from labctl.core.names import is_address
from labctl.tracing.address_owners import has_address
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hop_routing import find_lookup, last_route_query
from labctl.tracing.hops import Hop


def taker(evidence: TraceEvidence) -> str | None:
    """The machine that took the request as its own, if it is another one than the machine that the user named. None if
    the request arrived where it should, or nowhere, or if its destination was translated on the path."""
    question = evidence.question
    if question.target_ns is None or is_address(question.target):
        return None  # any machine with the address is right
    hops = evidence.hops["request"]
    if not hops:
        return None
    for hop in hops:
        before, after = hop.outside_tunnel[0], hop.outside_tunnel[-1]
        if before.dst != question.address:
            return None  # translated before
        if (hop is hops[-1] and _arrived(evidence, hop)) or (
            before.dst != after.dst and has_address(evidence, hop.node, before.dst)
        ):
            return hop.node if hop.node != question.target_ns else None
    return None


def _arrived(evidence: TraceEvidence, hop: Hop) -> bool:
    """Whether the hop's namespace took the packet as its own."""
    last = hop.observations[-1]
    query = last_route_query(evidence, hop, "request")
    lookup = find_lookup(evidence, query)
    here = has_address(evidence, hop.node, last.dst) or (lookup is not None and lookup.kind == "local")
    return last.direction == "in" and last.encap == "none" and query is not None and here

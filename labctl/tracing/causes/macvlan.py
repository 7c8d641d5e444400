"""A macvlan and the device below it, or two macvlans of one device, between which the kernel passes no frames. Pure."""

from __future__ import annotations

from labctl.core.resources import Interface, Link
from labctl.core.sentence import sentence
from labctl.tracing.causes.neighbour_owner import owner_of
from labctl.tracing.evidence import TraceEvidence, UnansweredNeighbour
from labctl.tracing.hops import lower_interface
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, asked_note

ARTICLE = {"macvlan": sentence("a macvlan"), "ipvlan": sentence("an ipvlan")}


def stacked_neighbour(loss_point: LossPoint, asked: UnansweredNeighbour) -> Cause | None:
    """The question for a MAC address cannot reach the machine that has it."""
    evidence = loss_point.evidence
    owner, asking = owner_of(loss_point, asked), evidence.link(asked.node, asked.dev)
    if owner is None or asking is None:
        return None
    arrived = any(
        one.is_request and one.ip == asked.ip and (one.node, one.direction) == (owner, "in")
        for one in evidence.neighbour_observations
    )
    if arrived:
        return None
    at = next((one.at for one in evidence.namespace(owner).addresses if one.addr.ip == asked.ip), None)
    for link in sorted(evidence.namespace(owner).links, key=lambda one: one.at != at):
        text = _separation(evidence, asking, link)
        if text:
            note = Note(
                "macvlan",
                sentence("{owner} has the address {ip}, and the question cannot reach it", owner=owner, ip=asked.ip),
            )
            return Cause("macvlan", text, (asked_note(asked), note))
    return None


def stacked_frame(loss_point: LossPoint) -> Cause | None:
    """A frame with the MAC address of the device below a macvlan, or of a macvlan above, left by the lower device."""
    tip = loss_point.last_observation
    if tip is None or tip.mac is None or loss_point.delivered or (loss_point.entering and tip.addressed_here):
        return None
    evidence = loss_point.evidence
    passed = {Interface(item.node, item.dev) for hop in loss_point.hops for item in hop.observations}
    links = [link for state in evidence.namespaces for link in state.links]
    for source in (one for one in links if one.mac == tip.mac[0] and one.at in passed):
        for target in (one for one in links if one.mac == tip.mac[1] and one.at != source.at):
            text = _separation(evidence, source, target)
            if text:
                note = Note(
                    "macvlan",
                    sentence(
                        "the frame is for {mac}, {target}, and left by the device below instead",
                        mac=tip.mac[1],
                        target=target.at,
                    ),
                )
                return Cause("macvlan", text, (note,))
    return None


def _separation(evidence: TraceEvidence, one: Link, other: Link) -> str:
    """Why the kernel passes no frame between two devices; "" if they are not related by a macvlan."""
    lower, far_lower = lower_interface(one), lower_interface(other)
    if other.at == lower:
        upper, below = one, other
    elif one.at == far_lower:
        upper, below = other, one
    elif lower is not None and lower == far_lower and one.kind == other.kind == "macvlan":
        modes = [dict(link.options).get("mode", "") for link in (one, other)]
        if modes == ["bridge", "bridge"]:
            return ""
        return sentence(
            "{one} (mode {mode}) and {other} (mode {other_mode}) are macvlans of {lower}: the kernel passes frames"
            " between macvlans of one device only if both have the mode bridge",
            one=one.at,
            mode=modes[0],
            other=other.at,
            other_mode=modes[1],
            lower=lower,
        )
    else:
        return ""
    kind = ARTICLE[upper.kind]
    return sentence(
        "{upper} is {kind} of {below}: the kernel passes nothing between {kind} and the device below it",
        upper=upper.at,
        kind=kind,
        below=below.at,
    )

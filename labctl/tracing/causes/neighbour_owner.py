"""Why a machine that should have an address does not answer for it: it lost it, or its cable is down. Pure."""

from __future__ import annotations

from labctl.core.observations import RouteLookup
from labctl.core.resources import Address, Interface, Link
from labctl.core.sentence import Sentence, all_of, sentence
from labctl.tracing.address_owners import is_read, owner, owners
from labctl.tracing.causes.addresses import lost_address
from labctl.tracing.evidence import TraceEvidence, UnansweredNeighbour
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, asked_note, exec_command

SEGMENT_KINDS = ("veth", "bridge")  # a network of other devices is not followed


def silent_owner(loss_point: LossPoint, unanswered: UnansweredNeighbour) -> Cause | None:
    """The machine that should answer does not have the address any more, or cannot receive the question."""
    evidence, ip = loss_point.evidence, unanswered.ip
    name = owner_of(loss_point, unanswered)
    if name is None or not is_read(evidence, name):
        return None
    asked = asked_note(unanswered)
    at = _interface_with(loss_point, name, unanswered)
    if at is None:
        links = [link for link in evidence.namespace(name).links if link.at.dev != "lo"]
        # a device that is down loses its IPv6 addresses, but keeps its IPv4 addresses
        down = next((link for link in links if not link.up), None) if ip.version == 6 else None
        return lost_address(evidence, name, ip, (asked,)) if down is None else _down(evidence, down.at, asked, down.at)
    link = evidence.link(name, at.dev)
    if link is None or at.dev == "lo":
        return None
    if not link.up:
        name_and_address = sentence("{at}, which has the address {ip},", at=at, ip=ip)
        return _down(evidence, at, asked, name_and_address)
    if not link.arp and ip.version == 4:
        tries = (exec_command(evidence, name, f"ip link set {at.dev} arp on"),)
        return Cause(
            "neighbour",
            sentence("{at}, which has the address {ip}, does not answer: ARP is off there", at=at, ip=ip),
            (asked,),
            tries,
        )
    if at.dev not in evidence.namespace(name).no_carrier:
        return None
    if link.peer is None or evidence.link(link.peer.ns, link.peer.dev) is None:
        text = sentence(
            "{at}, which has the address {ip}, has no carrier: the other end of its cable does not exist", at=at, ip=ip
        )
        return Cause("link-down", text, (asked,))
    what = sentence(
        "{peer}, the other end of the cable of {at}, which has the address {ip},", peer=link.peer, at=at, ip=ip
    )
    return _down(evidence, link.peer, asked, what)


def _down(evidence: TraceEvidence, at: Interface, asked: Note, what: Interface | Sentence) -> Cause:
    tries = (exec_command(evidence, at.ns, f"ip link set {at.dev} up"),)
    return Cause("link-down", sentence("{link} is down", link=what), (asked,), tries)


def with_owner(loss_point: LossPoint, unanswered: UnansweredNeighbour, text: Sentence) -> Sentence:
    """A sentence about a neighbour that does not answer, with which machine has its address."""
    evidence, ip = loss_point.evidence, unanswered.ip
    names = owners(evidence, ip)
    if not names:
        route = _gateway_route(loss_point, unanswered)
        if route is not None:
            text = sentence("{text}, the gateway of its route {route}", text=text, route=route)
        return sentence("{text}: no machine of the lab has that address", text=text)
    name = owner_of(loss_point, unanswered)
    if name is None:
        return sentence("{text}, although {nodes} have that address", text=text, nodes=all_of(names[:3]))
    at = _interface_with(loss_point, name, unanswered)
    segment = _segment(evidence, Interface(unanswered.node, unanswered.dev))
    if at is not None and segment and at not in segment:
        text = sentence(
            "{text}: {name} has that address, but {at} is not connected to {node}/{dev}",
            text=text,
            name=name,
            at=at,
            node=unanswered.node,
            dev=unanswered.dev,
        )
        reason = _reason_to_ask(loss_point, unanswered)
        return text if reason is None else sentence("{text}; {reason}", text=text, reason=reason)
    return sentence("{text}, although {node} has that address", text=text, node=name)


def one_sided_prefix(evidence: TraceEvidence, asked: UnansweredNeighbour) -> Address | None:
    """The address of the asking device of which the prefix makes a neighbour of a machine in another network, which
    does not have the asking machine for one; None if there is none."""
    wide = _covering(evidence, asked)
    if wide is None:
        return None
    there = [one.addr for state in evidence.namespaces for one in state.addresses if one.addr.ip == asked.ip]
    return wide if there and all(wide.addr.ip not in one.network for one in there) else None


def _covering(evidence: TraceEvidence, asked: UnansweredNeighbour) -> Address | None:
    """The address of the asking device with a prefix that covers the address asked for."""
    here = evidence.namespace(asked.node).addresses
    return next((one for one in here if one.at.dev == asked.dev and asked.ip in one.addr.network), None)


def _route_to(loss_point: LossPoint, asked: UnansweredNeighbour) -> RouteLookup | None:
    """The answer of the routing because of which the machine asked."""
    for found in (loss_point.lookup, loss_point.reply_lookup):
        if found is None or found.error or (found.node, found.dev) != (asked.node, asked.dev):
            continue
        if asked.ip == (found.via or found.dst):
            return found
    return None


def _gateway_route(loss_point: LossPoint, asked: UnansweredNeighbour) -> str | None:
    """The route of which the address asked for is the gateway; None if it is none."""
    found = _route_to(loss_point, asked)
    return found.route.partition(" ")[0] if found is not None and found.via else None


def _reason_to_ask(loss_point: LossPoint, asked: UnansweredNeighbour) -> Sentence | None:
    """Why a machine asks for the MAC address of another that is not on its network; None if that is not known."""
    found, wide = _route_to(loss_point, asked), _covering(loss_point.evidence, asked)
    if found is None:
        return None
    node, route = asked.node, found.route.partition(" ")[0]
    if found.via is not None:
        return sentence("it is the gateway of the route {route} of {node}", route=route, node=node)
    if wide is not None and route == str(wide.addr.network):
        if one_sided_prefix(loss_point.evidence, asked) is None:
            return None
        return sentence(
            "{node} takes it for a neighbour because of the prefix of its address {addr}", node=node, addr=wide.addr
        )
    return sentence("the route {route} of {node} leads there without a gateway", route=route, node=node)


def advice(loss_point: LossPoint, asked: UnansweredNeighbour) -> tuple[str, ...]:
    """The command that shows why the machine asked: its prefixes, or its route to the gateway."""
    evidence, family = loss_point.evidence, "ip -6" if asked.ip.version == 6 else "ip"
    if one_sided_prefix(evidence, asked) is not None:
        return (exec_command(evidence, asked.node, f"{family} addr show dev {asked.dev}"),)
    found = _route_to(loss_point, asked)
    if found is None or found.via is None:
        return ()
    return (exec_command(evidence, asked.node, f"{family} route show"),)


def owner_of(loss_point: LossPoint, unanswered: UnansweredNeighbour) -> str | None:
    """The machine that should answer: the target itself if its address was asked for, else the nearest that has it."""
    question = loss_point.evidence.question
    if question.target_ns is not None and question.address == unanswered.ip:
        return question.target_ns
    return owner(loss_point.evidence, unanswered.ip, unanswered.node)


def _interface_with(loss_point: LossPoint, name: str, unanswered: UnansweredNeighbour) -> Interface | None:
    addresses = loss_point.evidence.namespace(name).addresses
    return next((one.at for one in addresses if one.addr.ip == unanswered.ip), None)


def _segment(evidence: TraceEvidence, start: Interface) -> frozenset[Interface]:
    """The interfaces that a broadcast of `start` reaches over cables and bridges. Empty if other devices take part, or
    devices that were not read."""
    found, border = {start}, [start]
    while border:
        at = border.pop()
        link = evidence.link(at.ns, at.dev)
        if link is None or link.kind not in SEGMENT_KINDS:
            return frozenset()
        for other in _connected(evidence, link):
            if other not in found:
                found.add(other)
                border.append(other)
    return frozenset(found)


def _connected(evidence: TraceEvidence, link: Link) -> list[Interface]:
    found = [link.peer] if link.peer is not None else []
    if link.master is not None:
        found.append(Interface(link.at.ns, link.master))
    if link.kind == "bridge":
        found += [one.at for one in evidence.namespace(link.at.ns).links if one.master == link.at.dev]
    return found

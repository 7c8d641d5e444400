"""Losses below routing: neighbours that do not answer, cables that lose frames. Pure."""

from __future__ import annotations

from labctl.core.sentence import sentence
from labctl.tracing.causes.load_balancers import no_program
from labctl.tracing.causes.macvlan import stacked_neighbour
from labctl.tracing.causes.neighbour_answers import no_proxy_notes, own_answer, proxy_answer
from labctl.tracing.causes.neighbour_owner import advice, silent_owner, with_owner
from labctl.tracing.causes.neighbour_table import no_answer
from labctl.tracing.causes.tunnels import entry_notes, neighbour_tunnel
from labctl.tracing.evidence import UnansweredNeighbour
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, asked_note, exec_command

VETH_MTU_SLACK_BYTES = 4  # bytes that a veth accepts beyond its MTU, for a VLAN tag
ETHERNET_HEADER_BYTES = 14
NEIGHBOUR_FUNCTIONS = ("neigh_destroy", "neigh_invalidate")  # they drop what waits for a MAC address


def neighbour(loss_point: LossPoint) -> Cause | None:
    """There was no answer for the MAC address of the next hop."""
    unanswered = missing_neighbour(loss_point)
    failed = _neighbour_drop(loss_point)
    if unanswered is None and not failed:
        return None
    if unanswered is None:
        return Cause(
            "neighbour",
            sentence("{node} got no answer when it asked for the MAC address of the next hop", node=loss_point.node),
        )
    link = loss_point.evidence.link(unanswered.node, unanswered.dev)
    table = exec_command(loss_point.evidence, unanswered.node, f"ip neigh show dev {unanswered.dev}")
    through = neighbour_tunnel(loss_point, unanswered)
    if through is not None:
        return through
    if link is not None and link.kind == "vxlan":
        text = sentence(
            "the tunnel {node}/{dev} gets no answer for the MAC address of {ip}",
            node=unanswered.node,
            dev=unanswered.dev,
            ip=unanswered.ip,
        )
        fact = sentence(
            "{node}/{dev} has no neighbour entry for {ip}", node=unanswered.node, dev=unanswered.dev, ip=unanswered.ip
        )
        facts = (Note("vxlan", fact), *entry_notes(loss_point.evidence, link))
        return Cause("vxlan-neighbour", text, facts, (table,))
    found = own_answer(loss_point, unanswered) or proxy_answer(loss_point, unanswered)
    found = found or silent_owner(loss_point, unanswered) or stacked_neighbour(loss_point, unanswered)
    found = found or _dead_backend(loss_point, unanswered) or no_answer(loss_point, unanswered)
    text = sentence(
        "{node}/{dev} gets no answer for {ip} ({what})",
        node=unanswered.node,
        dev=unanswered.dev,
        ip=unanswered.ip,
        what="ARP" if unanswered.ip.version == 4 else sentence("neighbour discovery"),
    )
    return found or Cause(
        "neighbour",
        with_owner(loss_point, unanswered, text),
        (asked_note(unanswered), *no_proxy_notes(loss_point.evidence, unanswered)),
        (table, *advice(loss_point, unanswered)),
    )  # fmt: skip


def missing_neighbour(loss_point: LossPoint) -> UnansweredNeighbour | None:
    """The neighbour there that did not answer, or that the kernel has marked as failed."""
    unanswered = loss_point.unanswered_neighbour or _purged_neighbour(loss_point)
    if unanswered is None and not _neighbour_drop(loss_point):
        unanswered = _failed_neighbour(loss_point)
    return unanswered


def _neighbour_drop(loss_point: LossPoint) -> bool:
    return loss_point.drop is not None and loss_point.drop.reason.startswith("NEIGH_")


def _purged_neighbour(loss_point: LossPoint) -> UnansweredNeighbour | None:
    """The next hop of a packet that the kernel dropped while it waited there for the MAC address. Another packet may
    have caused the request, before the trace."""
    lookup = loss_point.lookup
    if lookup is None or lookup.error or lookup.dev is None or not loss_point.dropped_in(*NEIGHBOUR_FUNCTIONS):
        return None
    return UnansweredNeighbour(loss_point.node, lookup.dev, lookup.via or loss_point.dst)


def _failed_neighbour(loss_point: LossPoint) -> UnansweredNeighbour | None:
    """A neighbour that the kernel has marked as failed, so that it does not ask again at once."""
    hop = (
        loss_point.lookup.via or loss_point.dst
        if loss_point.lookup is not None and not loss_point.lookup.error
        else None
    )
    for one in loss_point.namespace.neighbours:
        if (
            one.ip == hop
            and one.state in ("failed", "incomplete")
            and (loss_point.last_observation is None or loss_point.entering)
        ):
            return UnansweredNeighbour(loss_point.node, one.at.dev, one.ip)
    return None


def _dead_backend(loss_point: LossPoint, neighbour: UnansweredNeighbour) -> Cause | None:
    translation = loss_point.translation
    if translation is None or translation.new_dst != neighbour.ip:
        return None
    text = sentence(
        "{node} rewrites {dst} to the backend {ip} (DNAT), which does not answer",
        node=translation.node,
        dst=translation.dst,
        ip=neighbour.ip,
    )
    return Cause("dead-backend", with_owner(loss_point, neighbour, text), (asked_note(neighbour),))


def veth_peer(loss_point: LossPoint) -> Cause | None:
    """A frame that left by a veth and did not arrive at the other end."""
    link = loss_point.device
    if (
        loss_point.last_observation is None
        or loss_point.last_observation.direction != "out"
        or link is None
        or link.kind != "veth"
    ):
        return None
    peer = link.peer
    other = loss_point.evidence.link(peer.ns, peer.dev) if peer is not None else None
    if peer is None or other is None:
        return Cause("cable", sentence("the other end of the cable at {link} does not exist", link=link.at))
    if not other.up or link.at.dev in loss_point.namespace.no_carrier:
        text = sentence("the other end of the cable, {peer}, is down", peer=peer)
        return Cause("link-down", text, (), (exec_command(loss_point.evidence, peer.ns, f"ip link set {peer.dev} up"),))
    size = loss_point.last_observation.length - ETHERNET_HEADER_BYTES
    if other.mtu is not None and size > other.mtu + VETH_MTU_SLACK_BYTES:
        text = sentence(
            "a black hole: the packet of {size} bytes is too big for {peer} (MTU {mtu}), and no error is sent",
            size=size,
            peer=peer,
            mtu=other.mtu,
        )
        fact = sentence(
            "{link}: mtu {mtu}, its other end {peer}: mtu {other_mtu}",
            link=link.at,
            mtu=link.mtu,
            peer=peer,
            other_mtu=other.mtu,
        )
        tries = (exec_command(loss_point.evidence, peer.ns, f"ip link set {peer.dev} mtu {link.mtu}"),)
        return Cause("mtu-black-hole", text, (Note("mtu", fact),), tries)
    return None


def link_down(loss_point: LossPoint) -> Cause | None:
    """The device that the route names is down, or its cable has no other end."""
    if (
        loss_point.delivered
        or loss_point.lookup is None
        or loss_point.lookup.dev is None
        or (loss_point.last_observation is not None and not loss_point.entering)
    ):
        return None
    link = loss_point.evidence.link(loss_point.node, loss_point.lookup.dev)
    if link is None:
        return None
    if not link.up:
        command_text = f"ip link set {link.at.dev} up"
        return Cause(
            "link-down",
            sentence("{link} is down", link=link.at),
            (),
            (exec_command(loss_point.evidence, loss_point.node, command_text),),
        )
    if link.at.dev not in loss_point.namespace.no_carrier:
        return None
    if link.kind == "tun":
        return no_program(link)
    if link.peer is None:
        return Cause(
            "link-down", sentence("{link} has no carrier: the other end of its cable does not exist", link=link.at)
        )
    command_text = f"ip link set {link.peer.dev} up"
    text = sentence("{link} has no carrier: the other end of its cable, {peer}, is down", link=link.at, peer=link.peer)
    return Cause("link-down", text, (), (exec_command(loss_point.evidence, link.peer.ns, command_text),))

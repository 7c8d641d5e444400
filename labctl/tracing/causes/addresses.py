"""Losses because of an address: another machine has it, its machine lost it, or it may not come in. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from labctl.core.observations import RouteQuery
from labctl.core.resources import IP, Interface
from labctl.core.sentence import sentence
from labctl.tracing.address_owners import has_address, is_read
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.hop_routing import find_lookup, nat_rule
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, exec_command, lookup_text, route_get_command, rule_note
from labctl.tracing.taker import taker

MARTIAN_REASONS = ("IP_LOCALNET", "IP_INVALID_DEST", "IP_INVALID_SOURCE")


def wrong_machine(loss_point: LossPoint) -> Cause | None:
    """Another machine has the target's address, and got the request."""
    evidence = loss_point.evidence
    node = taker(evidence)
    if node is None:
        return None
    question = evidence.question
    target, ip = question.target_ns or "", question.address
    if not has_address(evidence, node, ip):
        text = sentence(
            "{node} takes packets to {ip}, the address of {target}, as its own",
            node=node,
            ip=ip,
            target=question.target,
        )
    elif is_read(evidence, target) and not has_address(evidence, target, ip):
        text = sentence(
            "{node} has the address {ip}; {target} does not have it any more", node=node, ip=ip, target=target
        )
    else:
        text = sentence(
            "{node} has the address {ip}, too, so the request for {target} went to {node}",
            node=node,
            ip=ip,
            target=question.target,
        )
    command = "ip route get" if node == question.source else "ip neigh show"
    tries = (
        exec_command(evidence, question.source, f"{command} {ip}"),
        exec_command(evidence, node, f"ip addr show to {ip}"),
    )
    return Cause("wrong-machine", text, tuple(_address_notes(evidence, (node, target), ip)), tries)


def _address_notes(evidence: TraceEvidence, nodes: tuple[str, ...], ip: IP) -> Iterator[Note]:
    for node in nodes:
        for one in evidence.namespace(node).addresses:
            if one.addr.ip == ip:
                link = evidence.link(node, one.at.dev)
                text = sentence("{at} has {addr}", at=one.at, addr=one.addr)
                if link is not None and link.mac and one.at.dev != "lo":
                    text = sentence("{at} has {addr}, MAC address {mac}", at=one.at, addr=one.addr, mac=link.mac)
                yield Note("address", text)


def no_address(loss_point: LossPoint) -> Cause | None:
    """The packet came to the right machine, which does not have its address any more."""
    evidence, node = loss_point.evidence, loss_point.node
    if not loss_point.entering or loss_point.delivered or loss_point.last_observation is None:
        return None
    dst = loss_point.dst
    if dst not in evidence.machines.get(node, ()) or not is_read(evidence, node) or has_address(evidence, node, dst):
        return None
    if not loss_point.last_observation.addressed_here or not loss_point.reason_allows(
        "IP_INADDRERRORS", "IP_INNOROUTES"
    ):
        return None
    return lost_address(evidence, node, dst)


def lost_address(evidence: TraceEvidence, node: str, ip: IP, facts: tuple[Note, ...] = ()) -> Cause:
    """The cause that a machine does not have its address any more."""
    off = _ipv6_off_at(evidence, node) if ip.version == 6 else None
    if off is not None:
        return _ipv6_off_cause(
            evidence, off, sentence("{node} does not have the address {ip} any more", node=node, ip=ip), facts
        )
    present = [str(one.addr) for one in evidence.namespace(node).addresses if not one.addr.ip.is_loopback]
    has = sentence("{node} has {addresses}", node=node, addresses=", ".join(present))
    note = Note("address", has if present else sentence("{node} has no address", node=node))
    text = sentence("{node} does not have the address {ip} any more", node=node, ip=ip)
    if all(link.at.dev == "lo" for link in evidence.namespace(node).links):
        text = sentence("{text}: it has no device except lo", text=text)
    return Cause("no-address", text, (*facts, note), (exec_command(evidence, node, "ip addr show"),))


def ipv6_off(loss_point: LossPoint) -> Cause | None:
    """There is no IPv6 route, because IPv6 is off at the device that would have it: the kernel removed its addresses
    and routes."""
    node = loss_point.node
    found = loss_point.reply_lookup if loss_point.delivered else loss_point.lookup
    if loss_point.version != 6 or found is None or not found.error:
        return None
    if loss_point.last_observation is not None and not loss_point.entering:
        return None
    off = _ipv6_off_at(loss_point.evidence, node)
    if off is None:
        return None
    note = Note("route", f"{node}: {route_get_command(found)}  =>  {lookup_text(found)}")
    effect = sentence("{node} has no route to {dst}", node=node, dst=found.dst)
    return _ipv6_off_cause(loss_point.evidence, off, effect, (note,))


def routes_lost(loss_point: LossPoint) -> Cause | None:
    """There is no route, because the machine has lost its address in the destination's network, or its only one: the
    kernel removed the routes with it."""
    evidence, node = loss_point.evidence, loss_point.node
    found = loss_point.reply_lookup if loss_point.delivered else loss_point.lookup
    if found is None or found.error != "ENETUNREACH" or not is_read(evidence, node):
        return None
    if loss_point.last_observation is not None and not loss_point.entering:
        return None
    version = found.dst.version
    lost = [ip for ip in _lost_addresses(evidence, node) if ip.version == version]
    nets = [one.addr.network for state in evidence.namespaces for one in state.addresses if one.addr.ip == found.dst]
    present = [one.addr.ip for one in evidence.namespace(node).addresses if one.addr.version == version]
    none_left = all(ip.is_loopback or ip.is_link_local for ip in present)
    ip = next((ip for ip in lost if none_left or any(ip in net for net in nets)), None)
    if ip is None:
        return None
    note = Note("route", f"{node}: {route_get_command(found)}  =>  {lookup_text(found)}")
    cause = lost_address(evidence, node, ip, (note,))
    text = sentence("{cause}, so it has no route to {dst}", cause=cause.sentence, dst=found.dst)
    return replace(cause, sentence=text)


def _lost_addresses(evidence: TraceEvidence, node: str) -> list[IP]:
    return [ip for ip in evidence.machines.get(node, ()) if not has_address(evidence, node, ip)]


def _ipv6_off_at(evidence: TraceEvidence, node: str) -> Interface | None:
    """The only device of a machine at which IPv6 is off, if the machine has lost an IPv6 address; None if that is not
    certain."""
    state = evidence.namespace(node)
    lost = [ip for ip in _lost_addresses(evidence, node) if ip.version == 6]
    off = [link.at for link in state.links if state.sysctls.get(_disable_ipv6(link.at)) == "1"]
    return off[0] if lost and len(off) == 1 else None


def _disable_ipv6(at: Interface) -> str:
    return f"net.ipv6.conf.{at.dev.replace('.', '/')}.disable_ipv6"


def _ipv6_off_cause(evidence: TraceEvidence, at: Interface, effect: str, facts: tuple[Note, ...]) -> Cause:
    name = _disable_ipv6(at)
    note = Note("sysctl", f"{at.ns}: {name} = 1")
    tries = (exec_command(evidence, at.ns, f"sysctl -w {name}=0"),)
    return Cause(
        "ipv6-off",
        sentence("IPv6 is off at {at} (disable_ipv6 = 1), so {effect}", at=at, effect=effect),
        (*facts, note),
        tries,
    )


def martian(loss_point: LossPoint) -> Cause | None:
    """A loopback address, as destination or source, that may not come in from outside."""
    tip = loss_point.last_observation
    if tip is None or not loss_point.entering or loss_point.version != 4 or tip.encap != "none":
        return None
    if loss_point.iif in (None, "lo") or not loss_point.reason_allows(*MARTIAN_REASONS):
        return None
    rule = None if loss_point.dst == tip.dst else nat_rule(loss_point.evidence, tip)
    bad = next((ip for ip in (tip.src, loss_point.dst) if ip.is_loopback), None)
    if bad is None:
        return None
    names = (
        "net.ipv4.conf.all.route_localnet",
        f"net.ipv4.conf.{str(loss_point.iif).replace('.', '/')}.route_localnet",
    )
    if any(loss_point.sysctl(name) == "1" for name in names) or loss_point.sysctl(names[1]) is None:
        return None
    values = {"node": loss_point.node, "dst": tip.dst, "bad": bad, "iif": loss_point.iif}
    text = sentence("{node} refuses packets to {bad} that come in by {iif}: route_localnet is 0", **values)
    if bad == tip.src:
        text = sentence("{node} refuses packets from {bad} that come in by {iif}: route_localnet is 0", **values)
    if rule is not None and bad != tip.src:
        text = sentence(
            "{node} rewrites {dst} to {bad} (DNAT), but it refuses packets to {bad} that come in by {iif}:"
            " route_localnet is 0",
            **values,
        )
    facts = [rule_note(rule)] if rule is not None else []
    facts += [Note("sysctl", f"{loss_point.node}: {name} = {loss_point.sysctl(name) or '0'}") for name in names[1:]]
    found = find_lookup(loss_point.evidence, RouteQuery(loss_point.node, loss_point.dst, tip.src, loss_point.iif))
    if found is not None and found.error:
        facts.append(Note("route", f"{loss_point.node}: {route_get_command(found)}  =>  {lookup_text(found)}"))
    return Cause(
        "martian",
        text,
        tuple(facts),
        (exec_command(loss_point.evidence, loss_point.node, f"sysctl -w {names[1]}=1"),),
    )

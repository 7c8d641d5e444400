"""Losses at the ends: never sent, no listener, a reply that cannot be sent or is not accepted. Pure."""

from __future__ import annotations

from labctl.core.observations import Flow
from labctl.core.resources import IP
from labctl.core.sentence import sentence
from labctl.tracing.address_owners import has_address
from labctl.tracing.hop_routing import UNANSWERED_STATES, nat_endpoint
from labctl.tracing.hops import PacketObservation
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.result import Cause, Note, endpoint_text, exec_command, rule_note
from labctl.tracing.translated_source import find_translated_source


def not_sent_by_source(loss_point: LossPoint) -> Cause | None:
    """The kernel of the source did not send it."""
    if loss_point.last_observation is not None or loss_point.delivered:
        return None
    said = loss_point.evidence.detail
    if loss_point.lookup is not None and loss_point.lookup.error:
        return None  # routes.no_route explains it
    if loss_point.evidence.answer in ("blocked", "broken", "unreachable"):
        return Cause(
            "unsent", sentence("the kernel of {node} did not send it: {said}", node=loss_point.node, said=said)
        )
    return None


def closed_port(loss_point: LossPoint) -> Cause | None:
    """Nothing listens where the packet arrived."""
    question = loss_point.evidence.question
    if question.protocol == "icmp" or question.port is None:
        return None
    end = _arrival(loss_point)
    if end is None:
        return None
    node, ip, port = end
    bound = _sockets(loss_point, node, port)
    if loss_point.evidence.answer != "refused" or any(_covers(one, ip, port) for one in bound):
        return None
    where = sentence("{protocol} port {port}", protocol=question.protocol, port=port)
    only = ", ".join(dict.fromkeys(one.split()[1] for one in bound))
    text = sentence("nothing in {node} listens on {where}", node=node, where=where)
    if bound:
        text = sentence(
            "{node} listens on {where} only at {only}, not at {ip}", node=node, where=where, only=only, ip=ip
        )
    tries = (exec_command(loss_point.evidence, node, f"ss -ln{question.protocol[0]}"),)
    translation = loss_point.translation
    if translation is not None:
        text = sentence(
            "{node} rewrites {before} to {after} (DNAT), and {result}",
            node=translation.node,
            before=endpoint_text(translation.dst, translation.port),
            after=endpoint_text(translation.new_dst, translation.new_port),
            result=text,
        )
    if bound:
        return Cause(
            "loopback-only" if _loopback(bound) else "other-address",
            text,
            (Note("socket", f"{node}: {only}"),),
            tries,
        )
    kind = "dead-backend" if translation else "closed-port"
    return Cause(kind, text, (), tries)


def _arrival(loss_point: LossPoint) -> tuple[str, IP, int] | None:
    """Where the request arrived: namespace, address and port, after any translation."""
    hops = loss_point.evidence.hops["request"]
    question = loss_point.evidence.question
    if not hops:
        return (loss_point.node, question.address, question.port or 0) if loss_point.delivered else None
    last = hops[-1].observations[-1]
    if last.direction != "in":
        return None
    ip, port = nat_endpoint(loss_point.evidence, last)
    return last.node, ip, port or 0


def has_socket(loss_point: LossPoint) -> bool:
    """Whether a socket listens where the request arrived."""
    end = _arrival(loss_point)
    return end is not None and any(_covers(one, *end[1:]) for one in _sockets(loss_point, end[0], end[2]))


def _sockets(loss_point: LossPoint, node: str, port: int) -> tuple[str, ...]:
    """The sockets in a namespace that listen on this port."""
    listening = loss_point.evidence.namespace(node).listening
    return tuple(one for one in listening if one.rpartition(":")[2] == str(port))


def _covers(listening: str, ip: IP, port: int) -> bool:
    everywhere = {f"[::]:{port}"} | ({f"0.0.0.0:{port}"} if ip.version == 4 else set())
    return listening.split()[1] in {endpoint_text(ip, port), *everywhere}


def _loopback(bound: tuple[str, ...]) -> bool:
    return all(one.split()[1].startswith(("127.", "[::1]")) for one in bound)


def reply_not_untranslated(loss_point: LossPoint) -> Cause | None:
    """The reply came from another address than the request was sent to: its translation was not undone."""
    question = loss_point.evidence.question
    tip = loss_point.last_observation
    if loss_point.role != "reply" or tip is None or not loss_point.entering or tip.node != question.source:
        return None
    if tip.src == question.address and tip.sport in (None, question.port):
        return None
    asked, came = endpoint_text(question.address, question.port), endpoint_text(tip.src, tip.sport)
    on = loss_point.translation
    name = "net.bridge.bridge-nf-call-ip6tables" if loss_point.version == 6 else "net.bridge.bridge-nf-call-iptables"
    translating = on.node if on is not None else next((hop.node for hop in loss_point.hops[1:-1]), "")
    value = loss_point.evidence.namespace(translating).sysctls.get(name)
    text = sentence(
        "the reply came from {came}, but the request went to {asked}, so {node} does not accept it",
        came=came,
        asked=asked,
        node=tip.node,
    )
    facts: tuple[Note, ...] = ()
    tries: tuple[str, ...] = ()
    if value == "0" and translating:
        text = sentence("{text}: {node} only bridged it, without undoing the translation", text=text, node=translating)
        fact = sentence("{node}: {name} = 0, so bridged frames do not pass iptables", node=translating, name=name)
        facts = (Note("sysctl", fact),)
        tries = (exec_command(loss_point.evidence, translating, f"sysctl -w {name}=1"),)
    return Cause("not-untranslated", text, facts, tries)


def reply_not_tracked(loss_point: LossPoint) -> Cause | None:
    """A machine that translated the request does not know the reply, so it takes it for its own."""
    tip = loss_point.last_observation
    if loss_point.role != "reply" or tip is None or not loss_point.entering or tip.encap != "none":
        return None
    flow = next((one for one in loss_point.evidence.flows if _is_unanswered_snat(one, tip)), None)
    if flow is None:
        return None
    text = sentence(
        "{node} does not translate the reply to {dst} back to {src}", node=tip.node, dst=tip.dst, src=flow.src
    )
    tool = "ip6tables" if loss_point.version == 6 else "iptables"
    tries = (exec_command(loss_point.evidence, tip.node, f"{tool} -t raw -L PREROUTING -n -v --line-numbers"),)
    hits = (one for one in loss_point.rule_hits if one.role == "reply")
    met = next((one for one in hits if {"--notrack", "notrack"} & {*one.rule.split()}), None)
    if met is None:
        text = sentence("{text}: conntrack does not count it to the connection", text=text)
        return Cause("not-untranslated", text, (), tries)
    text = sentence(
        "{text}: a rule of {table}/{chain} excludes it from connection tracking (notrack)",
        text=text,
        table=met.table,
        chain=met.chain,
    )
    return Cause("not-untranslated", text, (rule_note(met),), tries)


def _is_unanswered_snat(flow: Flow, reply: PacketObservation) -> bool:
    """Whether this connection has a translated source, waits for exactly this reply, and has not got it."""
    if flow.node != reply.node or flow.state not in UNANSWERED_STATES or flow.src == flow.reply_dst:
        return False
    ports = reply.dport is None or (reply.sport, reply.dport) == (flow.reply_sport, flow.reply_dport)
    return (flow.reply_src, flow.reply_dst) == (reply.src, reply.dst) and ports


def reply_elsewhere(loss_point: LossPoint) -> Cause | None:
    """The reply came to another machine that has the source's address, or the one that a translation gave it."""
    evidence, node, ip = loss_point.evidence, loss_point.node, loss_point.dst
    if loss_point.role == "request" or not loss_point.delivered or node == evidence.question.source:
        return None
    requests = evidence.hops["request"]
    rewritten = find_translated_source(evidence, ip)
    if rewritten is not None:
        if node in {hop.node for hop in requests[: [hop.node for hop in requests].index(rewritten.node) + 1]}:
            return None
        text = sentence("the reply to {ip} went to {node}, which has that address", ip=ip, node=node)
        if has_address(evidence, rewritten.node, ip):
            text = sentence("the reply to {ip} went to {node}, which has that address, too", ip=ip, node=node)
    elif not requests or all(item.src != ip for item in requests[0].observations):
        return None
    else:
        text = sentence(
            "the reply to {ip} ({source}) went to {node}, which has that address, too",
            ip=ip,
            source=evidence.question.source,
            node=node,
        )
    turned = loss_point.hops[-2].node if len(loss_point.hops) > 1 else node
    tries = (
        exec_command(evidence, turned, f"ip route get {ip}"),
        exec_command(evidence, node, f"ip addr show to {ip}"),
    )
    return Cause("reply-elsewhere", text, (), tries)


def ignores_pings(loss_point: LossPoint) -> Cause | None:
    """The target does not answer pings."""
    if not loss_point.delivered or loss_point.evidence.question.protocol != "icmp":
        return None
    if loss_point.sysctl("net.ipv4.icmp_echo_ignore_all") == "1" and loss_point.version == 4:
        text = sentence("{node} ignores pings", node=loss_point.node)
        fact = Note("sysctl", f"{loss_point.node}: net.ipv4.icmp_echo_ignore_all = 1")
        return Cause("ignores-pings", text, (fact,))
    return None

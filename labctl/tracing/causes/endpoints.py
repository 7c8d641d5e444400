"""Losses at the ends: never sent, no listener, a reply that cannot be sent or is not accepted. Pure."""

from __future__ import annotations

from labctl.core.observations import RouteInput
from labctl.core.resources import IP
from labctl.tracing.hops import answered, road, translated
from labctl.tracing.loss_point import Scene
from labctl.tracing.result import Note, Why, answer_text, command, end_text, route_get


def unsent(scene: Scene) -> Why | None:
    """The kernel of the source did not send it."""
    if scene.tip is not None or scene.delivered:
        return None
    said = scene.evidence.said
    if scene.lookup is not None and scene.lookup.error:
        return None  # routes.no_route explains it
    if scene.evidence.answer in ("blocked", "broken", "unreachable"):
        return Why("unsent", f"the kernel of {scene.node} did not send it: {said}")
    return None


def refused(scene: Scene) -> Why | None:
    """Nothing listens where the packet arrived."""
    question = scene.evidence.question
    if question.protocol == "icmp" or question.port is None:
        return None
    end = _end(scene)
    if end is None:
        return None
    node, ip, port = end
    bound = scene.evidence.room(node).listening
    fits = [one for one in bound if _covers(one, end_text(ip, port), port)]
    if fits or scene.evidence.answer != "refused":
        return None
    where = f"{question.protocol} port {port}"
    tries = (command(scene.evidence, node, f"ss -ln{question.protocol[0]}"),)
    on = scene.sent_on
    prefix = (
        f"{on.node} rewrites {end_text(on.dst, on.port)} to {end_text(on.new, on.new_port)} (DNAT), and " if on else ""
    )
    if bound:
        only = ", ".join(one.split()[1] for one in bound)
        sentence = f"{prefix}{node} listens on {where} only at {only}, not at {ip}"
        return Why(
            "loopback-only" if _loopback(bound) else "other-address",
            sentence,
            (Note("socket", f"{node}: {only}"),),
            tries,
        )
    kind = "dead-backend" if on else "closed-port"
    return Why(kind, f"{prefix}nothing in {node} listens on {where}", (), tries)


def _end(scene: Scene) -> tuple[str, IP, int] | None:
    """Where the request arrived: namespace, address and port, after any translation."""
    hops = road(scene.evidence, "request")
    question = scene.evidence.question
    if not hops:
        return (scene.node, question.address, question.port or 0) if scene.delivered else None
    last = hops[-1].crossings[-1]
    if last.way != "in":
        return None
    port = last.dport or 0
    for flow in scene.evidence.flows:
        if flow.node == last.node and (flow.src, flow.dst, flow.dport) == (last.src, last.dst, last.dport):
            port = flow.reply_sport
    return last.node, translated(scene.evidence, last), port


def _covers(listening: str, wanted: str, port: int) -> bool:
    place = listening.split()[1]
    return place in (wanted, f"0.0.0.0:{port}", f"[::]:{port}")


def _loopback(bound: tuple[str, ...]) -> bool:
    return all(one.split()[1].startswith(("127.", "[::1]")) for one in bound)


def no_way_back(scene: Scene) -> Why | None:
    """The request arrived, but its namespace has no route for the reply."""
    if scene.role != "request" or not scene.delivered or scene.tip is None:
        return None
    back = scene.back or answered(scene.evidence, RouteInput(scene.node, scene.tip.src))
    if back is None or not back.error:
        return None
    sentence = f"the request arrived, but {scene.node} has no route back to {scene.tip.src}"
    facts = (Note("route", f"{scene.node}: {route_get(back)}  =>  {answer_text(back)}"),)
    return Why("no-route-back", sentence, facts, (command(scene.evidence, scene.node, "ip route show table all"),))


def stranger(scene: Scene) -> Why | None:
    """The reply came from another address than the request was sent to: its translation was not undone."""
    question = scene.evidence.question
    tip = scene.tip
    if scene.role != "reply" or tip is None or not scene.entering or tip.node != question.source:
        return None
    if tip.src == question.address and tip.sport in (None, question.port):
        return None
    asked, came = end_text(question.address, question.port), end_text(tip.src, tip.sport)
    on = scene.sent_on
    name = "net.bridge.bridge-nf-call-ip6tables" if scene.version == 6 else "net.bridge.bridge-nf-call-iptables"
    translating = on.node if on is not None else next((hop.node for hop in scene.hops[1:-1]), "")
    value = scene.evidence.room(translating).sysctls.get(name)
    sentence = f"the reply came from {came}, but the request went to {asked}, so {tip.node} does not accept it"
    facts: tuple[Note, ...] = ()
    tries: tuple[str, ...] = ()
    if value == "0" and translating:
        sentence += f": {translating} only bridged it, without undoing the translation"
        facts = (Note("sysctl", f"{translating}: {name} = 0, so bridged frames do not pass iptables"),)
        tries = (command(scene.evidence, translating, f"sysctl -w {name}=1"),)
    return Why("not-untranslated", sentence, facts, tries)


def ignored(scene: Scene) -> Why | None:
    """The target does not answer pings."""
    if not scene.delivered or scene.evidence.question.protocol != "icmp":
        return None
    if scene.sysctl("net.ipv4.icmp_echo_ignore_all") == "1" and scene.version == 4:
        sentence = f"{scene.node} ignores pings"
        return Why("ignores-pings", sentence, (Note("sysctl", f"{scene.node}: net.ipv4.icmp_echo_ignore_all = 1"),))
    return None

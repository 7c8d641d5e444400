"""Why a machine that got the question for a MAC address does not answer: its settings, or its routes. Pure.

The conditions are those of the kernel's arp_process() for IPv4, and ndisc_recv_ns() for IPv6.
"""

from __future__ import annotations

from labctl.core.observations import RouteLookup
from labctl.core.resources import Interface
from labctl.core.sentence import Sentence, joined, sentence
from labctl.tracing.address_owners import has_address, owners
from labctl.tracing.causes.neighbour_owner import one_sided_prefix
from labctl.tracing.evidence import TraceEvidence, UnansweredNeighbour
from labctl.tracing.hop_routing import find_lookup
from labctl.tracing.loss_point import LossPoint
from labctl.tracing.neighbour_questions import ReceivedQuestion, answer_query, received_questions, source_query
from labctl.tracing.result import Cause, Note, asked_note, exec_command, lookup_text, route_get_command

ARP_IGNORE = {
    1: sentence("answers only for addresses of the device by which the question comes in"),
    2: sentence(
        "answers only for addresses of the device by which the question comes in, and only to a sender of their subnet"
    ),
    3: sentence("does not answer for addresses with the scope host"),
    8: sentence("answers for none of its addresses"),
}
PROXY_ARP, PROXY_NDP = sentence("proxy ARP"), sentence("proxy NDP")
SOURCE_ERRORS = ("EXDEV", "EINVAL")  # of the routing, for a source that comes in by the wrong device


def own_answer(loss_point: LossPoint, asked: UnansweredNeighbour) -> Cause | None:
    """A machine that has the address got the question, and its settings prevent the answer."""
    evidence = loss_point.evidence
    questions = [one for one in received_questions(evidence, asked) if has_address(evidence, one.at.ns, one.ip)]
    if not questions:
        return None
    question = max(questions, key=lambda one: _fitness(evidence, one))
    if question.ip.version == 6:
        return _own_discovery(loss_point, question, asked_note(asked))
    return _own_arp(loss_point, question, asked)


def _fitness(evidence: TraceEvidence, question: ReceivedQuestion) -> int:
    """How likely a device is to answer, if a machine got the question at several: best the one with the address."""
    here = [one.addr for one in evidence.namespace(question.at.ns).addresses if one.at == question.at]
    if any(one.ip == question.ip for one in here):
        return 2
    return int(any(question.ip in one.network for one in here if one.version == question.ip.version))


def no_proxy_notes(evidence: TraceEvidence, asked: UnansweredNeighbour) -> tuple[Note, ...]:
    """The note that the router at the other end of the cable answers only for its own addresses."""
    link = evidence.link(asked.node, asked.dev)
    for question in received_questions(evidence, asked):
        at, ip = question.at, question.ip
        values = evidence.namespace(at.ns).sysctls
        names = [f"net.ipv4.conf.{name}.{setting}" for name in ("all", at.dev.replace(".", "/"))
                 for setting in ("proxy_arp", "proxy_arp_pvlan")]  # fmt: skip
        if ip.version == 6 or link is None or link.peer != at or has_address(evidence, at.ns, ip):
            continue
        if values.get("net.ipv4.ip_forward") != "1" or values.get(names[2]) != "0":
            continue
        if any(values.get(name, "0") != "0" for name in names):
            continue
        text = sentence("{node}: {name} = 0, so it answers only for its own addresses", node=at.ns, name=names[2])
        return (Note("sysctl", text),)
    return ()


def _own_arp(loss_point: LossPoint, question: ReceivedQuestion, asker: UnansweredNeighbour) -> Cause | None:
    asked = asked_note(asker)
    evidence, node, dev, ip = loss_point.evidence, question.at.ns, question.at.dev, question.ip
    link = evidence.link(node, dev)
    if link is not None and not link.arp:
        return _arp_off(loss_point, question, asked)
    routed = find_lookup(evidence, source_query(question))
    if routed is not None and (found := _source_rejected(loss_point, question, routed, asker)) is not None:
        return found
    here = [one for one in evidence.namespace(node).addresses if one.addr.ip == ip]
    on_device = [one for one in here if one.at.dev == dev]
    level = _level(loss_point, question, "arp_ignore")
    ignored = {
        1: not on_device,
        2: all(question.src not in one.addr.network for one in on_device),
        8: True,
    }
    where = None if on_device else here[0].at.dev
    if ignored.get(level, False):
        return _ignored(loss_point, question, level, where, asker)
    if _level(loss_point, question, "arp_filter"):
        back = find_lookup(evidence, answer_query(question))
        if back is not None and (back.error or back.dev != dev):
            text = sentence(
                "{text}: its route to the sender, {src}, does not use {dev} ({setting})",
                text=_no_answer(question, where),
                src=question.src,
                dev=dev,
                setting=_setting(loss_point, question, "arp_filter"),
            )
            notes, tries = _announcement(evidence, question, asker)
            facts = (asked, *_setting_notes(loss_point, question, "arp_filter"), _lookup_note(back), *notes)
            return Cause("arp-filter", text, facts, (*_tries(loss_point, question, "arp_filter"), *tries))
    if level == 3:  # nothing else explains it
        return _ignored(loss_point, question, level, where, asker)
    return None


def _no_answer(question: ReceivedQuestion, where: str | None) -> Sentence:
    """The sentence that the machine does not answer; `where` is the device with the address if it is another one."""
    node, dev = question.at.ns, question.at.dev
    if where is None:
        return sentence(
            "{node} has the address {ip}, but does not answer for it at {dev}", node=node, ip=question.ip, dev=dev
        )
    return sentence(
        "{node} has the address {ip} at {other}, but does not answer for it at {dev}",
        node=node,
        ip=question.ip,
        other=where,
        dev=dev,
    )


def _ignored(
    loss_point: LossPoint, question: ReceivedQuestion, level: int, where: str | None, asker: UnansweredNeighbour
) -> Cause:
    node = question.at.ns
    text = joined(": ", (_no_answer(question, where), _setting(loss_point, question, "arp_ignore")))
    notes: tuple[Note, ...] = ()
    tries: tuple[str, ...] = ()
    if level == 2 and where is None:
        text = sentence("{text}, and the sender {src} is not in its subnet", text=text, src=question.src)
        notes, tries = _announcement(loss_point.evidence, question, asker)
    does = ARP_IGNORE[level]
    facts = (
        asked_note(asker),
        *_setting_notes(loss_point, question, "arp_ignore"),
        Note("arp", sentence("{node}: with arp_ignore = {level} it {does}", node=node, level=level, does=does)),
        *notes,
    )
    return Cause("arp-ignore", text, facts, (*_tries(loss_point, question, "arp_ignore"), *tries))


def _announcement(
    evidence: TraceEvidence, question: ReceivedQuestion, asker: UnansweredNeighbour
) -> tuple[tuple[Note, ...], tuple[str, ...]]:
    """The machine that asks has an address in the subnet of the neighbour, but its question has another sender, because
    of arp_announce."""
    state = evidence.namespace(asker.node)
    names = ("net.ipv4.conf.all.arp_announce", f"net.ipv4.conf.{asker.dev.replace('.', '/')}.arp_announce")
    on_device = [one.addr for one in state.addresses if one.at.dev == asker.dev and question.ip in one.addr.network]
    if not on_device or any(question.src in one.network for one in on_device):
        return (), ()
    if any(state.sysctls.get(name) != "0" for name in names):
        return (), ()
    text = sentence(
        "{node}: {name} = 0, so it asks as {src}, although it has {address}",
        node=asker.node,
        name=names[0],
        src=question.src,
        address=on_device[0],
    )
    return (Note("sysctl", text),), (exec_command(evidence, asker.node, f"sysctl -w {names[0]}=2"),)


def _arp_off(loss_point: LossPoint, question: ReceivedQuestion, asked: Note) -> Cause:
    node, dev = question.at.ns, question.at.dev
    at = next(one.at for one in loss_point.evidence.namespace(node).addresses if one.addr.ip == question.ip)
    tries = (exec_command(loss_point.evidence, node, f"ip link set {dev} arp on"),)
    text = sentence("{at}, which has the address {ip}, does not answer: ARP is off there", at=at, ip=question.ip)
    if at != question.at:
        text = sentence(
            "{node}, which has {ip}, does not answer: ARP is off at {dev}, by which the question came in",
            node=node,
            ip=question.ip,
            dev=dev,
        )
    return Cause("neighbour", text, (asked,), tries)


def _own_discovery(loss_point: LossPoint, question: ReceivedQuestion, asked: Note) -> Cause | None:
    evidence, node, dev, ip = loss_point.evidence, question.at.ns, question.at.dev, question.ip
    here = [one.at.dev for one in evidence.namespace(node).addresses if one.addr.ip == ip]
    link = evidence.link(node, dev)
    if dev in here:
        if link is None or link.arp:
            return None
        text = sentence(
            "{at}, which has the address {ip}, does not ask for MAC addresses (its ARP is off), so it sends the answer"
            " to its own MAC address",
            at=question.at,
            ip=ip,
        )
        return Cause("neighbour", text, (asked,), (exec_command(evidence, node, f"ip link set {dev} arp on"),))
    text = sentence(
        "{node} has the address {ip} at {other}, but the question came in by {dev}: neighbour discovery answers only"
        " for addresses of that device",
        node=node,
        ip=ip,
        other=here[0],
        dev=dev,
    )
    tries = (exec_command(evidence, node, f"ip -6 addr add {ip}/128 dev {dev}"),)
    return Cause("other-device", text, (asked,), tries)


def proxy_answer(loss_point: LossPoint, asked: UnansweredNeighbour) -> Cause | None:
    """A router got the question and should answer it for another machine (proxy ARP or proxy NDP), but does not."""
    evidence = loss_point.evidence
    gateways = [one.via for one in (loss_point.lookup, loss_point.reply_lookup) if one is not None]
    if not (asked.ip in gateways or owners(evidence, asked.ip)):
        return None
    for question in received_questions(evidence, asked):
        if not has_address(evidence, question.at.ns, question.ip):
            explain = _proxy_arp if question.ip.version == 4 else _proxy_discovery
            found = explain(loss_point, question, asked)
            if found is not None:
                return found
    return None


def _proxy_arp(loss_point: LossPoint, question: ReceivedQuestion, asked: UnansweredNeighbour) -> Cause | None:
    evidence, at, ip = loss_point.evidence, question.at, question.ip
    name = f"net.ipv4.conf.{at.dev.replace('.', '/')}"
    values = evidence.namespace(at.ns).sysctls
    proxy = _level(loss_point, question, "proxy_arp")
    if not proxy and values.get(f"{name}.proxy_arp_pvlan", "0") == "0":
        if not proxy_is_used(evidence, question, asked):
            return None
        return _proxy_off(loss_point, question, asked, PROXY_ARP, f"{name}.proxy_arp", "net.ipv4.ip_forward")
    note = asked_note(asked)
    if values.get(f"{name}.forwarding") == "0":
        return _no_forwarding(loss_point, question, note, PROXY_ARP, f"{name}.forwarding")
    routed = find_lookup(evidence, source_query(question))
    if routed is None:
        return None
    rejected = _source_rejected(loss_point, question, routed, asked)
    if rejected is not None:
        return rejected
    facts = (note, _lookup_note(routed), *_setting_notes(loss_point, question, "proxy_arp"))
    tries = (exec_command(evidence, at.ns, "ip route show table all"),)
    if routed.error or routed.kind not in ("unicast", "local"):
        effect = sentence("{node} has no usable route to {ip}", node=at.ns, ip=ip)
        if routed.error in ("ENETUNREACH", "ESRCH"):
            effect = sentence("{node} has no route to {ip}", node=at.ns, ip=ip)
        text = sentence(
            "{cause}, so it does not answer for it: {at} answers for other machines (proxy ARP) only with a route to"
            " them",
            cause=effect,
            at=at,
        )
        return Cause("proxy-arp-route", text, facts, tries)
    if proxy and routed.dev == at.dev and values.get(f"{name}.proxy_arp_pvlan", "0") == "0":
        text = sentence(
            "the route of {node} to {ip} leads back to {dev}, by which the question came in, so {node} does not"
            " answer for it (proxy ARP)",
            node=at.ns,
            ip=ip,
            dev=at.dev,
        )
        return Cause("proxy-arp-route", text, facts, tries)
    return None


def proxy_is_used(evidence: TraceEvidence, question: ReceivedQuestion, asked: UnansweredNeighbour) -> bool:
    """Whether the lab relies on proxy ARP for such a question, so that it is missing at the device where the question
    came in: the same machine answers so at another device, or the machine at the end of another cable does, for the
    same gateway. Not if only the sender's prefix makes a neighbour of a machine that does not have it for one, and not
    if no machine has the address and the device has one in that network: then it is a wrong gateway."""
    if one_sided_prefix(evidence, asked) is not None:
        return False
    own = (one for one in evidence.namespace(question.at.ns).addresses if one.at == question.at)
    if not owners(evidence, asked.ip) and any(asked.ip in one.addr.network for one in own):
        return False
    if any(at != question.at and _has_proxy_arp(evidence, at) for at in _interfaces(evidence, question.at.ns)):
        return True
    return any(
        route.via == asked.ip and link is not None and link.peer is not None and _has_proxy_arp(evidence, link.peer)
        for state in evidence.namespaces
        if state.node != asked.node
        for route in state.routes
        for link in (evidence.link(state.node, route.dev or ""),)
    )


def _interfaces(evidence: TraceEvidence, node: str) -> list[Interface]:
    return [link.at for link in evidence.namespace(node).links if link.at.dev != "lo"]


def _has_proxy_arp(evidence: TraceEvidence, at: Interface) -> bool:
    values = evidence.namespace(at.ns).sysctls
    return values.get(f"net.ipv4.conf.{at.dev.replace('.', '/')}.proxy_arp", "0") != "0"


def _proxy_discovery(loss_point: LossPoint, question: ReceivedQuestion, asked: UnansweredNeighbour) -> Cause | None:
    evidence, at, ip = loss_point.evidence, question.at, question.ip
    state, name = evidence.namespace(at.ns), f"net.ipv6.conf.{at.dev.replace('.', '/')}"
    entries = [one.ip for one in state.neighbours if one.proxy and one.at == at]
    if not _level(loss_point, question, "proxy_ndp"):
        if ip not in entries:
            return None  # it is no proxy
        forwarding = "net.ipv6.conf.all.forwarding"
        return _proxy_off(loss_point, question, asked, PROXY_NDP, f"{name}.proxy_ndp", forwarding)
    note = asked_note(asked)
    if ip not in entries:
        text = sentence(
            "{node} has no proxy neighbour entry for {ip} at {dev}, so it does not answer for it: proxy NDP answers"
            " only for its entries",
            node=at.ns,
            ip=ip,
            dev=at.dev,
        )
        known = joined(", ", entries[:4]) if entries else sentence("no entries")
        tries = (exec_command(evidence, at.ns, f"ip -6 neigh add proxy {ip} dev {at.dev}"),)
        return Cause("proxy-entry", text, (note, Note("proxy", joined(": ", (at, known)))), tries)
    if state.sysctls.get(f"{name}.forwarding") == "0":
        return _no_forwarding(loss_point, question, note, PROXY_NDP, f"{name}.forwarding")
    if not any(one.addr.version == 6 and not one.addr.ip.is_loopback for one in state.addresses) and not any(
        link.autoconf and link.up for link in state.links if link.at.dev != "lo"
    ):
        text = sentence(
            "{node} cannot answer for {ip} (proxy NDP): it has no IPv6 address that the answer could come from",
            node=at.ns,
            ip=ip,
        )
        return Cause("no-address", text, (note,), (exec_command(evidence, at.ns, "ip -6 addr show"),))
    return None


def _proxy_off(
    loss_point: LossPoint,
    question: ReceivedQuestion,
    asked: UnansweredNeighbour,
    word: Sentence,
    name: str,
    forwarding: str,
) -> Cause | None:
    """The router at the other end of the cable does not answer for others, although it forwards packets."""
    evidence, at = loss_point.evidence, question.at
    link = evidence.link(asked.node, asked.dev)
    state = evidence.namespace(at.ns)
    if link is None or link.peer != at or state.sysctls.get(name) != "0" or state.sysctls.get(forwarding) != "1":
        return None
    if len([one for one in state.links if one.at.dev != "lo"]) < 2:
        return None
    text = sentence(
        "there is no answer for {ip}: {node} does not have it, and could answer for it only with {word}, which is off"
        " at {at}",
        ip=question.ip,
        node=at.ns,
        word=word,
        at=at,
    )
    facts = (asked_note(asked), Note("sysctl", f"{at.ns}: {name} = 0"))
    return Cause("proxy-arp-off", text, facts, (exec_command(evidence, at.ns, f"sysctl -w {name}=1"),))


def _no_forwarding(loss_point: LossPoint, question: ReceivedQuestion, asked: Note, word: Sentence, name: str) -> Cause:
    at = question.at
    text = sentence(
        "{node} does not answer for {ip}: {word} at {at} needs forwarding, and IPv{version} forwarding is off",
        node=at.ns,
        ip=question.ip,
        word=word,
        at=at,
        version=question.ip.version,
    )
    facts = (asked, Note("sysctl", f"{at.ns}: {name} = 0"))
    return Cause("forwarding-off", text, facts, (exec_command(loss_point.evidence, at.ns, f"sysctl -w {name}=1"),))


def _source_rejected(
    loss_point: LossPoint, question: ReceivedQuestion, routed: RouteLookup, asker: UnansweredNeighbour
) -> Cause | None:
    """The routing checks the sender of an ARP request, too: it must not be the machine itself, and the reverse-path
    filter must let it pass."""
    node, dev = question.at.ns, question.at.dev
    if routed.error in SOURCE_ERRORS and has_address(loss_point.evidence, node, question.src):
        return _own_source(loss_point, question, routed, asker)
    back = find_lookup(loss_point.evidence, answer_query(question))
    if routed.error not in SOURCE_ERRORS or not _level(loss_point, question, "rp_filter"):
        return None
    if back is not None and not back.error and back.dev == dev:
        return None
    names = ("net.ipv4.conf.all.rp_filter", f"net.ipv4.conf.{dev.replace('.', '/')}.rp_filter")
    values = loss_point.evidence.namespace(node).sysctls
    what = sentence("the route back to its sender, {src}, does not use {dev}", src=question.src, dev=dev)
    if back is not None and back.error:
        what = sentence("there is no route back to its sender, {src}", src=question.src)
    text = sentence(
        "the reverse-path filter of {node} rejects the ARP request that came in by {dev}: {what}",
        node=node,
        dev=dev,
        what=what,
    )
    settings = [Note("sysctl", f"{node}: {name} = {values.get(name)}") for name in names]
    facts = [asked_note(asker), *settings, _lookup_note(routed)]
    facts += [_lookup_note(back)] if back is not None else []
    notes, more = _announcement(loss_point.evidence, question, asker)
    tries = (exec_command(loss_point.evidence, node, f"sysctl -w {names[0]}=0 {names[1]}=0"), *more)
    return Cause("rp-filter", text, (*facts, *notes), tries)


def _own_source(
    loss_point: LossPoint, question: ReceivedQuestion, routed: RouteLookup, asker: UnansweredNeighbour
) -> Cause:
    """A machine takes no ARP request that seems to come from itself."""
    evidence, node, src = loss_point.evidence, question.at.ns, question.src
    own = next(one for one in evidence.namespace(node).addresses if one.addr.ip == src)
    text = sentence(
        "{node} itself has the source address {src} (at {dev}), so it rejects the ARP request of {asker} for {ip} as"
        " forged",
        node=node,
        src=src,
        dev=own.at.dev,
        asker=asker.node,
        ip=question.ip,
    )
    facts = (
        asked_note(asker),
        Note("address", sentence("{at} has {addr}", at=own.at, addr=own.addr)),
        _lookup_note(routed),
    )
    return Cause("local-source", text, facts, (exec_command(evidence, node, f"ip addr show to {src}"),))


def _names(question: ReceivedQuestion, setting: str) -> tuple[str, str]:
    """A setting for all devices, and for the device of the question. The higher value counts."""
    family = f"net.ipv{question.ip.version}.conf"
    return f"{family}.all.{setting}", f"{family}.{question.at.dev.replace('.', '/')}.{setting}"


def _level(loss_point: LossPoint, question: ReceivedQuestion, setting: str) -> int:
    values = loss_point.evidence.namespace(question.at.ns).sysctls
    return max(int(values.get(name) or 0) for name in _names(question, setting))


def _active(loss_point: LossPoint, question: ReceivedQuestion, setting: str) -> list[tuple[str, str]]:
    """The names of a setting that are not 0, with their values, the highest first."""
    values = loss_point.evidence.namespace(question.at.ns).sysctls
    found = [(name, value) for name in _names(question, setting) if (value := values.get(name, "0")) != "0"]
    return sorted(found, key=lambda one: -int(one[1]))


def _setting(loss_point: LossPoint, question: ReceivedQuestion, setting: str) -> str:
    return " = ".join(_active(loss_point, question, setting)[0])


def _setting_notes(loss_point: LossPoint, question: ReceivedQuestion, setting: str) -> list[Note]:
    return [
        Note("sysctl", f"{question.at.ns}: {name} = {value}") for name, value in _active(loss_point, question, setting)
    ]


def _tries(loss_point: LossPoint, question: ReceivedQuestion, setting: str) -> tuple[str, ...]:
    words = " ".join(f"{name}=0" for name, _ in _active(loss_point, question, setting))
    return (exec_command(loss_point.evidence, question.at.ns, f"sysctl -w {words}"),)


def _lookup_note(found: RouteLookup) -> Note:
    return Note("route", f"{found.node}: {route_get_command(found)}  =>  {lookup_text(found)}")

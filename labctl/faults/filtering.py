"""Faults of packet filters: DROP and REJECT in the tables filter, raw and mangle, and policies, for IPv4 and IPv6."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

from labctl.core.diff import Change
from labctl.core.resources import Interface
from labctl.core.sentence import Sentence, sentence
from labctl.faults.chain_changes import insert_rule, reaches_policy, with_policy
from labctl.faults.claimed_paths import ClaimedPath, Passing, namespaces_by_role, paths_through, probes, text_of
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import PROTOCOLS, LabObjects, ProbeProtocol

FORWARDED: tuple[Passing, ...] = ("routed", "filtered")
PORT = 80  # the port of the faults that concern one port
SMALL_MTU = 1280  # of the link behind a router that reports packets that are too big
# where a rule drops the question for a MAC address or its answer: in IPv6, or on the way of a tunnel that carries ARP
UNANSWERED = (ExpectedCause(("neighbour",), ("gets no answer",)),)
TOO_BIG = 1300  # bytes of payload that do not pass that link, but every pod's own


@dataclass(frozen=True, slots=True)
class _Filter:
    """A rule in a built-in chain: where it stands, and the packets that it drops or rejects."""

    table: str
    chain: str
    text: str
    ways: tuple[Passing, ...] = FORWARDED
    protocols: tuple[ProbeProtocol, ...] = PROTOCOLS
    port: int | None = None
    family: str = "ip"

    @property
    def version(self) -> int:
        return 6 if self.family == "ip6" else 4


def _object_name(ns: str, where: _Filter) -> str:
    tool = "ip6/" if where.family == "ip6" else ""
    return f"{ns}/{tool}{where.table}/{where.chain}"


def _rule_faults(kind: str, where: _Filter, objects: LabObjects) -> Iterator[Fault]:
    for ns in namespaces_by_role(objects):
        paths = paths_through(objects, ns, *where.ways, version=where.version)
        traffic = probes(paths, protocols=where.protocols, port=where.port)
        traffic = tuple(one for one in traffic if where.port in (None, one.port))
        if traffic:
            change = insert_rule(objects, ns, where.table, where.chain, where.text, family=where.family)
            causes = (ExpectedCause(("rule",), (ns, where.chain)),)
            yield Fault(kind, _object_name(ns, where), (change,), causes, traffic)


def _policy_faults(kind: str, where: _Filter, objects: LabObjects) -> Iterator[Fault]:
    for ns in namespaces_by_role(objects):
        planned = objects.chain(ns, "filter", where.chain, where.family)
        if (planned is not None and planned.policy == "DROP") or not reaches_policy(
            objects, ns, where.chain, where.family
        ):
            continue
        if traffic := probes(paths_through(objects, ns, *where.ways, version=where.version)):
            change = with_policy(objects, ns, where.chain, "DROP", where.family)
            causes = (ExpectedCause(("rule",), (ns, f"policy of {where.chain}")),)
            yield Fault(kind, _object_name(ns, where), (change,), causes, traffic, UNANSWERED)


def _drop_source(objects: LabObjects) -> Iterator[Fault]:
    for ns in namespaces_by_role(objects):
        paths = paths_through(objects, ns, *FORWARDED)
        for source in dict.fromkeys(one.source for one in paths if objects.is_leaf(one.source)):
            if objects.topology.machines[source].on != ns:
                continue
            change = insert_rule(objects, ns, "filter", "FORWARD", f"-s {text_of(objects, source)} -j DROP")
            causes = (ExpectedCause(("rule",), (ns, "FORWARD")),)
            traffic = probes(one for one in paths if one.source == source)
            yield Fault("drop-source", f"{ns}/filter/FORWARD/{source}", (change,), causes, traffic)


def _frag_needed_dropped(objects: LabObjects) -> Iterator[Fault]:
    """The router says that the packet is too big, and its own firewall drops the message."""
    text = "-p icmp -m icmp --icmp-type fragmentation-needed -j DROP"
    for ns in namespaces_by_role(objects):
        dev = objects.main_route_dev(ns)
        link = objects.link(Interface(ns, dev)) if dev is not None else None
        if link is None or link.kind not in ("veth", "bridge"):
            continue
        paths = paths_through(objects, ns, "routed", keep=partial(_leaves_lab, objects))
        if traffic := probes(paths, size=TOO_BIG, protocols=("icmp", "udp")):
            changes = (
                Change(replace(link, mtu=SMALL_MTU), link),
                insert_rule(objects, ns, "filter", "OUTPUT", text),
            )
            causes = (ExpectedCause(("rule", "mtu-black-hole", "too-big"), (ns, "OUTPUT")),)
            symptoms = (ExpectedCause(("mtu-black-hole", "too-big"), (f"{ns}/{dev}",)),)
            yield Fault("drop-frag-needed", f"{ns}/{dev}", changes, causes, traffic, symptoms)


def _leaves_lab(objects: LabObjects, one: ClaimedPath) -> bool:
    """Whether a probe goes from a pod to the outside, and so in no tunnel."""
    return objects.is_leaf(one.source) and objects.topology.role(one.target_ns) == "internet"


def _neighbour_discovery(kind: str, icmp_type: int, objects: LabObjects) -> Iterator[Fault]:
    """Drops at the machine that receives: the question where it is asked, the answer where it comes back."""
    asked = icmp_type == 135
    where = _Filter("filter", "INPUT", f"-p ipv6-icmp -m icmp6 --icmpv6-type {icmp_type} -j DROP", family="ip6")
    for ns in namespaces_by_role(objects):
        paths = paths_through(objects, ns, "received" if asked else "sent", version=6)
        if paths:
            change = insert_rule(objects, ns, where.table, where.chain, where.text, family="ip6")
            causes = (ExpectedCause(("rule",), (ns, "INPUT")),)
            yield Fault(kind, _object_name(ns, where), (change,), causes, probes(paths), UNANSWERED)


def _kind(name: str, where: _Filter, summary: Sentence, effect: Sentence) -> FaultKind:
    return FaultKind(name, summary, effect, partial(_rule_faults, name, where))


def _policy_kind(name: str, where: _Filter, summary: Sentence, effect: Sentence) -> FaultKind:
    return FaultKind(name, summary, effect, partial(_policy_faults, name, where))


_REJECT = "-j REJECT --reject-with icmp-admin-prohibited"
KINDS: tuple[FaultKind, ...] = (
    _kind(
        "drop-forward",
        _Filter("filter", "FORWARD", "-j DROP"),
        sentence("A rule in filter/FORWARD drops all packets."),
        sentence("The machine forwards nothing, but it can still send and receive."),
    ),
    _kind(
        "reject-forward",
        _Filter("filter", "FORWARD", _REJECT),
        sentence("A rule in filter/FORWARD rejects all packets."),
        sentence("The sender gets an ICMP error: the packet is administratively prohibited."),
    ),
    _kind(
        "drop-input",
        _Filter("filter", "INPUT", "-j DROP", ("received",)),
        sentence("A rule in filter/INPUT drops all packets."),
        sentence("The machine receives nothing, but it still forwards."),
    ),
    _kind(
        "reject-input",
        _Filter("filter", "INPUT", _REJECT, ("received",)),
        sentence("A rule in filter/INPUT rejects all packets."),
        sentence("The sender gets an ICMP error from the machine itself."),
    ),
    _kind(
        "drop-output",
        _Filter("filter", "OUTPUT", "-j DROP", ("sent", "received")),
        sentence("A rule in filter/OUTPUT drops all packets."),
        sentence("The machine sends nothing and answers nothing."),
    ),
    _kind(
        "reject-output",
        _Filter("filter", "OUTPUT", _REJECT, ("sent",)),
        sentence("A rule in filter/OUTPUT rejects all packets."),
        sentence("A program on the machine gets an error as soon as it sends."),
    ),
    _kind(
        "drop-raw-prerouting",
        _Filter("raw", "PREROUTING", "-j DROP", (*FORWARDED, "received")),
        sentence("A rule in raw/PREROUTING drops all packets."),
        sentence("Packets end before conntrack and before the routing see them."),
    ),
    _kind(
        "drop-mangle-forward",
        _Filter("mangle", "FORWARD", "-j DROP"),
        sentence("A rule in mangle/FORWARD drops all packets."),
        sentence("The machine forwards nothing, though the table filter has no such rule."),
    ),
    _kind(
        "drop-mangle-postrouting",
        _Filter("mangle", "POSTROUTING", "-j DROP"),
        sentence("A rule in mangle/POSTROUTING drops all packets."),
        sentence("Packets pass the table filter, and end just before they leave."),
    ),
    _policy_kind(
        "policy-drop-forward",
        _Filter("filter", "FORWARD", ""),
        sentence("The policy of filter/FORWARD is DROP, and no rule accepts packets."),
        sentence("The machine forwards nothing."),
    ),
    _policy_kind(
        "policy-drop-input",
        _Filter("filter", "INPUT", "", ("received",)),
        sentence("The policy of filter/INPUT is DROP, and no rule accepts packets."),
        sentence("The machine receives nothing."),
    ),
    _policy_kind(
        "policy-drop-output",
        _Filter("filter", "OUTPUT", "", ("sent", "received")),
        sentence("The policy of filter/OUTPUT is DROP, and no rule accepts packets."),
        sentence("The machine sends nothing."),
    ),
    _kind(
        "drop-tcp-port",
        _Filter("filter", "FORWARD", f"-p tcp -m tcp --dport {PORT} -j DROP", protocols=("tcp",), port=PORT),
        sentence("A rule in filter/FORWARD drops TCP packets to port {port}.", port=PORT),
        sentence("Connections to that port get no answer; other ports and pings work."),
    ),
    _kind(
        "reject-tcp-port",
        _Filter(
            "filter",
            "FORWARD",
            f"-p tcp -m tcp --dport {PORT} -j REJECT --reject-with tcp-reset",
            protocols=("tcp",),
            port=PORT,
        ),
        sentence("A rule in filter/FORWARD answers TCP packets to port {port} with a reset.", port=PORT),
        sentence("Connections to that port are refused, as if nothing listened there."),
    ),
    _kind(
        "drop-udp",
        _Filter("filter", "FORWARD", "-p udp -j DROP", protocols=("udp",)),
        sentence("A rule in filter/FORWARD drops UDP."),
        sentence("DNS and other UDP traffic gets no answer; pings and TCP work."),
    ),
    _kind(
        "drop-icmp",
        _Filter("filter", "FORWARD", "-p icmp -j DROP", protocols=("icmp",)),
        sentence("A rule in filter/FORWARD drops ICMP."),
        sentence("Pings get no answer, and path MTU discovery breaks; TCP and UDP work."),
    ),
    _kind(
        "drop-replies",
        _Filter("filter", "FORWARD", "-m conntrack --ctstate ESTABLISHED -j DROP"),
        sentence("A rule in filter/FORWARD drops packets of established connections."),
        sentence("Requests arrive, and their replies end at the firewall."),
    ),
    FaultKind(
        "drop-source",
        sentence("A rule in filter/FORWARD drops the packets of one pod."),
        sentence("That pod reaches nothing beyond its node; the other pods do."),
        _drop_source,
    ),
    FaultKind(
        "drop-frag-needed",
        sentence("A link has a smaller MTU, and a rule drops the router's ICMP error (fragmentation needed)."),
        sentence("Small packets pass. Big packets disappear, and the sender does not learn the MTU."),
        _frag_needed_dropped,
    ),
    _kind(
        "drop-forward-ipv6",
        _Filter("filter", "FORWARD", "-j DROP", family="ip6"),
        sentence("A rule of ip6tables in filter/FORWARD drops all packets."),
        sentence("The machine forwards no IPv6, and IPv4 works."),
    ),
    _kind(
        "reject-forward-ipv6",
        _Filter("filter", "FORWARD", "-j REJECT --reject-with icmp6-adm-prohibited", family="ip6"),
        sentence("A rule of ip6tables in filter/FORWARD rejects all packets."),
        sentence("The sender gets an ICMPv6 error, and IPv4 works."),
    ),
    _kind(
        "drop-raw-prerouting-ipv6",
        _Filter("raw", "PREROUTING", "-p tcp -j DROP", (*FORWARDED, "received"), ("tcp",), family="ip6"),
        sentence("A rule of ip6tables in raw/PREROUTING drops TCP."),
        sentence("TCP over IPv6 gets no answer; pings, and IPv4, work."),
    ),
    _policy_kind(
        "policy-drop-input-ipv6",
        _Filter("filter", "INPUT", "", ("received",), family="ip6"),
        sentence("The policy of INPUT in ip6tables is DROP, and no rule accepts packets."),
        sentence("The machine answers no neighbour solicitation, so no other machine reaches it over IPv6."),
    ),
    FaultKind(
        "drop-neighbour-solicitation",
        sentence("A rule of ip6tables in filter/INPUT drops neighbour solicitations (ICMPv6 type 135)."),
        sentence("No other machine learns its MAC address, so no IPv6 packet is sent to it."),
        partial(_neighbour_discovery, "drop-neighbour-solicitation", 135),
    ),
    FaultKind(
        "drop-neighbour-advertisement",
        sentence("A rule of ip6tables in filter/INPUT drops neighbour advertisements (ICMPv6 type 136)."),
        sentence("The machine learns no MAC address, so it sends no IPv6 packet."),
        partial(_neighbour_discovery, "drop-neighbour-advertisement", 136),
    ),
)

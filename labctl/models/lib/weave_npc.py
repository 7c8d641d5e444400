"""Weave's policy controller on a node: its chains when no pod has a policy. Pure.

A packet from a pod passes WEAVE-NPC-EGRESS, which only marks it, because its destination may be another pod of the
node. WEAVE-NPC filters what goes to a pod: it accepts the packet, or the DROP rule after it applies. Pods without a
policy are in two IP sets, by which both chains let their packets pass. A packet from the tunnel was filtered on the
sender's node, and a packet into the tunnel is filtered on the receiver's node; iptables recognises both by the port of
the bridge.

Follows weaveworks/weave 2.8: net/bridge.go (configureIPTables), prog/weave-npc/main.go (createBaseRules),
npc/namespace.go and npc/shortname.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import sha1
from ipaddress import IPv4Address

from labctl.core.resources import IpSet, Resource
from labctl.core.why import Component, RuleShapes, Source
from labctl.models.lib import primitives

_NPC = Component("weave-npc", Source("weaveworks/weave", "prog/weave-npc/main.go", "2.8.1"))
_NAMESPACE = Component("weave-npc", Source("weaveworks/weave", "npc/namespace.go", "2.8.1"))
_BRIDGE = Component("weave", Source("weaveworks/weave", "net/bridge.go", "2.8.1"))
DEFAULT_ALLOW = _NAMESPACE.why("It has the addresses of pods that no policy selects ({members}): their packets pass.")
RULES = RuleShapes(
    (
        "filter/(INPUT|FORWARD)",
        "-j WEAVE-NPC-EGRESS",
        _BRIDGE.why(
            "What pods send passes the chain for egress policies first, before rules of kube-proxy can accept it."
        ),
    ),
    (
        "filter/FORWARD",
        "-j WEAVE-NPC$",
        _BRIDGE.why("What goes to a pod of {ns} passes the chain for ingress policies."),
    ),
    (
        "filter/FORWARD",
        "NFLOG",
        _BRIDGE.why("A new connection to a pod that no policy accepted is logged before it is dropped."),
    ),
    ("filter/FORWARD", "-o .* -j DROP", _BRIDGE.why("A packet to a pod that the chain did not accept is dropped.")),
    (
        "filter/FORWARD",
        "! -o .* -j ACCEPT",
        _BRIDGE.why("What pods send to elsewhere passes, whatever policy FORWARD has."),
    ),
    (
        "filter/FORWARD",
        "-i .* -o .* -j ACCEPT",
        _BRIDGE.why("Pods of {ns} reach each other: the policy controller does not run."),
    ),
    ("filter/FORWARD", "ESTABLISHED", _BRIDGE.why("Answers to pods pass.")),
    (
        "filter/FORWARD",
        "-j WEAVE-EXPOSE",
        _BRIDGE.why("New connections to pods pass the next chain, which knows their subnet."),
    ),
    ("filter/WEAVE-EXPOSE", "", _BRIDGE.why("It says which addresses may be reached from outside.")),
    ("filter/WEAVE-EXPOSE", "-j ACCEPT", _BRIDGE.why("The whole subnet of pods ({dst}) may be reached from outside.")),
    ("filter/WEAVE-NPC", "", _NPC.why("It decides what pods of {ns} receive (ingress).")),
    ("filter/WEAVE-NPC-DEFAULT", "", _NPC.why("It accepts packets to pods that no policy selects for ingress.")),
    (
        "filter/WEAVE-NPC-DEFAULT",
        "-j ACCEPT",
        _NAMESPACE.why("No policy selects the receiving pod: everything may reach it."),
    ),
    ("filter/WEAVE-NPC-INGRESS", "", _NPC.why("It has the ingress rules of policies; there are none.")),
    ("filter/WEAVE-NPC-EGRESS", "", _NPC.why("It decides what pods of {ns} send (egress), and marks what may pass.")),
    ("filter/WEAVE-NPC-EGRESS-DEFAULT", "", _NPC.why("It marks packets of pods that no policy selects for egress.")),
    (
        "filter/WEAVE-NPC-EGRESS-DEFAULT",
        "-j WEAVE",
        _NAMESPACE.why("No policy selects the sending pod: the packet is marked."),
    ),
    (
        "filter/WEAVE-NPC-EGRESS-DEFAULT",
        "-j RETURN",
        _NAMESPACE.why("The packet has its mark: no other rule is asked."),
    ),
    ("filter/WEAVE-NPC-EGRESS-CUSTOM", "", _NPC.why("It has the egress rules of policies; there are none.")),
    (
        "filter/WEAVE-NPC-EGRESS-ACCEPT",
        "",
        _NPC.why("It marks a packet that may be sent; the chain for its receiver is still asked."),
    ),
    ("filter/WEAVE-NPC-EGRESS-ACCEPT", "-j MARK", _NPC.why("The mark says that egress is allowed.")),
    ("filter/WEAVE-NPC(-EGRESS)?", "ESTABLISHED", _NPC.why("A connection that was allowed once goes on, both ways.")),
    ("filter/WEAVE-NPC(-EGRESS)?", "224.0.0.0/4", _NPC.why("Multicast is not judged.")),
    (
        "filter/WEAVE-NPC",
        "physdev-out",
        _NPC.why("The packet leaves for another node: that node judges it, because it knows the receiving pod."),
    ),
    (
        "filter/WEAVE-NPC-EGRESS",
        "physdev-in",
        _NPC.why("The packet comes from another node, which has judged its sender."),
    ),
    ("filter/WEAVE-NPC-EGRESS", "dst-type LOCAL", _NPC.why("Packets to {ns} itself are not judged.")),
    ("filter/WEAVE-NPC", "-j WEAVE-NPC-DEFAULT", _NPC.why("A new connection: pods without a policy accept it.")),
    (
        "filter/WEAVE-NPC",
        "-j WEAVE-NPC-INGRESS",
        _NPC.why("A new connection: the policies of the receiving pod decide."),
    ),
    (
        "filter/WEAVE-NPC-EGRESS",
        "-j WEAVE-NPC-EGRESS-DEFAULT",
        _NPC.why("A new connection: pods without a policy may send it."),
    ),
    (
        "filter/WEAVE-NPC-EGRESS",
        "-j WEAVE-NPC-EGRESS-CUSTOM",
        _NPC.why("It has no mark yet: the policies of the sending pod decide."),
    ),
)
POD_NAMESPACE = "default"  # of every pod
_SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789(){}[]+=_$%^!*|/?.;:@#~"
_MATCH_ESTABLISHED = "-m state --state RELATED,ESTABLISHED"
_NEW = "-m state --state NEW"
_ORDER_COMMENT = "-m comment --comment \"NOTE: this must go before '-j KUBE-FORWARD'\""
_MATCH_UNMARKED = "-m mark ! --mark 0x40000/0x40000"


def set_name(text: str) -> str:
    """The name of an IP set: a SHA-1 digest in base 85, with characters that set names allow, lowest digit first."""
    number, letters = int.from_bytes(sha1(text.encode()).digest(), "big"), ""
    while number:
        number, digit = divmod(number, len(_SYMBOLS))
        letters += _SYMBOLS[digit]
    return f"weave-{letters}"


def builtin_chain_rules(ns: str, bridge: str) -> Iterator[Resource]:
    """The jumps into the controller's chains, and the rules that log and drop packets that no chain accepts."""
    yield primitives.chain(ns, "filter", "INPUT", f"-i {bridge} -j WEAVE-NPC-EGRESS", shapes=RULES)
    yield primitives.chain(
        ns,
        "filter",
        "FORWARD",
        f"-i {bridge} {_ORDER_COMMENT} -j WEAVE-NPC-EGRESS",
        f"-o {bridge} {_ORDER_COMMENT} -j WEAVE-NPC",
        f"-o {bridge} {_NEW} -j NFLOG --nflog-group 86",
        f"-o {bridge} -j DROP",
        shapes=RULES,
    )


def npc_chains(ns: str, bridge_port: str, pod_addresses: Iterable[IPv4Address]) -> Iterator[Resource]:
    """The IP sets of pods without a policy (of all nodes), and the chains. `bridge_port` is the bridge's port towards
    the other nodes."""
    members = tuple(sorted(map(str, pod_addresses)))
    ingress_set, egress_set = (
        set_name(f"{direction}-default-allow:{POD_NAMESPACE}") for direction in ("ingress", "egress")
    )
    yield from (IpSet(ns, name, "hash:ip", members, why=DEFAULT_ALLOW) for name in (ingress_set, egress_set))

    def chain(suffix: str, *rules: str) -> Resource:
        return primitives.chain(ns, "filter", f"WEAVE-NPC{suffix}", *rules, shapes=RULES)

    comment = '-m comment --comment "DefaultAllow {} isolation for namespace: ' + f'{POD_NAMESPACE}"'
    yield chain(
        "",
        f"{_MATCH_ESTABLISHED} -j ACCEPT",
        "-d 224.0.0.0/4 -j ACCEPT",
        f"-m physdev --physdev-out {bridge_port} --physdev-is-bridged -j ACCEPT",
        f"{_NEW} -j WEAVE-NPC-DEFAULT",
        f"{_NEW} -j WEAVE-NPC-INGRESS",
    )
    yield chain("-DEFAULT", f"-m set --match-set {ingress_set} dst {comment.format('ingress')} -j ACCEPT")
    yield chain("-INGRESS")
    yield chain(
        "-EGRESS",
        f"{_MATCH_ESTABLISHED} -j ACCEPT",
        f"-m physdev --physdev-in {bridge_port} --physdev-is-bridged -j RETURN",
        "-m addrtype --dst-type LOCAL -j RETURN",
        "-d 224.0.0.0/4 -j RETURN",
        f"{_NEW} -j WEAVE-NPC-EGRESS-DEFAULT",
        f"{_NEW} {_MATCH_UNMARKED} -j WEAVE-NPC-EGRESS-CUSTOM",
    )
    allowed = f"-m set --match-set {egress_set} src {comment.format('egress')}"
    yield chain("-EGRESS-DEFAULT", f"{allowed} -j WEAVE-NPC-EGRESS-ACCEPT", f"{allowed} -j RETURN")
    yield chain("-EGRESS-CUSTOM")
    yield chain("-EGRESS-ACCEPT", "-j MARK --set-xmark 0x40000/0x40000")

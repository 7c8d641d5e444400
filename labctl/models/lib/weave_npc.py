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
from labctl.models.lib import primitives

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
    yield primitives.chain(ns, "filter", "INPUT", f"-i {bridge} -j WEAVE-NPC-EGRESS")
    yield primitives.chain(
        ns,
        "filter",
        "FORWARD",
        f"-i {bridge} {_ORDER_COMMENT} -j WEAVE-NPC-EGRESS",
        f"-o {bridge} {_ORDER_COMMENT} -j WEAVE-NPC",
        f"-o {bridge} {_NEW} -j NFLOG --nflog-group 86",
        f"-o {bridge} -j DROP",
    )


def npc_chains(ns: str, bridge_port: str, pod_addresses: Iterable[IPv4Address]) -> Iterator[Resource]:
    """The IP sets of pods without a policy (of all nodes), and the chains. `bridge_port` is the bridge's port towards
    the other nodes."""
    members = tuple(sorted(map(str, pod_addresses)))
    ingress_set, egress_set = (
        set_name(f"{direction}-default-allow:{POD_NAMESPACE}") for direction in ("ingress", "egress")
    )
    yield from (IpSet(ns, name, "hash:ip", members) for name in (ingress_set, egress_set))

    def chain(suffix: str, *rules: str) -> Resource:
        return primitives.chain(ns, "filter", f"WEAVE-NPC{suffix}", *rules)

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

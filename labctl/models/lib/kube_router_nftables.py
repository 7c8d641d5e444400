"""kube-router's firewall on a node in nftables (`--use-nftables-for-netpol`), without the policies. Pure.

    table ip kube-router-filter-ipv4
      KUBE-ROUTER-FORWARD (hook)     ip daddr POD jump KUBE-POD-FW-HASH     for each pod of the node, in a row
      KUBE-POD-FW-HASH               KUBE-NWPLCY-COMMON, then the policies of the pod, then reject
      KUBE-NWPLCY-HASH               ip saddr @KUBE-SRC-HASH ... mark 0x10000, return

The chains and marks are those of kube-router's iptables rules (`kube_router_node`), in a separate table. There is no
verdict map: a rule for each pod stands in each hook, as in iptables. Rules match addresses and no devices, so they also
fit pods on a bridge, and the second jump that iptables needs for bridged frames is not there.

Follows cloudnativelabs/kube-router 2.11: pkg/controllers/netpol/npc_nftables.go, where this mode is experimental.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from labctl.core import nft_objects
from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain, IpSet, NftObject, Resource
from labctl.models.lib import kube_router_nftables_reasons as reasons
from labctl.models.lib.kube_router_node import PodFirewall

TABLE = "ip kube-router-filter-ipv4"
HOOKS = ("INPUT", "FORWARD", "OUTPUT")
MAX_COMMENT = 128
NODE_PORTS = "30000-32767"
ALLOW = "meta mark set meta mark | 0x00010000"
_OWN_CHAINS, _OWN_SETS = ("KUBE-ROUTER-", "KUBE-NWPLCY-", "KUBE-POD-FW-"), ("KUBE-SRC-", "KUBE-DST-")
_ICMP = ("echo-request", "destination-unreachable", "time-exceeded")


def is_kube_router(item: Resource) -> bool:
    """Whether kube-router's controller of policies made a chain or set of iptables, or a rule of a built-in chain."""
    if isinstance(item, IpSet):
        return item.name.startswith(_OWN_SETS)
    if not isinstance(item, Chain) or item.family != "ip":
        return False
    return item.name.startswith(_OWN_CHAINS) or any(map(is_kube_router_rule, item.rules))


def is_kube_router_rule(rule: FirewallRule) -> bool:
    """Whether a rule of a built-in chain jumps to kube-router's."""
    return rule.target is not None and rule.target.startswith("KUBE-ROUTER-")


def policy_tables(
    ns: str, service_cidrs: Iterable[IPv4Network], firewalls: Iterable[PodFirewall]
) -> Iterator[NftObject]:
    """The table with the chains of the node and of its pods."""
    firewalls = tuple(firewalls)
    yield nft_objects.table(ns, TABLE, comment="rules for kube-router-filter-ipv4", why=reasons.TABLE)
    for hook in HOOKS:
        name = f"KUBE-ROUTER-{hook}"
        rules = [*(_services(service_cidrs) if hook == "INPUT" else ()), *_jumps(hook, firewalls)]
        rules.append(
            with_comment(
                "meta mark & 0x00020000 == 0x00020000 counter accept",
                "explicitly ACCEPT traffic that comply to network policies",
            )
        )
        yield _explained(
            nft_objects.base_chain(
                ns, TABLE, name, rules, type="filter", hook=hook.lower(), priority="filter",
                comment=f"top level {name} chain for kube-router",
            )
        )  # fmt: skip
    mark = with_comment(f"counter {ALLOW}", "mark traffic matching a network policy")
    for name, chain_rules in (("KUBE-NWPLCY-DEFAULT", [mark]), ("KUBE-NWPLCY-COMMON", [*_common()])):
        yield chain(ns, name, chain_rules, f"{name} chain for kube-router")
    for one in firewalls:
        yield chain(ns, one.chain, _pod(one), f"pod firewall chain for {one.namespace}/{one.name}")


def chain(ns: str, name: str, rules: Iterable[str], comment: str) -> NftObject:
    """A chain of kube-router with its reasons."""
    return _explained(nft_objects.chain(ns, TABLE, name, rules, comment=comment[:MAX_COMMENT]))


def with_comment(text: str, comment: str) -> str:
    """A rule with a comment, of which nft takes 128 letters."""
    return f'{text} comment "{comment[:MAX_COMMENT]}"'


def _explained(item: NftObject) -> NftObject:
    rules, why = reasons.RULES.reasons, reasons.RULES.of_chain(item)
    return NftObject(item.ns, item.table, item.kind, item.name, item.header, item.entries, why=why, rule_whys=rules)


def _services(service_cidrs: Iterable[IPv4Network]) -> Iterator[str]:
    for one in service_cidrs:
        yield with_comment(f"ip daddr {one} counter return", "allow traffic to primary/secondary cluster IP range")
    for protocol in ("tcp", "udp", "sctp"):
        yield with_comment(
            f"fib daddr type local {protocol} dport {NODE_PORTS} counter return",
            f"allow LOCAL {protocol} traffic to node ports",
        )


def _jumps(hook: str, firewalls: Iterable[PodFirewall]) -> Iterator[str]:
    """The jumps to the pods' chains. Upstream takes the pods in the order of a Go map, which is another each time."""
    for one in firewalls:
        for side, word in (("daddr", "to"), ("saddr", "from")):
            if (hook, word) != ("INPUT", "to"):
                comment = f"jump traffic {word} POD name:{one.name} ns: {one.namespace} to chain {one.chain}"
                yield with_comment(f"ip {side} {one.address} counter jump {one.chain}", comment)


def _common() -> Iterator[str]:
    yield with_comment("ct state invalid counter drop", "drop invalid state for pod")
    yield with_comment("ct state established,related counter accept", "rule for stateful firewall for pod")
    for kind in _ICMP:
        yield with_comment(f"icmp type {kind} counter accept", f"allow icmp {kind} messages")


def _pod(one: PodFirewall) -> Iterator[str]:
    """The chain of a pod: the policies in order, the directions without a policy, and what none of them allows."""
    yield with_comment("counter jump KUBE-NWPLCY-COMMON", "common bi-directional traffic policy rules")
    yield with_comment(
        f"fib saddr type local ip daddr {one.address} counter accept",
        "permit traffic to pods when source is the pod's local node",
    )
    directions = (("saddr", "egress", one.egress), ("daddr", "ingress", one.ingress))
    jumps = ((policy, side, name) for side, _, policies in directions for policy, name in policies)
    for policy, side, name in sorted(jumps):
        yield with_comment(f"ip {side} {one.address} counter jump {name}", f"run through nw policy {policy}")
    for side, direction, policies in directions:
        if not policies:
            comment = f"run through default {direction} network policy chain"
            yield with_comment(f"ip {side} {one.address} counter jump KUBE-NWPLCY-DEFAULT", comment)
    unmarked = "meta mark & 0x00010000 == 0x00000000"
    log = f"{unmarked} limit rate 10/minute burst 10 packets log group 100"
    yield with_comment(log, f"log dropped traffic POD name:{one.name}")
    yield with_comment(f"{unmarked} counter reject", f"REJECT traffic destined for POD name:{one.name}")
    comment = "reset mark to let traffic pass through rest of the chains"
    yield with_comment("meta mark set meta mark & 0xfffeffff", comment)
    comment = "set mark to ACCEPT traffic that comply to network policies"
    yield with_comment("meta mark set meta mark | 0x00020000", comment)

"""kube-router's firewall on a node: the chains of its network policies, for pods with and without a policy. Pure.

Every pod has a separate chain, and every packet from it or to it passes this chain: by address where it is routed,
again by address where it is bridged. The chains of the pod's policies mark what they allow (0x10000); without a policy
for a direction, every packet gets the mark. The pod's chain rejects a packet without that mark, and sets another one
(0x20000), by which the last chain accepts the packet. Packets of known connections, necessary ICMP, and packets from
the pod's own node are accepted before that.

Follows cloudnativelabs/kube-router, pkg/controllers/netpol/npc_iptables.go and pod.go, pkg/utils/icmp.go, and
pkg/controllers/routing/pod_egress.go and network_routes_controller.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from labctl.core.chain_hash import chain_hash
from labctl.core.resources import IpSet, Resource
from labctl.models.lib import kube_router_reasons, primitives

BRIDGE = "kube-bridge"
POD_SUBNETS_SET, NODE_IPS_SET = "kube-router-pod-subnets", "kube-router-node-ips"
POD_NAMESPACE = "default"  # of every pod
NODE_PORTS = "30000:32767"
BUILTIN_CHAINS = ("INPUT", "FORWARD", "OUTPUT")
_LOCAL_NODE_COMMENT = "rule to permit the traffic traffic to pods when source is the pod's local node"
_COMMON_RULES = (
    '-m comment --comment "rule to drop invalid state for pod" -m conntrack --ctstate INVALID -j DROP',
    '-m comment --comment "rule for stateful firewall for pod" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    '-p icmp -m comment --comment "allow icmp echo requests" -m icmp --icmp-type 8 -j ACCEPT',
    '-p icmp -m comment --comment "allow icmp destination unreachable messages" -m icmp --icmp-type 3 -j ACCEPT',
    '-p icmp -m comment --comment "allow icmp time exceeded messages" -m icmp --icmp-type 11 -j ACCEPT',
)
_MARK_RULE = '-m comment --comment "rule to mark traffic matching a network policy" -j MARK --set-xmark 0x10000/0x10000'
_ACCEPT_RULE = '-m comment --comment "accept netpol-ok" -m mark --mark 0x20000/0x20000 -j ACCEPT'
_TAIL_COMMENT = "rule to explicitly handle traffic for network policies ACCEPT/REJECT decision"
_FORWARD = (
    '-o eth0 -m comment --comment "allow outbound node port traffic on node interface with which node ip is'
    ' associated" -j ACCEPT',
    f'-o {BRIDGE} -m comment --comment "allow inbound traffic to pods" -j ACCEPT',
    f'-i {BRIDGE} -m comment --comment "allow outbound traffic from pods" -j ACCEPT',
)


@dataclass(frozen=True, slots=True)
class PodFirewall:
    """A pod for the firewall of its node: its address, and the policies that select it, by direction: each with its
    name and its chain, sorted by name."""

    name: str
    address: IPv4Address
    namespace: str = POD_NAMESPACE
    ingress: tuple[tuple[str, str], ...] = ()
    egress: tuple[tuple[str, str], ...] = ()

    @property
    def chain(self) -> str:
        """The name of its chain: a digest of its namespace and name (upstream adds the time of the last sync)."""
        return f"KUBE-POD-FW-{chain_hash(self.namespace + self.name)}"

    @property
    def subject(self) -> str:
        """What comments call it."""
        return f"POD name:{self.name} namespace: {self.namespace}"


def egress_masquerade(
    ns: str, subnets: Iterable[IPv4Network], node_addresses: Iterable[IPv4Address]
) -> Iterator[Resource]:
    """The masquerade rule for packets of a pod to a destination that is neither a pod nor a node, with its IP sets."""
    reasons = kube_router_reasons
    yield IpSet(ns, POD_SUBNETS_SET, members=tuple(sorted(map(str, subnets))), why=reasons.POD_SUBNETS)
    yield IpSet(ns, NODE_IPS_SET, "hash:ip", tuple(sorted(map(str, node_addresses))), why=reasons.NODE_IPS)
    matches = ((POD_SUBNETS_SET, "", "src"), (POD_SUBNETS_SET, "! ", "dst"), (NODE_IPS_SET, "! ", "dst"))
    text = " ".join(f"-m set {negated}--match-set {name} {direction}" for name, negated, direction in matches)
    rule = (f"{text} -j MASQUERADE --random-fully", reasons.MASQUERADE)
    yield primitives.chain(ns, "nat", "POSTROUTING", rule)


def pod_firewall_chains(
    ns: str, service_cidr: IPv4Network, pod_addresses: Iterable[tuple[str, IPv4Address]]
) -> Iterator[Resource]:
    """The chains of the filter table of a node of kube-router, with a chain for each pod of the node."""
    for hook in BUILTIN_CHAINS:
        yield _chain(ns, hook, jump(hook), *(_FORWARD if hook == "FORWARD" else ()))
    yield from policy_chains(ns, (service_cidr,), (PodFirewall(*one) for one in pod_addresses))


def policy_chains(
    ns: str, service_cidrs: Iterable[IPv4Network], firewalls: Iterable[PodFirewall]
) -> Iterator[Resource]:
    """The chains of the controller of network policies, without the jumps to them."""
    firewalls = tuple(firewalls)
    yield _chain(ns, "KUBE-ROUTER-INPUT", *_services(service_cidrs))
    for one in firewalls:
        yield from _jumps(ns, one)
    for hook in BUILTIN_CHAINS:
        tail = f'-m comment --comment "{_TAIL_COMMENT}" -j KUBE-NWPLCY-TAIL'
        yield _chain(ns, f"KUBE-ROUTER-{hook}", tail)
    yield _chain(ns, "KUBE-NWPLCY-COMMON", *_COMMON_RULES)
    yield _chain(ns, "KUBE-NWPLCY-DEFAULT", _MARK_RULE)
    yield _chain(ns, "KUBE-NWPLCY-TAIL", _ACCEPT_RULE)
    for one in firewalls:
        yield _chain(ns, one.chain, *_pod(one))


def _chain(ns: str, name: str, *rules: str) -> Resource:
    return primitives.chain(ns, "filter", name, *rules, shapes=kube_router_reasons.RULES)


def jump(hook: str) -> str:
    """The rule by which a built-in chain jumps to kube-router's chain."""
    return _with_digest(hook, ("-m", "comment", "--comment", "kube-router netpol", "-j", f"KUBE-ROUTER-{hook}"))


def _with_digest(chain: str, arguments: tuple[str, ...]) -> str:
    """A rule with a comment that ends with a digest of the rule, by which kube-router finds it again."""
    # the digest is of the words in kube-router's order, so they are not a FirewallRule yet
    digest = chain_hash(chain + "".join(arguments))
    result = [arguments[0]]
    for before, argument in pairwise(arguments):
        result.append(f'"{argument} - {digest}"' if before == "--comment" else argument)
    return " ".join(result)


def _services(service_cidrs: Iterable[IPv4Network]) -> Iterator[str]:
    """The rules that skip the firewall for packets to Services: those are for the service proxy."""
    chain = "KUBE-ROUTER-INPUT"
    comment = "allow traffic to primary/secondary cluster IP range"
    for one in service_cidrs:
        yield _with_digest(chain, ("-m", "comment", "--comment", comment, "-d", str(one), "-j", "RETURN"))
    for protocol in ("tcp", "udp"):
        comment = f"allow LOCAL {protocol.upper()} traffic to node ports"
        local = ("-m", "addrtype", "--dst-type", "LOCAL", "-m", "multiport", "--dports", NODE_PORTS, "-j", "RETURN")
        yield _with_digest(chain, ("-p", protocol, "-m", "comment", "--comment", comment, *local))


def _jumps(ns: str, one: PodFirewall) -> Iterator[Resource]:
    """The jumps into a pod's chain."""
    address, chain, bridged = one.address, one.chain, "-m physdev --physdev-is-bridged"
    to_pod = f'-m comment --comment "rule to jump traffic destined to {one.subject} to chain {chain}"'
    from_pod = f'-m comment --comment "rule to jump traffic from {one.subject} to chain {chain}"'
    rules = {
        "FORWARD": (
            f"-d {address} {to_pod} -j {chain}",
            f"-d {address} {bridged} {to_pod} -j {chain}",
            f"-s {address} {from_pod} -j {chain}",
            f"-s {address} {bridged} {from_pod} -j {chain}",
        ),
        "INPUT": (f"-s {address} {from_pod} -j {chain}",),
        "OUTPUT": (f"-d {address} {to_pod} -j {chain}", f"-s {address} {from_pod} -j {chain}"),
    }
    for hook, hook_rules in rules.items():
        yield _chain(ns, f"KUBE-ROUTER-{hook}", *hook_rules)


def _pod(one: PodFirewall) -> Iterator[str]:
    """The chain of a pod. Upstream inserts each rule before the others: so the policies are in reverse order."""
    unmarked = "-m mark ! --mark 0x10000/0x10000"
    yield "-j KUBE-NWPLCY-COMMON"
    yield f'-d {one.address} -m comment --comment "{_LOCAL_NODE_COMMENT}" -m addrtype --src-type LOCAL -j ACCEPT'
    directions = (("-s", "egress", one.egress), ("-d", "ingress", one.ingress))
    for flag, direction, policies in directions:
        if not policies:
            comment = f'-m comment --comment "run through default {direction} network policy  chain"'
            yield f"{flag} {one.address} {comment} -j KUBE-NWPLCY-DEFAULT"
    jumps = ((policy, flag, chain) for flag, _, policies in directions for policy, chain in policies)
    for policy, flag, chain in sorted(jumps, reverse=True):
        yield f'{flag} {one.address} -m comment --comment "run through nw policy {policy}" -j {chain}'
    limit = "-m limit --limit 10/min --limit-burst 10"
    log = f"rule to log dropped traffic {one.subject}"
    yield f'-m comment --comment "{log}" {unmarked} {limit} -j NFLOG --nflog-group 100'
    yield f'-m comment --comment "rule to REJECT traffic destined for {one.subject}" {unmarked} -j REJECT'
    yield "-j MARK --set-xmark 0x0/0x10000"
    subject = "set mark to ACCEPT traffic that comply to network policies"
    yield f'-m comment --comment "{subject}" -j MARK --set-xmark 0x20000/0x20000'

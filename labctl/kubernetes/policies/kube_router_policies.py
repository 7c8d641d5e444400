"""NetworkPolicies as kube-router writes them: a chain for each policy, IP sets of addresses for its rules. Pure.

Every rule matches addresses and no devices, so it also fits pods on a bridge. A chain marks what its policy allows and
returns; the pod's chain (`labctl.models.lib.kube_router_node`) rejects what has no mark.

Where kube-router differs from the API, labctl writes what the API says, in kube-router's shape:

- A policy with both directions has a chain for each. kube-router has one for both, which the pod's chain enters for
  either direction: between two pods that the policy selects, its ingress rules then allow what its egress forbids.
- A named port of egress means the port that each destination names so. kube-router looks at the namespace of the policy
  only, if the rule has no peers, and then allows the number at every address; with an `ipBlock`, it ignores names.
- An exception in one `ipBlock` does not take an address from another one of the same rule. kube-router puts both in one
  set, where the longest prefix decides.

Follows cloudnativelabs/kube-router v2 (master of 2026): pkg/controllers/netpol/policy.go and pod.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from labctl.core.chain_hash import chain_hash
from labctl.core.ipset_members import SetMember
from labctl.core.resources import IpSet, Resource
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Direction, NetworkPolicy, Pod, PolicyRule
from labctl.kubernetes.policies.policy_peers import (
    BlockNets,
    addresses,
    block_nets,
    filtered_pods,
    ipv4,
    is_selected,
    named_ports,
    peer_pods,
)
from labctl.models.lib import kube_router_node, kube_router_reasons, primitives

FAMILY = "IPv4"  # a part of upstream's names
_MARK = "-j MARK --set-xmark 0x10000/0x10000"
_RETURN = "-m mark --mark 0x10000/0x10000 -j RETURN"


def kube_router_policies(state: ClusterState, node: str, pods: Iterable[Pod], *, jumps: bool) -> Iterator[Resource]:
    """kube-router's chains and sets on a node that has these pods; with `jumps`, those of the built-in chains too."""
    if jumps:
        for hook in kube_router_node.BUILTIN_CHAINS:
            jump = kube_router_node.jump(hook)
            yield primitives.chain(node, "filter", hook, jump, shapes=kube_router_reasons.RULES)
    cidrs = (one for one in state.service_cidrs if isinstance(one, IPv4Network))
    yield from kube_router_node.policy_chains(node, cidrs, (pod_firewall(state, one) for one in pods if any(ipv4(one))))
    for policy in state.policies:
        for direction in policy.types:
            writer = PolicyWriter(state, node, policy, direction)
            name, shapes = policy_chain_name(policy, direction), kube_router_reasons.RULES
            yield primitives.chain(node, "filter", name, *writer.rules(), shapes=shapes)
            yield from writer.sets.values()


def policy_chain_name(policy: NetworkPolicy, direction: Direction) -> str:
    """The name of the chain of a policy (upstream adds the time of the last sync). Of a policy with both directions,
    that for egress has a name of labctl's."""
    own = "egress" if direction == "Egress" and len(policy.types) > 1 else ""
    return f"KUBE-NWPLCY-{chain_hash(policy.namespace + policy.name + own + FAMILY)}"


def pod_firewall(state: ClusterState, pod: Pod) -> kube_router_node.PodFirewall:
    """A pod with the policies that select it."""
    selecting = sorted((one for one in state.policies if is_selected(one, pod)), key=lambda one: one.name)
    ingress, egress = (
        tuple((one.name, policy_chain_name(one, direction)) for one in selecting if direction in one.types)
        for direction in ("Ingress", "Egress")
    )
    return kube_router_node.PodFirewall(pod.name, next(ipv4(pod)), pod.namespace, ingress, egress)


@dataclass(frozen=True, slots=True)
class Allowed:
    """What one rule of a chain allows: the sets of sources and targets ("" is everything), and a protocol and its
    ports (`80`, `80:90`)."""

    comment: str
    source: str
    target: str
    protocol: str = ""
    ports: str = ""


@dataclass(slots=True)
class PolicyWriter:
    """Writes the chain of a policy for one direction, and collects the sets that it matches."""

    state: ClusterState
    node: str
    policy: NetworkPolicy
    direction: Direction
    sets: dict[str, IpSet] = field(default_factory=dict)

    @property
    def inbound(self) -> bool:
        return self.direction == "Ingress"

    def rules(self) -> Iterator[str]:
        """The rules of the chain."""
        for one in self.allowed():
            yield from _rule(one)

    def allowed(self) -> Iterator[Allowed]:
        """What the policy allows: for each of its rules the pods, or everything, and then the blocks."""
        selected = [one for one in filtered_pods(self.state) if is_selected(self.policy, one)]
        own = self._set("DST" if self.inbound else "SRC", "", addresses(selected))
        for number, rule in enumerate(self.policy.rules(self.direction)):
            pods = tuple(
                {one: None for peer in rule.peers for one in peer_pods(self.state, self.policy.namespace, peer)}
            )
            blocks = [net for peer in rule.peers if peer.block is not None and (net := block_nets(peer.block))]
            side = "SRC" if self.inbound else "DST"
            kind = f"{self.direction.lower()}rule{number}{FAMILY}"
            if pods:
                yield from self._allow(rule, number, own, "pods", self._set(side, f"{kind}pod", addresses(pods)), pods)
            if not rule.peers:
                yield from self._allow(rule, number, own, "all", "", filtered_pods(self.state))
            if blocks:
                peers = self.block_set(number, side, f"{kind}ipblock", blocks)
                inside = [one for one in filtered_pods(self.state) if any(_is_in(ip, blocks) for ip in ipv4(one))]
                yield from self._allow(rule, number, own, "blocks", peers, inside)

    def _allow(
        self, rule: PolicyRule, number: int, own: str, kind: str, peers: str, pods: Iterable[Pod]
    ) -> Iterator[Allowed]:
        """What one kind of peers may do, which are a set and pods: for each number or range of ports, and for each
        number that a name means at a destination."""
        comment = self.comment(kind)
        source, target = (peers, own) if self.inbound else (own, peers)
        if not rule.ports:
            yield Allowed(comment, source, target)
        endpoints: dict[tuple[str, int], list[Pod]] = {}
        targets = [one for one in filtered_pods(self.state) if is_selected(self.policy, one)] if self.inbound else pods
        for one in rule.ports:
            if isinstance(one.port, str):
                for pod, port in named_ports(targets, one.protocol, one.port):
                    endpoints.setdefault((one.protocol, port), []).append(pod)
                continue
            ports = "" if one.port is None else str(one.port)
            ports += f":{one.end_port}" if one.end_port is not None and one.end_port != one.port else ""
            yield Allowed(comment, source, target, one.protocol, ports)
        own_kind = "" if self.inbound or kind == "pods" else kind  # upstream has no such sets
        for index, ((protocol, port), named) in enumerate(sorted(endpoints.items(), key=lambda item: item[0])):
            what = f"{self.direction.lower()}rule{number}{index}{FAMILY}namedport{own_kind}"
            yield Allowed(comment, source, self._set("DST", what, addresses(named)), protocol, str(port))

    def block_set(self, number: int, side: str, what: str, blocks: list[BlockNets]) -> str:
        """The name of the set of the blocks of the rule with this number."""
        return self._set(side, what, block_members(blocks), "hash:net")

    def comment(self, kind: str) -> str:
        """The comment of the rules for one kind of peers: `pods`, `all` or `blocks`."""
        name = f"{self.policy.name} namespace {self.policy.namespace}"
        if kind == "pods":
            return f"rule to ACCEPT traffic from source pods to dest pods selected by policy name {name}"
        ends = {
            (True, "all"): "all sources to dest pods",
            (True, "blocks"): "specified ipBlocks to dest pods",
            (False, "all"): "source pods to all destinations",
            (False, "blocks"): "source pods to specified ipBlocks",
        }
        return f"rule to ACCEPT traffic from {ends[self.inbound, kind]} selected by policy name: {name}"

    def _set(self, side: str, what: str, members: tuple[str, ...], kind: str = "hash:ip") -> str:
        text = self.policy.namespace + self.policy.name + (what or FAMILY)
        name = f"KUBE-{side}-{chain_hash(text)}"
        self.sets[name] = IpSet(self.node, name, kind, members, why=kube_router_reasons.POLICY_SET)
        return name


def _rule(one: Allowed) -> Iterator[str]:
    """The two rules that mark what is allowed, and return."""
    name = one.protocol.lower()
    words = [f"-p {name}"] if name else []
    words.append(f'-m comment --comment "{one.comment}"')
    sides = ((one.source, "src"), (one.target, "dst"))
    words += [f"-m set --match-set {each} {side}" for each, side in sides if each]
    words += [f"-m {name} --dport {one.ports}"] if one.ports else []
    match = " ".join(words)
    yield f"{match} {_MARK}"
    yield f"{match} {_RETURN}"


def block_members(blocks: Iterable[BlockNets]) -> tuple[str, ...]:
    """The members of a set of networks that has exactly these blocks.

    Exceptions are members with `nomatch`, as kube-router has them, unless another block overlaps one of them.
    """
    blocks = tuple(dict.fromkeys(blocks))
    if overlap_an_exception(blocks):
        members = [SetMember(net) for net in networks_left(blocks)]
    else:
        members = [SetMember(one.net) for one in blocks]
        members += [SetMember(net, nomatch=True) for one in blocks for net in one.exceptions]
    halves = [
        SetMember(half, nomatch=one.nomatch)
        for one in members
        for half in (one.network.subnets() if one.network.prefixlen == 0 else (one.network,))
    ]
    return tuple(sorted({str(one) for one in halves}))


def overlap_an_exception(blocks: Iterable[BlockNets]) -> bool:
    """Whether another block overlaps an exception of one."""
    blocks = tuple(blocks)
    return any(
        one != other and exception.overlaps(other.net)
        for one in blocks
        for exception in one.exceptions
        for other in blocks
    )


def networks_left(blocks: Iterable[BlockNets]) -> tuple[IPv4Network, ...]:
    """The addresses of the blocks as networks, without the exceptions of each."""
    return tuple(collapse_addresses(net for one in blocks for net in _parts(one)))


def _parts(block: BlockNets) -> Iterator[IPv4Network]:
    """The block without its exceptions, as networks."""
    parts = [block.net]
    for exception in block.exceptions:
        parts = [rest for one in parts for rest in _without(one, exception)]
    yield from parts


def _without(net: IPv4Network, exception: IPv4Network) -> Iterator[IPv4Network]:
    if not net.overlaps(exception):
        yield net
    elif exception.subnet_of(net) and exception != net:
        yield from net.address_exclude(exception)


def _is_in(ip: IPv4Address, blocks: Iterable[BlockNets]) -> bool:
    return any(ip in one.net and not any(ip in each for each in one.exceptions) for one in blocks)

"""Policies as Felix writes them: a chain for each policy and direction, an IP set for each selector. Pure.

A rule of a policy becomes one rule for each of its protocols and peers: it sets Felix's mark of acceptance (or, if it
passes, that of the next tier), and the next rule returns to the pod's chain. A rule that denies drops. What one rule of
iptables cannot say (more than 15 ports, numbers and names together, exceptions of an `ipBlock`) is a block of rules
before it, which sets or clears another bit of the mark. The pod's chain (`labctl.models.lib.calico_felix`) accepts
known connections before its policies, and drops at the end of the tier of NetworkPolicies what none of them marked.

Follows projectcalico/calico 3.31: libcalico-go/lib/backend/k8s/conversion/conversion.go, felix/rules/policy.go,
felix/rules/endpoints.go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import groupby

from labctl.core.resources import IpSet, Resource
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Direction, Peer, Pod, PolicyPort
from labctl.kubernetes.policies.calico_selectors import ALL, group_chain, named_port_set, peer_selector
from labctl.kubernetes.policies.calico_selectors import selector_set as set_of_selector
from labctl.kubernetes.policies.calico_tiers import DROPPING_TIERS, CalicoPolicy, CalicoRule, tiers_of
from labctl.kubernetes.policies.policy_peers import (
    BlockNets,
    addresses,
    block_nets,
    filtered_pods,
    ipv4,
    named_ports,
    peer_pods,
)
from labctl.models.lib import calico_felix, calico_reasons
from labctl.models.lib.calico_felix import MARK_ACCEPT, MARK_PASS, FelixConfig, PolicyTier, WorkloadEndpoint

DIRECTIONS: tuple[Direction, ...] = ("Ingress", "Egress")
CHAIN_PREFIXES = {"Ingress": "cali-pi-", "Egress": "cali-po-"}
PORTS_PER_RULE = 15  # that a multiport match can hold; a range takes the place of two
JUMPS_PER_RETURN = 5  # in the chain of a group of policies
_BLOCK_BIT, _BLOCK_BITS = 0x40000, 0xC0000  # the bit that says that all blocks match, and both bits of blocks
_SET_BLOCK_BIT = f"-j MARK --set-xmark {_BLOCK_BIT:#x}/{_BLOCK_BIT:#x}"
_MARKS = {"Accept": MARK_ACCEPT, "Pass": MARK_PASS}  # by what a rule does
_UNSAFE = re.compile(r"[^\w @%+=:,./-]")  # in comments


def calico_policies(
    state: ClusterState, felix: FelixConfig, pods: Mapping[str, Pod], *, workloads_only: bool
) -> Iterator[Resource]:
    """Felix's chains and sets on a node with the policies of its pods, which are given by the node's devices to them.

    With `workloads_only`, only the chains of pods, profiles and policies: the model has the others already.
    """
    endpoints: list[WorkloadEndpoint] = []
    policies: dict[str, tuple[CalicoPolicy, Direction]] = {}  # by the names of their chains
    groups: dict[str, tuple[str, ...]] = {}  # chains of groups, with the chains of their policies
    for device, pod in pods.items():
        chains: dict[Direction, tuple[PolicyTier, ...]] = {}
        for direction in DIRECTIONS:
            tiers = []
            for tier, selecting in tiers_of(state, pod, direction):
                names = []
                for selector, members in groupby(selecting, lambda one: one.selector):
                    limit = felix.max_chain_name
                    group = {policy_chain_name(one, direction, limit): (one, direction) for one in members}
                    policies |= group
                    if len(group) > 1:
                        name = group_chain(tier, direction, selector, (one.name for one, _ in group.values()))
                        groups[name] = tuple(group)
                        names.append(name)
                    else:
                        names += group
                tiers.append(PolicyTier(tier, tuple(names), tier in DROPPING_TIERS))
            chains[direction] = tuple(tiers)
        profiles = (f"kns.{pod.namespace}", f"ksa.{pod.namespace}.default")
        endpoints.append(WorkloadEndpoint(device, chains["Ingress"], chains["Egress"], profiles))
    felix = replace(felix, endpoints=tuple(endpoints))
    yield from calico_felix.workload_chains(felix) if workloads_only else calico_felix.firewall(felix)
    for name, jumps in groups.items():
        yield calico_felix.policy_chain(felix.node, name, *_group_rules(jumps))
    sets: dict[str, IpSet] = {}
    for name, (policy, direction) in policies.items():
        writer = _PolicyWriter(state, felix.node, policy, direction)
        yield calico_felix.policy_chain(felix.node, name, *writer.rules())
        sets |= writer.sets
    yield from sets.values()


def policy_chain_name(policy: CalicoPolicy, direction: Direction, limit: int = calico_felix.MAX_CHAIN_NAME) -> str:
    """The name of the chain of a policy for a direction, of at most so many letters."""
    return calico_felix.length_limited_name(CHAIN_PREFIXES[direction], policy.name, limit)


def _group_rules(chains: Iterable[str]) -> Iterator[str]:
    """The chain of a group: it ends when a policy has set a mark, which is looked at once for every few policies."""
    bits = f"--mark 0x0/{MARK_ACCEPT | MARK_PASS:#x}"
    for number, name in enumerate(chains):
        if number % JUMPS_PER_RETURN:
            yield f"-m mark {bits} -j {name}"
        else:
            if number:
                yield f'-m comment --comment "Return on verdict" -m mark ! {bits} -j RETURN'
            yield f"-j {name}"


@dataclass(slots=True)
class _PolicyWriter:
    """Writes the chain of a policy for one direction, and collects the sets that it matches."""

    state: ClusterState
    node: str
    policy: CalicoPolicy
    direction: Direction
    sets: dict[str, IpSet] = field(default_factory=dict)

    def rules(self) -> Iterator[str]:
        """The rules, each with its own name as comment if it has one, and the first with the policy's name, too."""
        comment = f'-m comment --comment "Policy {self.policy.name} {self.direction.lower()}"'
        for at, (name, text) in enumerate([*self._rules()] or [("", "")]):
            yield " ".join(part for part in (name, comment if not at else "", text) if part)

    def _rules(self) -> Iterator[tuple[str, str]]:
        for rule in self.policy.rules(self.direction):
            name = f'-m comment --comment "{_UNSAFE.sub("_", f"name={rule.name}")}"' if rule.name else ""
            for protocol, ports in _ports_by_protocol(rule.ports):
                for peer in rule.peers or (None,):
                    yield from ((name, text) for text in self._rule(rule, protocol, ports, peer))

    def _rule(self, rule: CalicoRule, protocol: str, ports: tuple[PolicyPort, ...], peer: Peer | None) -> Iterator[str]:
        """The rules that decide about what one peer may send (or get) by one protocol."""
        side, flag = ("src", "--source") if self.direction == "Ingress" else ("dst", "--destination")
        block: BlockNets | None = None
        if peer is not None and peer.block is not None and (block := block_nets(peer.block)) is None:
            return
        numbers = _port_lists(ports)
        targets = peer if self.direction == "Egress" else None
        names = [self._named_port_set(targets, protocol, str(one.port)) for one in ports if isinstance(one.port, str)]
        match = [f"--protocol {protocol.lower()}"] if protocol else []
        blocks: list[str] = []
        if len(numbers) + len(names) > 1:
            blocks.append(f"-j MARK --set-xmark 0x00/{_BLOCK_BITS:#x}")
            blocks += [f"{match[0]} {_multiport(one)} {_SET_BLOCK_BIT}" for one in numbers]
            blocks += [f"-m set --match-set {one} dst,dst {_SET_BLOCK_BIT}" for one in names]
        if block is not None and block.exceptions:
            if not blocks:
                blocks.append(f"-j MARK --set-xmark {_BLOCK_BIT:#x}/{_BLOCK_BITS:#x}")
            blocks += [f"{flag} {one} -j MARK --set-xmark 0x0/{_BLOCK_BIT:#x}" for one in block.exceptions]
        if block is not None:
            match.append(f"{flag} {block.net}")
        elif peer is not None and (self.direction == "Ingress" or numbers or not names):
            match.append(f"-m set --match-set {self._selector_set(peer)} {side}")
        if len(numbers) + len(names) == 1:
            match += [_multiport(one) for one in numbers]
            match += [f"-m set --match-set {one} dst,dst" for one in names]
        match += [f"-m mark --mark {_BLOCK_BIT:#x}/{_BLOCK_BIT:#x}"] if blocks else []
        yield from blocks
        if rule.action == "Deny":
            yield " ".join((*match, "-j DROP"))
            return
        mark = _MARKS[rule.action]
        yield " ".join((*match, f"-j MARK --set-xmark {mark:#x}/{mark:#x}"))
        yield f"-m mark --mark {mark:#x}/{mark:#x} -j RETURN"

    def _selector_set(self, peer: Peer) -> str:
        name = set_of_selector(peer_selector(self.policy.namespace, peer))
        members, why = addresses(peer_pods(self.state, self.policy.namespace, peer)), calico_reasons.SELECTOR_SET
        self.sets[name] = IpSet(self.node, name, members=members, why=why)
        return name

    def _named_port_set(self, peer: Peer | None, protocol: str, port: str) -> str:
        """The set of the ports that pods name so: the pods of a peer, or all."""
        selector, pods = ALL, filtered_pods(self.state)
        if peer is not None and peer.block is None:
            selector, pods = (
                peer_selector(self.policy.namespace, peer),
                peer_pods(self.state, self.policy.namespace, peer),
            )
        name = named_port_set(selector, protocol, port)
        found = named_ports(pods, protocol, port)
        members = sorted({f"{ip},{protocol.lower()}:{number}" for pod, number in found for ip in ipv4(pod)})
        self.sets[name] = IpSet(self.node, name, "hash:ip,port", tuple(members), why=calico_reasons.PORT_SET)
        return name


def _ports_by_protocol(ports: Iterable[PolicyPort]) -> list[tuple[str, tuple[PolicyPort, ...]]]:
    """The ports of each protocol, sorted; none means all ports. ("", ()) is everything."""
    found: dict[str, tuple[PolicyPort, ...]] = {}
    everything = set()
    for one in ports:
        found[one.protocol] = (*found.get(one.protocol, ()), one)
        if one.port is None:
            everything.add(one.protocol)
    if not found:
        return [("", ())]
    return [(name, () if name in everything else _joined(found[name])) for name in sorted(found)]


def _joined(ports: tuple[PolicyPort, ...]) -> tuple[PolicyPort, ...]:
    """The same ports in the fewest ranges, after the names. A single item stays as it is."""
    names = [one for one in ports if isinstance(one.port, str)]
    spans = sorted((one.port, one.end_port or one.port) for one in ports if isinstance(one.port, int))
    if sum(last - first + 1 for first, last in spans) < 2 or len(ports) < 2:
        return ports
    joined: list[tuple[int, int]] = []
    for first, last in spans:
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    numbers = (PolicyPort(ports[0].protocol, first, last if last > first else None) for first, last in joined)
    return (*names, *numbers)


def _port_lists(ports: Iterable[PolicyPort]) -> list[list[str]]:
    """The numbers and ranges of ports in parts that fit one multiport match each."""
    lists: list[list[str]] = []
    free = 0
    for one in ports:
        if isinstance(one.port, int):
            is_range = one.end_port is not None and one.end_port != one.port
            if free < 1 + is_range:
                lists.append([])
                free = PORTS_PER_RULE
            lists[-1].append(f"{one.port}:{one.end_port}" if is_range else str(one.port))
            free -= 1 + is_range
    return lists


def _multiport(ports: Iterable[str]) -> str:
    return f"-m multiport --dports {','.join(ports)}"

"""NetworkPolicies as kube-router writes them with `--use-nftables-for-netpol`: chains and named sets. Pure.

What a rule of a policy means is worked out as for kube-router's iptables rules (`kube_router_policies`), with the same
names. Here a rule sets the mark and returns at once, and the exceptions of an `ipBlock` are a separate set: a rule
before those of the block returns for them.

Where kube-router's nft mode differs from the API or from what nft takes, labctl writes what the API says:

- Its rule for exceptions ends the whole policy, also for later rules that would allow the address. So labctl writes it
  only in the last rule of a policy, and else the networks that are left.
- A rule with a protocol and no port becomes `tcp counter`, which is not the language of nft: the transaction fails.
- Networks that overlap in one set are refused by nft. labctl leaves out those that are inside another.
- A comment of more than 128 letters is refused by nft. labctl cuts it.
- What `kube_router_policies` lists: policies of both directions, named ports of egress.

Follows cloudnativelabs/kube-router 2.11: pkg/controllers/netpol/npc_nftables.go and policy.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from labctl.core import nft_objects
from labctl.core.chain_hash import chain_hash
from labctl.core.resources import NftObject
from labctl.core.why import Why
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.kube_router_policies import (
    Allowed,
    PolicyWriter,
    networks_left,
    overlap_an_exception,
    pod_firewall,
    policy_chain_name,
)
from labctl.kubernetes.policies.policy_peers import BlockNets, ipv4
from labctl.models.lib import kube_router_nftables as node_tables
from labctl.models.lib import kube_router_nftables_reasons as reasons
from labctl.models.lib.kube_router_nftables import TABLE

_COMMENTS = {"": 'comment "set for network policy"', "interval": 'comment "set for network policy ip block"'}
_EXCEPT_COMMENT = 'comment "set for network policy ip block exceptions"'


def kube_router_nftables_policies(state: ClusterState, node: str, pods: Iterable[Pod]) -> Iterator[NftObject]:
    """kube-router's table on a node that has these pods."""
    cidrs = (one for one in state.service_cidrs if isinstance(one, IPv4Network))
    firewalls = (pod_firewall(state, one) for one in pods if any(ipv4(one)))
    chains: list[NftObject] = []
    sets: list[NftObject] = []
    for policy in state.policies:
        for direction in policy.types:
            writer = _NftPolicyWriter(state, node, policy, direction)
            name, comment = policy_chain_name(policy, direction), f"{policy.namespace}/{policy.name}"
            chains.append(node_tables.chain(node, name, writer.entries(), f"chain for network policy {comment}"))
            sets += writer.nft_sets()
    table, *rest = node_tables.policy_tables(node, cidrs, firewalls)
    yield from (table, *sets, *rest, *chains)


@dataclass(slots=True)
class _NftPolicyWriter(PolicyWriter):
    """Writes the chain of a policy for one direction in nft's words. `exceptions` are the sets of exceptions, by the
    set of their blocks."""

    blocks: dict[str, tuple[IPv4Network, ...]] = field(default_factory=dict)
    exceptions: dict[str, tuple[str, tuple[IPv4Network, ...]]] = field(default_factory=dict)

    def entries(self) -> Iterator[str]:
        """The rules of the chain."""
        side, skipped = "saddr" if self.inbound else "daddr", set()
        word = "source" if self.inbound else "destination"
        for one in self.allowed():
            peers = one.source if self.inbound else one.target
            if peers in self.exceptions and peers not in skipped:
                skipped.add(peers)
                comment = f"skip excepted {word} CIDRs for policy {self.policy.name}"
                yield node_tables.with_comment(f"ip {side} @{self.exceptions[peers][0]} counter return", comment)
            yield _entry(one)

    def nft_sets(self) -> Iterator[NftObject]:
        """The sets that the rules match, when `entries` has been read."""
        for name, one in self.sets.items():
            settings, why = [_COMMENTS[""]], reasons.PODS_SET
            yield nft_objects.set_(self.node, TABLE, name, one.members, type="ipv4_addr", settings=settings, why=why)
        for name, nets in self.blocks.items():
            yield self._interval_set(name, nets, _COMMENTS["interval"], reasons.BLOCK_SET)
        for name, nets in self.exceptions.values():
            yield self._interval_set(name, nets, _EXCEPT_COMMENT, reasons.EXCEPT_SET)

    def block_set(self, number: int, side: str, what: str, blocks: list[BlockNets]) -> str:
        name = self._name(side, what)
        excepted = [net for one in blocks for net in one.exceptions]
        is_last = number == len(self.policy.rules(self.direction)) - 1
        if excepted and (not is_last or overlap_an_exception(blocks)):
            self.blocks[name] = networks_left(blocks)
            return name
        self.blocks[name] = _outermost(half for one in blocks for half in _halves(one.net))
        if excepted:
            self.exceptions[name] = (self._name(side, f"{what}except"), _outermost(excepted))
        return name

    def comment(self, kind: str) -> str:
        return PolicyWriter.comment(self, kind).removeprefix("rule to ")

    def _name(self, side: str, what: str) -> str:
        return f"KUBE-{side}-{chain_hash(self.policy.namespace + self.policy.name + what)}"

    def _interval_set(self, name: str, nets: Iterable[IPv4Network], comment: str, why: Why) -> NftObject:
        elements = (str(one).removesuffix("/32") for one in nets)
        settings = ("flags interval", comment)
        return nft_objects.set_(self.node, TABLE, name, elements, type="ipv4_addr", settings=settings, why=why)


def _entry(one: Allowed) -> str:
    words = [f"ip {side} @{name}" for side, name in (("saddr", one.source), ("daddr", one.target)) if name]
    protocol = one.protocol.lower()
    if one.ports:
        words.append(f"{protocol} dport {one.ports.replace(':', '-')}")
    elif protocol:
        words.append(f"meta l4proto {protocol}")
    return node_tables.with_comment(" ".join((*words, "counter", node_tables.ALLOW, "return")), one.comment)


def _halves(net: IPv4Network) -> Iterable[IPv4Network]:
    """The whole of IPv4 as its two halves, as kube-router has it; another network as it is."""
    return net.subnets() if net.prefixlen == 0 else (net,)


def _outermost(nets: Iterable[IPv4Network]) -> tuple[IPv4Network, ...]:
    """The networks that are inside no other one, sorted."""
    found = set(nets)
    return tuple(sorted(one for one in found if not any(one != other and one.subnet_of(other) for other in found)))

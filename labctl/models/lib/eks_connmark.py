"""How a node of EKS marks connections that leave the VPC: chains of iptables, or since 1.23 a table of nft. Pure.

Pods of a further ENI leave by their ENI, except to places outside the VPC: such a packet must leave by eth0, and gets
the address of eth0. The first packet of a connection decides: the agent sets bit 0x80 on the connection, unless the
destination is exempt, and copies it to the packet, for which rule 1024 then finds eth0.

The destination is known only after DNAT. The address of a Service is in no exempt range, so a connection to it would
be marked, and leave by eth0, although its pod is in the VPC. Up to 1.22 the rules are in nat/PREROUTING, at priority
dstnat (-100): after kube-proxy's in the same chain, but before or after a kube-proxy that has its table of nft at
-100. Of two chains at one priority, the kernel runs the one first that was registered later: an order
that no program chose. With
1.23 the chain has -90: a connection that kube-proxy translated does not reach it at all, because the kernel runs no
further chain of type nat for a connection that has its translation.

Follows aws/amazon-vpc-cni-k8s: pkg/networkutils/iptables_connmark.go, and nftables_connmark.go of v1.23.0 (pull request
3588), which the agent uses where iptables is iptables-nft. That release copies the bit alone, so it clears all
other bits of the packet's mark (issue 3872).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network

from labctl.core import nft_objects
from labctl.core.resources import Resource
from labctl.core.why import Component, RuleShapes, Source
from labctl.models.lib import primitives

TABLE, BASE_CHAIN, MARK_CHAIN = "ip aws-cni", "nat-prerouting", "snat-mark"
_PROJECT = "aws/amazon-vpc-cni-k8s"
IPTABLES = Component("aws-node (ipamd)", Source(_PROJECT, "pkg/networkutils/iptables_connmark.go", "2026"))
_NFTABLES = Component("aws-node (ipamd)", Source(_PROJECT, "pkg/networkutils/nftables_connmark.go", "1.23.0"))
_OUT_JUMP = IPTABLES.why("A new connection of a pod passes the chain that marks connections out of the VPC.")
_OUT_RESTORE = IPTABLES.why(
    "The packet itself gets the mark that its connection just got, so rule 1024 sends it to eth0."
)
_MARK_CHAIN = IPTABLES.why("It marks connections that leave the VPC, because these must leave by eth0.")
_MARK_EXEMPT = IPTABLES.why("Connections to {dst} stay inside the VPC: they leave by the ENI of the pod.")
_MARK_SET = IPTABLES.why("All other connections get the mark: they leave by eth0, with its address.")
_COMMENT = '-m comment --comment "AWS, CONNMARK"'
REASONS = RuleShapes(
    (f"{TABLE}/", "", _NFTABLES.why("It has the rules that mark connections of pods out of the VPC, and no others.")),
    (
        f"{TABLE}/{BASE_CHAIN}",
        "",
        _NFTABLES.why(
            "Its priority, ten after that of DNAT, makes it run after kube-proxy, so that it never sees the address of"
            " a Service."
        ),
    ),
    (
        f"{TABLE}/{BASE_CHAIN}",
        "fib daddr type local",
        _NFTABLES.why("Packets for {ns} itself leave by no device: they need no mark."),
    ),
    (
        f"{TABLE}/{BASE_CHAIN}",
        "jump",
        _NFTABLES.why("A new connection of a pod passes the chain that marks connections out of the VPC."),
    ),
    (
        f"{TABLE}/{BASE_CHAIN}",
        "meta mark set",
        _NFTABLES.why(
            "The packet itself gets the mark that its connection just got, so rule 1024 sends it to eth0. All other"
            " bits of its mark are cleared."
        ),
    ),
    (
        f"{TABLE}/{MARK_CHAIN}",
        "",
        _NFTABLES.why("It marks connections that leave the VPC, because these must leave by eth0."),
    ),
    (
        f"{TABLE}/{MARK_CHAIN}",
        "return",
        _NFTABLES.why("Connections to this range stay inside the VPC: they leave by the ENI of the pod."),
    ),
    (
        f"{TABLE}/{MARK_CHAIN}",
        "ct mark set",
        _NFTABLES.why("All other connections get the mark: they leave by eth0, with its address."),
    ),
)


def jumps(ns: str, restore: str) -> Iterator[Resource]:
    """The rules of nat/PREROUTING up to 1.22. `restore` copies the connection's mark to the packet."""
    jump = '-i eni+ -m comment --comment "AWS, outbound connections" -j AWS-CONNMARK-CHAIN-0'
    yield primitives.chain(ns, "nat", "PREROUTING", (jump, _OUT_JUMP), (f"{_COMMENT} {restore}", _OUT_RESTORE))


def chain(ns: str, exempt: Sequence[IPv4Network], set_mark: str) -> Iterator[Resource]:
    """The chain of iptables up to 1.22: connections to the exempt ranges get no mark."""
    comment = '-m comment --comment "AWS CONNMARK CHAIN" -j RETURN'
    returns = ((f"-d {network} {comment}", _MARK_EXEMPT) for network in exempt)
    mark = (f"{_COMMENT} {set_mark}", _MARK_SET)
    yield primitives.chain(ns, "nat", "AWS-CONNMARK-CHAIN-0", *returns, mark, why=_MARK_CHAIN)


def table(ns: str, exempt: Sequence[IPv4Network]) -> Iterator[Resource]:
    """The table of nft of 1.23. Each exempt range is inserted before the others."""
    rules = (
        "fib daddr type local return",
        f'iifname "eni*" counter jump {MARK_CHAIN}',
        "counter meta mark set ct mark & 0x00000080",
    )
    returns = (f"counter ip daddr {network} return" for network in exempt)
    yield from primitives.nft_explained(
        REASONS,
        nft_objects.table(ns, TABLE),
        nft_objects.base_chain(ns, TABLE, BASE_CHAIN, rules, type="nat", hook="prerouting", priority="dstnat + 10"),
        nft_objects.chain(ns, TABLE, MARK_CHAIN, (*returns, "counter ct mark set ct mark | 0x00000080")),
    )

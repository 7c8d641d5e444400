"""What flanneld writes with `EnableNFTables`: two tables of nft in place of its chains of iptables. Pure.

The rules are those of the chains FLANNEL-FWD and FLANNEL-POSTRTG, except for one. Where FLANNEL-POSTRTG lets a packet
from outside keep its source towards pods of its node, the chain `postrtg` does towards pods of every node. So its
last rule, which would give such packets the address of the node, never finds one. The mark of kube-proxy is compared
as a whole: `meta mark 0x00004000`, without a mask.

Follows pkg/trafficmngr/nftables/nftables.go of flannel-io/flannel 0.28, and what `nft list table` of nft 1.0.6 prints.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from labctl.core import nft_objects
from labctl.core.resources import Resource
from labctl.core.why import Component, RuleShapes, Source
from labctl.models.lib import primitives

TABLES = {4: "ip flannel-ipv4", 6: "ip6 flannel-ipv6"}
FORWARD, POSTROUTING = "forward", "postrtg"
_FLANNELD = Component("flanneld", Source("flannel-io/flannel", "pkg/trafficmngr/nftables/nftables.go", "0.28"))
_IN_TABLE = "ip6? flannel-ipv[46]/"
REASONS = RuleShapes(
    (
        _IN_TABLE,
        "",
        _FLANNELD.why(
            "It has all rules of flanneld for one IP version. flanneld makes both tables, whichever versions the"
            " network has, and removes them when it ends."
        ),
    ),
    (
        _IN_TABLE + FORWARD,
        "",
        _FLANNELD.why(
            "It accepts packets from and to pods. This is not final: another table at the same hook may still drop"
            " them."
        ),
    ),
    (_IN_TABLE + FORWARD, "saddr .* accept", _FLANNELD.why("Packets from a pod pass this chain.")),
    (_IN_TABLE + FORWARD, "daddr .* accept", _FLANNELD.why("Packets to a pod pass this chain.")),
    (
        _IN_TABLE + POSTROUTING,
        "",
        _FLANNELD.why("It decides which packets of pods get the address of the node (--ip-masq)."),
    ),
    (
        _IN_TABLE + POSTROUTING,
        "meta mark",
        _FLANNELD.why("kube-proxy has marked the packet and masquerades it itself."),
    ),
    (
        _IN_TABLE + POSTROUTING,
        "saddr != .* return",
        _FLANNELD.why(
            "From outside to a pod of any node: the packet keeps its address. The chain of iptables does so for pods of"
            " its own node only."
        ),
    ),
    (
        _IN_TABLE + POSTROUTING,
        "return",
        _FLANNELD.why("From a pod to a pod, one of them on {ns}: the packet keeps its address."),
    ),
    (
        _IN_TABLE + POSTROUTING,
        "daddr != .* masquerade",
        _FLANNELD.why(
            "All other packets of pods get the address of {ns}: machines outside have no way back to a pod. Multicast"
            " is left out."
        ),
    ),
    (
        _IN_TABLE + POSTROUTING,
        "saddr != .* masquerade",
        _FLANNELD.why("From outside to a pod. No packet comes here: an earlier rule has let it keep its address."),
    ),
)


def tables(ns: str, pod_range: IPv4Network, pod_cidr: IPv4Network, *, masquerade: bool) -> Iterator[Resource]:
    """The tables of a node: pods' packets are forwarded, and packets that leave the pod CIDR are masqueraded.

    flanneld writes the chain that masquerades first, and leaves the table of an IP version without pods empty.
    """
    table = TABLES[4]
    for name in TABLES.values():
        comment = f"rules for {name.split()[1]}"
        yield from primitives.nft_explained(REASONS, nft_objects.table(ns, name, comment=comment))
    if masquerade:
        yield from primitives.nft_explained(
            REASONS,
            nft_objects.base_chain(
                ns,
                table,
                POSTROUTING,
                (
                    "meta mark 0x00004000 return",
                    f"ip saddr {pod_range} ip daddr {pod_cidr} return",
                    f"ip saddr {pod_cidr} ip daddr {pod_range} return",
                    f"ip saddr != {pod_range} ip daddr {pod_cidr} return",
                    f"ip saddr {pod_cidr} ip daddr != 224.0.0.0/4 masquerade fully-random",
                    f"ip saddr != {pod_cidr} ip daddr {pod_cidr} masquerade fully-random",
                ),
                type="nat",
                hook="postrouting",
                priority="srcnat",
                comment="chain to manage traffic masquerading by flannel",
            ),
        )
    yield from primitives.nft_explained(
        REASONS,
        nft_objects.base_chain(
            ns,
            table,
            FORWARD,
            (f"ip saddr {pod_cidr} accept", f"ip daddr {pod_cidr} accept"),
            type="filter",
            hook="forward",
            priority="filter",
            comment="chain to accept flannel traffic",
        ),
    )

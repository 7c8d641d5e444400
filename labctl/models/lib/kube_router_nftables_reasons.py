"""Why each object and rule of kube-router's nft table exists, by its shape. Pure data; `kube_router_nftables` writes
them."""

from __future__ import annotations

from labctl.core.why import Component, RuleShapes, Source

NFT = Component(
    "kube-router (policies)", Source("cloudnativelabs/kube-router", "pkg/controllers/netpol/npc_nftables.go", "2.11")
)

TABLE = NFT.why("It has everything that kube-router writes for policies of IPv4. Rules of other tables still decide.")
PODS_SET = NFT.why(
    "It has the addresses that one side of a policy means ({members}). kube-router changes its elements when pods come"
    " and go."
)
BLOCK_SET = NFT.why("It has the networks of an ipBlock of a policy ({members}).")
EXCEPT_SET = NFT.why("It has the exceptions of an ipBlock ({members}): a rule before it returns for these.")

_TABLE = "ip kube-router-filter-ipv4"
RULES = RuleShapes(
    (
        f"{_TABLE}/KUBE-ROUTER-.*",
        "",
        NFT.why("The kernel calls it, and it sends packets of pods, and to pods, to the chain of the pod."),
    ),
    (
        f"{_TABLE}/KUBE-ROUTER-INPUT",
        "cluster IP range|node ports",
        NFT.why("Packets to a Service are not judged here: they are translated, and judged when they go to a pod."),
    ),
    (f"{_TABLE}/KUBE-ROUTER-.*", "jump KUBE-POD-FW", NFT.why("Packets of the pod {either_machine} pass its chain.")),
    (
        f"{_TABLE}/KUBE-ROUTER-.*",
        "counter accept",
        NFT.why(
            "The mark {mark} says that the policies of the pod accept the packet. It is final for this table only."
        ),
    ),
    (f"{_TABLE}/KUBE-NWPLCY-COMMON", "", NFT.why("It decides what no policy may forbid.")),
    (f"{_TABLE}/KUBE-NWPLCY-COMMON", "invalid", NFT.why("A packet that belongs to no connection is dropped.")),
    (f"{_TABLE}/KUBE-NWPLCY-COMMON", "established", NFT.why("A connection that was allowed once goes on, both ways.")),
    (
        f"{_TABLE}/KUBE-NWPLCY-COMMON",
        "icmp",
        NFT.why("Pings and the errors of ICMP pass: without them, MTU errors are lost."),
    ),
    (f"{_TABLE}/KUBE-NWPLCY-DEFAULT", "", NFT.why("It is for pods that no policy selects: it allows everything.")),
    (
        f"{_TABLE}/KUBE-NWPLCY-DEFAULT",
        "mark set",
        NFT.why("No policy selects the pod in this direction: the packet is allowed."),
    ),
    (f"{_TABLE}/KUBE-NWPLCY-.*", "", NFT.why("It has the rules of one policy.")),
    (
        f"{_TABLE}/KUBE-NWPLCY-.*",
        "mark set",
        NFT.why("A rule of the policy allows packets like this one: they get the mark 0x10000, and no other is asked."),
    ),
    (
        f"{_TABLE}/KUBE-NWPLCY-.*",
        "counter return",
        NFT.why("The address is an exception of the ipBlock of the next rules: the policy does not allow it."),
    ),
    (f"{_TABLE}/KUBE-POD-FW-.*", "", NFT.why("It decides about all packets of one pod, in both directions.")),
    (f"{_TABLE}/KUBE-POD-FW-.*", "jump KUBE-NWPLCY-COMMON", NFT.why("What no policy may forbid comes first.")),
    (
        f"{_TABLE}/KUBE-POD-FW-.*",
        "fib saddr type local",
        NFT.why("The node of the pod {dst_machines} always reaches it, such as the probes of the kubelet."),
    ),
    (
        f"{_TABLE}/KUBE-POD-FW-.*",
        "jump KUBE-NWPLCY-DEFAULT",
        NFT.why("No policy selects the pod {either_machine} in this direction: everything is allowed."),
    ),
    (
        f"{_TABLE}/KUBE-POD-FW-.*",
        "jump KUBE-NWPLCY",
        NFT.why("A policy selects the pod {either_machine}: its rules are asked."),
    ),
    (
        f"{_TABLE}/KUBE-POD-FW-.*",
        "log group",
        NFT.why("What no policy allows is logged, at most ten packets in a minute."),
    ),
    (
        f"{_TABLE}/KUBE-POD-FW-.*",
        "reject",
        NFT.why("Policies select the pod, and none of them allows the packet."),
    ),
    (
        f"{_TABLE}/KUBE-POD-FW-.*",
        "& 0xfffeffff",
        NFT.why("The mark of this pod is taken away: the other end has its own chain."),
    ),
    (
        f"{_TABLE}/KUBE-POD-FW-.*",
        "0x00020000",
        NFT.why("This pod accepts the packet: the last rule of the hook sees it by this mark."),
    ),
)

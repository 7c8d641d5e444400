"""Why each chain and rule of kube-router's firewall exists, by its shape. Pure data; `kube_router_node` writes them."""

from __future__ import annotations

from labctl.core.why import Component, RuleShapes, Source

PROJECT, VERSION = "cloudnativelabs/kube-router", "2"
NETPOL = Component("kube-router (policies)", Source(PROJECT, "pkg/controllers/netpol/npc_iptables.go", VERSION))
POD = Component("kube-router (policies)", Source(PROJECT, "pkg/controllers/netpol/pod.go", VERSION))
POLICY = Component("kube-router (policies)", Source(PROJECT, "pkg/controllers/netpol/policy.go", VERSION))
EGRESS = Component("kube-router (router)", Source(PROJECT, "pkg/controllers/routing/pod_egress.go", VERSION))

POD_SUBNETS = EGRESS.why("It has the ranges of the pods of all nodes: between them, pods keep their addresses.")
NODE_IPS = EGRESS.why("It has the addresses of all nodes, to which pods keep their addresses too.")
MASQUERADE = EGRESS.why(
    "A packet of a pod that goes neither to a pod nor to a node gets the address of {ns}: machines outside have no"
    " way back to a pod."
)
POLICY_SET = POLICY.why(
    "It has the addresses that one side of a policy means ({members}). kube-router changes its members when pods come"
    " and go."
)

RULES = RuleShapes(
    (
        "filter/(INPUT|FORWARD|OUTPUT)",
        "-j KUBE-ROUTER-",
        NETPOL.why("Packets pass kube-router's chain first: the policies of pods come before other rules."),
    ),
    ("filter/FORWARD", "-o kube-bridge", NETPOL.why("Packets to pods of {ns} pass, after their policies.")),
    ("filter/FORWARD", "-i kube-bridge", NETPOL.why("Packets from pods of {ns} pass, after their policies.")),
    ("filter/FORWARD", "-o eth0", NETPOL.why("Packets that came in by a nodePort may leave again to another node.")),
    (
        "filter/KUBE-ROUTER-(INPUT|FORWARD|OUTPUT)",
        "",
        NETPOL.why("It sends packets of pods, and to pods, to the chain of the pod."),
    ),
    (
        "filter/KUBE-ROUTER-INPUT",
        "cluster IP range|node ports",
        NETPOL.why("Packets to a Service are not judged here: they are translated, and judged when they go to a pod."),
    ),
    ("filter/KUBE-ROUTER-.*", "-j KUBE-NWPLCY-TAIL", NETPOL.why("At the end, what the policies accepted is accepted.")),
    (
        "filter/KUBE-ROUTER-.*",
        "physdev.* -j KUBE-POD-FW",
        POD.why("Also a packet that the bridge switches passes the chain of the pod {either_machine}."),
    ),
    ("filter/KUBE-ROUTER-.*", "-j KUBE-POD-FW", POD.why("Packets of the pod {either_machine} pass its chain.")),
    ("filter/KUBE-NWPLCY-COMMON", "", NETPOL.why("It decides what no policy may forbid.")),
    ("filter/KUBE-NWPLCY-COMMON", "INVALID", NETPOL.why("A packet that belongs to no connection is dropped.")),
    ("filter/KUBE-NWPLCY-COMMON", "ESTABLISHED", NETPOL.why("A connection that was allowed once goes on, both ways.")),
    (
        "filter/KUBE-NWPLCY-COMMON",
        "icmp",
        NETPOL.why("Pings and the errors of ICMP pass: without them, MTU errors are lost."),
    ),
    ("filter/KUBE-NWPLCY-DEFAULT", "", NETPOL.why("It is for pods that no policy selects: it allows everything.")),
    (
        "filter/KUBE-NWPLCY-DEFAULT",
        "-j MARK",
        NETPOL.why("No policy selects the pod in this direction: the packet is allowed."),
    ),
    ("filter/KUBE-NWPLCY-TAIL", "", NETPOL.why("It accepts what all policies on the way have accepted.")),
    (
        "filter/KUBE-NWPLCY-TAIL",
        "-j ACCEPT",
        NETPOL.why("The mark {mark} says that the policies of the pod accept the packet."),
    ),
    ("filter/KUBE-NWPLCY-.*", "", POLICY.why("It has the rules of one policy.")),
    (
        "filter/KUBE-NWPLCY-.*",
        "-j MARK",
        POLICY.why("A rule of the policy allows packets like this one: they get the mark 0x10000."),
    ),
    ("filter/KUBE-NWPLCY-.*", "-j RETURN", POLICY.why("The packet is allowed: no other rule of the policy is asked.")),
    ("filter/KUBE-POD-FW-.*", "", POD.why("It decides about all packets of one pod, in both directions.")),
    ("filter/KUBE-POD-FW-.*", "-j KUBE-NWPLCY-COMMON", POD.why("What no policy may forbid comes first.")),
    (
        "filter/KUBE-POD-FW-.*",
        "src-type LOCAL",
        POD.why("The node of the pod {dst_machines} always reaches it, such as the probes of the kubelet."),
    ),
    (
        "filter/KUBE-POD-FW-.*",
        "-j KUBE-NWPLCY-DEFAULT",
        POD.why("No policy selects the pod {either_machine} in this direction: everything is allowed."),
    ),
    (
        "filter/KUBE-POD-FW-.*",
        "-j KUBE-NWPLCY",
        POD.why("A policy selects the pod {either_machine}: its rules are asked."),
    ),
    ("filter/KUBE-POD-FW-.*", "NFLOG", POD.why("What no policy allows is logged, at most ten packets in a minute.")),
    ("filter/KUBE-POD-FW-.*", "-j REJECT", POD.why("Policies select the pod, and none of them allows the packet.")),
    (
        "filter/KUBE-POD-FW-.*",
        "--set-xmark 0x0/",
        POD.why("The mark of this pod is taken away: the other end has its own chain."),
    ),
    (
        "filter/KUBE-POD-FW-.*",
        "--set-xmark 0x20000",
        POD.why("This pod accepts the packet: the last chain sees it by this mark."),
    ),
)

"""Why each chain, rule and IP set of Felix exists, by its shape. Pure data; `calico_felix` writes them."""

from __future__ import annotations

from labctl.core.why import Component, RuleShapes, Source

PROJECT, VERSION = "projectcalico/calico", "3.31"
STATIC = Component("Felix (calico-node)", Source(PROJECT, "felix/rules/static.go", VERSION))
ENDPOINTS = Component("Felix (calico-node)", Source(PROJECT, "felix/rules/endpoints.go", VERSION))
POLICY = Component("Felix (calico-node)", Source(PROJECT, "felix/rules/policy.go", VERSION))
DISPATCH = Component("Felix (calico-node)", Source(PROJECT, "felix/rules/dispatch.go", VERSION))
NAT = Component("Felix (calico-node)", Source(PROJECT, "felix/rules/nat.go", VERSION))

MASQ_POOLS = NAT.why("It has the pools of addresses for which nodes masquerade (natOutgoing).")
ALL_POOLS = NAT.why("It has all pools of addresses: between them, pods keep their addresses.")
ALL_VTEPS = STATIC.why("It has the addresses of the other nodes: {ns} accepts tunnel packets from these only.")
ALL_HOSTS = STATIC.why("It has the addresses of all nodes, from which tunnel packets are accepted.")
SELECTOR_SET = POLICY.why(
    "It has the addresses of the pods that one selector of a policy selects ({members}). Felix changes its members when"
    " pods come and go, and no rule."
)
PORT_SET = POLICY.why("It has the ports that pods give one name, each with the address of the pod ({members}).")

_HOST = "host-endpoint|from-hep-forward|to-hep-forward"
RULES = RuleShapes(
    (
        "(raw|mangle|nat|filter)/(PREROUTING|INPUT|FORWARD|OUTPUT|POSTROUTING)",
        "-j cali-",
        STATIC.why("Packets pass Felix's chain first: Felix keeps this jump before the rules of other programs."),
    ),
    (
        "filter/FORWARD",
        "-j ACCEPT",
        STATIC.why("A packet with the mark {mark} has passed the policies of sender and receiver, so it is accepted."),
    ),
    (
        "filter/FORWARD",
        "-j MARK",
        STATIC.why("Other packets get the mark too: so later rules know that Felix has seen them and does not object."),
    ),
    # ---- raw
    (
        "raw/cali-PREROUTING",
        "",
        STATIC.why("It is the first chain of Felix for packets that come in, before conntrack."),
    ),
    ("raw/cali-OUTPUT", "", STATIC.why("It is the first chain of Felix for packets that {ns} itself sends.")),
    (
        "raw/cali-.*",
        "--set-xmark 0x0/",
        STATIC.why("It clears Felix's bits of the mark, so that no sender can set them."),
    ),
    ("raw/cali-.*", "--notrack", STATIC.why("Tunnel packets between nodes are not tracked: the packet inside is.")),
    (
        "raw/cali-PREROUTING",
        "-j MARK --set-xmark 0x40000",
        STATIC.why("A packet that comes from a pod gets a mark, for the next rules."),
    ),
    ("raw/cali-PREROUTING", "-j cali-rpf-skip", STATIC.why("Pods that may send with any source would be exempt here.")),
    (
        "raw/cali-PREROUTING",
        "rpfilter",
        STATIC.why(
            "A pod may send with its own address only: the packet is dropped if the route back to its source is not the"
            " cable that it came by."
        ),
    ),
    (
        "raw/cali-rpf-skip",
        "",
        STATIC.why("It is for pods that may send with other addresses than their own; there are none."),
    ),
    # ---- host endpoints
    (
        f"(raw|mangle|filter)/cali-((from|to)-)?({_HOST})",
        "",
        STATIC.why("It is for policies of the node itself (host endpoints); without any it is empty."),
    ),
    (
        "(raw|mangle|filter)/cali-.*",
        f"-j cali-((from|to)-)?({_HOST})",
        STATIC.why("Policies of the node itself (host endpoints) decide first; there are none here."),
    ),
    (
        "(raw|mangle|filter)/cali-.*",
        "Host endpoint policy accepted",
        STATIC.why("A policy of the node itself has accepted the packet: no later rule of Felix needs to see it."),
    ),
    # ---- mangle
    (
        "mangle/cali-.*",
        "",
        STATIC.why("It is for policies of the node itself before DNAT; without any, everything passes."),
    ),
    ("mangle/cali-PREROUTING", "ctstate RELATED", STATIC.why("Packets of known connections pass.")),
    (
        "mangle/cali-POSTROUTING",
        "--set-xmark 0x0/",
        STATIC.why("It clears Felix's bits of the mark before the next decision."),
    ),
    (
        "(raw|mangle)/cali-.*",
        "-j (ACCEPT|RETURN)",
        STATIC.why("A packet that a policy has accepted already needs no other rule here."),
    ),
    # ---- nat
    ("nat/cali-(PREROUTING|OUTPUT)", "", NAT.why("It has Felix's translations of destinations.")),
    ("nat/cali-POSTROUTING", "", NAT.why("It has Felix's translations of sources.")),
    ("nat/cali-.*", "-j cali-fip-", NAT.why("Floating IPs would be translated here; there are none.")),
    ("nat/cali-fip-.*", "", NAT.why("It is for floating IPs of pods; there are none.")),
    (
        "nat/cali-POSTROUTING",
        "-j cali-nat-outgoing",
        NAT.why("Packets that leave the pools of pods are masqueraded there."),
    ),
    (
        "nat/cali-POSTROUTING",
        "-o .* -j MASQUERADE",
        NAT.why(
            "What {ns} itself sends into the tunnel {oif} gets the address of the tunnel, which the other node has a"
            " route back to."
        ),
    ),
    ("nat/cali-nat-outgoing", "", NAT.why("It masquerades what pods send out of the pools (natOutgoing).")),
    (
        "nat/cali-nat-outgoing",
        "-j MASQUERADE",
        NAT.why(
            "A packet from a pool to an address that is in no pool gets the address of {ns}: machines outside have no"
            " way back to a pod."
        ),
    ),
    # ---- input, output
    ("filter/cali-INPUT", "", STATIC.why("It has Felix's decisions about packets for {ns} itself.")),
    (
        "filter/cali-INPUT",
        "-j ACCEPT.*|Allow",
        STATIC.why("Tunnel packets of other nodes, and packets that a policy accepted, pass."),
    ),
    (
        "filter/cali-INPUT",
        "Drop",
        STATIC.why("Tunnel packets of any other machine are dropped: they could carry a false source address inside."),
    ),
    (
        "filter/cali-INPUT",
        "-g cali-wl-to-host",
        STATIC.why("What a pod sends to {ns} itself passes the policies of the pod (egress)."),
    ),
    ("filter/cali-wl-to-host", "", STATIC.why("It decides about packets of pods to their own node.")),
    ("filter/cali-wl-to-host", "-j cali-from-wl-dispatch", STATIC.why("The policies of the sending pod come first.")),
    (
        "filter/cali-wl-to-host",
        "DefaultEndpointToHostAction",
        STATIC.why("Then the setting DefaultEndpointToHostAction decides: {target}."),
    ),
    ("filter/cali-OUTPUT", "", STATIC.why("It has Felix's decisions about packets that {ns} itself sends.")),
    (
        "filter/cali-OUTPUT",
        "-o .*-j RETURN",
        STATIC.why("Packets of the node itself to its pods are not filtered, such as the probes of the kubelet."),
    ),
    ("filter/cali-OUTPUT", "-j ACCEPT", STATIC.why("Tunnel packets to other nodes, and accepted packets, may leave.")),
    (
        "filter/cali-(INPUT|OUTPUT)",
        "--set-xmark 0x0/",
        STATIC.why("It clears Felix's bits before host policies decide."),
    ),
    # ---- forward
    ("filter/cali-FORWARD", "", STATIC.why("It sends each packet to the policies of its sender and of its receiver.")),
    (
        "filter/cali-FORWARD",
        "--set-xmark 0x0/",
        STATIC.why("It clears Felix's bits, except the one for accepted packets."),
    ),
    (
        "filter/cali-FORWARD",
        "-j cali-from-wl-dispatch",
        STATIC.why("The packet comes from a pod: the policies of the sender decide first (egress)."),
    ),
    (
        "filter/cali-FORWARD",
        "-j cali-to-wl-dispatch",
        STATIC.why("The packet goes to a pod of {ns}: the policies of the receiver decide (ingress)."),
    ),
    (
        "filter/cali-FORWARD",
        "-j cali-cidr-block",
        STATIC.why("Addresses that the cluster must not forward to stop there."),
    ),
    (
        "filter/cali-cidr-block",
        "",
        STATIC.why("It is for ranges of Services that no rule of kube-proxy translated; empty here."),
    ),
    # ---- dispatch
    (
        "filter/cali-(from|to)-wl-dispatch.*",
        "",
        DISPATCH.why("It finds the chain of a pod by the device of its cable, in few steps also for many pods."),
    ),
    (
        "filter/cali-from-wl-dispatch.*",
        r"-i \S+\+ ",
        DISPATCH.why("Several devices begin like this: the next chain finds the one."),
    ),
    (
        "filter/cali-to-wl-dispatch.*",
        r"-o \S+\+ ",
        DISPATCH.why("Several devices begin like this: the next chain finds the one."),
    ),
    ("filter/cali-from-wl-dispatch.*", "-g ", DISPATCH.why("The packet comes by the cable of the pod {iif_machine}.")),
    ("filter/cali-to-wl-dispatch.*", "-g ", DISPATCH.why("The packet leaves by the cable of the pod {oif_machine}.")),
    (
        "filter/cali-.*-wl-dispatch.*",
        "Unknown interface",
        DISPATCH.why("A device that looks like that of a pod, but is not known to Felix, gets no packets through."),
    ),
    # ---- a pod's chains
    ("filter/cali-tw-.*", "", ENDPOINTS.why("It decides what the pod {chain_machine} receives (ingress).")),
    ("filter/cali-fw-.*", "", ENDPOINTS.why("It decides what the pod {chain_machine} sends (egress).")),
    (
        "filter/cali-[tf]w-.*",
        "ctstate RELATED",
        ENDPOINTS.why("A connection that was allowed once goes on, both ways."),
    ),
    (
        "filter/cali-[tf]w-.*",
        "ctstate INVALID",
        ENDPOINTS.why("A packet of a connection that conntrack cannot follow is dropped."),
    ),
    (
        "filter/cali-[tf]w-.*",
        "Start of tier",
        ENDPOINTS.why("A tier of policies begins: no policy of it has passed the packet on yet."),
    ),
    (
        "filter/cali-[tf]w-.*",
        "End of tier",
        ENDPOINTS.why("Policies select the pod, and none of them allows the packet: it is dropped."),
    ),
    ("filter/cali-[tf]w-.*", "--set-xmark 0x0/", ENDPOINTS.why("No policy has accepted the packet yet.")),
    (
        "filter/cali-fw-.*",
        "encapped packets originating",
        ENDPOINTS.why("A pod may not send tunnel packets: the packet inside would pass no policy."),
    ),
    (
        "filter/cali-[tf]w-.*",
        "-j cali-[pg][io]-",
        ENDPOINTS.why("A policy that selects the pod decides in the chain {target}."),
    ),
    (
        "filter/cali-[tf]w-.*",
        "-j cali-pr[io]-",
        ENDPOINTS.why("No policy has decided: the profile of the namespace or service account does."),
    ),
    (
        "filter/cali-[tf]w-.*",
        "Return if",
        ENDPOINTS.why("The packet has the mark of accepted packets: nothing else is asked."),
    ),
    ("filter/cali-[tf]w-.*", "Drop if no profiles", ENDPOINTS.why("Nothing has accepted the packet: it is dropped.")),
    # ---- profiles
    (
        "filter/cali-pr[io]-kns.*",
        "",
        ENDPOINTS.why("It is the profile of a namespace: it allows everything that no policy forbids."),
    ),
    (
        "filter/cali-pr[io]-.*",
        "",
        ENDPOINTS.why("It is the profile of a service account: it allows nothing by itself."),
    ),
    (
        "filter/cali-pr[io]-.*",
        "-j MARK",
        ENDPOINTS.why("The profile accepts every packet: without policies, all pods reach each other."),
    ),
    ("filter/cali-pr[io]-.*", "-j RETURN", ENDPOINTS.why("The packet is accepted: back to the chain of the pod.")),
    ("filter/cali-pr[io]-.*", "comment", ENDPOINTS.why("The profile has no rules; the comment only names it.")),
    # ---- policies
    ("filter/cali-pi-.*", "", POLICY.why("It has the ingress rules of one policy.")),
    ("filter/cali-po-.*", "", POLICY.why("It has the egress rules of one policy.")),
    (
        "filter/cali-g[io]-.*",
        "",
        POLICY.why("It has the policies of one selector, so that pods need one jump to all of them."),
    ),
    (
        "filter/cali-g[io]-.*",
        "-j cali-",
        POLICY.why("The next policy of the group decides, unless one has decided before."),
    ),
    ("filter/cali-[pg][io]-.*", "-j RETURN", POLICY.why("A rule has decided: back to the chain of the pod.")),
    (
        "filter/cali-p[io]-.*",
        "--set-xmark 0x10000/0x10000",
        POLICY.why("A rule of the policy allows packets like this one: they get the mark of accepted packets."),
    ),
    (
        "filter/cali-p[io]-.*",
        "--set-xmark 0x20000/0x20000",
        POLICY.why("A rule of the policy passes packets like this one to the next tier."),
    ),
    (
        "filter/cali-p[io]-.*",
        "-j MARK",
        POLICY.why("It is a part of a rule that one rule of iptables cannot say: a bit notes whether this part fits."),
    ),
    ("filter/cali-p[io]-.*", "-j DROP", POLICY.why("A rule of the policy denies packets like this one.")),
    (
        "filter/cali-p[io]-.*",
        "comment",
        POLICY.why("The policy has no rules in this direction, so it allows nothing; the comment names it."),
    ),
)

"""Why the tables of dockerd's nftables backend exist: its maps, chains, and every rule in them. Pure data.

`docker_nftables` writes them. The reasons are by the shape of a rule (`labctl.core.why.RuleShapes`); most rules of
dockerd carry a comment, which names them.
"""

from __future__ import annotations

from dataclasses import replace

from labctl.core.resources import NftObject
from labctl.core.why import Component, RuleShapes, Source

NFTABLER = Component("dockerd", Source("moby/moby", "daemon/libnetwork/drivers/bridge/internal/nftabler", "29.7.2"))
why = NFTABLER.why
FORWARDS = why(
    "IP forwarding is on, because whoever set up {ns} switched it on. With its nftables backend, dockerd does not:"
    " it refuses to start while it is 0, and leaves the policy of forwarding alone."
)
TABLE = why(
    "It is all of Docker's firewall on {ns} for one family of addresses. It has no chain for the user: other rules"
    " belong in a separate table."
)
RULES = RuleShapes(
    (
        ".*/(filter-forward-in|nat-postrouting-in)-jumps",
        "",
        why("It leads a packet that is about to leave {ns} by a bridge to the chain of that network, by one look."),
    ),
    (
        ".*/(filter-forward-out|nat-postrouting-out)-jumps",
        "",
        why("It leads a packet that came in by a bridge to the chain of that network, by one look."),
    ),
    (
        ".*/filter-FORWARD",
        "",
        why(
            "Packets that {ns} forwards for others pass it. It only finds their networks; its policy is accept, so what"
            " does not concern Docker is not Docker's to drop."
        ),
    ),
    (".*/filter-FORWARD", "oifname vmap", why("A packet to a network of Docker passes what that network lets in.")),
    (".*/filter-FORWARD", "iifname vmap", why("A packet from a network of Docker passes what that network lets out.")),
    (
        ".*/nat-(PREROUTING|OUTPUT)",
        "",
        why("The first packet of each connection passes it before a route is chosen: so its destination can change."),
    ),
    (
        ".*/nat-OUTPUT",
        "daddr != ",
        why(
            "A packet of {ns} to an address of its own may be for a published port. Those to loopback addresses stay"
            " out: docker-proxy serves them."
        ),
    ),
    (
        ".*/nat-(PREROUTING|OUTPUT)",
        "fib daddr type local",
        why("A packet to an address of {ns} itself may be for a published port."),
    ),
    (
        ".*/nat-POSTROUTING",
        "",
        why("The first packet of each connection passes it before it leaves: so its source can change."),
    ),
    (".*/nat-POSTROUTING", "vmap", why("The network of the packet decides whether its source address changes.")),
    (".*/nat-prerouting-and-output", "", why("It has the published ports of {ns}, one rule for each.")),
    (
        ".*/nat-prerouting-and-output",
        "dnat to",
        why("It is the published port {dport}: packets to it go to {to} instead, the container {to_machine}."),
    ),
    (
        ".*/raw-PREROUTING",
        "",
        why("Packets pass it as soon as they come in, before DNAT: it sees the address that the sender wrote."),
    ),
    (
        ".*/raw-PREROUTING",
        "DROP DIRECT ACCESS",
        why(
            "A packet straight to the address of {dst_machines} that does not come from its network is not welcome: the"
            " way in is a published port."
        ),
    ),
    (
        ".*/raw-PREROUTING",
        "DROP REMOTE LOOPBACK",
        why("The port is published at {dst} only: packets from outside to it stop here."),
    ),
    (".*/filter-forward-in__.*", "", why("It decides which packets may go to the containers of one network.")),
    (".*/filter-forward-out__.*", "", why("It decides which packets of the containers of one network may leave it.")),
    (
        ".*/filter-forward-.*",
        "ct state established,related",
        why("Packets of connections that a rule has allowed before pass: conntrack knows them."),
    ),
    (
        ".*/filter-forward-in__.*",
        "INTERNAL NETWORK INGRESS",
        why("The network is internal: only its own containers may send to it."),
    ),
    (
        ".*/filter-forward-out__.*",
        "INTERNAL NETWORK EGRESS",
        why("The network is internal: its containers may send to each other only."),
    ),
    (
        ".*/filter-forward-in__.*",
        'accept comment "ICC"',
        why("The containers of the network may reach each other. It counts only if bridged frames pass nft."),
    ),
    (
        ".*/filter-forward-in__.*",
        'drop comment "ICC"',
        why("The containers of the network may not reach each other (icc off). It needs bridge-nf-call-iptables."),
    ),
    (
        ".*/filter-forward-in__.*",
        'comment "ICMP"',
        why("The network is routed: everybody may ping its containers, and errors of ICMP find them."),
    ),
    (
        ".*/filter-forward-in__.*",
        'comment "ALLOW FW MARK"',
        why("A rule of the user has marked the packet: it is the only way to let in what Docker would drop."),
    ),
    (
        ".*/filter-forward-in__.*",
        "dport .* accept",
        why("A port of {dst_machines} is published, so new connections to {dst} port {dport} pass."),
    ),
    (
        ".*/filter-forward-in__.*",
        'comment "UNPROTECTED"',
        why("The mode of the network is nat-unprotected: all ports of its containers are open, published or not."),
    ),
    (
        ".*/filter-forward-in__.*",
        'comment "UNPUBLISHED PORT DROP"',
        why("Everything else to the containers of the network is dropped: their other ports are not published."),
    ),
    (".*/filter-forward-out__.*", 'comment "OUTGOING"', why("Containers of the network may send to everywhere.")),
    (
        ".*/nat-postrouting-in__.*",
        "",
        why("It changes the source of packets that enter one network. Only a daemon without docker-proxy needs it."),
    ),
    (".*/nat-postrouting-out__.*", "", why("It changes the source of packets that leave one network.")),
    (
        ".*/nat-postrouting-in__.*",
        "FROM HOST",
        why(
            "There is no docker-proxy: the host's own packets to a container get the address of the bridge, because the"
            " container cannot answer 127.0.0.1."
        ),
    ),
    (
        ".*/nat-postrouting-in__.*",
        "MASQ TO OWN PORT",
        why(
            "{src_machine} reaches itself through its published port: with its own address as the source, the answer"
            " would never pass the host again."
        ),
    ),
    (
        ".*/nat-postrouting-out__.*",
        "oifname != ",
        why(
            "Packets of containers in {src} that leave their network get the address of the host: machines outside have"
            " no way back to {src}."
        ),
    ),
)


def explained(item: NftObject) -> NftObject:
    """The object with its reason, and those of its rules."""
    return replace(item, why=RULES.of_chain, rule_whys=RULES.reasons)

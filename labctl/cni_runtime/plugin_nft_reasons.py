"""Why the tables of nft exist that CNI plugins write: of masquerading (`ipMasqBackend`) and of portmap. Pure.

Follows containernetworking/plugins 1.9.1: pkg/ip/ipmasq_nftables_linux.go, plugins/meta/portmap/portmap_nftables.go.
"""

from __future__ import annotations

from labctl.core.why import Component, RuleShapes, Source

_PROJECT, _VERSION = "containernetworking/plugins", "1.9.1"
_IP_MASQ = Component("a CNI plugin with ipMasq", Source(_PROJECT, "pkg/ip/ipmasq_nftables_linux.go", _VERSION))
_PORTMAP = Component("the CNI plugin portmap", Source(_PROJECT, "plugins/meta/portmap/portmap_nftables.go", _VERSION))
_MASQ, _PORTS = "inet cni_plugins_masquerade/", "ip6? cni_hostport/"
RULES = RuleShapes(
    (_MASQ, "", _IP_MASQ.why("It masquerades packets of pods. All networks and plugins of {ns} share it.")),
    (
        _MASQ + "masq_checks",
        "",
        _IP_MASQ.why("It has a rule for each address of a pod that masquerades; its comment names the pod."),
    ),
    (
        _MASQ + "masq_checks",
        "masquerade",
        _IP_MASQ.why("What {src_machine} sends to places outside its own network gets the address of {ns}."),
    ),
    (_MASQ + "postrouting", "", _IP_MASQ.why("Every packet that leaves {ns} passes it, of either IP version.")),
    (_MASQ + "postrouting", "return", _IP_MASQ.why("Multicast packets ({dst}) keep their source.")),
    (_MASQ + "postrouting", "goto", _IP_MASQ.why("All other packets are looked at by the rules of the pods.")),
    (_PORTS, "", _PORTMAP.why("It has the host ports (hostPort) of the pods of {ns}, for one IP version.")),
    (_PORTS + "hostports", "", _PORTMAP.why("It has a rule for each host port; its comment names the pod.")),
    (
        _PORTS + "hostports",
        "dnat to",
        _PORTMAP.why("It is the host port: packets to port {dport} of {ns} go to {to} instead, the pod {to_machine}."),
    ),
    (
        _PORTS + "hostip_hostports",
        "",
        _PORTMAP.why("It is meant for host ports at one address of {ns}. portmap 1.9 writes these to hostports."),
    ),
    (_PORTS + "hostports_all", "", _PORTMAP.why("It joins the chains of host ports with and without an address.")),
    (_PORTS + "hostports_all", "jump", _PORTMAP.why("One kind of host port after the other.")),
    (
        _PORTS + "(prerouting|output)",
        "",
        _PORTMAP.why("It sees packets before they are routed: those from outside, or those of {ns} itself."),
    ),
    (
        _PORTS + "(prerouting|output)",
        "fib daddr type local",
        _PORTMAP.why("Only a packet to an address of {ns} itself may be for a host port."),
    ),
    (
        _PORTS + "masquerading",
        "",
        _PORTMAP.why(
            "It masquerades what a pod could not answer through {ns}. It needs no mark. Other pods of the range keep"
            " their source."
        ),
    ),
    (
        _PORTS + "masquerading",
        r"saddr 127\.0\.0\.1 ",
        _PORTMAP.why("The client is {ns} at 127.0.0.1. In the pod, this address is the pod itself."),
    ),
    (
        _PORTS + "masquerading",
        "saddr",
        _PORTMAP.why("A pod uses its own host port: it would see a packet from itself, and not answer {ns}."),
    ),
)  # fmt: skip

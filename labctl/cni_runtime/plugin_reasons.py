"""Why the objects exist that CNI plugins made: of the plugins of the CNI project by the shape of their rules. Pure.

labctl sees what plugins made only afterwards, and does not know which plugin made which object. Devices, addresses and
routes are explained by what they are. The rules of `portmap`, `firewall` and of masquerading (`ipMasq`) have chains
with known names (`plugin_nft_reasons` has those of nft), so these plugins are known by them. Everything else was made
by some plugin of the list.

Follows containernetworking/plugins 1.1.1: plugins/meta/portmap, plugins/meta/firewall, pkg/ip/ipmasq_linux.go.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from labctl.core.iptables import BUILTIN
from labctl.core.resources import Address, Chain, Link, NftObject, Resource, Route
from labctl.core.why import Component, RuleShapes, Source, Why

_PROJECT, _VERSION = "containernetworking/plugins", "1.1.1"
_PLUGINS = Component("the CNI plugins of the network list", Source("containernetworking/cni", "SPEC.md", "1.1.0"))
PORTMAP = Component("the CNI plugin portmap", Source(_PROJECT, "plugins/meta/portmap/portmap.go", _VERSION))
_FIREWALL = Component("the CNI plugin firewall", Source(_PROJECT, "plugins/meta/firewall/iptables.go", _VERSION))
_IP_MASQ = Component("a CNI plugin with ipMasq", Source(_PROJECT, "pkg/ip/ipmasq_linux.go", _VERSION))

MADE_BY_PLUGINS = _PLUGINS.why(
    "A plugin of the network list made it when a pod was attached. labctl has seen it afterwards, and expects it from"
    " then on."
)
_BRIDGE = _PLUGINS.why(
    "A plugin of the network list made this bridge when the first pod was attached: it is a switch, and connects the"
    " devices that have it as their master."
)
_CABLE = _PLUGINS.why(
    "It is one end of a cable that a plugin of the network list made when the pod was attached. The other end is"
    " {peer_dev} of {peer_ns}."
)
_ADDRESS = _PLUGINS.why("It is the address of the pod {ns}: the plugin for addresses (IPAM) of the list chose it.")
_ROUTE = _PLUGINS.why(
    "It is the way of the pod {ns} to {dst}. A plugin of the network list made it when the pod was attached."
)

LOCAL = PORTMAP.why(
    "A packet to an address of {ns} itself may be for a host port (hostPort): the plugin's chain decides. PREROUTING"
    " has the rule for packets from outside, OUTPUT for those of {ns} itself."
)
DNAT_CHAIN = PORTMAP.why("It has one rule for each pod with host ports, and finds the pod by the port.")
JUMP = PORTMAP.why("Packets to the host ports {dports} of {ns} are for one pod, which has the chain {target}.")
POD_CHAIN = PORTMAP.why("It has the translations of one pod with host ports.")
MARK_POD = PORTMAP.why(
    "The client is a pod of the same range. The pod would answer it directly, and the client waits for an answer of the"
    " node: so the node masquerades such a packet. The mark says so to a later chain."
)
MARK_LOOPBACK = PORTMAP.why(
    "The client is {ns} at 127.0.0.1. In the pod, this address is the pod itself: so the node masquerades such a"
    " packet. The mark says so to a later chain."
)
DNAT = PORTMAP.why("It is the host port: packets to port {dport} of {ns} go to {to} instead, the pod {to_machine}.")
MARK = PORTMAP.why("It marks packets that must be masqueraded with the bit 0x2000.")
MARK_CHAIN = PORTMAP.why("The chains of the pods jump here to have a packet masqueraded later.")
POSTROUTING = PORTMAP.why("Every packet that leaves {ns} passes the chain that masquerades marked packets.")
MASQUERADE_CHAIN = PORTMAP.why("It masquerades the packets that have the plugin's mark.")
MASQUERADE = PORTMAP.why("The packet has the mark: its source becomes the address of {ns}.")

_DNAT_SHAPE = r"--dport .*-j DNAT --to-destination"
RULES = RuleShapes(
    ("nat/(PREROUTING|OUTPUT)", "-j CNI-HOSTPORT-DNAT", LOCAL),
    ("nat/CNI-HOSTPORT-DNAT", "", DNAT_CHAIN),
    ("nat/CNI-HOSTPORT-DNAT", "--dports .*-j CNI-DN-", JUMP),
    ("nat/CNI-DN-.*", "", POD_CHAIN),
    ("nat/CNI-DN-.*", r"-s 127\.0\.0\.1/32 .*-j ", MARK_LOOPBACK),
    ("nat/CNI-DN-.*", "-s .*-j (CNI-HOSTPORT-SETMARK|KUBE-MARK-MASQ)", MARK_POD),
    ("nat/CNI-DN-.*", _DNAT_SHAPE, DNAT),
    ("nat/CNI-HOSTPORT-SETMARK", "", MARK_CHAIN),
    ("nat/CNI-HOSTPORT-SETMARK", "-j MARK", MARK),
    ("nat/POSTROUTING", "-j CNI-HOSTPORT-MASQ", POSTROUTING),
    ("nat/CNI-HOSTPORT-MASQ", "", MASQUERADE_CHAIN),
    ("nat/CNI-HOSTPORT-MASQ", "-j MASQUERADE", MASQUERADE),
    # ---- ipMasq of bridge and ptp: a chain for each pod
    (
        "nat/POSTROUTING",
        "-s .*-j CNI-[0-9a-f]{24}",
        _IP_MASQ.why("Packets of one pod, {src}, pass a separate chain: {target}."),
    ),
    ("nat/CNI-[0-9a-f]{24}", "", _IP_MASQ.why("It masquerades the packets of one pod that leave its network.")),
    (
        "nat/CNI-[0-9a-f]{24}",
        "-d .*-j ACCEPT",
        _IP_MASQ.why("Packets to {dst}, the pod's own network, keep the address of the pod."),
    ),
    (
        "nat/CNI-[0-9a-f]{24}",
        "-j MASQUERADE",
        _IP_MASQ.why("Every other packet of the pod gets the address of {ns}, except multicast packets."),
    ),
    # ---- firewall
    (
        "filter/FORWARD",
        "-j CNI-FORWARD",
        _FIREWALL.why("Packets that {ns} forwards pass the chain that accepts those of pods."),
    ),
    ("filter/CNI-FORWARD", "", _FIREWALL.why("It accepts packets of pods, whatever policy FORWARD has.")),
    ("filter/CNI-FORWARD", "-j CNI-ADMIN", _FIREWALL.why("The rules of the administrator come first.")),
    ("filter/CNI-ADMIN", "", _FIREWALL.why("It is for rules of the administrator. The plugin writes none.")),
    (
        "filter/CNI-FORWARD",
        "-d .*ESTABLISHED.*-j ACCEPT",
        _FIREWALL.why("Answers to connections of the pod {dst} are accepted."),
    ),
    ("filter/CNI-FORWARD", "-s .*-j ACCEPT", _FIREWALL.why("Packets of the pod {src} are accepted.")),
)


def with_reason(item: Resource, planned: Resource | None, pods: Collection[str]) -> Resource:
    """What plugins made, with its reason. `planned` is the object of the plan that they changed, if there is one: the
    plan goes on to explain its own rules. `pods` are the machines that plugins attached."""
    if isinstance(item, NftObject):
        return _of_nft(item, planned)
    if not isinstance(item, Chain):
        return replace(item, why=_reason(item, pods))
    own = planned.rule_whys if isinstance(planned, Chain) else ()
    built_in = item.name in BUILTIN.get((item.family, item.table), ())
    made = None if built_in else RULES.of_chain(item) or MADE_BY_PLUGINS
    why = made if planned is None else planned.why
    return replace(item, why=why, rule_whys=own if _any_rule in own else (*own, RULES, _any_rule))


def _of_nft(item: NftObject, planned: Resource | None) -> NftObject:
    """An object of nft that plugins made or changed; a planned one goes on to explain its own rules."""
    from labctl.cni_runtime import plugin_nft_reasons  # most labs have no such objects

    own = planned.rule_whys if isinstance(planned, NftObject) else ()
    why = planned.why if planned is not None else plugin_nft_reasons.RULES.of_chain(item) or MADE_BY_PLUGINS
    return replace(item, why=why, rule_whys=(*own, plugin_nft_reasons.RULES, _any_rule))


def _any_rule(chain: Any, rule: Any) -> Why:
    """The reason of a rule that some plugin made."""
    return MADE_BY_PLUGINS


def _reason(item: Resource, pods: Collection[str]) -> Why:
    match item:
        case Link(kind="bridge"):
            return _BRIDGE
        case Link(peer=peer) if peer is not None and peer.ns != item.ns:
            return _CABLE
        case Address() if item.ns in pods:
            return _ADDRESS
        case Route() if item.ns in pods:
            return _ROUTE
    return MADE_BY_PLUGINS

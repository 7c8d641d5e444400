r"""The static egress gateway of AKS: chosen pods leave with an address of a fixed public prefix, through one node.

    pod --wg0==============================================> wg-6000 [static-egress-gateway] host0 --+
     its default route        a tunnel between the nodes             source: the secondary address    |
                                                                                                      |
        fabric: secondary address <-> address of the prefix  <-- eth0 [gateway's node] host-gateway --+

The node of the gateway runs no other pods. Its NIC has a secondary address, with a public address of the prefix. The
namespace of the gateway translates to the secondary address, and the node lets it pass as it is. A pod keeps its route
by eth0 to the excluded ranges, so packets inside the cluster do not change their way. Answers to connections that came
in by eth0 leave by eth0, because the connection has a mark.

In AKS the tunnel is WireGuard, which many kernels lack. Here it is VXLAN, with the same ends: the device is in the
pod's namespace, and its socket is in that of the node. So packets between the nodes are not encrypted.

Follows Azure/kube-egress-gateway v0.1: docs/design.md, pkg/cni/routes/routes.go,
controllers/daemon/staticgatewayconfiguration_controller.go.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.core.fidelity import approximation
from labctl.core.options import cidr, option
from labctl.core.resources import Address, Interface, Link, Neighbour, Resource, Route, Rule, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, explained
from labctl.models.lib import azure, primitives

PARTS = (
    approximation(
        "the static egress gateway",
        "has VXLAN without encryption in place of WireGuard, one node, and no internal load balancer before its nodes",
    ),
)
GATEWAY = "Azure/kube-egress-gateway"
_DAEMON = Component(
    "kube-egress-gateway (daemon)",
    Source(GATEWAY, "controllers/daemon/staticgatewayconfiguration_controller.go", "0.1"),
)
_PLUGIN = Component("kube-egress-gateway (CNI plugin)", Source(GATEWAY, "pkg/cni/routes/routes.go", "0.1"))
_WHY_SECONDARY = azure.VNET.why(
    "Azure knows {dst} as a secondary address of the NIC of {via_machine}, for the gateway."
)
_WHY_PREFIX = azure.VNET.why("It is the first address of the fixed public prefix of the egress gateway.")
_WHY_PREFIX_SNAT = azure.VNET.why("The secondary address {src} has a public address of the prefix: {to}.")
_WHY_NODE_END = _DAEMON.why("It is the node's end of the cable to the namespace of the egress gateway.")
_WHY_HOST0 = _DAEMON.why("It is the gateway's end of the cable to its node: translated packets leave by it.")
_WHY_NODE_RP = _DAEMON.why(
    "Packets of the gateway come in by {dev}, and their answers by eth0: no check of the way back."
)
_WHY_NODE_ROUTE = _DAEMON.why("Answers for the secondary address {dst} go to the namespace of the gateway.")
_WHY_NO_MASQ = _DAEMON.why("Packets of the gateway pass its own chain first, before the rules that masquerade.")
_WHY_NO_MASQ_CHAIN = _DAEMON.why("It has one chain for each gateway on this node.")
_WHY_NO_MASQ_JUMP = _DAEMON.why("Each gateway has a chain for its secondary address.")
_WHY_OWN_CHAIN = _DAEMON.why("It lets the packets of one gateway leave as they are.")
_WHY_ACCEPT = _DAEMON.why(
    "Packets with the secondary address {src} leave as they are: ACCEPT ends the table nat, so the node does not"
    " masquerade them."
)
_WHY_NAMESPACE = _DAEMON.why("It is the namespace of the egress gateway on its node: the tunnels of the pods end here.")
_WHY_HOST0_ADDRESS = _DAEMON.why("It is the source of everything that leaves by this gateway, before Azure's SNAT.")
_WHY_TO_NODE = _DAEMON.why("The gateway reaches its node ({dst_machines}) by the cable.")
_WHY_OUT = _DAEMON.why("Packets leave by the node {via_machine}.")
_WHY_WG = _DAEMON.why("It is the gateway's end of the tunnels of all pods. In AKS this is a WireGuard device.")
_WHY_WG_NEIGHBOUR = _DAEMON.why(
    "The gateway knows the MAC address of {owner} in its tunnel: nothing there answers ARP."
)
_WHY_WG_ROUTE = _DAEMON.why("Answers for the pod {dst_machines} go back through the tunnel to its node.")
_WHY_MARK_JUMP = _DAEMON.why("Packets that come in may be from a tunnel: the next chain decides.")
_WHY_MARK_CHAIN = _DAEMON.why("It marks the connections that come out of the tunnels.")
_WHY_MARK = _DAEMON.why("Connections out of the tunnel get the mark {mark}, so that only these are translated.")
_WHY_SNAT_JUMP = _DAEMON.why("Packets that leave may need the gateway's address: the next chain decides.")
_WHY_SNAT_CHAIN = _DAEMON.why("It translates the connections of the pods to the secondary address.")
_WHY_SNAT = _DAEMON.why("Connections with the mark {mark} leave with the secondary address {to}.")
_WHY_POD_WG = _PLUGIN.why(
    "It is the pod's end of its tunnel to the gateway: its packets are those of the node {local} to {remote}. In AKS"
    " this is a WireGuard device."
)
_WHY_POD_NEIGHBOUR = _PLUGIN.why(
    "The pod knows the MAC address of the gateway in the tunnel: nothing there answers ARP."
)
_WHY_POD_DEFAULT = _PLUGIN.why("Everything that is not for an excluded range leaves through the tunnel.")
_WHY_POD_RULE = _PLUGIN.why("Answers with the mark {mark} leave by eth0 (table {table}), where the question came in.")
_WHY_POD_MARK = _PLUGIN.why("A packet that comes in by eth0 gets the mark {mark}: its answer must leave by eth0 too.")
_WHY_POD_SAVE = _PLUGIN.why("The connection keeps the mark of the packet, so that its answers can have it.")
_WHY_POD_RESTORE = _PLUGIN.why("An answer of such a connection gets the mark back before its route is chosen.")
_WHY_POD_GATEWAY = _PLUGIN.why("The usual gateway {dst} is still behind eth0.")
_WHY_POD_TABLE = _PLUGIN.why("Table {table} is for answers to connections that came in by eth0.")
_WHY_POD_EXCLUDED = _PLUGIN.why("Packets to the excluded range {dst} leave by eth0, without the gateway.")
NAMESPACE = "static-egress-gateway"  # `ns-static-egress-gateway` on the node
POD_DEVICE, GATEWAY_DEVICE, HOST_DEVICE, NODE_DEVICE = "wg0", "wg-6000", "host0", "host-gateway"
ETH0_MARK = 0x2222  # of a pod's connections that came in by eth0, and the table that their answers use
ETH0_MARK_PREF = 32_765
MARK = 6000  # of the gateway's connections: the number in the name of its device
VXLAN_PORT = "4789"
OVERHEAD_BYTES = 50
FIRST_VNI = 6001  # of the first pod's tunnel
GATEWAY_ADDRESS = IPv4Address("169.254.3.1")  # the pods' next hop; AKS uses fe80::1
SECONDARY_OFFSET = -3  # of the secondary address in the nodes' subnet, from its end
PREFIX_LENGTHS = range(28, 32)
CHECK_PORT = 443


@dataclass(frozen=True, slots=True)
class EgressGateway:
    """A static egress gateway (StaticGatewayConfiguration), and the pods that have its annotation."""

    node: str = option("", "the node of the gateway; no other pods run there", form="name")
    pods: tuple[str, ...] = option(
        (), "the pods with the annotation kubernetes.azure.com/static-gateway-configuration", form="name", single=True
    )
    public_ip_prefix: IPv4Network = option(
        cidr("203.0.113.96/31"), "the public prefix, from /28 to /31; the gateway's node has its first address"
    )
    exclude_cidrs: tuple[IPv4Network, ...] = option(
        (cidr("10.0.0.0/8"), cidr("172.16.0.0/12"), cidr("169.254.169.254/32")),
        "destinations that the pods reach without the gateway",
    )


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for a gateway that AKS does not allow, or that names nodes or pods that are not there."""
    options = scenario.options
    found: EgressGateway | None = options.egress_gateway
    if found is None:
        return
    nodes = {node.name: node for node in scenario.nodes}
    if found.node not in nodes:
        what = f"there is no node {found.node!r}" if found.node else "egress_gateway: 'node' is missing"
        yield "egress_gateway/node", what, f"the nodes are {', '.join(nodes)}"
        return
    if nodes[found.node].pods:
        what = f"{found.node} has pods, but the nodes of a gateway run no others: they have a taint"
        yield "egress_gateway/node", what, "add a node without pods"
    elsewhere = {pod for node, pod in scenario.pods if node.name != found.node}
    for number, pod in enumerate(found.pods):
        if pod not in elsewhere:
            yield (
                f"egress_gateway/pods/{number}",
                f"there is no pod {pod!r} on another node",
                "name pods of other nodes",
            )
    if not found.pods:
        yield "egress_gateway/pods", "egress_gateway: no pod uses the gateway", "name at least one in pods"
    yield from _refuse_prefix(options, found)
    if options.outbound is not None and options.outbound.type != "loadBalancer":
        what = f"egress_gateway: labctl builds it with the outbound type loadBalancer, not {options.outbound.type}"
        yield "egress_gateway", what, "a NAT gateway or a route would take its packets: remove one of them"


def _refuse_prefix(options: Any, found: EgressGateway) -> Iterator[tuple[str, str, str]]:
    prefix, key = found.public_ip_prefix, "egress_gateway/public_ip_prefix"
    if prefix.prefixlen not in PREFIX_LENGTHS:
        yield key, f"public_ip_prefix {prefix} is not a /28 to /31", f"such as {prefix.network_address}/31"
        return
    used = {options.public_ip, *(options.outbound.addresses(options.public_ip) if options.outbound else ())}
    ends = (options.internet_cidr.network_address, options.internet_cidr.network_address + 1)
    if not prefix.subnet_of(options.internet_cidr) or any(address in prefix for address in (*used, *ends)):
        what = f"public_ip_prefix {prefix} is not a free range of internet_cidr {options.internet_cidr}"
        yield key, what, "choose a range without `internet` and without the other public addresses"


def with_gateway(
    scenario: Scenario, nics: Iterable[azure.Nic], items: Iterable[Resource | Machine]
) -> Iterator[Resource | Machine]:
    """What a model yields, with the gateway: its own objects first, because its rules come before those of the model,
    and other routes in the pods that use it."""
    found: EgressGateway | None = scenario.options.egress_gateway
    if found is None:
        yield from items
        return
    everything, nic_of = tuple(items), {nic.machine: nic for nic in nics}
    addresses = {item.name: item.addresses[0] for item in everything if isinstance(item, Machine) and item.addresses}
    nodes = {item.name: item.on for item in everything if isinstance(item, Machine)}
    pods = tuple((pod, addresses[pod], nic_of[str(nodes[pod])]) for pod in found.pods)
    yield from _fabric(nic_of[found.node], found)
    yield from _node(nic_of[found.node], scenario.options.mtu)
    yield from _namespace(nic_of[found.node], pods, scenario.options.mtu)
    for number, (pod, _, nic) in enumerate(pods):
        yield from _tunnel(pod, nic, nic_of[found.node], FIRST_VNI + number, scenario.options.mtu)
    for item in everything:
        yield from _pod_routes(item, found) if isinstance(item, (Route, Address)) and item.ns in found.pods else (item,)


def _secondary(nic: azure.Nic) -> IPv4Address:
    return primitives.address_at(nic.subnet, SECONDARY_OFFSET)


def _fabric(nic: azure.Nic, found: EgressGateway) -> Iterator[Resource]:
    """The secondary address of the NIC, and its public address."""
    secondary, public = _secondary(nic), found.public_ip_prefix.network_address
    prefix, device = primitives.host_prefix(secondary), nic.fabric_device
    yield Route("fabric", prefix, nic.address, device, onlink=True, why=_WHY_SECONDARY)
    at = Interface("fabric", azure.PUBLIC_DEVICE)
    yield from explained(_WHY_PREFIX, primitives.addresses(at, primitives.with_prefix_length(public, 32)))
    rule = f"-s {secondary} -o {azure.PUBLIC_DEVICE} -j SNAT --to-source {public}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", (rule, _WHY_PREFIX_SNAT))


def _node(nic: azure.Nic, mtu: int) -> Iterator[Resource]:
    """The node's side: the link to the namespace, and the rule that lets the secondary address pass as it is."""
    node, secondary = nic.machine, _secondary(nic)
    at, inner = Interface(node, NODE_DEVICE), Interface(NAMESPACE, HOST_DEVICE)
    macs = (primitives.mac(str(at)), primitives.mac(str(inner)))
    yield from primitives.veth_pair(at, inner, mtu=mtu, macs=macs, whys=(_WHY_NODE_END, _WHY_HOST0))
    yield Sysctl(node, f"net.ipv4.conf.{NODE_DEVICE}.rp_filter", "0", why=_WHY_NODE_RP)
    yield Route(node, primitives.host_prefix(secondary), dev=NODE_DEVICE, why=_WHY_NODE_ROUTE)
    own = f"EGRESS-{str(secondary).replace('.', '-')}"
    jump = '-m comment --comment "kube-egress-gateway no MASQUERADE" -j EGRESS-GATEWAY-SNAT'
    yield primitives.chain(node, "nat", "POSTROUTING", (jump, _WHY_NO_MASQ))
    comment = f"kube-egress-gateway no sNAT packet from ip {secondary}"
    to_own = (f'-m comment --comment "{comment}" -j {own}', _WHY_NO_MASQ_JUMP)
    yield primitives.chain(node, "nat", "EGRESS-GATEWAY-SNAT", to_own, why=_WHY_NO_MASQ_CHAIN)
    yield primitives.chain(node, "nat", own, (f"-s {secondary} -j ACCEPT", _WHY_ACCEPT), why=_WHY_OWN_CHAIN)


_Pods = tuple[tuple[str, Any, azure.Nic], ...]  # each pod with its address and the NIC of its node


def _namespace(nic: azure.Nic, pods: _Pods, mtu: int) -> Iterator[Resource | Machine]:
    """The gateway's namespace: the end of the tunnels, and the translation to the secondary address."""
    secondary, device = _secondary(nic), Interface(NAMESPACE, GATEWAY_DEVICE)
    yield Machine(NAMESPACE, "namespace", (secondary,), nic.machine)
    yield from primitives.netns(NAMESPACE, why=_WHY_NAMESPACE)
    yield from primitives.forwarding_sysctls(NAMESPACE, True, rp_filter=0, devices=(HOST_DEVICE, GATEWAY_DEVICE))
    at = Interface(NAMESPACE, HOST_DEVICE)
    yield from explained(_WHY_HOST0_ADDRESS, primitives.addresses(at, primitives.with_prefix_length(secondary, 32)))
    yield Route(NAMESPACE, nic.host_prefix, dev=HOST_DEVICE, why=_WHY_TO_NODE)
    yield Route(NAMESPACE, primitives.ANYWHERE, nic.address, HOST_DEVICE, why=_WHY_OUT)
    options = (("external", "on"), ("learning", "off"), ("dstport", VXLAN_PORT))
    yield Link(
        device, "vxlan", mtu=mtu - OVERHEAD_BYTES, mac=primitives.mac(str(device)), options=options,
        link_netns=nic.machine, why=_WHY_WG,
    )  # fmt: skip
    for number, (pod, address, node) in enumerate(pods):
        yield Neighbour(device, address, primitives.mac(str(Interface(pod, POD_DEVICE))), why=_WHY_WG_NEIGHBOUR)
        prefix, encap = primitives.host_prefix(address), (FIRST_VNI + number, node.address)
        yield Route(NAMESPACE, prefix, dev=GATEWAY_DEVICE, encap=encap, why=_WHY_WG_ROUTE)
    mark, snat = f"EGRESS-GATEWAY-MARK-{MARK}", f"EGRESS-GATEWAY-SNAT-{MARK}"
    comment = f'-m comment --comment "kube-egress-gateway {{}} packets from gateway link {GATEWAY_DEVICE}" -j {{}}'
    yield primitives.chain(NAMESPACE, "nat", "PREROUTING", (comment.format("mark", mark), _WHY_MARK_JUMP))
    set_mark = (f"-i {GATEWAY_DEVICE} -j CONNMARK --set-mark {MARK}", _WHY_MARK)
    yield primitives.chain(NAMESPACE, "nat", mark, set_mark, why=_WHY_MARK_CHAIN)
    yield primitives.chain(NAMESPACE, "nat", "POSTROUTING", (comment.format("sNAT", snat), _WHY_SNAT_JUMP))
    rule = f"-o {HOST_DEVICE} -m connmark --mark {MARK} -j SNAT --to-source {secondary}"
    yield primitives.chain(NAMESPACE, "nat", snat, (rule, _WHY_SNAT), why=_WHY_SNAT_CHAIN)


def _tunnel(pod: str, nic: azure.Nic, gateway: azure.Nic, vni: int, mtu: int) -> Iterator[Resource]:
    """A pod's end of its tunnel, and its default route. The tunnel's packets are those of the node."""
    at = Interface(pod, POD_DEVICE)
    options = (
        ("id", str(vni)), ("remote", str(gateway.address)), ("local", str(nic.address)), ("dstport", VXLAN_PORT),
        ("learning", "off"),
    )  # fmt: skip
    yield Link(
        at, "vxlan", mtu=mtu - OVERHEAD_BYTES, mac=primitives.mac(str(at)), options=options, link_netns=nic.machine,
        why=_WHY_POD_WG,
    )  # fmt: skip
    gateway_mac = primitives.mac(str(Interface(NAMESPACE, GATEWAY_DEVICE)))
    yield Neighbour(at, GATEWAY_ADDRESS, gateway_mac, why=_WHY_POD_NEIGHBOUR)
    yield Route(pod, primitives.ANYWHERE, GATEWAY_ADDRESS, POD_DEVICE, onlink=True, why=_WHY_POD_DEFAULT)
    yield Rule(pod, ETH0_MARK_PREF, ETH0_MARK, mark=ETH0_MARK, why=_WHY_POD_RULE)
    mark = (f"-i eth0 -j MARK --set-mark {ETH0_MARK}", _WHY_POD_MARK)
    yield primitives.chain(pod, "mangle", "PREROUTING", mark, ("-j CONNMARK --save-mark", _WHY_POD_SAVE))
    restore = (f"-m connmark --mark {ETH0_MARK} -j CONNMARK --restore-mark", _WHY_POD_RESTORE)
    yield primitives.chain(pod, "mangle", "OUTPUT", restore)


def _pod_routes(item: Route | Address, found: EgressGateway) -> Iterator[Resource]:
    """A pod's address or route, if it uses the gateway: of its routes by eth0, those to excluded ranges stay."""
    if isinstance(item, Address):
        yield replace(item, connected=False)
    elif item.dst == primitives.ANYWHERE and item.via is not None:
        yield Route(item.ns, primitives.host_prefix(int(item.via)), dev=item.dev, why=_WHY_POD_GATEWAY)
        yield Route(item.ns, primitives.ANYWHERE, item.via, item.dev, ETH0_MARK, why=_WHY_POD_TABLE)
        for network in found.exclude_cidrs:
            yield Route(item.ns, network, item.via, item.dev, why=_WHY_POD_EXCLUDED)
    else:
        yield item


def checks(scenario: Scenario) -> Iterator[Check]:
    """Packets of a pod with the annotation leave through the gateway, those to excluded ranges do not."""
    found: EgressGateway | None = scenario.options.egress_gateway
    if found is None:
        return
    pod, by_host = found.pods[0], Interface(NAMESPACE, HOST_DEVICE)
    node = next(node.name for node, name in scenario.pods if name == pod)
    public = str(found.public_ip_prefix.network_address)
    say = sentence(
        "{pod} leaves through the gateway on {node}, with an address of the public prefix", pod=pod, node=found.node
    )
    sees = (
        See(Interface(node, "eth0"), encap=f"vxlan {FIRST_VNI}", outer_src=node, outer_dst=found.node, direction="out"),
        See(Interface(NAMESPACE, GATEWAY_DEVICE), src=pod, direction="in"),
        See(Interface("internet", "eth0"), src=public, direction="in"),
    )
    yield Check(say, "tcp", pod, "internet", CHECK_PORT, sees=sees, origin="model")
    others = [name for _, name in scenario.pods if name not in found.pods]
    beside = (See(by_host, negate=True),)
    if others:
        say = sentence("a pod without the annotation leaves as before, without the gateway")
        yield Check(say, "tcp", others[0], "internet", CHECK_PORT, sees=beside, origin="model")
    say = sentence("inside the virtual network, {pod} sends without the gateway", pod=pod)
    yield Check(say, "ping", pod, "vm", sees=beside, origin="model")

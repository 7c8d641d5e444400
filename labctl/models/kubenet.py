r"""AKS kubenet: a bridge on every node, and the cloud's route table between the nodes.

`labctl plan kubenet --as shell` shows every command that builds it.

      a .2     b .3                                   c .2
        |        |                                     |
    +-- node1 ------------+                 +-- node2 ------------+
    |  veth     veth      |                 |      veth           |
    |   +-cbr0-+          |                 |      cbr0           |
    |   10.244.0.1/24     |                 |   10.244.1.1/24     |
    |  eth0 10.224.0.4    |                 |  eth0 10.224.0.5    |
    +---------|-----------+                 +---------|-----------+
              |                                       |
       +----- fabric ---------------------------------------+
       |  route table of the nodes' subnet:                 |
       |  10.244.0.0/24 via 10.224.0.4   10.244.1.0/24 via 10.224.0.5
       +------|----------------------------------|----------+
              | eth0 10.225.0.4                  | 203.0.113.50
             vm                               internet 203.0.113.1

Azure's network knows nodes, not pods. Each node gets one range of the pod CIDR, and the fabric has one
user-defined route per node, which leads to that range. A node knows only its own pods and a default route.
So a packet between pods on two nodes is routed three times (TTL 64 becomes 61) and keeps both addresses.
Answers to a pod's address from outside the pod CIDR would not come back, so packets that leave it are
masqueraded to the node's address. With `routing: host`, as kubenet ran outside clouds, the fabric is a
plain Ethernet, and each node has the routes to the other nodes' ranges (TTL 62).

Follows pkg/kubelet/dockershim/network/kubenet of Kubernetes 1.23 for cbr0, and what AKS puts around it:
Azure/AgentBaker (bridge template, ensure-no-dup.sh, sysctls), Azure/ip-masq-agent-v2, the route tables
of kubernetes-sigs/cloud-provider-azure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.address_use import AddressUse
from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import Interface, Resource, Route, Rule
from labctl.core.scenario_types import Check, Machine, PublishedPort, Scenario, ScenarioNode, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source
from labctl.models.lib import (
    azure,
    azure_addressing,
    azure_egress_gateway,
    azure_outbound,
    azure_outbound_options,
    azure_platform,
    cni_bridge,
    kubernetes,
    pods,
    portmap,
    primitives,
)
from labctl.models.lib.azure_address_plan import LIMITS
from labctl.models.lib.azure_egress_gateway import EgressGateway
from labctl.models.lib.azure_outbound_options import Outbound
from labctl.models.lib.azure_platform import Platform

FOLLOWS = "kubenet of Kubernetes 1.23 (dockershim) with AKS's agents"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults(
    "pod_cidr", ("10.0.0.0/16",), refuse_service_cidr=azure_addressing.refuse_service_cidr
)
PARTS = (
    faithful("cbr0: promiscuous, hairpin off, its MAC fixed; compared with what the CNI plugin bridge makes"),
    faithful("pods' addresses in host-local's order, their veths and routes; compared with the CNI plugins"),
    faithful("nodes have no routes to other nodes' pods; the route table in the fabric has them"),
    faithful("the chains of ip-masq-agent, or the kubelet's own rule"),
    faithful("the ebtables chain against duplicate packets"),
    faithful("one MAC address answers for the whole fabric"),
    approximation("MAC addresses", "are made from names, so that a plan is always the same"),
    approximation("the route table", "is for the nodes' links only, so `vm` is a machine of another subnet"),
    faithful("`hostPort`: portmap's chains and the kubelet's masquerading mark; compared with the CNI plugin"),
    skipped("IPv6"),
    skipped("log_martians", "it would fill the log of the machine that runs labctl"),
    *azure_outbound.PARTS,
    *azure_platform.PARTS,
    *azure_egress_gateway.PARTS,
    *pods.PARTS,
)
RESERVED_NAMES = (azure_outbound.FIREWALL, azure_egress_gateway.NAMESPACE)
CNI_NETWORK_NAME = "kubenet"  # the network's name in its CNI configuration; chain names contain a digest of it
UDR_TABLE = 100  # the fabric's routing table for the subnet's route table
MAX_ROUTES = LIMITS["kubenet"].max_nodes  # of one Azure route table, and so the limit of nodes
KUBERNETES = "kubernetes/kubernetes"
_KUBENET_FILE = "pkg/kubelet/dockershim/network/kubenet/kubenet_linux.go"
_KUBENET = Component("the kubelet (kubenet)", Source(KUBERNETES, _KUBENET_FILE, "1.23"))
_ROUTES = Component(
    "cloud-provider-azure", Source("kubernetes-sigs/cloud-provider-azure", "pkg/provider/azure_routes.go")
)
_DEDUP = Component(
    "the AKS node's ensure-no-dup service",
    Source("Azure/AgentBaker", "parts/linux/cloud-init/artifacts/ensure-no-dup.sh"),
)
_WHY_UDR = _ROUTES.why(
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}). Only this user-defined route"
    " (UDR) says so: the virtual network itself knows machines, not pods, and the nodes know only their own pods."
)
_WHY_UDR_RULE = _ROUTES.why(
    "The route table belongs to the subnet of the nodes: it is used for packets that come from {iif_machine}, and not"
    " for those of machines in other subnets."
)
_WHY_NODE_ROUTE = Component(
    "the route controller",
    Source(KUBERNETES, "staging/src/k8s.io/cloud-provider/controllers/route/route_controller.go", "1.23"),
).why(
    "It leads packets for {dst} to {via_machine}, where its pods are ({dst_machines}). Without a cloud, each node"
    " needs a route to the pods of each other node."
)
_WHY_DEDUP_JUMP = _DEDUP.why("Frames that {ns} sends out of cbr0 pass the chain against duplicates.")
_WHY_DEDUP_CHAIN = _DEDUP.why(
    "cbr0 is promiscuous, so that a pod can reach itself through a Service. Then {ns} gets some packets between its"
    " pods too, and routes them a second time: this chain drops the copies."
)
_WHY_DEDUP_GATEWAY = _DEDUP.why("Packets of the node itself to its pods come from {src}: these are not copies.")
_WHY_DEDUP_DROP = _DEDUP.why(
    "A frame with the MAC address of cbr0 and the address of a pod of {ns} is a copy: the bridge itself has delivered"
    " the packet already, with the MAC address of the pod."
)
_WHY_OUTBOUND = _KUBENET.why(
    "Packets of pods to other addresses than {dst} get the address of the node: machines outside have no way back to"
    " the address of a pod."
)
_OUTBOUND = (
    '! -d {} -m comment --comment "kubenet: SNAT for outbound traffic from cluster"'
    " -m addrtype ! --dst-type LOCAL -j MASQUERADE"
)


@dataclass(frozen=True, slots=True)
class Container(pods.PodSettings):
    """The settings of a pod in a scenario."""

    host_ports: tuple[PublishedPort, ...] = option((), "host ports (hostPort): NODE_PORT:POD_PORT")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a kubenet scenario."""

    pod_cidr: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; each node gets a part of it")
    node_prefix: int = option(24, "prefix length of each node's part of pod_cidr", minimum=16, maximum=29)
    node_cidr: IPv4Network = option(cidr("10.224.0.0/16"), "the subnet of the nodes; node1 has the fourth address")
    vm_cidr: IPv4Network = option(cidr("10.225.0.0/16"), "the subnet of `vm`; it may be the same as node_cidr")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("203.0.113.50"), "public source address of outgoing traffic (SNAT by the load balancer)"
    )
    routing: str = option(
        "udr", "where the routes to pods are: in the fabric (udr), or on the nodes (host)", choices=("udr", "host")
    )
    masquerade: str = option(
        "podcidr",
        "destinations for which pods keep their addresses: pod_cidr, also node_cidr, or non_masquerade_cidr (kubelet)",
        choices=("podcidr", "podcidr+subnet", "kubelet"),
    )
    non_masquerade_cidr: IPv4Network = option(
        cidr("10.0.0.0/8"), "destinations that the kubelet does not masquerade; with 0.0.0.0/0 it masquerades nothing"
    )
    ip_forwarding: bool = option(
        True, "IP forwarding on the nodes' NICs; if off, the fabric drops packets from and to pods"
    )
    dedup: bool = option(True, "the ebtables chain that drops duplicate packets on the promiscuous bridge")
    outbound: Outbound | None = option(None, "the cluster's way out: a type, or a section of options", form="section")
    platform: Platform | None = option(
        None, "the addresses of Azure's platform: true, or a section of options", form="section"
    )
    egress_gateway: EgressGateway | None = option(
        None, "a static egress gateway: its node, or a section of options", form="section"
    )
    max_pods: int = option(110, "maximum number of pods on one node", minimum=10, maximum=250)
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=9000)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric of the chosen kind, nodes with their bridges and pods, `vm` and the internet."""
    yield from azure_egress_gateway.with_gateway(scenario, _nics(scenario), _cluster(scenario))


def _cluster(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The lab without an egress gateway."""
    options: Options = scenario.options
    nics, vm = _nics(scenario), _vm_nic(options)
    yield from _vnet(scenario) if options.routing == "udr" else _ethernet(scenario)
    outward = azure_outbound.exits(nics)
    yield from azure_outbound.way_out(options, outward, () if options.routing == "host" else (vm,))
    yield from azure_platform.services(options, (*nics, vm))
    for nic, node, pod_range in zip(nics, scenario.nodes, _ranges(scenario), strict=True):
        yield Machine(nic.machine, "node", (nic.address, pod_range.network_address + 1))
        yield from primitives.node_netns(nic.machine)
        yield from azure.attach_nic(nic)
        yield from azure.node_sysctls(nic.machine, ("eth0", "cbr0"))
        yield from azure_platform.imds_restriction(options, nic)
        yield from _cbr0(nic.machine, pod_range, options)
        yield from cni_bridge.pods_on_bridge(node, pod_range, _bridge(options))
        yield from pods.pause_and_containers(node)
        yield from portmap.host_port_chains(nic.machine, CNI_NETWORK_NAME, _host_port_pods(node, pod_range))
        yield from _masquerade(nic.machine, options)
    yield from azure.vm_machine(vm)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks that follow from the options, and Kubernetes' own rules. Without IP forwarding, pods of different nodes
    cannot reach each other, so these rules are left out."""
    options: Options = scenario.options
    first = next((pod for _, pod in scenario.pods), None)
    if first is not None and options.masquerade == "podcidr":
        say = sentence("another machine in the virtual network sees the node's address, not the pod's")
        node_name = next(node.name for node, pod in scenario.pods if pod == first)
        sees = (
            See(Interface("vm", "eth0"), src=node_name, dst="vm"),
            See(Interface("vm", "eth0"), src=first, negate=True),
        )
        yield Check(say, "ping", first, "vm", sees=sees, origin="model")
    yield from pods.checks(scenario)
    for nic, node, pod_range in zip(_nics(scenario), scenario.nodes, _ranges(scenario), strict=True):
        host_port_pods = _host_port_pods(node, pod_range)
        yield from portmap.checks(node.name, nic.address, host_port_pods, "vm", f"{node.name}/cbr0")
    yield from azure_outbound.checks(scenario, azure_outbound.exits(_nics(scenario)))
    yield from azure_egress_gateway.checks(scenario)
    yield from azure_platform.checks(scenario, masqueraded=_masquerades_platform(options))
    if options.ip_forwarding or options.routing == "host" or len(scenario.nodes) == 1:
        yield from _router_count_check(scenario)
        yield from kubernetes.network_model_checks(scenario, masqueraded=_masqueraded_pods(scenario))


def _masquerades_platform(options: Options) -> bool:
    """Whether nodes masquerade what pods send to the addresses of Azure's platform."""
    exempt = options.non_masquerade_cidr
    return options.masquerade != "kubelet" or not any(
        address in exempt for address in (azure_platform.DNS, azure_platform.IMDS)
    )


def _masqueraded_pods(scenario: Scenario) -> dict[str, IPv4Address]:
    """The pods to which no other pod keeps its address: with the kubelet's rule, those outside of its range."""
    options: Options = scenario.options
    if options.masquerade != "kubelet":
        return {}
    return cni_bridge.masqueraded_pods(scenario.nodes, _ranges(scenario), (options.non_masquerade_cidr,))


def _router_count_check(scenario: Scenario) -> Iterator[Check]:
    """A check of the routers between pods of two nodes: the nodes, and the fabric if it has the route table."""
    ends = [node.pods[0] for node in scenario.nodes if node.pods][:2]
    if len(ends) < 2:
        return
    routers = 3 if scenario.options.routing == "udr" else 2
    say = sentence("pods of different nodes are two routers apart")
    if routers == 3:
        say = sentence("pods of different nodes are three routers apart")
    source, target = ends
    yield Check(say, "ping", source, target, sees=(See(Interface(target, "eth0"), ttl=64 - routers),), origin="model")


def address_use(scenario: Scenario) -> Iterator[AddressUse]:
    """The addresses of the nodes' subnet, and of the private range of pods."""
    options: Options = scenario.options
    nodes = len(scenario.nodes)
    yield azure_addressing.subnet_use("node_cidr", options.node_cidr, ("nodes", nodes), ("for upgrades", 1))
    yield azure_addressing.pod_range_use(options.pod_cidr, nodes, options.node_prefix)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what AKS does not allow, and for ranges that are too small."""
    options: Options = scenario.options
    nodes, prefix_length = len(scenario.nodes), options.node_prefix
    if nodes > MAX_ROUTES:
        what = f"{nodes} nodes: an Azure route table has at most {MAX_ROUTES} routes, and kubenet needs one per node"
        yield "nodes", what, "use azure-cni-overlay, which needs no route table"
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, prefix_length, nodes)
    capacity = 2 ** (32 - prefix_length) - 3
    for node in scenario.nodes:
        if len(node.pods) > capacity:
            range_text = f"its /{prefix_length} has {max(capacity, 0)} addresses for them"
            what = f"{node.name} has {len(node.pods)} pods, but {range_text}"
            hint = f"pods + network, cbr0 and broadcast: a /{primitives.prefix_length_for(len(node.pods) + 3)}"
            yield "node_prefix", what, hint
    yield from azure_addressing.refuse_node_cidr(options.node_cidr, nodes)
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)
    for nic, node, pod_range in zip(_nics(scenario), scenario.nodes, _ranges(scenario), strict=False):
        host_ports = ((pod, settings.host_ports) for pod, settings in node.settings)
        yield from portmap.refuse_host_ports(node, (nic.address, pod_range.network_address + 1), host_ports)
    yield from azure_addressing.refuse_overlapping_ranges(options, "node_cidr", "pod_cidr", "vm_cidr", "internet_cidr")
    yield from azure_addressing.refuse_public_ip(options.internet_cidr, options.public_ip)
    yield from azure_addressing.refuse_reserved_ranges(options, may_be_any=("non_masquerade_cidr",))
    if options.outbound is not None and options.routing == "host":
        what = "outbound does not apply to kubenet outside of a cloud (routing: host)"
        yield "outbound", what, "use routing: udr, or remove outbound"
    yield from azure_outbound_options.refuse(options, nodes)
    yield from azure_egress_gateway.refuse(scenario)
    if options.egress_gateway is not None and options.dedup:
        what = "egress_gateway: the chain against duplicates (dedup) drops what its pods send to pods of the same node"
        yield (
            "egress_gateway",
            what,
            "such a packet passes cbr0's address, and so has its MAC address: set dedup: false",
        )
    if options.egress_gateway is not None and options.routing == "host":
        what = "egress_gateway does not apply to kubenet outside of a cloud (routing: host)"
        yield "egress_gateway", what, "use routing: udr, or remove egress_gateway"
    if options.platform is not None and options.routing == "host":
        what = "platform does not apply to kubenet outside of a cloud (routing: host)"
        yield "platform", what, "use routing: udr, or remove platform"
    if options.platform is not None and not options.platform.masq_link_local and options.masquerade == "kubelet":
        what = "masq_link_local is an option of ip-masq-agent, which does not run with masquerade: kubelet"
        yield "platform/masq_link_local", what, "remove one of them"


def _nics(scenario: Scenario) -> list[azure.Nic]:
    return azure_addressing.node_nics(scenario, scenario.options.node_cidr)


def _vm_nic(options: Options) -> azure.Nic:
    """On a plain Ethernet, `vm` is in the nodes' subnet."""
    return azure_addressing.vm_nic(
        options.node_cidr if options.routing == "host" else options.vm_cidr, options.node_cidr
    )


def _ranges(scenario: Scenario) -> list[IPv4Network]:
    options: Options = scenario.options
    return kubernetes.node_pod_ranges(options.pod_cidr, options.node_prefix, len(scenario.nodes))


def _vnet(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Azure's fabric, with the route table of the nodes' subnet: a route per node."""
    options: Options = scenario.options
    nics, vm = _nics(scenario), _vm_nic(options)
    yield Machine("fabric", "fabric", (options.node_cidr.network_address + 1, options.public_ip))
    yield from azure.fabric([*nics, vm, *azure_outbound.firewall_nics(options)], options.mtu)
    for nic, pod_range in zip(nics, _ranges(scenario), strict=True):
        yield Route("fabric", pod_range, nic.address, nic.fabric_device, UDR_TABLE, onlink=True, why=_WHY_UDR)
        if not options.ip_forwarding:
            yield from azure.anti_spoofing(nic)
    for nic in [*nics, vm] if vm.subnet == options.node_cidr else nics:
        yield Rule("fabric", UDR_TABLE, UDR_TABLE, iif=nic.fabric_device, why=_WHY_UDR_RULE)


def _ethernet(scenario: Scenario) -> Iterator[Resource | Machine]:
    """A plain Ethernet with a gateway. Every node has routes to the other nodes' ranges."""
    options: Options = scenario.options
    nics, ranges = _nics(scenario), _ranges(scenario)
    gateway = primitives.with_prefix_length(options.node_cidr.network_address + 1, options.node_cidr.prefixlen)
    yield Machine("fabric", "fabric", (gateway.ip, options.public_ip))
    yield from primitives.ethernet_segment(
        "fabric", [*(nic.machine for nic in nics), "vm"], mtu=options.mtu, gateway=gateway
    )
    for here in nics:
        for there, pod_range in zip(nics, ranges, strict=True):
            if there is not here:
                yield Route(here.machine, pod_range, there.address, "eth0", why=_WHY_NODE_ROUTE)


def _cbr0(ns: str, pod_range: IPv4Network, options: Options) -> Iterator[Resource]:
    at, gateway = Interface(ns, "cbr0"), cni_bridge.gateway_address(pod_range)
    yield from cni_bridge.node_bridge(ns, pod_range, _bridge(options))
    if not options.dedup:
        return
    name = "KUBE-DEDUP" if options.masquerade == "kubelet" else "AKS-DEDUP-PROMISC"
    head = f"-p IPv4 -s {primitives.mac(str(at))} -o veth+ --ip-src"
    rules = ((f"{head} {gateway} -j ACCEPT", _WHY_DEDUP_GATEWAY), (f"{head} {pod_range} -j DROP", _WHY_DEDUP_DROP))
    yield primitives.chain(ns, "filter", name, *rules, why=_WHY_DEDUP_CHAIN, family="bridge")
    yield primitives.chain(ns, "filter", "OUTPUT", (f"-j {name}", _WHY_DEDUP_JUMP), family="bridge")


def _bridge(options: Options) -> cni_bridge.BridgeConfig:
    return cni_bridge.BridgeConfig("cbr0", options.mtu, promisc=True)


def _host_port_pods(node: ScenarioNode, pod_range: IPv4Network) -> Iterator[portmap.HostPortPod]:
    """The pods of a node that have host ports, with their addresses."""
    settings = dict(node.settings)
    for name, pod_address in cni_bridge.pod_addresses(node, pod_range):
        if name in settings and settings[name].host_ports:
            listening = pods.listening_ports(settings[name])
            yield portmap.HostPortPod(name, pod_address, pod_range, settings[name].host_ports, "cbr0", listening)


def _masquerade(ns: str, options: Options) -> Iterator[Resource]:
    if options.masquerade == "kubelet":
        if options.non_masquerade_cidr.prefixlen:
            rule = _OUTBOUND.format(options.non_masquerade_cidr)
            yield primitives.chain(ns, "nat", "POSTROUTING", (rule, _WHY_OUTBOUND))
        return
    subnet = (options.node_cidr,) if options.masquerade == "podcidr+subnet" else ()
    yield from kubernetes.ip_masq_agent(ns, (*azure_platform.exempt_ranges(options), options.pod_cidr, *subnet))

r"""Azure CNI, transparent-vlan mode: pods of several tenants on one node, each tenant in a separate VLAN.

`labctl plan azure-cni-transparent-vlan --as shell` shows every command that builds it.

         a 10.100.0.4  b 10.100.0.5   x 10.100.1.4      c 10.100.0.6   y 10.100.1.5
         | eth0        | eth0         | eth0            | eth0         | eth0
     +--azv-----------azv--+      +--azv---------+   +--azv-------+ +--azv-------+
     |  node1-vlan7        |      | node1-vlan8  |   | node2-vlan7| | node2-vlan8|
     |  eth0_7             |      |  eth0_8      |   |  eth0_7    | |  eth0_8    |
     +----|----------------+      +----|---------+   +----|-------+ +----|-------+
          | VLAN 7                     | VLAN 8           | VLAN 7       | VLAN 8
     +----+----- node1 ----------------+---------+   +----+--- node2 ----+-------+
     |              eth0 10.224.0.4              |   |       eth0 10.224.0.5     |
     +---------------|---------------------------+   +---------|-----------------+
         +------- fabric: a router for each VLAN, and one for the nodes ----+
         |   VLAN 7: .0.4, .0.5 -> node1   .0.6 -> node2   .1.0 unreachable |
         +---------------------|--------------------------------------------+
                               | 203.0.113.50        internet 203.0.113.1

The pods belong to customers, and each customer has a separate virtual network, which the node's network must not
know. So the node gives every tenant a namespace (`az_ns_7` in Azure, node1-vlan7 here) with everything of the
tenant: its VLAN on the node's NIC, and a veth and a route for each of its pods. A pod's gateway is 169.254.2.1, an
address that no machine has; its neighbour entry is permanent. Packets from a pod get a mark (333) when they enter
the namespace, and a rule sends marked packets to the fabric through table 2, before the routes to the pods are
used. So even packets between pods of one node pass the fabric, where Azure's policy sees them (TTL 61, as between
nodes). Packets that come back through the VLAN have no mark, and are routed to their pod.

Follows Azure/azure-container-networking: network/transparent_vlan_endpointclient_linux.go, as used by its
multitenancy; node settings as Azure/AgentBaker writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import Address, Interface, Link, Neighbour, Resource, Route, Rule, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario
from labctl.core.sentence import sentence
from labctl.core.why import LABCTL, Component, Source
from labctl.models.lib import (
    azure,
    azure_addressing,
    azure_outbound,
    azure_outbound_options,
    azure_transparent,
    kubernetes,
    pods,
    primitives,
)
from labctl.models.lib.azure_outbound_options import Outbound

FOLLOWS = "Azure CNI transparent-vlan mode (azure-container-networking, multitenancy)"
MACHINES = ("nodes", "pods")
CLUSTER = kubernetes.ClusterDefaults("tenant_cidr", ("10.0.0.0/16",))
PARTS = (
    faithful(
        "a namespace for each tenant and node, with the tenant's VLAN and its pods' veths; azv names and their MAC"
    ),
    faithful("169.254.2.1 with permanent neighbours, in the pod and towards the fabric; the removed subnet route"),
    faithful("the mark, its rule and table 2, which send even packets between pods of one node to the fabric"),
    faithful("what a tenant may not reach: packets to port 80 of the wireserver are dropped"),
    faithful("rp_filter off, where marked and unmarked packets take different paths"),
    approximation(
        "the tenants' virtual networks",
        "are routing tables of the fabric, and the fabric's neighbour entries are permanent",
    ),
    approximation("pods' addresses", "are assigned in order, from a /24 for each tenant"),
    approximation("namespaces", "have names such as node1-vlan7, not az_ns_7, because names are unique in a lab"),
    approximation("MAC addresses", "of NICs and pods are made from names, so that a plan is always the same"),
    needs(
        "vlan",
        "the tenants' VLANs on the nodes' NICs",
        instead="a separate veth pair from the fabric to each tenant's namespace, which bypasses the node's eth0",
    ),
    skipped("tenants with overlapping addresses", "a check could not distinguish their packets"),
    skipped("the SNAT leg (azSnatbr, a second interface of the pods)"),
    skipped("IPv6"),
    skipped("the static egress gateway", "AKS has none with multitenancy"),
    *azure_outbound.PARTS,
    *pods.PARTS,
)
RESERVED_NAMES = (azure_outbound.FIREWALL,)
_PLUGIN = Component(
    "Azure CNI (azure-vnet, multitenancy)",
    Source("Azure/azure-container-networking", "network/transparent_vlan_endpointclient_linux.go"),
)
_FABRIC_VLAN = azure.VNET.why(
    "It is the virtual network's end of a tenant's VLAN ({id}) on one NIC: each tenant has a separate virtual network."
)
_FABRIC_VETH = LABCTL.why("It takes the place of a tenant's VLAN, which this kernel does not have.")
_TENANT_VLAN = _PLUGIN.why(
    "It is the VLAN {id} of the node's NIC, in the namespace of the tenant: packets of the tenant leave the node only"
    " by it, and so they never meet the node's own network."
)
_TENANT_VETH = LABCTL.why("It takes the place of the VLAN of the node's NIC, which this kernel does not have.")
_TENANT_NETNS = _PLUGIN.why(
    "It is the network of one tenant on one node (az_ns_VLAN in Azure), with a cable to each of its pods: the node's"
    " own network does not know the tenant."
)
_ALL_TENANTS = azure.VNET.why(
    "For the machines of the virtual network, the addresses of all tenants ({dst}) do not exist."
)
_NOT_OTHERS = azure.VNET.why("In the virtual network of this tenant (table {table}), no other address of {dst} exists.")
_NOT_NODES = azure.VNET.why("In the virtual network of this tenant (table {table}), the nodes ({dst}) do not exist.")
_ANSWERS = azure.VNET.why("Answers of the internet to {dst} are for the tenant of table {table}.")
_FROM_TENANT = azure.VNET.why("What comes in by this VLAN belongs to one tenant, and uses its virtual network.")
_FABRIC_TO_POD = azure.VNET.why("In the tenant's virtual network, {dst_machines} is behind this VLAN of its node.")
_FABRIC_NEIGHBOUR = azure.VNET.why(
    "Azure knows the MAC address of the NIC behind which {owner} is: the namespace of the tenant answers no ARP request"
    " for its pods on the VLAN."
)
_GATEWAY_ROUTE = _PLUGIN.why("The gateway {dst} is behind {dev} directly. No machine has this address.")
_OUT = _PLUGIN.why("The tenant's packets leave by {dev}, for the virtual network of the tenant.")
_OUT_MARKED = _PLUGIN.why(
    "Packets with the mark of pods find only this way out in table {table}: even those to a pod beside go to Azure's"
    " network first, so that its policy sees them."
)
_OUT_NEIGHBOUR = _PLUGIN.why(
    "The gateway has no machine that answers ARP: its MAC address {mac} is that of the fabric."
)
_MARK_RULE = _PLUGIN.why(
    "Packets with the mark {mark} come from a pod: they use table {table}, which has no routes to pods, so they go to"
    " the fabric."
)
_NO_MARK = _PLUGIN.why("A packet that comes in from the VLAN gets no mark: it is for a pod here, and is routed to it.")
_MARK = _PLUGIN.why("All other packets come from a pod: the mark sends them to the fabric.")
_NO_WIRESERVER = _PLUGIN.why(
    "A tenant may not reach the wireserver of Azure's platform ({dst}, port 80), which has secrets of the node."
)
GATEWAY = IPv4Address("169.254.2.1")
GATEWAY_PREFIX = primitives.host_prefix(GATEWAY)
FWMARK, FWMARK_TABLE, FWMARK_RULE_PREF = 333, 2, 32765  # the mark, its table, the preference that its rule gets
WIRESERVER_ADDRESS = "168.63.129.16"
TENANT_PREFIX_LENGTH = 24
TENANT_TABLE_BASE = 1000  # the fabric's table of VLAN 7 is 1007


@dataclass(frozen=True, slots=True)
class Options:
    """Options of an azure-cni-transparent-vlan scenario."""

    node_cidr: IPv4Network = option(cidr("10.224.0.0/16"), "the subnet of the nodes; node1 has the fourth address")
    tenant_cidr: IPv4Network = option(cidr("10.100.0.0/16"), "addresses of all tenants; each gets a /24 of it")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("203.0.113.50"), "public source address of outgoing traffic (SNAT by the load balancer)"
    )
    outbound: Outbound | None = option(None, "the cluster's way out: a type, or a section of options", form="section")
    max_pods: int = option(30, "maximum number of pods on one node", minimum=10, maximum=250)
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=9000)


@dataclass(frozen=True, slots=True)
class PodSettings(pods.PodSettings):
    """The settings of a pod in a scenario."""

    vlan: int = option(1, "its tenant: the id of the tenant's VLAN", minimum=1, maximum=4094)


Container = PodSettings


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant: its VLAN, its range, and its pods with their addresses, by node."""

    vlan: int
    subnet: IPv4Network
    pods: tuple[tuple[str, tuple[tuple[str, IPv4Address], ...]], ...]

    @property
    def table(self) -> int:
        """The fabric's routing table that is this tenant's virtual network."""
        return TENANT_TABLE_BASE + self.vlan

    def netns_name(self, node: str) -> str:
        """The name of its namespace on a node."""
        return f"{node}-vlan{self.vlan}"


def tenants(scenario: Scenario) -> tuple[Tenant, ...]:
    """The tenants by VLAN. Pods get addresses in the file's order, from the fourth one of their tenant's range on."""
    vlans = {pod: vlan for node in scenario.nodes for pod, vlan in _vlans(node.pods, dict(node.settings))}
    found = []
    ids = sorted(set(vlans.values()))
    ranges = kubernetes.node_pod_ranges(scenario.options.tenant_cidr, TENANT_PREFIX_LENGTH, len(ids))
    for vlan, subnet in zip(ids, ranges, strict=True):
        pods_of_tenant = [pod for node in scenario.nodes for pod in node.pods if vlans[pod] == vlan]
        address_of = {
            pod: subnet.network_address + azure_addressing.FIRST_USABLE_OFFSET + number
            for number, pod in enumerate(pods_of_tenant)
        }
        addresses_of_nodes = (
            (node.name, tuple((pod, address_of[pod]) for pod in node.pods if pod in address_of))
            for node in scenario.nodes
        )
        found.append(
            Tenant(vlan, subnet, tuple((node, addresses) for node, addresses in addresses_of_nodes if addresses))
        )
    return tuple(found)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The fabric, the nodes, a namespace for each tenant on each node that has pods of it, and the internet."""
    options: Options = scenario.options
    nics = {nic.machine: nic for nic in azure_addressing.node_nics(scenario, options.node_cidr)}
    yield Machine("fabric", "fabric", (options.node_cidr.network_address + 1, options.public_ip))
    yield from azure.fabric([*nics.values(), *azure_outbound.firewall_nics(options)], options.mtu)
    yield from azure_outbound.way_out(options, _exits(scenario, nics.values()))
    yield Route("fabric", options.tenant_cidr, kind="unreachable", why=_ALL_TENANTS)
    for node in scenario.nodes:
        nic = nics[node.name]
        yield Machine(nic.machine, "node", (nic.address,))
        yield from primitives.node_netns(nic.machine)
        yield from azure.attach_nic(nic)
        yield from azure.node_sysctls(nic.machine, ("eth0",))
        yield from pods.pause_and_containers(node)
    kernel_vlan = "vlan" not in scenario.substitute_features
    for tenant in tenants(scenario):
        yield from _network(tenant, options)
        for name, addresses in tenant.pods:
            yield from _tenant_uplink(tenant, nics[name], options.mtu, kernel_vlan=kernel_vlan)
            yield from _tenant_netns(tenant, nics[name], addresses)
            yield from _pods(tenant, nics[name], addresses, options.mtu)


def _exits(scenario: Scenario, nics: Iterable[azure.Nic]) -> tuple[azure_outbound.Exit, ...]:
    """Where packets for the internet come into the fabric: from each node, and from each tenant's VLAN on it."""
    found = list(azure_outbound.exits(nics))
    for tenant in tenants(scenario):
        for node, addresses in tenant.pods:
            device = primitives.device_name(tenant.netns_name(node))
            sources = tuple(address for _, address in addresses)
            found.append(azure_outbound.Exit(node, device, sources, tenant.subnet))
    return tuple(found)


def _network(tenant: Tenant, options: Options) -> Iterator[Resource]:
    """A tenant's virtual network: a table of the fabric, in which nodes and other tenants are unreachable."""
    yield Route("fabric", options.tenant_cidr, table=tenant.table, kind="unreachable", why=_NOT_OTHERS)
    yield Route("fabric", options.node_cidr, table=tenant.table, kind="unreachable", why=_NOT_NODES)
    for device in azure_outbound.uplink_devices(options):
        yield Rule("fabric", tenant.table, tenant.table, dst=tenant.subnet, iif=device, why=_ANSWERS)


def _tenant_uplink(tenant: Tenant, nic: azure.Nic, mtu: int, *, kernel_vlan: bool) -> Iterator[Resource]:
    """From a tenant's namespace to the fabric: a VLAN of the node's NIC, or without
    `kernel_vlan` a veth pair that bypasses the NIC."""
    ns = tenant.netns_name(nic.machine)
    inner, outer = Interface(ns, f"eth0_{tenant.vlan}"), Interface("fabric", primitives.device_name(ns))
    if kernel_vlan:
        tag = ("id", str(tenant.vlan))
        lower, own = (("dev", nic.fabric_device), tag), (("dev", "eth0"), tag)
        yield Link(outer, "vlan", None, None, mtu, azure.FABRIC_MAC, options=lower, why=_FABRIC_VLAN)
        yield Link(inner, "vlan", None, None, mtu, nic.mac, options=own, link_netns=nic.machine, why=_TENANT_VLAN)
    else:
        macs, whys = (azure.FABRIC_MAC, nic.mac), (_FABRIC_VETH, _TENANT_VETH)
        yield from primitives.veth_pair(outer, inner, mtu=mtu, macs=macs, whys=whys)
    yield from primitives.forwarding_sysctls("fabric", True, rp_filter=0, devices=(outer.dev,))
    yield Rule("fabric", tenant.table, tenant.table, iif=outer.dev, why=_FROM_TENANT)


def _tenant_netns(
    tenant: Tenant, nic: azure.Nic, addresses: Iterable[tuple[str, IPv4Address]]
) -> Iterator[Resource | Machine]:
    """A tenant's namespace on a node: two routing tables, and the rules that mark packets for the second."""
    ns, eth0 = tenant.netns_name(nic.machine), f"eth0_{tenant.vlan}"
    yield Machine(ns, "namespace", (), nic.machine)
    yield from primitives.netns(ns, why=_TENANT_NETNS)
    yield from primitives.forwarding_sysctls(
        ns, True, rp_filter=0, devices=(eth0, *(device for device, _, _ in _devices(addresses)))
    )
    for table in (254, FWMARK_TABLE):
        yield Route(ns, GATEWAY_PREFIX, dev=eth0, table=table, why=_GATEWAY_ROUTE)
        why = _OUT_MARKED if table == FWMARK_TABLE else _OUT
        yield Route(ns, primitives.ANYWHERE, GATEWAY, eth0, table, why=why)
    yield Neighbour(Interface(ns, eth0), GATEWAY, azure.FABRIC_MAC, why=_OUT_NEIGHBOUR)
    yield Rule(ns, FWMARK_RULE_PREF, FWMARK_TABLE, mark=FWMARK, why=_MARK_RULE)
    accept, mark = (f"-i {eth0} -j ACCEPT", _NO_MARK), (f"-j MARK --set-mark {FWMARK}", _MARK)
    yield primitives.chain(ns, "mangle", "PREROUTING", accept, mark)
    drop = f"-d {WIRESERVER_ADDRESS} -p tcp -m tcp --dport 80 -j DROP"
    yield primitives.chain(ns, "filter", "FORWARD", (drop, _NO_WIRESERVER))


def _pods(
    tenant: Tenant, nic: azure.Nic, addresses: Iterable[tuple[str, IPv4Address]], mtu: int
) -> Iterator[Resource | Machine]:
    """A tenant's pods on a node, each connected to the tenant's namespace, with a route in the fabric."""
    ns = tenant.netns_name(nic.machine)
    fabric = Interface("fabric", primitives.device_name(ns))
    for device, name, pod_address in _devices(addresses):
        inner, outer, host_prefix = Interface(name, "eth0"), Interface(ns, device), primitives.host_prefix(pod_address)
        yield Machine(name, "pod", (pod_address,), nic.machine)
        yield from primitives.container_netns(name)
        macs = (azure_transparent.HOST_VETH_MAC, primitives.mac(name))
        whys = (azure_transparent.HOST_END, azure_transparent.POD_END)
        yield from primitives.veth_pair(outer, inner, mtu=mtu, macs=macs, whys=whys)
        yield Sysctl(ns, f"net.ipv4.conf.{device}.proxy_arp", "1", why=azure_transparent.PROXY_ARP)
        yield Route(ns, host_prefix, dev=device, why=azure_transparent.POD_ROUTE)
        interface_address = primitives.with_prefix_length(pod_address, TENANT_PREFIX_LENGTH)
        yield Address(inner, interface_address, connected=False, why=azure_transparent.ADDRESS)
        yield Route(name, GATEWAY_PREFIX, dev="eth0", why=azure_transparent.GATEWAY_ROUTE)
        yield Route(name, primitives.ANYWHERE, GATEWAY, "eth0", why=azure_transparent.DEFAULT)
        yield Neighbour(inner, GATEWAY, azure_transparent.HOST_VETH_MAC, why=azure_transparent.GATEWAY_NEIGHBOUR)
        yield Route("fabric", host_prefix, dev=fabric.dev, table=tenant.table, why=_FABRIC_TO_POD)
        yield Neighbour(fabric, pod_address, nic.mac, why=_FABRIC_NEIGHBOUR)


def _devices(addresses: Iterable[tuple[str, IPv4Address]]) -> Iterator[tuple[str, str, IPv4Address]]:
    """Each pod with the name of its veth's other end."""
    addresses = tuple(addresses)
    devices = primitives.device_names("azv", 11, (name for name, _ in addresses))
    yield from ((device, name, pod_address) for device, (name, pod_address) in zip(devices, addresses, strict=True))


def _vlans(names: Iterable[str], settings: dict[str, PodSettings]) -> Iterator[tuple[str, int]]:
    yield from ((pod, settings.get(pod, PodSettings()).vlan) for pod in names)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Kubernetes' rule inside each tenant: every pod reaches every pod, and is seen with its own address."""
    groups = tuple(tuple(name for _, some in tenant.pods for name, _ in some) for tenant in tenants(scenario))
    if any(len(names) > 1 for names in groups):
        say = sentence("every pod reaches every pod of its tenant and is seen with its own address")
        yield Check(say, "mesh", groups=tuple((names, names) for names in groups if len(names) > 1), origin="model")
    yield from pods.checks(scenario)
    nics = azure_addressing.node_nics(scenario, scenario.options.node_cidr)
    yield from azure_outbound.checks(scenario, _exits(scenario, nics))


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for ranges that are too small, and for names that a tenant's namespace needs."""
    options: Options = scenario.options
    yield from azure_addressing.refuse_node_cidr(options.node_cidr, len(scenario.nodes))
    ranges = {
        "node_cidr": options.node_cidr,
        "tenant_cidr": options.tenant_cidr,
        "internet_cidr": options.internet_cidr,
    }
    yield from primitives.refuse_overlaps(ranges)
    yield from azure_addressing.refuse_public_ip(options.internet_cidr, options.public_ip)
    yield from azure_addressing.refuse_reserved_ranges(options)
    yield from kubernetes.refuse_pod_counts(scenario, options.max_pods)
    yield from pods.refuse(scenario)
    count = len({vlan for node in scenario.nodes for _, vlan in _vlans(node.pods, dict(node.settings))})
    too_many = list(kubernetes.refuse_pod_cidr(options.tenant_cidr, TENANT_PREFIX_LENGTH, count))
    yield from (
        ("tenant_cidr", what.replace("pod_cidr", "tenant_cidr").replace("nodes", "tenants"), hint)
        for _, what, hint in too_many
    )
    yield from azure_outbound_options.refuse(options, len(scenario.nodes))
    for tenant in () if too_many else tenants(scenario):
        yield from _refuse_tenant(tenant, scenario)


def _refuse_tenant(tenant: Tenant, scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    reserved = azure_addressing.RESERVED_ADDRESSES
    total, capacity = sum(len(addresses) for _, addresses in tenant.pods), tenant.subnet.num_addresses - reserved
    if total > capacity:
        what = f"tenant {tenant.vlan} has {total} pods, but its {tenant.subnet} has addresses for {capacity}"
        yield "nodes", what, f"Azure reserves {reserved} addresses of a subnet: spread the pods over more VLANs"
    machine_names = {node.name for node in scenario.nodes} | {pod for _, pod in scenario.pods}
    for node, _ in tenant.pods:
        ns = tenant.netns_name(node)
        if ns in machine_names or len(ns) > 63:
            why = "is the name of another machine" if ns in machine_names else "is longer than 63 letters"
            yield f"nodes/{node}", f"{ns}, the namespace of tenant {tenant.vlan} on {node}, {why}", "rename one"

"""A node of EKS as amazon-vpc-cni-k8s sets it up: its ENIs, policy routing, firewall and pods. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address
from typing import Any

from labctl.core.resources import Address, Interface, Neighbour, Resource, Route, Rule, Sysctl
from labctl.core.scenario_types import Machine, Scenario, ScenarioNode
from labctl.core.why import Component, Source, explained
from labctl.models.lib import aws, cloud_vpc, common_reasons, eks_connmark, pods, portmap, portmap_nft, primitives
from labctl.models.lib.aws import Eni

_PROJECT = "aws/amazon-vpc-cni-k8s"
_AGENT = Component("aws-node (ipamd)", Source(_PROJECT, "pkg/networkutils/network.go", "2026"))
_INIT = Component("aws-node (init container)", Source(_PROJECT, "cmd/aws-vpc-cni-init/main.go", "2026"))
_PLUGIN = Component("the CNI plugin aws-cni", Source(_PROJECT, "cmd/routed-eni-cni-plugin/driver/driver.go", "2026"))
_LOOSE = _INIT.why(
    "The two directions of a connection may use different ENIs: with 1, {ns} drops a packet that came in by eth0 if the"
    " answer leaves by eth1."
)
_DEMUX = _INIT.why("It is the kernel's own value; the agent only turns it off if a pod needs probes by another way.")
_ENI_ADDRESS = _AGENT.why(
    "It is the first address of a further ENI, the only one that {ns} itself has on it; the others are for pods. The"
    " route to the subnet is deleted: this subnet is reached by eth0."
)
_ENI_GATEWAY = _AGENT.why("In table {table}, the router of the VPC ({dst}) is behind {dev}.")
_ENI_DEFAULT = _AGENT.why("Table {table} has one way out, {dev}: for packets that must leave by this ENI.")
_FROM_ENI = _AGENT.why(
    "{ns} answers from {src} by the ENI that has this address (table {table}): the VPC drops it at any other."
)
_HOST_RULE = _AGENT.why(
    "Packets with the mark {mark} leave by eth0 (the main table), whatever pod sent them: packets to the internet, and"
    " answers to connections that came in by eth0."
)
_EXTERNAL_RULE = _AGENT.why("All pods reach {dst} by eth0: the scenario asks for it.")
_MARK_IN = eks_connmark.IPTABLES.why(
    "A connection that comes in by eth0 for a port of {ns} gets a mark: its answers leave by eth0 too."
)
_RESTORE_ENI = eks_connmark.IPTABLES.why(
    "An answer that a pod sends gets the mark of its connection back, before its route is chosen."
)
_RESTORE_VLAN = eks_connmark.IPTABLES.why("The same for pods with a separate interface (security groups for pods).")
_SNAT_EMPTY = _AGENT.why("The nodes do no SNAT here (external SNAT): the agent empties the chain and keeps it.")
_SNAT_JUMP = _AGENT.why("Packets that leave {ns} pass the chain that decides about SNAT.")
_SNAT_CHAIN = _AGENT.why("It decides which packets of pods get the address of the node.")
_SNAT_EXEMPT = _AGENT.why("Packets to {dst} keep the address of the pod: machines there can answer it.")
_SNAT_RULE = _AGENT.why(
    "All other packets get the primary address of eth0, {to}: only this one has a public address on the internet."
)
_HOST_END = _PLUGIN.why("It is the node's end of the cable of {peer_ns}: {ns} routes to each pod, and has no bridge.")
_POD_END = _PLUGIN.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_GATEWAY_ROUTE = _PLUGIN.why("The gateway {dst} is behind eth0 directly. No machine has this address.")
_POD_DEFAULT = _PLUGIN.why("The pod sends everything to {via}, which means: to its node.")
_POD_ADDRESS = _PLUGIN.why(
    "It is the pod's address, a secondary address of an ENI of its node: the VPC delivers to that ENI."
)
_POD_NEIGHBOUR = _PLUGIN.why(
    "The pod knows the MAC address of its gateway, the node's end of its cable, from the start."
)
_TO_POD_ROUTE = _PLUGIN.why("It leads packets for {dst_machines} into the cable of this pod.")
_TO_POD_RULE = _PLUGIN.why(
    "Packets to the pod {dst} use the main table, which has its cable, before any rule that looks at the source."
)
_FROM_POD_RULE = _PLUGIN.why(
    "What the pod {src_machine} sends leaves by the ENI that has its address (table {table}): the VPC drops it at any"
    " other."
)
GATEWAY = IPv4Address("169.254.1.1")
CNI_NETWORK_NAME = "aws-cni"  # the network's name in its CNI configuration; chain names contain a digest of it
TO_POD_PREF, HOST_PREF, EXTERNAL_SERVICE_PREF = 512, 1024, 1535  # preferences of the routing rules
FROM_POD_PREF, FROM_ENI_PREF = 1536, 32765
FWMARK = 0x80
RELEASES = ("1.23", "1.22")
NFT_RELEASES = ("1.23",)  # these mark connections in a table of nft
SNAT_RANDOM_OPTIONS = {"prng": " --random-fully", "hashrandom": " --random", "none": ""}
_RESTORE = "-j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80"
_SET_CONNMARK = "-j CONNMARK --set-xmark 0x80/0x80"
_PRIMARY_ENI_COMMENT = '-m comment --comment "AWS, primary ENI"'
_SNAT = '! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source'


def node_enis(scenario: Scenario, node_index: int) -> tuple[Eni, ...]:
    """The ENIs of a node: as many as its pods need and a spare one, each with all its addresses.

    Addresses are reserved for all ENIs that a node may have, so that they do not depend on the pods of other nodes.
    """
    options, node = scenario.options, scenario.nodes[node_index]
    used = -(-len(node.pods) // (options.ips_per_eni - 1))
    first = options.subnet.network_address + aws.FIRST_USABLE_OFFSET + node_index * options.enis * options.ips_per_eni
    return tuple(
        Eni(node.name, device, options.subnet, "br0", tuple(first + device * options.ips_per_eni + step
            for step in range(options.ips_per_eni)))
        for device in range(min(options.enis, max(used, 1) + 1))
    )  # fmt: skip


def vm_eni(options: Any) -> Eni:
    """The ENI of `vm`: in a separate subnet, or at the end of the nodes' subnet."""
    if options.vm_cidr == options.subnet:
        return Eni("vm", 0, options.subnet, "br0", (primitives.address_at(options.subnet, -2),))
    return Eni("vm", 0, options.vm_cidr, "br1", (options.vm_cidr.network_address + aws.FIRST_USABLE_OFFSET,))


def pod_enis(node: ScenarioNode, enis: Iterable[Eni]) -> Iterator[tuple[str, str, Eni, IPv4Address]]:
    """Each pod with the node's device to it, its ENI and its address: the first ENI's secondary ones, then the next's.

    The device's name is made from the pod's namespace and name, so that others (Calico's policy) can compute it.
    """
    devices = primitives.device_names("eni", 11, (f"default.{pod}" for pod in node.pods))
    unused = ((eni, address) for eni in enis for address in eni.addresses[1:])
    for pod, device, (eni, address) in zip(node.pods, devices, unused, strict=False):
        yield pod, device, eni, address


def attach_enis(enis: Sequence[Eni]) -> Iterator[Resource]:
    """The node's devices: eth0 as DHCP sets it up; each other one with its primary address and a separate table."""
    node, devices = enis[0].instance, [eni.interface.dev for eni in enis[1:]]
    yield from primitives.forwarding_sysctls(node, True, rp_filter=1, devices=devices)
    yield Sysctl(node, "net.ipv4.conf.eth0.rp_filter", "2", why=_LOOSE)
    yield Sysctl(node, "net.ipv4.conf.eth0.send_redirects", "0", why=common_reasons.sysctl_reason)
    yield Sysctl(node, "net.ipv4.tcp_early_demux", "1", why=_DEMUX)
    yield from aws.attach_primary_eni(enis[0])
    for eni in enis[1:]:
        device, table = eni.interface.dev, eni.routing_table
        address = primitives.with_prefix_length(eni.primary_address, eni.subnet.prefixlen)
        yield Address(eni.interface, address, connected=False, why=_ENI_ADDRESS)
        yield Route(node, primitives.host_prefix(eni.gateway), dev=device, table=table, why=_ENI_GATEWAY)
        yield Route(node, primitives.ANYWHERE, eni.gateway, device, table, why=_ENI_DEFAULT)
        yield Rule(node, FROM_ENI_PREF, table, src=primitives.host_prefix(eni.primary_address), why=_FROM_ENI)


def policy_routing_rules(node: str, options: Any) -> Iterator[Resource]:
    """The policy-routing rules of the whole node: marked packets, and packets to external services, use eth0."""
    if options.node_port_support or not options.external_snat:
        yield Rule(node, HOST_PREF, mark=FWMARK, mask=FWMARK, why=_HOST_RULE)
    for network in options.external_service_cidrs:
        yield Rule(node, EXTERNAL_SERVICE_PREF, dst=network, why=_EXTERNAL_RULE)


def firewall(eth0: Eni, options: Any, ports: Iterable[portmap.HostPortPod]) -> Iterator[Resource]:
    """The AWS chains, and those of portmap: its rules are after them in PREROUTING, before them in POSTROUTING."""
    node, snat = eth0.instance, not options.external_snat
    exempt = [(network, "") for network in (options.vpc_cidr,)]
    exempt += [(network, " EXCLUSION") for network in options.exclude_snat_cidrs]
    exempt.reverse()  # each rule is inserted before the existing ones
    marking = []
    if options.node_port_support:
        local = "-m addrtype --dst-type LOCAL --limit-iface-in"
        marking.append((f"-i eth0 {_PRIMARY_ENI_COMMENT} {local} {_SET_CONNMARK}", _MARK_IN))
    if options.node_port_support or snat:
        marking.append((f"-i eni+ {_PRIMARY_ENI_COMMENT} {_RESTORE}", _RESTORE_ENI))
    if options.node_port_support:
        marking.append((f"-i vlan+ {_PRIMARY_ENI_COMMENT} {_RESTORE}", _RESTORE_VLAN))
    yield primitives.chain(node, "mangle", "PREROUTING", *marking)
    if snat and options.release not in NFT_RELEASES:
        yield from eks_connmark.jumps(node, _RESTORE)
    if options.portmap_backend == "nftables":
        yield from portmap_nft.host_port_tables(node, ports)
    else:
        yield from portmap.host_port_chains(node, CNI_NETWORK_NAME, ports, portmap.PLUGIN_MARK_CHAIN)
    if not snat:
        yield primitives.chain(node, "nat", "AWS-SNAT-CHAIN-0", why=_SNAT_EMPTY)
        return
    jump = '-m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0'
    yield primitives.chain(node, "nat", "POSTROUTING", (jump, _SNAT_JUMP))
    ranges = [network for network, _ in exempt]
    if options.release in NFT_RELEASES:
        yield from eks_connmark.table(node, ranges)
    else:
        yield from eks_connmark.chain(node, ranges, _SET_CONNMARK)
    comment = '-m comment --comment "AWS SNAT CHAIN{}" -j RETURN'
    returns = ((f"-d {network} {comment.format(what)}", _SNAT_EXEMPT) for network, what in exempt)
    snat_rule = f"{_SNAT} {eth0.primary_address}{SNAT_RANDOM_OPTIONS[options.randomize_snat]}"
    yield primitives.chain(node, "nat", "AWS-SNAT-CHAIN-0", *returns, (snat_rule, _SNAT_RULE), why=_SNAT_CHAIN)


def routed_pods(node: ScenarioNode, enis: Iterable[Eni], mtu: int) -> Iterator[Resource | Machine]:
    """The node's pods: a route and a rule to each, and a rule from each that is not at eth0."""
    gateway = primitives.host_prefix(GATEWAY)
    for name, device, eni, address in pod_enis(node, enis):
        inner, outer = Interface(name, "eth0"), Interface(node.name, device)
        host_prefix = primitives.host_prefix(address)
        yield Machine(name, "pod", (address,), node.name)
        yield from primitives.container_netns(name)
        macs = (primitives.mac(str(outer)), primitives.mac(name))
        whys = (_HOST_END, _POD_END)
        yield from primitives.veth_pair(outer, inner, mtu=mtu, macs=macs, txqueuelen=primitives.NO_QUEUE, whys=whys)
        yield Route(name, gateway, dev="eth0", why=_GATEWAY_ROUTE)
        yield Route(name, primitives.ANYWHERE, GATEWAY, "eth0", why=_POD_DEFAULT)
        yield from explained(_POD_ADDRESS, primitives.addresses(inner, primitives.with_prefix_length(address, 32)))
        yield Neighbour(inner, GATEWAY, primitives.mac(str(outer)), why=_POD_NEIGHBOUR)
        yield Route(node.name, host_prefix, dev=device, why=_TO_POD_ROUTE)
        yield Rule(node.name, TO_POD_PREF, dst=host_prefix, why=_TO_POD_RULE)
        if eni.device_index:
            yield Rule(node.name, FROM_POD_PREF, eni.routing_table, src=host_prefix, why=_FROM_POD_RULE)


def host_port_pods(node: ScenarioNode, enis: Iterable[Eni]) -> Iterator[portmap.HostPortPod]:
    """The pods of a node that have host ports."""
    settings = dict(node.settings)
    for pod, device, _, address in pod_enis(node, enis):
        if pod in settings and settings[pod].host_ports:
            listening = pods.listening_ports(settings[pod])
            yield portmap.HostPortPod(
                pod, address, primitives.host_prefix(address), settings[pod].host_ports, device, listening
            )


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for pods and nodes without addresses, and for ranges that conflict."""
    options, nodes = scenario.options, len(scenario.nodes)
    capacity = options.enis * (options.ips_per_eni - 1)
    sum_text = f"{options.enis} ENIs x ({options.ips_per_eni} - 1) = {capacity}"
    for node in scenario.nodes:
        if len(node.pods) > capacity:
            hint = f"{sum_text}: the node has the first address of an ENI; raise enis or ips_per_eni, or use more nodes"
            what = f"{node.name} has {len(node.pods)} pods, but addresses for {capacity}"
            yield f"nodes/{node.name}/pods", what, hint
    addresses_per_node, more = options.enis * options.ips_per_eni, options.vm_cidr == options.subnet
    needed, available = nodes * addresses_per_node + more, options.subnet.num_addresses - aws.RESERVED_ADDRESSES
    if needed > available:
        what = f"subnet {options.subnet} has {max(available, 0)} addresses, but {nodes} nodes may need {needed}"
        remedy = f"a /{primitives.prefix_length_for(needed + aws.RESERVED_ADDRESSES)} is large enough"
        sum_text = f"{nodes} x {options.enis} ENIs x {options.ips_per_eni}{' + 1 for vm' if more else ''} = {needed}"
        yield "subnet", what, f"{sum_text}, and AWS reserves {aws.RESERVED_ADDRESSES}: {remedy}"
    yield from _refuse_ranges(options, nodes)
    for number, node in enumerate(scenario.nodes):
        addresses = [eni.primary_address for eni in node_enis(scenario, number)]
        yield from portmap.refuse_host_ports(
            node, addresses, ((pod, settings.host_ports) for pod, settings in node.settings)
        )


def _refuse_ranges(options: Any, node_count: int) -> Iterator[tuple[str, str, str]]:
    for key in ("subnet", "vm_cidr"):
        if not getattr(options, key).subnet_of(options.vpc_cidr):
            what = f"{key} {getattr(options, key)} is not in vpc_cidr {options.vpc_cidr}"
            yield key, what, "set vpc_cidr to a range that contains all subnets"
    if not 16 <= options.vpc_cidr.prefixlen <= 28:
        yield "vpc_cidr", f"vpc_cidr {options.vpc_cidr} has the wrong size for a VPC", "AWS accepts a /16 to a /28"
    yield from cloud_vpc.refuse_overlapping_ranges(options, "subnet", aws.RESERVED_ADDRESSES)
    yield from primitives.refuse_overlaps({"vpc_cidr": options.vpc_cidr, "internet_cidr": options.internet_cidr})
    yield from primitives.refuse_public_ip(options.internet_cidr, options.public_ip)
    last = options.public_ip + (0 if options.external_snat else node_count - 1)
    if (
        last != options.public_ip
        and options.public_ip in options.internet_cidr
        and (last not in options.internet_cidr or last == options.internet_cidr.broadcast_address)
    ):
        what = f"internet_cidr {options.internet_cidr} has too few addresses from public_ip on for {node_count} nodes"
        hint = f"{options.public_ip} + {node_count} - 1 = {last}: use a lower public_ip, or a larger range"
        yield "public_ip", what, hint

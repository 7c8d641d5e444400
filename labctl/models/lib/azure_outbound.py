"""The way out of an AKS cluster, built in the fabric: `outbound:` of the Azure models.

    loadBalancer         each node's connections get the ports of one block of a public address
    natGateway           all nodes share all ports of the public addresses; neither takes part in ICMP
    userDefinedRouting   the fabric leads packets for the internet to `azure-firewall`, which filters them
    none                 the fabric has no route to the internet for them
    block                a security rule drops them at the fabric

A public address is never on a machine: the fabric translates to it at its edge. So a block of ports is a range of an
SNAT rule there. The kernel uses a port of the range again for another destination, as Azure does, and drops the first
packet of a connection that gets no free port.

Follows azure/load-balancer/load-balancer-outbound-connections.md, azure/nat-gateway/nat-gateway-resource.md and
azure/firewall/snat-private-range.md of MicrosoftDocs/azure-docs, and egress-outboundtype.md of azure-aks-docs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.resources import Interface, Resource, Route, Rule
from labctl.core.scenario_types import Check, Machine, NetworkRule, PortRange, Scenario, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source
from labctl.models.lib import azure, cloud_vpc, primitives
from labctl.models.lib.azure_outbound_options import FIRST_PORT, NAT_GATEWAYS, PORTS_PER_ADDRESS, Outbound

PARTS = (
    approximation("the load balancer", "is one SNAT rule without port blocks, unless `outbound:` asks for them"),
    faithful("`outbound:` with blocks of SNAT ports for each node, which are used again for each destination"),
    approximation("a node's block of ports", "is chosen by the order of the nodes, and is never moved"),
    approximation("the NAT gateway", "chooses a public address at random for each connection"),
    approximation(
        "Azure Firewall", "is one machine with network rules; it has no application rules and no threat intelligence"
    ),
    skipped(
        "the idle timeouts and the waiting times of SNAT ports",
        "the kernel keeps a connection as long as its conntrack timeouts say, which are longer for TCP",
    ),
)
_NAT_GATEWAY = Component("Azure's NAT gateway", Source(azure.DOCS, "articles/nat-gateway/nat-gateway-resource.md"))
_FIREWALL = Component("Azure Firewall", Source(azure.DOCS, "articles/firewall/snat-private-range.md"))
_ROUTE_TABLE = Component(
    "the user's route table", Source("MicrosoftDocs/azure-aks-docs", "articles/aks/egress-outboundtype.md")
)
_SECURITY_GROUP = Component(
    "a network security group", Source("MicrosoftDocs/azure-aks-docs", "articles/aks/egress-outboundtype.md")
)
_WHY_BLOCK = azure.LOAD_BALANCER.why(
    "Connections of {src_machine} to the internet get the ports of the block of its node: {to}. If all ports of the"
    " block are in use to one destination, a new connection there is dropped."
)
_WHY_ICMP = azure.LOAD_BALANCER.why(
    "An ICMP message of {src_machine} has no ports: it gets the public address {to} only."
)
_WHY_NAT = _NAT_GATEWAY.why(
    "Connections of the machines in {src} get a public address of the NAT gateway, {to}. All machines share all ports."
)
_WHY_NO_ICMP = _NAT_GATEWAY.why("The NAT gateway translates TCP and UDP only: an ICMP message of {src} does not leave.")
_WHY_TO_FIREWALL = _ROUTE_TABLE.why(
    "The route 0.0.0.0/0 of the user's route table leads to {via_machine}, which filters."
)
_WHY_USE_TABLE = _ROUTE_TABLE.why(
    "The route table belongs to the subnet of the nodes: packets of {iif_machine} to the internet ({dst}) use it."
)
_WHY_FIREWALL_SNAT = _FIREWALL.why("The firewall has the public address {to}: machines behind it share this address.")
_FIREWALL_NETNS = _FIREWALL.why("It is Azure Firewall: everything that the nodes send to the internet passes it.")
_WHY_ANSWERS = _FIREWALL.why("Answers of connections that a rule has allowed pass without another rule.")
_WHY_ALLOWED = Component("Azure Firewall", Source("the scenario file", "outbound: allow:")).why(
    "It is a network rule of the user: these connections may leave."
)
_WHY_LOGGED = _FIREWALL.why("The firewall logs what it refuses (tcpdump -i nflog:26 in {ns} shows it).")
_WHY_REFUSED = _FIREWALL.why("What no network rule allows is dropped: this is the firewall's default.")
_WHY_MASQUERADE = _FIREWALL.why(
    "The firewall gives packets its own private address: so the answers come back to it, and not to a node directly."
)
_WHY_BLOCKED = _SECURITY_GROUP.why(
    "A security rule denies new connections of {iif_machine} to the internet. Answers of connections from outside pass."
)
_WHY_NO_ROUTE = azure.VNET.why(
    "There is no way to the internet for these machines: the virtual network drops the packet."
)
_WHY_USE_NO_ROUTE = azure.VNET.why("Packets of {src} that come in by {iif} have no way to the internet ({dst}).")
FIREWALL = "azure-firewall"
FIREWALL_LOG_GROUP = 26  # `tcpdump -i nflog:26` in azure-firewall shows what it refuses
LAST_PORT = 65_535
ROUTE_TABLE = 90  # the fabric's table for the route table of the nodes' subnet, with its route 0.0.0.0/0
NO_ROUTE_TABLE = 91  # the fabric's table for machines without a way to the internet
CHECK_PORTS = (443, 80, 8080, 25, 53, 22)  # ports of the checks, the first one that fits


@dataclass(frozen=True, slots=True)
class Exit:
    """A device of the fabric by which a node's packets come in, with the source addresses that they have there and the
    subnet that these are in."""

    node: str
    device: str
    addresses: tuple[IPv4Address, ...]
    subnet: IPv4Network


@dataclass(frozen=True, slots=True)
class PortBlock:
    """The ports of a public address that a load balancer gives to one node."""

    address: IPv4Address
    ports: PortRange


def exits(nics: Iterable[azure.Nic]) -> tuple[Exit, ...]:
    """The exits of nodes that send everything with the address of their NIC, or that of a pod that is their own."""
    return tuple(Exit(nic.machine, nic.fabric_device, (nic.address,), nic.subnet) for nic in nics)


def firewall_nics(options: Any) -> tuple[azure.Nic, ...]:
    """The NIC of `azure-firewall`, if there is one: the fabric needs a link to it."""
    outbound: Outbound | None = options.outbound
    if outbound is None or outbound.type != "userDefinedRouting":
        return ()
    subnet = outbound.firewall_cidr
    return (azure.Nic(FIREWALL, primitives.address_at(subnet, 4), subnet),)


def uplink_devices(options: Any) -> tuple[str, ...]:
    """The fabric's devices by which packets of the internet come back to nodes and pods."""
    return tuple(nic.fabric_device for nic in firewall_nics(options)) or (azure.PUBLIC_DEVICE,)


def port_blocks(outbound: Outbound, public_ip: IPv4Address, node_count: int) -> tuple[PortBlock, ...]:
    """The block of each node, in their order. An address has as many blocks as fit in its 64,000 ports."""
    ports, addresses = outbound.ports_per_node(node_count), outbound.addresses(public_ip)
    per_address = PORTS_PER_ADDRESS // ports
    blocks = (
        (addresses[number // per_address], FIRST_PORT + number % per_address * ports) for number in range(node_count)
    )
    return tuple(PortBlock(address, PortRange(first, first + ports - 1)) for address, first in blocks)


def way_out(options: Any, nodes: Iterable[Exit], others: Iterable[azure.Nic] = ()) -> Iterator[Resource | Machine]:
    """The internet behind the fabric, and the chosen way to it.

    `others` are machines of the virtual network that are not nodes. Without `outbound:` they leave like the nodes. With
    it, only those in the nodes' subnet leave, and only if the way belongs to the subnet.
    """
    nodes, others, outbound = tuple(nodes), tuple(others), options.outbound
    if outbound is None:
        yield from azure.internet_uplink(options.internet_cidr, options.public_ip, options.mtu)
        return
    addresses = () if outbound.type in ("none", "block") else outbound.addresses(options.public_ip)
    used = dict.fromkeys((options.public_ip, *addresses))
    yield from cloud_vpc.internet_uplink(options.internet_cidr, used, options.mtu, azure.PUBLIC_DEVICE)
    subnets = tuple(dict.fromkeys(one.subnet for one in nodes))
    of_subnet = outbound.type == "userDefinedRouting" or outbound.type in NAT_GATEWAYS
    beside = tuple(nic for nic in others if of_subnet and nic.subnet in subnets)
    devices = tuple(dict.fromkeys(one.device for one in nodes))
    if outbound.type == "loadBalancer":
        yield from _load_balancer(options, nodes)
    elif outbound.type in NAT_GATEWAYS:
        yield from _nat_gateway(addresses, subnets)
    elif outbound.type == "userDefinedRouting":
        yield from _firewall_route(options, (*devices, *(nic.fabric_device for nic in beside)))
    elif outbound.type == "block":
        new = "-m conntrack --ctstate NEW -j DROP"  # a security group lets the answers of connections from outside pass
        rules = (f"-i {device} -o {azure.PUBLIC_DEVICE} {new}" for device in devices)
        yield primitives.chain("fabric", "filter", "FORWARD", *((rule, _WHY_BLOCKED) for rule in rules))
    without = [(nic.fabric_device, nic.subnet) for nic in others if nic not in beside]
    without += [(one.device, one.subnet) for one in nodes] if outbound.type == "none" else []
    yield from _no_route(options, without)


def _node_addresses(nodes: Iterable[Exit]) -> dict[str, list[IPv4Address]]:
    """The source addresses of each node's packets, by node."""
    found: dict[str, list[IPv4Address]] = {}
    for one in nodes:
        found.setdefault(one.node, []).extend(one.addresses)
    return found


def _load_balancer(options: Any, nodes: Iterable[Exit]) -> Iterator[Resource]:
    """An outbound rule: for each node the ports of its block. An ICMP message has no ports."""
    by_node = _node_addresses(nodes)
    blocks = port_blocks(options.outbound, options.public_ip, len(by_node))
    for block, sources in zip(blocks, by_node.values(), strict=True):
        for source in sources:
            head = f"-s {source} -o {azure.PUBLIC_DEVICE}"
            ports = f"-j SNAT --to-source {block.address}:{block.ports}"
            rules = [(f"{head} -p {protocol} {ports}", _WHY_BLOCK) for protocol in ("tcp", "udp")]
            rules.append((f"{head} -p icmp -j SNAT --to-source {block.address}", _WHY_ICMP))
            yield primitives.chain("fabric", "nat", "POSTROUTING", *rules)


def _nat_gateway(addresses: tuple[IPv4Address, ...], subnets: Iterable[IPv4Network]) -> Iterator[Resource]:
    """All ports of all addresses for TCP and UDP of whole subnets. Azure's NAT gateway translates no ICMP."""
    for subnet in subnets:
        head = f"-s {subnet} -o {azure.PUBLIC_DEVICE}"
        for protocol in ("tcp", "udp"):
            for number, address in enumerate(addresses):
                left = len(addresses) - number
                share = f" -m statistic --mode random --probability {1 / left:.11f}" if left > 1 else ""
                goal = f"-j SNAT --to-source {address}:{FIRST_PORT}-{LAST_PORT}"
                rule = f"{head} -p {protocol}{share} {goal}"
                yield primitives.chain("fabric", "nat", "POSTROUTING", (rule, _WHY_NAT))
        yield primitives.chain("fabric", "filter", "FORWARD", (f"{head} -p icmp -j DROP", _WHY_NO_ICMP))


def _firewall_route(options: Any, devices: Iterable[str]) -> Iterator[Resource | Machine]:
    """The route table of the nodes' subnet (0.0.0.0/0 to the firewall), and the firewall with its public address."""
    outbound: Outbound = options.outbound
    (nic,) = firewall_nics(options)
    device, table = nic.fabric_device, ROUTE_TABLE
    yield Route("fabric", primitives.ANYWHERE, nic.address, device, table, onlink=True, why=_WHY_TO_FIREWALL)
    for device in dict.fromkeys(devices):
        yield Rule("fabric", table, table, dst=options.internet_cidr, iif=device, why=_WHY_USE_TABLE)
    public = outbound.addresses(options.public_ip)[0]
    snat = f"-s {nic.address} -o {azure.PUBLIC_DEVICE} -j SNAT --to-source {public}"
    yield primitives.chain("fabric", "nat", "POSTROUTING", (snat, _WHY_FIREWALL_SNAT))
    yield Machine(FIREWALL, "machine", (nic.address,))
    yield from primitives.netns(FIREWALL, why=_FIREWALL_NETNS)
    yield from primitives.forwarding_sysctls(FIREWALL, True, rp_filter=0)
    yield from azure.attach_nic(nic)
    allowed = ((_network_rule(one), _WHY_ALLOWED) for one in outbound.allow)
    yield primitives.chain(
        FIREWALL,
        "filter",
        "FORWARD",
        ("-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", _WHY_ANSWERS),
        *allowed,
        (f'-j NFLOG --nflog-group {FIREWALL_LOG_GROUP} --nflog-prefix "Action: Deny"', _WHY_LOGGED),
        ("-j DROP", _WHY_REFUSED),
    )
    yield primitives.chain(FIREWALL, "nat", "POSTROUTING", ("-o eth0 -j MASQUERADE", _WHY_MASQUERADE))


def _network_rule(one: NetworkRule) -> str:
    """A network rule of the firewall as a rule of iptables."""
    goal = "" if not one.destination.prefixlen else f"-d {one.destination} "
    protocol = "" if one.protocol == "any" else f"-p {one.protocol} "
    port = "" if one.ports is None else f"--dport {str(one.ports).replace('-', ':')} "
    return f"{goal}{protocol}{port}-m conntrack --ctstate NEW -j ACCEPT"


def _no_route(options: Any, links: Iterable[tuple[str, IPv4Network]]) -> Iterator[Resource]:
    """No way to the internet for what comes from these devices with a source of these subnets: the fabric drops it and
    reports nothing. The answers of a load balancer have another source."""
    links = tuple(links)
    if links:
        yield Route("fabric", primitives.ANYWHERE, table=NO_ROUTE_TABLE, kind="blackhole", why=_WHY_NO_ROUTE)
    for device, subnet in links:
        pref, dst = NO_ROUTE_TABLE, options.internet_cidr
        yield Rule("fabric", pref, NO_ROUTE_TABLE, src=subnet, dst=dst, iif=device, why=_WHY_USE_NO_ROUTE)


def checks(scenario: Scenario, nodes: Iterable[Exit]) -> Iterator[Check]:
    """What follows from `outbound:`: whether pods reach the internet, and the public address that it sees."""
    outbound: Outbound | None = scenario.options.outbound
    nodes = tuple(nodes)
    elsewhere = getattr(scenario.options, "egress_gateway", None)
    others = () if elsewhere is None else elsewhere.pods
    ends = tuple((node.name, pod) for node in scenario.nodes for pod in node.pods[:1] if pod not in others)
    if outbound is None or not ends:
        return
    found = {
        "loadBalancer": _load_balancer_checks,
        "userDefinedRouting": _firewall_checks,
        "none": _closed_checks,
        "block": _closed_checks,
    }.get(outbound.type, _nat_gateway_checks)
    yield from found(scenario.options, nodes, ends)


_Ends = tuple[tuple[str, str], ...]  # nodes, each with its first pod
_EDGE = Interface("internet", "eth0")


def _load_balancer_checks(options: Any, nodes: tuple[Exit, ...], ends: _Ends) -> Iterator[Check]:
    names = tuple(_node_addresses(nodes))
    blocks = dict(zip(names, port_blocks(options.outbound, options.public_ip, len(names)), strict=True))
    for node, pod in ends[:2]:
        block = blocks[node]
        say = sentence(
            "a connection of a pod on {node} leaves with a port of the node's block: {address}, {ports}",
            node=node,
            address=block.address,
            ports=block.ports,
        )
        see = See(_EDGE, src=str(block.address), sport=block.ports, direction="in")
        yield Check(say, "tcp", pod, "internet", CHECK_PORTS[0], sees=(see,), origin="model")


def _nat_gateway_checks(options: Any, nodes: tuple[Exit, ...], ends: _Ends) -> Iterator[Check]:
    """Of several public addresses, it is not known which one a connection gets: then it is not the node's."""
    addresses, ports = options.outbound.addresses(options.public_ip), PortRange(FIRST_PORT, LAST_PORT)
    for node, pod in ends[:2]:
        say = sentence("a pod on {node} reaches the internet through the NAT gateway", node=node)
        see = See(_EDGE, src=str(addresses[0]), sport=ports, direction="in")
        if len(addresses) > 1:
            see = See(_EDGE, src=node, negate=True)
        yield Check(say, "tcp", pod, "internet", CHECK_PORTS[0], sees=(see,), origin="model")
    node, pod = ends[0]
    say = sentence("the NAT gateway translates TCP and UDP only, so a ping of the internet is lost")
    sees = (*_entry(nodes, node), See(_EDGE, negate=True))
    yield Check(say, "ping", pod, "internet", expect="fail", sees=sees, origin="model")


def _firewall_checks(options: Any, nodes: tuple[Exit, ...], ends: _Ends) -> Iterator[Check]:
    outbound: Outbound = options.outbound
    at, target = Interface(FIREWALL, "eth0"), options.internet_cidr.network_address + 1
    public = str(outbound.addresses(options.public_ip)[0])
    pod = ends[0][1]
    open_port = next((port for port in _candidate_ports(outbound.allow) if _allows(outbound, target, port)), None)
    closed = next((port for port in (*CHECK_PORTS, *range(1024, 1100)) if not _allows(outbound, target, port)), None)
    if open_port is not None:
        say = sentence(
            "the firewall lets a pod out to tcp port {port}, and the internet sees the firewall's public address",
            port=open_port,
        )
        sees = (See(at, direction="in"), See(_EDGE, src=public, direction="in"))
        yield Check(say, "tcp", pod, "internet", open_port, sees=sees, origin="model")
        say = sentence("the reply comes back through the firewall, which knows the connection")
        sees = (See(at, packet="reply", direction="in"), See(at, packet="reply", direction="out"))
        yield Check(say, "tcp", pod, "internet", open_port, sees=sees, origin="model")
    if closed is not None:
        say = sentence("no rule of the firewall allows tcp port {port}, so it drops the packet", port=closed)
        sees = (See(at, direction="in"), See(_EDGE, negate=True))
        yield Check(say, "tcp", pod, "internet", closed, expect="timeout", sees=sees, origin="model")


def _candidate_ports(rules: Iterable[NetworkRule]) -> tuple[int, ...]:
    """Ports that the rules name, and a few others."""
    return (*(one.ports.first for one in rules if one.ports is not None), *CHECK_PORTS)


def _allows(outbound: Outbound, target: IPv4Address, port: int) -> bool:
    """Whether the firewall lets a TCP connection to this address and port out."""
    return any(
        one.protocol in ("tcp", "any") and target in one.destination and (one.ports is None or port in one.ports)
        for one in outbound.allow
    )


def _closed_checks(options: Any, nodes: tuple[Exit, ...], ends: _Ends) -> Iterator[Check]:
    why = {
        "none": sentence("the fabric has no route to it for the nodes"),
        "block": sentence("a security rule drops the packet at the fabric"),
    }[options.outbound.type]
    node, pod = ends[0]
    for source in (pod, node):
        say = sentence("{source} has no way to the internet: {why}", source=source, why=why)
        sees = (*_entry(nodes, node), See(_EDGE, negate=True))
        yield Check(say, "tcp", source, "internet", CHECK_PORTS[0], expect="timeout", sees=sees, origin="model")


def _entry(nodes: tuple[Exit, ...], node: str) -> tuple[See, ...]:
    """The packet as it enters the fabric, which proves that it was sent; nothing if a node has several links there."""
    devices = dict.fromkeys(one.device for one in nodes if one.node == node)
    return tuple(See(Interface("fabric", device), direction="in") for device in devices if len(devices) == 1)

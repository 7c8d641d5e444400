"""The overlay networks of a swarm, the containers in them with their addresses, and the errors for both. Pure.

A swarm assigns network numbers and addresses centrally, in the order of the requests. Some belong to parts that
labctl leaves out: the first network and VNI 4096 are `ingress`; the ingress sandbox has the first address on
docker_gwbridge; a network's load balancer on a host has the address after the first container there. These numbers
and addresses stay unused, so that all others are the same as in a real swarm.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import NamedTuple

from labctl.core.names import did_you_mean
from labctl.core.scenario_types import Scenario, ScenarioNode
from labctl.models.lib import docker_underlay, primitives

Refusal = tuple[str, str, str]
DEFAULT_NETWORK = "ov"  # the network of a scenario without `networks`
PREDEFINED_NETWORKS = ("bridge", "docker_gwbridge", "host", "ingress", "none")  # networks that every swarm has
ADDRESS_POOL, SUBNET_PREFIX_LENGTH = IPv4Network("10.0.0.0/8"), 24  # docker swarm init --default-addr-pool
INGRESS_VNI = 4096  # the first VNI of ovmanager, for the first network, ingress
OVERHEAD_BYTES = 50  # bytes of the Ethernet, IP, UDP and VXLAN headers around a packet
MIN_MTU, MAX_MTU = 68, 65535  # the smallest MTU for IPv4, and the largest of a Linux device
DEFAULT_MTU = 1500  # the MTU that Docker assumes for the hosts' network


class OverlayNetwork(NamedTuple):
    """An overlay network: its subnet, its VNI, and the MTU inside the tunnel."""

    name: str
    subnet: IPv4Network
    vni: int
    mtu: int = DEFAULT_MTU - OVERHEAD_BYTES
    internal: bool = False

    @property
    def gateway(self) -> IPv4Address:
        """The address of br0: the first of the subnet, the same on every host."""
        return self.subnet.network_address + 1

    def netns_name(self, host: str) -> str:
        """The name of the network's namespace on a host; in Docker `1-` and ten letters of the network's id."""
        return f"{host}-{self.name}"


class OverlayEndpoint(NamedTuple):
    """A container's endpoint in an overlay network, and the address of its host (VTEP)."""

    container: str
    device: str
    network: OverlayNetwork
    address: IPv4Address
    vtep: IPv4Address

    @property
    def mac(self) -> str:
        """The MAC address: 02:42 and the IP address, so that every host can compute it."""
        return "02:42:" + self.address.packed.hex(":")


class ContainerEndpoints(NamedTuple):
    """The networks of a container: overlay networks, and docker_gwbridge if one of them is not internal."""

    container: str
    endpoints: tuple[OverlayEndpoint, ...]
    gwbridge_endpoint: tuple[str, IPv4Address] | None  # the device and its address on docker_gwbridge


def overlay_networks(scenario: Scenario) -> dict[str, OverlayNetwork]:
    """Every overlay network by its name, in the order of creation; without those that get no free subnet."""
    options = scenario.options
    declared = dict(scenario.networks) or {DEFAULT_NETWORK: None}
    taken = [options.underlay, options.docker0, options.docker_gwbridge, IPv4Network(options.internet_ip)]
    taken += [settings.subnet for settings in declared.values() if settings is not None and settings.subnet is not None]
    taken.append(next(ADDRESS_POOL.subnets(new_prefix=SUBNET_PREFIX_LENGTH)))  # that of the network `ingress`
    unused_subnets = primitives.free_subnets(ADDRESS_POOL, SUBNET_PREFIX_LENGTH, taken)
    nets = {}
    for number, (name, settings) in enumerate(declared.items()):
        subnet = next(unused_subnets, None) if settings is None or settings.subnet is None else settings.subnet
        if subnet is not None:
            mtu, internal = (DEFAULT_MTU, False) if settings is None else (settings.mtu, settings.internal)
            nets[name] = OverlayNetwork(name, subnet, INGRESS_VNI + 1 + number, mtu - OVERHEAD_BYTES, internal)
    return nets


def container_endpoints(
    scenario: Scenario, networks_by_name: dict[str, OverlayNetwork]
) -> dict[str, tuple[ContainerEndpoints, ...]]:
    """The containers of every host with their networks, in the order of their start."""
    next_addresses = {name: count(int(net.subnet.network_address) + 2) for name, net in networks_by_name.items()}
    containers_of = {}
    for number, node in enumerate(scenario.nodes):
        vtep = docker_underlay.host_address(scenario.options.underlay, number)
        gwbridge_addresses = count(int(scenario.options.docker_gwbridge.network_address) + 3)
        networks_with_balancer: set[str] = set()
        containers = []
        for container, names in container_networks(node, networks_by_name):
            ends: list[OverlayEndpoint] = []
            gwbridge_endpoint = None
            devices = (f"eth{index}" for index in count())
            for name in (name for name in names if name in networks_by_name):
                net = networks_by_name[name]
                ends.append(
                    OverlayEndpoint(container, next(devices), net, IPv4Address(next(next_addresses[name])), vtep)
                )
                if name not in networks_with_balancer:
                    networks_with_balancer.add(name)
                    next(next_addresses[name])
                if gwbridge_endpoint is None and not net.internal:
                    gwbridge_endpoint = (next(devices), IPv4Address(next(gwbridge_addresses)))
            containers.append(ContainerEndpoints(container, tuple(ends), gwbridge_endpoint))
        containers_of[node.name] = tuple(containers)
    return containers_of


def container_networks(
    node: ScenarioNode, networks_by_name: dict[str, OverlayNetwork]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each container of a host with the names of its networks; the first network, if it names none."""
    settings = dict(node.settings)
    for name in node.pods:
        container = settings.get(name)
        yield name, container.networks if container is not None and container.networks else tuple(networks_by_name)[:1]


def refuse_names(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for networks that do not exist or are listed twice, and for names of namespaces that conflict."""
    nets = overlay_networks(scenario)
    machines = {"internet", "fabric", *(node.name for node in scenario.nodes), *(name for _, name in scenario.pods)}
    for name in (name for name, _ in scenario.networks if name in PREDEFINED_NETWORKS):
        yield f"networks/{name}", f"the network name {name!r} is reserved by Docker", "choose another name"
    for node in scenario.nodes:
        for name, net in nets.items():
            netns_name = net.netns_name(node.name)
            at = f"networks/{name}" if scenario.networks else "hosts"
            if netns_name in machines:
                what = f"the namespace of network {name} on {node.name} needs the name {netns_name}"
                yield at, what, "rename the machine"
            if len(netns_name) > 63:
                what = f"{netns_name}, the namespace of network {name} on {node.name}, is longer than 63 letters"
                yield at, what, "shorten a name"
        for container, names in container_networks(node, nets):
            at = f"hosts/{node.name}/containers/{container}/networks"
            for number, name in enumerate(names):
                yield from (
                    (f"{at}/{number}", *refusal) for refusal in _refuse_network_name(name, names[:number], nets)
                )


def _refuse_network_name(
    name: str, before: tuple[str, ...], networks_by_name: dict[str, OverlayNetwork]
) -> Iterator[tuple[str, str]]:
    if name in before:
        yield f"networks: {name!r} is listed twice", "remove one of them"
    elif name not in networks_by_name:
        known = f"the networks are {', '.join(networks_by_name) or 'none'}"
        hint = did_you_mean(name, networks_by_name, quote=repr) or known
        yield f"networks: there is no overlay network {name!r}", hint


def refuse_sizes(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for overlapping ranges, more containers than addresses or bridge ports, and an MTU that is too small."""
    nets, options = overlay_networks(scenario), scenario.options
    containers_of = container_endpoints(scenario, nets)
    for name in (name for name, _ in scenario.networks if name not in nets):
        yield f"networks/{name}", f"no free subnet is left for network {name}", "set its subnet"
    if not scenario.networks and DEFAULT_NETWORK not in nets:
        what = f"no free subnet is left for the network {DEFAULT_NETWORK}"
        yield (
            "hosts",
            what,
            f"the other ranges take all of {ADDRESS_POOL}; or name a network with a subnet in `networks`",
        )
    for name, net in nets.items():
        yield from _refuse_full_network(net, containers_of, f"networks/{name}" if scenario.networks else "hosts")
    for host, containers in containers_of.items():
        external_count = sum(container.gwbridge_endpoint is not None for container in containers)
        capacity = min(options.docker_gwbridge.num_addresses - 4, primitives.MAX_BRIDGE_PORTS)
        if external_count > capacity:
            bridge = f"docker_gwbridge {options.docker_gwbridge}"
            what = f"{host} has {external_count} containers, but {bridge} takes {max(capacity, 0)}"
            yield "docker_gwbridge", what, "spread them over more hosts, or give it a larger subnet"
    keys = {f"network {name}": f"networks/{name}/subnet" for name in nets}
    ranges = {name: getattr(options, name) for name in ("underlay", "docker0", "docker_gwbridge")}
    ranges |= {"internet_ip": IPv4Network(options.internet_ip)}
    ranges |= {f"network {name}": net.subnet for name, net in nets.items()}
    yield from ((keys.get(label, label), what, hint) for label, what, hint in primitives.refuse_overlaps(ranges))


def _refuse_full_network(
    net: OverlayNetwork, endpoints_of: dict[str, tuple[ContainerEndpoints, ...]], path: str
) -> Iterator[Refusal]:
    counts = [
        sum(end.network == net for container in containers for end in container.endpoints)
        for containers in endpoints_of.values()
    ]
    endpoint_count, balancers = sum(counts), sum(number > 0 for number in counts)
    capacity = net.subnet.num_addresses - 3
    needed = endpoint_count + balancers
    if needed > capacity or capacity < 1:
        what = f"{net.subnet} has {max(capacity, 0)} addresses for network {net.name}, but needs {needed}"
        prefix_length = primitives.prefix_length_for(max(needed, 1) + 3)
        yield path, what, f"one for each container, and one on each host for its load balancer: a /{prefix_length}"
    max_containers = primitives.MAX_BRIDGE_PORTS - 1  # vxlan0 is a port too
    if max(counts, default=0) > max_containers:
        what = f"network {net.name} has {max(counts)} containers on one host, but br0 takes {max_containers}"
        yield path, what, "spread them over more hosts"
    if net.mtu < MIN_MTU:
        what = (
            f"mtu: {net.mtu + OVERHEAD_BYTES} leaves {net.mtu} for a packet, after VXLAN's"
            f" {OVERHEAD_BYTES} bytes of headers"
        )
        yield f"{path}/mtu", what, f"IPv4 needs at least {MIN_MTU}: use {MIN_MTU + OVERHEAD_BYTES} or more"

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
from labctl.models.lib import primitives

Refusal = tuple[str, str, str]
DEFAULT_NETWORK = "ov"  # the network of a scenario without `networks`
PREDEFINED_NETWORKS = ("bridge", "docker_gwbridge", "host", "ingress", "none")  # networks that every swarm has
ADDRESS_POOL, SUBNET_PREFIX_LENGTH = IPv4Network("10.0.0.0/8"), 24  # docker swarm init --default-addr-pool
INGRESS_VNI = 4096  # the first VNI of ovmanager, for the first network, ingress
OVERHEAD_BYTES = 50  # bytes of the Ethernet, IP, UDP and VXLAN headers around a packet
MIN_MTU = 68  # the smallest MTU for IPv4
FIRST_HOST_OFFSET = 11  # host1 is 192.168.50.11
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
    taken += [made.subnet for made in declared.values() if made is not None and made.subnet is not None]
    free = (
        net
        for net in list(ADDRESS_POOL.subnets(new_prefix=SUBNET_PREFIX_LENGTH))[1:]
        if not any(map(net.overlaps, taken))
    )
    nets = {}
    for number, (name, made) in enumerate(declared.items()):
        subnet = next(free, None) if made is None or made.subnet is None else made.subnet
        if subnet is not None:
            mtu, internal = (DEFAULT_MTU, False) if made is None else (made.mtu, made.internal)
            nets[name] = OverlayNetwork(name, subnet, INGRESS_VNI + 1 + number, mtu - OVERHEAD_BYTES, internal)
    return nets


def container_endpoints(
    scenario: Scenario, networks_by_name: dict[str, OverlayNetwork]
) -> dict[str, tuple[ContainerEndpoints, ...]]:
    """The containers of every host with their networks, in the order of their start."""
    free = {name: count(int(net.subnet.network_address) + 2) for name, net in networks_by_name.items()}
    placed = {}
    for number, node in enumerate(scenario.nodes):
        vtep = primitives.address_at(scenario.options.underlay, FIRST_HOST_OFFSET + number)
        outward = count(int(scenario.options.docker_gwbridge.network_address) + 3)
        balanced: set[str] = set()
        places = []
        for container, names in container_networks(node, networks_by_name):
            ends: list[OverlayEndpoint] = []
            way_out = None
            devices = (f"eth{index}" for index in count())
            for name in (name for name in names if name in networks_by_name):
                net = networks_by_name[name]
                ends.append(OverlayEndpoint(container, next(devices), net, IPv4Address(next(free[name])), vtep))
                if name not in balanced:
                    balanced.add(name)
                    next(free[name])
                if way_out is None and not net.internal:
                    way_out = (next(devices), IPv4Address(next(outward)))
            places.append(ContainerEndpoints(container, tuple(ends), way_out))
        placed[node.name] = tuple(places)
    return placed


def container_networks(
    node: ScenarioNode, networks_by_name: dict[str, OverlayNetwork]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each container of a host with the names of its networks; the first network, if it names none."""
    settings = dict(node.settings)
    for name in node.pods:
        made = settings.get(name)
        yield name, made.networks if made is not None and made.networks else tuple(networks_by_name)[:1]


def refuse_names(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for networks that do not exist or are listed twice, and for names of namespaces that conflict."""
    nets = overlay_networks(scenario)
    machines = {"internet", "fabric", *(node.name for node in scenario.nodes), *(name for _, name in scenario.pods)}
    for name in (name for name, _ in scenario.networks if name in PREDEFINED_NETWORKS):
        yield f"networks/{name}", f"the network name {name!r} is reserved by Docker", "choose another name"
    for node in scenario.nodes:
        for name, net in nets.items():
            room = net.netns_name(node.name)
            at = f"networks/{name}" if scenario.networks else "hosts"
            if room in machines:
                yield at, f"the namespace of network {name} on {node.name} needs the name {room}", "rename the machine"
            if len(room) > 63:
                yield (
                    at,
                    f"{room}, the namespace of network {name} on {node.name}, is longer than 63 letters",
                    "shorten a name",
                )
        for container, names in container_networks(node, nets):
            at = f"hosts/{node.name}/containers/{container}/networks"
            for number, name in enumerate(names):
                yield from ((f"{at}/{number}", *told) for told in _refuse_network_name(name, names[:number], nets))


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
    placed = container_endpoints(scenario, nets)
    for name in (name for name, _ in scenario.networks if name not in nets):
        yield f"networks/{name}", f"no free subnet is left for network {name}", "set its subnet"
    for name, net in nets.items():
        yield from _refuse_full_network(net, placed, f"networks/{name}" if scenario.networks else "hosts")
    for host, places in placed.items():
        out = sum(place.gwbridge_endpoint is not None for place in places)
        free = min(options.docker_gwbridge.num_addresses - 4, primitives.MAX_BRIDGE_PORTS)
        if out > free:
            what = f"{host} has {out} containers, but docker_gwbridge {options.docker_gwbridge} takes {max(free, 0)}"
            yield "docker_gwbridge", what, "spread them over more hosts, or give it a larger subnet"
    where = {f"network {name}": f"networks/{name}/subnet" for name in nets}
    ranges = {name: getattr(options, name) for name in ("underlay", "docker0", "docker_gwbridge")}
    ranges |= {"internet_ip": IPv4Network(options.internet_ip)}
    ranges |= {f"network {name}": net.subnet for name, net in nets.items()}
    yield from ((where.get(label, label), what, hint) for label, what, hint in primitives.refuse_overlaps(ranges))


def _refuse_full_network(
    net: OverlayNetwork, endpoints_of: dict[str, tuple[ContainerEndpoints, ...]], path: str
) -> Iterator[Refusal]:
    hosts = [sum(end.network == net for place in places for end in place.endpoints) for places in endpoints_of.values()]
    inside, balancers = sum(hosts), sum(number > 0 for number in hosts)
    free = net.subnet.num_addresses - 3
    if inside + balancers > free or free < 1:
        needed = max(inside + balancers, 1) + 3
        what = f"{net.subnet} has {max(free, 0)} addresses for network {net.name}, but needs {inside + balancers}"
        hint = (
            "one for each container, and one on each host for its load balancer: a"
            f" /{primitives.prefix_length_for(needed)}"
        )
        yield path, what, hint
    if max(hosts, default=0) > primitives.MAX_BRIDGE_PORTS - 1:  # and vxlan0
        what = (
            f"network {net.name} has {max(hosts)} containers on one host, but br0 takes"
            f" {primitives.MAX_BRIDGE_PORTS - 1}"
        )
        yield path, what, "spread them over more hosts"
    if net.mtu < MIN_MTU:
        what = (
            f"mtu: {net.mtu + OVERHEAD_BYTES} leaves {net.mtu} for a packet, after VXLAN's"
            f" {OVERHEAD_BYTES} bytes of headers"
        )
        yield f"{path}/mtu", what, f"IPv4 needs at least {MIN_MTU}: use {MIN_MTU + OVERHEAD_BYTES} or more"

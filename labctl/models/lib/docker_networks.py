"""The networks of a Docker host, the containers in them with their addresses, and the errors for both. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import count
from typing import Any, NamedTuple

from labctl.core.names import did_you_mean
from labctl.core.scenario_types import ListeningPort, PublishedPort, Scenario, ScenarioNode
from labctl.models.lib import docker_underlay, primitives
from labctl.models.lib.docker_hosts import BridgeNetwork, Endpoint

Refusal = tuple[str, str, str]
DEFAULT_NETWORK, NONE_NETWORK, HOST_NETWORK, CONTAINER_PREFIX = "bridge", "none", "host", "container:"
PREDEFINED_NETWORKS = (DEFAULT_NETWORK, NONE_NETWORK, HOST_NETWORK)  # networks that every Docker has
DEFAULT_ADDRESS_POOLS = ((IPv4Network("172.16.0.0/12"), 16), (IPv4Network("192.168.0.0/16"), 20))
NO_DEFAULT_SUBNET = IPv4Network("172.16.0.0/16")  # in the first pool, but Docker does not use it
DEFAULT_IPV6_POOL = IPv6Network("fd1a:bc71:1000::/48")  # Docker's has forty bits of its own on every host
RESERVED_DEVICES = ("docker0", "eth0", "lo")  # devices that every host has


def bridge_networks(scenario: Scenario) -> dict[str, BridgeNetwork]:
    """Every network by its name, in the order of creation: docker0, then the file's.

    A network without a subnet gets the next free range of Docker's pools. If none is free, the network is left out.
    """
    options = scenario.options
    taken = [options.subnet, options.underlay, IPv4Network(options.internet_ip)]
    taken += [settings.subnet for _, settings in scenario.networks if settings.subnet is not None]
    subnets6 = _default_ipv6_subnets(
        options.fixed_cidr_v6, *(settings.subnet_ipv6 for _, settings in scenario.networks)
    )
    docker0_ipv6 = (options.fixed_cidr_v6 or next(subnets6)) if options.ipv6 else None
    nets = {DEFAULT_NETWORK: BridgeNetwork("docker0", options.subnet, icc=options.icc, subnet6=docker0_ipv6)}
    user_defined = {name: settings for name, settings in scenario.networks if name not in PREDEFINED_NETWORKS}
    devices = dict(zip(user_defined, primitives.device_names("br-", 12, user_defined), strict=True))
    for name, settings in user_defined.items():
        subnet = settings.subnet or next(_free_default_subnets(taken), None)
        if subnet is not None:
            taken.append(subnet)
            subnet6 = (settings.subnet_ipv6 or next(subnets6)) if settings.enable_ipv6 else None
            nets[name] = BridgeNetwork(
                settings.bridge or devices[name],
                subnet,
                settings.internal,
                settings.icc,
                settings.enable_ip_masquerade,
                settings.gateway,
                settings.mtu,
                subnet6,
                settings.gateway_ipv6 if settings.enable_ipv6 else None,
                settings.gateway_mode_ipv4,
                settings.gateway_mode_ipv6,
                settings.trusted_host_interfaces,
                settings.ip_range,
                settings.host_binding_ipv4,
            )
    return nets


def _free_default_subnets(taken: list[IPv4Network]) -> Iterator[IPv4Network]:
    """The free ranges of Docker's pools, in order (moby's libnetwork/ipamutils/utils.go)."""
    for pool, prefix_length in DEFAULT_ADDRESS_POOLS:
        yield from primitives.free_subnets(pool, prefix_length, [*taken, NO_DEFAULT_SUBNET])


def _default_ipv6_subnets(*taken: IPv6Network | None) -> Iterator[IPv6Network]:
    """The free ranges for networks with IPv6 and without an IPv6 subnet: the /64 of `DEFAULT_IPV6_POOL`, in order."""
    used = [network for network in taken if network is not None]
    return (
        subnet
        for subnet in DEFAULT_IPV6_POOL.subnets(new_prefix=64)
        if not any(subnet.overlaps(other) for other in used)
    )


class ContainerEndpoint(NamedTuple):
    """An endpoint with its container and its device there; `default_route` is whether the container's default route
    leads through it."""

    container: str
    device: str
    endpoint: Endpoint
    default_route: bool


def host_endpoints(
    node: ScenarioNode, networks_by_name: dict[str, BridgeNetwork], *, internal_default_route: bool = False
) -> tuple[ContainerEndpoint, ...]:
    """The endpoints of a host's containers, in the order in which Docker creates them: each container with its
    networks, then the networks that containers are connected to afterwards.

    An address is the requested one, else the next free one. A container's default route leads through the network with
    the first name of those that are not internal, and its ports are published there (libnetwork, `Endpoint.Less`).
    With `internal_default_route`, a container with internal networks only has a default route, too.
    """
    requested = _requested_addresses(node, networks_by_name)
    next_addresses = {name: _free_addresses(name, net, requested) for name, net in networks_by_name.items()}
    next_addresses6 = {name: _free_addresses6(name, net, requested) for name, net in networks_by_name.items()}
    events = [
        (container, name) for container, name in _connections(node) if name in networks_by_name
    ]  # none on a network that could get no subnet
    names_of: dict[str, list[str]] = {}
    for container, name in events:
        names_of.setdefault(container, []).append(name)
    settings = dict(node.settings)
    found = []
    for container, name in events:
        names = names_of[container]
        external = sorted(other for other in names if not networks_by_name[other].internal)
        gateway_network = next(iter(external or (sorted(names) if internal_default_route else ())), None)
        publishes = container in settings and name in external[:1]
        ports = tuple(each for port in settings[container].publish for each in port.each) if publishes else ()
        address = requested.get((container, name, 4)) or next(next_addresses[name])
        address6 = requested.get((container, name, 6)) or next(next_addresses6[name], None)
        endpoint = Endpoint(networks_by_name[name], address, ports, address6, ports)
        device = f"eth{names.index(name)}"
        found.append(ContainerEndpoint(container, device, endpoint, name == gateway_network))
    return tuple(found)


def _connections(node: ScenarioNode) -> Iterator[tuple[str, str]]:
    """Every container with each of its networks, in the order in which it is connected to them."""
    for container, names, _ in _containers(node):
        yield from ((container, name) for name in names)
    for container, settings in node.settings:
        yield from ((container, name) for name in settings.connect)


def _requested_addresses(
    node: ScenarioNode, networks_by_name: dict[str, BridgeNetwork]
) -> dict[tuple[str, str, int], Any]:
    """The addresses that containers request, by container, network and family: each is in a subnet of one of its
    networks."""
    settings = dict(node.settings)
    return {
        (container, name, address.version): address
        for container, name in _connections(node)
        for address in ((*settings[container].ip, *settings[container].ip6) if container in settings else ())
        if name in networks_by_name and address in (networks_by_name[name].subnet_of(address.version) or ())
    }


def _free_addresses(name: str, net: BridgeNetwork, requested: dict[tuple[str, str, int], Any]) -> Iterator[IPv4Address]:
    """The addresses that Docker assigns next, from the first of the range on."""
    taken = {net.gateway, *(address for (_, network, _), address in requested.items() if network == name)}
    first = int((net.ip_range or net.subnet).network_address)
    first += first == int(net.subnet.network_address)
    return (address for address in map(IPv4Address, count(first)) if address not in taken)


def _free_addresses6(
    name: str, net: BridgeNetwork, requested: dict[tuple[str, str, int], Any]
) -> Iterator[IPv6Address]:
    """The IPv6 addresses that Docker assigns next; none in a network without IPv6."""
    taken = {net.gateway6, *(address for (_, network, _), address in requested.items() if network == name)}
    numbers = () if net.subnet6 is None else count(int(net.subnet6.network_address) + 1)
    return (address for address in map(IPv6Address, numbers) if address not in taken)


def container_endpoints(
    node: ScenarioNode, networks_by_name: dict[str, BridgeNetwork]
) -> dict[str, tuple[Endpoint, ...]]:
    """Every container of a host with its endpoints, eth0 first."""
    found: dict[str, list[Endpoint]] = {name: [] for name in node.pods}
    for container, _, endpoint, _ in host_endpoints(node, networks_by_name):
        found[container].append(endpoint)
    return {name: tuple(endpoints) for name, endpoints in found.items()}


def network_owners(node: ScenarioNode) -> dict[str, str]:
    """The containers without a separate network, each with the machine that it shares a network with: its host
    (`host`), or another container (`container:NAME`)."""
    found = {}
    for name, (network, *_), _ in _containers(node):
        if network == HOST_NETWORK:
            found[name] = node.name
        elif network.startswith(CONTAINER_PREFIX):
            found[name] = network.removeprefix(CONTAINER_PREFIX)
    return found


def container_programs(
    node: ScenarioNode, settings: dict[str, Any]
) -> Iterator[tuple[str, str, tuple[ListeningPort, ...]]]:
    """The containers that run a program: each with the machine of its network, and the ports that it listens on.

    A container that neither shares a network nor listens is a namespace without processes.
    """
    shared = network_owners(node)
    for name in node.pods:
        ports = settings[name].listen if name in settings else ()
        if name in shared or ports:
            yield name, shared.get(name, name), ports


def _containers(node: ScenarioNode) -> Iterator[tuple[str, tuple[str, ...], tuple[PublishedPort, ...]]]:
    """Each container with the names of its networks and its published ports."""
    settings = dict(node.settings)
    for name in node.pods:
        container = settings.get(name)
        networks, ports = ((), ()) if container is None else (container.networks, container.publish)
        yield name, networks or (DEFAULT_NETWORK,), ports


def refuse_names(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for networks that do not exist, are listed twice, or cannot be combined."""
    user_defined = {name for name, _ in scenario.networks}
    devices: dict[str, str] = {}
    for name, network in scenario.networks:
        if name in PREDEFINED_NETWORKS:
            yield f"networks/{name}", f"the network name {name!r} is reserved by Docker", "choose another name"
        if network.bridge in RESERVED_DEVICES or network.bridge in devices:
            owner = f"network {devices[network.bridge]}" if network.bridge in devices else "every host"
            yield f"networks/{name}/bridge", f"bridge: {owner} has a device {network.bridge!r}", "choose another name"
        if network.bridge:
            devices.setdefault(network.bridge, name)
    for node in scenario.nodes:
        settings = dict(node.settings)
        for container, names, _ in _containers(node):
            at = f"hosts/{node.name}/containers/{container}/networks"
            for number, name in enumerate(names):
                yield from (
                    (f"{at}/{number}", *refusal) for refusal in _refuse_network_name(name, names[:number], user_defined)
                )
            connect = settings[container].connect if container in settings else ()
            for number, name in enumerate(connect):
                refusals = _refuse_network_name(name, (*names, *connect[:number]), user_defined, "connect")
                yield from ((f"{at.removesuffix('networks')}connect/{number}", *refusal) for refusal in refusals)
            exclusive = next((name for name in (*names, *connect) if _is_exclusive(name)), None)
            if exclusive is not None and len(names) + len(connect) > 1:
                yield at, f"{container}: a container on {exclusive!r} cannot be on another network", "keep one of them"
            for number, name in enumerate(names):
                if name.startswith(CONTAINER_PREFIX):
                    yield from (
                        (f"{at}/{number}", *refusal) for refusal in _refuse_shared_network(node, container, name)
                    )


def _refuse_network_name(
    name: str, before: tuple[str, ...], user_defined: set[str], key: str = "networks"
) -> Iterator[tuple[str, str]]:
    if name in before:
        yield f"{key}: {name!r} is listed twice", "remove one of them"
    elif name not in user_defined and name not in PREDEFINED_NETWORKS and not name.startswith(CONTAINER_PREFIX):
        known = sorted({*user_defined, *PREDEFINED_NETWORKS})
        hint = did_you_mean(name, known, quote=repr) or f"the networks are {', '.join(known)}"
        yield f"{key}: there is no network {name!r}", hint


def _is_exclusive(name: str) -> bool:
    """Whether a container on this network can be on no other."""
    return name in (NONE_NETWORK, HOST_NETWORK) or name.startswith(CONTAINER_PREFIX)


def _refuse_shared_network(node: ScenarioNode, container: str, network: str) -> Iterator[tuple[str, str]]:
    """Errors for a container that uses another container's network."""
    other, shared = network.removeprefix(CONTAINER_PREFIX), network_owners(node)
    if other == container:
        yield f"networks: {container} cannot join its own network", "name another container"
    elif other not in node.pods:
        hint = did_you_mean(other, node.pods, quote=repr) or f"{node.name} has {', '.join(node.pods)}"
        yield f"networks: {node.name} has no container {other!r}", hint
    elif other in shared:
        yield (
            f"networks: {other} has no separate network, it uses the network of {shared[other]}",
            f"write {_shared_network_name(node, shared[other])}",
        )


def _shared_network_name(node: ScenarioNode, owner: str) -> str:
    """The value of `networks` that joins a machine's network."""
    return HOST_NETWORK if owner == node.name else CONTAINER_PREFIX + owner


def refuse_programs(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for programs that listen on a port which another program, or a published port, uses there."""
    for node in scenario.nodes:
        settings = dict(node.settings)
        taken: dict[tuple[str, ListeningPort], str] = {}
        for container, _, ports in _containers(node):
            for port in ports:
                if port.protocol != "sctp":  # no program of a lab listens on such a port
                    taken[node.name, ListeningPort(port.host_port, port.protocol)] = (
                        f"the published port of {container}"
                    )
        for name, owner, listening_ports in container_programs(node, settings):
            for number, listen in enumerate(listening_ports):
                if (owner, listen) in taken:
                    what = f"listen: port {listen} of {owner} is already used by {taken[owner, listen]}"
                    at = f"hosts/{node.name}/containers/{name}/listen/{number}"
                    yield at, what, "programs in one network share its ports: choose another port"
                taken.setdefault((owner, listen), name)


def refuse_ports(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for published ports at an address that the host does not have, used twice, or without a target."""
    nets = bridge_networks(scenario)
    for number, node in enumerate(scenario.nodes):
        host_addresses = {
            docker_underlay.host_address(scenario.options.underlay, number),
            *(net.gateway for net in nets.values()),
        }
        taken: list[tuple[PublishedPort, str]] = []
        settings = dict(node.settings)
        for container, names, ports in _containers(node):
            at = f"hosts/{node.name}/containers/{container}/publish"
            every = (*names, *(settings[container].connect if container in settings else ()))
            unreachable = all(name == NONE_NETWORK or (name in nets and nets[name].internal) for name in every)
            if ports and (container in network_owners(node)):
                what = f"{container} publishes ports, but has no separate network"
                yield at, what, "ports of a program in a shared network are open there without `publish`"
            elif ports and unreachable:
                what = f"{container} publishes ports, but cannot be reached"
                yield at, what, "put it on a network that is not internal"
            for index, port in enumerate(ports):
                other = next((name for one, name in taken if _same_host_port(one, port)), None)
                if other is not None:
                    what = f"publish: {_port_text(port)} is published twice on {node.name}, first for {other}"
                    yield f"{at}/{index}", what, "choose another port of the host"
                if port.address is not None and not port.address.is_loopback and port.address not in host_addresses:
                    what = f"publish: {node.name} does not have the address {port.address}"
                    yield f"{at}/{index}", what, f"it has {', '.join(map(str, sorted(host_addresses)))} and 127.0.0.0/8"
                taken.append((port, container))


def _same_host_port(one: PublishedPort, other: PublishedPort) -> bool:
    """Whether two published ports want the same port of the host."""
    same = (one.host_port, one.protocol) == (other.host_port, other.protocol)
    return same and (None in (one.address, other.address) or one.address == other.address)


def _port_text(port: PublishedPort) -> str:
    return f"{port.protocol} port {port.host_port}"


def refuse_addresses(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for a gateway that is not an address of its network's subnet, and for addresses that a container cannot
    request: Docker assigns them only in networks for which the user chose the subnet."""
    for name, network in scenario.networks:
        if network.gateway is not None and network.subnet is None:
            yield f"networks/{name}/gateway", "gateway: the network has no subnet", "set its subnet too"
        elif network.gateway is not None and not _is_host_address(network.gateway, network.subnet):
            what = f"gateway: {network.gateway} is not the address of a host in {network.subnet}"
            yield f"networks/{name}/gateway", what, "the bridge has this address"
    nets = bridge_networks(scenario)
    with_subnet = {name for name, network in scenario.networks if network.subnet is not None}
    for node in scenario.nodes:
        at, taken = f"hosts/{node.name}/containers", dict[IPv4Address, str]()
        networks_of: dict[str, list[str]] = {}
        for container, name in _connections(node):
            networks_of.setdefault(container, []).append(name)
        for container, settings in node.settings:
            possible = {name: nets[name] for name in networks_of[container] if name in with_subnet and name in nets}
            used = set[str]()
            for number, address in enumerate(settings.ip):
                problem = _requested_address_problem(address, possible, used, taken)
                if problem is not None:
                    yield f"{at}/{container}/ip/{number}", f"ip: {problem[0]}", problem[1]
                taken.setdefault(address, container)


def _requested_address_problem(
    address: IPv4Address, networks: dict[str, BridgeNetwork], used: set[str], taken: dict[IPv4Address, str]
) -> tuple[str, str] | None:
    """What is wrong with an address that a container requests, and a hint. Adds its network to `used`."""
    name = next((name for name, net in networks.items() if address in net.subnet), None)
    if name is None:
        ranges = ", ".join(f"{name} {net.subnet}" for name, net in networks.items())
        hint = f"it has {ranges}" if ranges else "Docker needs a network with a subnet that the file sets"
        return f"{address} is in no subnet of the container's networks", hint
    net = networks[name]
    if not _is_host_address(address, net.subnet) or address == net.gateway:
        return f"{address} is not a free address of {net.subnet}", f"the bridge has {net.gateway}"
    if address in taken:
        return f"{address} is already the address of {taken[address]}", "choose another address"
    if name in used:
        return f"{address} is a second address in network {name}", "a container has one address in a network"
    used.add(name)
    return None


def _is_host_address(address: IPv4Address, subnet: IPv4Network) -> bool:
    return address in subnet and address not in (subnet.network_address, subnet.broadcast_address)


def refuse_sizes(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for more containers than a bridge has ports or a subnet has addresses, and for ranges that overlap."""
    nets = bridge_networks(scenario)
    missing = [name for name, _ in scenario.networks if name not in nets and name not in PREDEFINED_NETWORKS]
    if missing:
        yield f"networks/{missing[0]}", f"no free subnet is left for network {missing[0]}", "set its subnet"
    for node in scenario.nodes:
        endpoints_of = container_endpoints(node, nets)
        for name, net in nets.items():
            endpoint_count = sum(end.network == net for ends in endpoints_of.values() for end in ends)
            yield from _refuse_full_network(node.name, name, net, endpoint_count)
    keys = {"subnet": "subnet"} | {
        f"network {name}": f"networks/{name}/subnet" for name in nets if name != DEFAULT_NETWORK
    }
    ranges = {label: net.subnet for label, net in zip(keys, nets.values(), strict=True)}
    ranges |= {"underlay": scenario.options.underlay, "internet_ip": IPv4Network(scenario.options.internet_ip)}
    yield from ((keys.get(label, label), what, hint) for label, what, hint in primitives.refuse_overlaps(ranges))


def _refuse_full_network(host: str, name: str, net: BridgeNetwork, endpoint_count: int) -> Iterator[Refusal]:
    if endpoint_count > primitives.MAX_BRIDGE_PORTS:
        subject = host if name == DEFAULT_NETWORK else f"network {name} on {host}"
        what = (
            f"{subject} has {endpoint_count} containers; a Linux bridge has at most {primitives.MAX_BRIDGE_PORTS} ports"
        )
        yield "hosts", what, f"spread them over {-(-endpoint_count // primitives.MAX_BRIDGE_PORTS)} hosts"
    free = net.subnet.num_addresses - 3
    if endpoint_count > free or free < 1:
        at = "subnet" if name == DEFAULT_NETWORK else f"networks/{name}/subnet"
        what = f"{net.subnet} has {max(free, 0)} addresses for containers, but {host} has {endpoint_count}"
        needed = max(endpoint_count, 1) + 3
        sum_text = f"{endpoint_count} containers + network, gateway and broadcast = {endpoint_count + 3}"
        yield at, what, f"{sum_text}: a /{primitives.prefix_length_for(needed)}"

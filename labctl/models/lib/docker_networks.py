"""The networks of a Docker host, and the containers in them with their addresses. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from itertools import count
from typing import Any, NamedTuple

from labctl.core.scenario_types import ListeningPort, PublishedPort, Scenario, ScenarioNode
from labctl.models.lib import primitives
from labctl.models.lib.docker_hosts import BridgeNetwork, Endpoint

DEFAULT_NETWORK, NONE_NETWORK, HOST_NETWORK, CONTAINER_PREFIX = "bridge", "none", "host", "container:"
PREDEFINED_NETWORKS = (DEFAULT_NETWORK, NONE_NETWORK, HOST_NETWORK)  # networks that every Docker has
DEFAULT_ADDRESS_POOLS = ((IPv4Network("172.16.0.0/12"), 16), (IPv4Network("192.168.0.0/16"), 20))
NO_DEFAULT_SUBNET = IPv4Network("172.16.0.0/16")  # in the first pool, but Docker does not use it
DEFAULT_IPV6_POOL = IPv6Network("fd1a:bc71:1000::/48")  # Docker's has forty bits of its own on every host


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
                settings.host_ipv4,
                settings.host_ipv6,
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
    """An endpoint with its container and its device there. `default_route` and `default_route6` are whether the
    container's default routes lead through it."""

    container: str
    device: str
    endpoint: Endpoint
    default_route: bool
    default_route6: bool = False


class Habits(NamedTuple):
    """What a release does with the endpoints of a container. `internal_default_route`: a container with internal
    networks only has a default route, too. `routed_ports`: its ports are open in all routed networks, not only in that
    of its default route."""

    internal_default_route: bool = False
    routed_ports: bool = False


PLAIN_HABITS = Habits()


def host_endpoints(
    node: ScenarioNode, networks_by_name: dict[str, BridgeNetwork], habits: Habits = PLAIN_HABITS
) -> tuple[ContainerEndpoint, ...]:
    """The endpoints of a host's containers, in the order in which Docker creates them: each container with its
    networks, then the networks that containers are connected to afterwards.

    An address is the requested one, else the next free one. A container's default routes lead through the network with
    the first name of those that are not internal, those with IPv6 before others; its ports are published there
    (libnetwork, `Endpoint.Less`).
    """
    return _host_endpoints(node, tuple(networks_by_name.items()), habits)


@lru_cache(maxsize=64)  # wiring, rules, refusals and checks of a host all ask for them
def _host_endpoints(
    node: ScenarioNode, networks: tuple[tuple[str, BridgeNetwork], ...], habits: Habits
) -> tuple[ContainerEndpoint, ...]:
    networks_by_name = dict(networks)
    requested = _requested_addresses(node, networks_by_name)
    next_addresses = {name: _free_addresses(name, net, requested) for name, net in networks_by_name.items()}
    next_addresses6 = {name: _free_addresses6(name, net, requested) for name, net in networks_by_name.items()}
    events = [
        (container, name) for container, name in connections(node) if name in networks_by_name
    ]  # none on a network that could get no subnet
    names_of: dict[str, list[str]] = {}
    for container, name in events:
        names_of.setdefault(container, []).append(name)
    settings = dict(node.settings)
    found = []
    for container, name in events:
        names = sorted(names_of[container], key=lambda one: (networks_by_name[one].subnet6 is None, one))
        external = [one for one in names if not networks_by_name[one].internal]
        gateway_network = next(iter(external or (names if habits.internal_default_route else ())), None)
        net = networks_by_name[name]
        ports = container_ports(settings[container].publish) if container in settings and not net.internal else ()
        routed = [version for version in (4, 6) if habits.routed_ports and net.gateway_mode(version) == "routed"]
        published = name == gateway_network
        endpoint = Endpoint(
            net,
            requested.get((container, name, 4)) or next(next_addresses[name]),
            ports if published or 4 in routed else (),
            requested.get((container, name, 6)) or next(next_addresses6[name], None),
            ports if published or (6 in routed and net.subnet6 is not None) else (),
        )
        device = f"eth{names_of[container].index(name)}"
        default_route6 = published and net.subnet6 is not None
        found.append(ContainerEndpoint(container, device, endpoint, published, default_route6))
    return tuple(found)


def container_ports(publish: tuple[PublishedPort, ...]) -> tuple[PublishedPort, ...]:
    """The published ports one by one, without ranges."""
    return tuple(each for port in publish for each in port.each)


def connections(node: ScenarioNode) -> Iterator[tuple[str, str]]:
    """Every container with each of its networks, in the order in which it is connected to them."""
    for container, names, _ in containers(node):
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
        for container, name in connections(node)
        for address in ((*settings[container].ip, *settings[container].ip6) if container in settings else ())
        if name in networks_by_name and address in (networks_by_name[name].subnet_of(address.version) or ())
    }


def _free_addresses(name: str, net: BridgeNetwork, requested: dict[tuple[str, str, int], Any]) -> Iterator[IPv4Address]:
    """The addresses that Docker gives next."""
    taken = _taken_addresses(name, net, requested)
    return (address for address in map(IPv4Address, count(net.first_address(4))) if address not in taken)


def _free_addresses6(
    name: str, net: BridgeNetwork, requested: dict[tuple[str, str, int], Any]
) -> Iterator[IPv6Address]:
    """The IPv6 addresses that Docker gives next; none in a network without IPv6."""
    taken = _taken_addresses(name, net, requested)
    numbers = () if net.subnet6 is None else range(net.first_address(6), 1 << 128)
    return (address for address in map(IPv6Address, numbers) if address not in taken)


def _taken_addresses(name: str, net: BridgeNetwork, requested: dict[tuple[str, str, int], Any]) -> set[Any]:
    """The addresses of a network that containers request, and those of its bridge."""
    of_bridge = {address.ip for address in net.bridge_addresses}
    return of_bridge | {address for (_, network, _), address in requested.items() if network == name}


def container_endpoints(
    node: ScenarioNode, networks_by_name: dict[str, BridgeNetwork]
) -> dict[str, tuple[Endpoint, ...]]:
    """Every container of a host with its endpoints, eth0 first."""
    found: dict[str, list[Endpoint]] = {name: [] for name in node.pods}
    for item in host_endpoints(node, networks_by_name):
        found[item.container].append(item.endpoint)
    return {name: tuple(endpoints) for name, endpoints in found.items()}


def network_owners(node: ScenarioNode) -> dict[str, str]:
    """The containers without a separate network, each with the machine that it shares a network with: its host
    (`host`), or another container (`container:NAME`)."""
    found = {}
    for name, (network, *_), _ in containers(node):
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


def containers(node: ScenarioNode) -> Iterator[tuple[str, tuple[str, ...], tuple[PublishedPort, ...]]]:
    """Each container with the names of its networks and its published ports."""
    settings = dict(node.settings)
    for name in node.pods:
        container = settings.get(name)
        networks, ports = ((), ()) if container is None else (container.networks, container.publish)
        yield name, networks or (DEFAULT_NETWORK,), ports

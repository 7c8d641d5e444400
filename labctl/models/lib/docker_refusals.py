"""The errors for names of networks, published ports and programs of a Docker host. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.names import did_you_mean
from labctl.core.resources import IP
from labctl.core.scenario_types import ListeningPort, PublishedPort, Scenario, ScenarioNode
from labctl.models.lib import docker_underlay
from labctl.models.lib.docker_hosts import Endpoint, PortBinding, port_bindings
from labctl.models.lib.docker_networks import (
    CONTAINER_PREFIX,
    HOST_NETWORK,
    NONE_NETWORK,
    PREDEFINED_NETWORKS,
    Habits,
    bridge_networks,
    container_ports,
    container_programs,
    containers,
    host_endpoints,
    network_owners,
)

Refusal = tuple[str, str, str]
RESERVED_DEVICES = ("docker0", "eth0", "lo")  # devices that every host has


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
        for container, names, _ in containers(node):
            at = f"hosts/{node.name}/containers/{container}/networks"
            for number, name in enumerate(names):
                yield from (
                    (f"{at}/{number}", *refusal) for refusal in _refuse_network_name(name, names[:number], user_defined)
                )
            connect = settings[container].connect if container in settings else ()
            for number, name in enumerate(connect):
                refusals = _refuse_network_name(name, (*names, *connect[:number]), user_defined, "connect")
                yield from ((f"{at.removesuffix('networks')}connect/{number}", *refusal) for refusal in refusals)
            exclusive = next((name for name in (*names, *connect) if is_exclusive(name)), None)
            if exclusive is not None and len(names) + len(connect) > 1:
                yield at, f"{container}: a container on {exclusive!r} cannot be on another network", "keep one of them"
            for number, name in enumerate(names):
                if name.startswith(CONTAINER_PREFIX):
                    yield from (
                        (f"{at}/{number}", *refusal) for refusal in refuse_shared_network(node, container, name)
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


def is_exclusive(name: str) -> bool:
    """Whether a container on this network can be on no other."""
    return name in (NONE_NETWORK, HOST_NETWORK) or name.startswith(CONTAINER_PREFIX)


def refuse_shared_network(node: ScenarioNode, container: str, network: str) -> Iterator[tuple[str, str]]:
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
        for container, _, ports in containers(node):
            for port in container_ports(ports):
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


def refuse_ports(scenario: Scenario, habits: Habits) -> Iterator[Refusal]:
    """Errors for published ports at an address that the host does not have, used twice, or without a target."""
    nets, proxy = bridge_networks(scenario), scenario.options.userland_proxy
    for number, node in enumerate(scenario.nodes):
        host_addresses = set(docker_underlay.host_addresses(scenario.options, number, nets.values()))
        taken: dict[tuple[str, int], list[tuple[IP, str]]] = {}
        settings = dict(node.settings)
        owners = network_owners(node)
        ends = {end.container: end.endpoint for end in host_endpoints(node, nets, habits) if end.default_route}
        for container, names, ports in containers(node):
            at = f"hosts/{node.name}/containers/{container}/publish"
            every = (*names, *(settings[container].connect if container in settings else ()))
            unreachable = all(name == NONE_NETWORK or (name in nets and nets[name].internal) for name in every)
            if ports and container in owners:
                what = f"{container} publishes ports, but has no separate network"
                yield at, what, "ports of a program in a shared network are open there without `publish`"
            elif ports and unreachable:
                what = f"{container} publishes ports, but cannot be reached"
                yield at, what, "put it on a network that is not internal"
            for index, port in enumerate(ports):
                what = _port_problem(port, ends.get(container), proxy)
                if what:
                    yield f"{at}/{index}", f"publish: {port} {what}", "publish it at an IPv4 address"
                where = port.address
                if where is None and container in ends:
                    where = ends[container].network.host_binding
                if where is not None and where not in host_addresses and not _on_every_host(where):
                    what = f"publish: {node.name} does not have the address {where}"
                    known = sorted(host_addresses, key=lambda one: (one.version, int(one)))
                    yield f"{at}/{index}", what, f"it has {', '.join(map(str, known))} and 127.0.0.0/8"
                twice = None
                for binding in _bindings(port, ends.get(container), proxy):
                    others = taken.setdefault((binding.protocol, binding.host_port), [])
                    twice = twice or next((other for other in others if _overlap(other[0], binding.host_address)), None)
                    others.append((binding.host_address, container))
                    if twice is not None:
                        port_text = f"{binding.protocol} port {binding.host_port}"
                        what = f"publish: {port_text} is published twice on {node.name}, first for {twice[1]}"
                        yield f"{at}/{index}", what, "choose another port of the host"
                        break


def _bindings(port: PublishedPort, end: Endpoint | None, userland_proxy: bool) -> Iterator[PortBinding]:
    """Where a published port is bound on the host; nowhere in a container that has no way out."""
    if end is not None and not end.network.internal:
        one = end._replace(ports=port.each, ports6=port.each)
        yield from (binding for binding in port_bindings(one, userland_proxy) if binding.host_port)


def _port_problem(port: PublishedPort, end: Endpoint | None, userland_proxy: bool) -> str:
    """Why a published port leads nowhere, or ""."""
    at_ipv6 = port.address is not None and port.address.version == 6
    if at_ipv6 and end is not None and end.address6 is None and not userland_proxy:
        return "leads nowhere: its network has no IPv6, and without docker-proxy nothing leads from IPv6 to IPv4"
    return ""


def _on_every_host(address: IP) -> bool:
    """Whether every host has an address: that of loopback, or all addresses of a family."""
    return address.is_loopback or address.is_unspecified


def _overlap(one: IP, other: IP) -> bool:
    """Whether two sockets of one port cannot be bound at these addresses at the same time."""
    return one.version == other.version and (one == other or one.is_unspecified or other.is_unspecified)

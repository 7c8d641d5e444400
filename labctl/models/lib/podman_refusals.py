"""Errors for podman scenarios: what Podman and netavark refuse, and ranges that overlap or are too small. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from labctl.core.names import did_you_mean
from labctl.core.resources import IP, Net
from labctl.core.scenario_types import ListeningPort, PublishedPort, Scenario, ScenarioNode
from labctl.models.lib import docker_underlay, primitives
from labctl.models.lib.docker_networks import (
    CONTAINER_PREFIX,
    HOST_NETWORK,
    NONE_NETWORK,
    container_programs,
)
from labctl.models.lib.docker_refusals import is_exclusive, refuse_shared_network
from labctl.models.lib.podman_networks import (
    DEFAULT_NETWORK,
    ENDPOINT_OPTIONS,
    PREDEFINED_NETWORKS,
    RELEASES,
    BridgeNetwork,
    EndpointRequest,
    endpoint_requests,
    host_endpoints,
    host_ports,
    networks,
    read_request,
)

Refusal = tuple[str, str, str]
RESERVED_DEVICES = ("eth0", "lo")  # devices that every host has
_ID = re.compile("[0-9a-f]{8,64}")


def refuse(scenario: Scenario) -> Iterator[Refusal]:
    """All errors. The later ones are only looked for if the networks of all containers can be read."""
    problems = [*_refuse_release(scenario), *_refuse_networks(scenario), *_refuse_requests(scenario)]
    yield from problems
    if problems:
        return
    yield from _refuse_addresses(scenario)
    yield from _refuse_ports(scenario)
    yield from _refuse_programs(scenario)
    yield from _refuse_ranges(scenario)
    yield from docker_underlay.refuse_underlay(scenario.options.underlay, len(scenario.nodes))


def _refuse_release(scenario: Scenario) -> Iterator[Refusal]:
    """What the chosen release does not have."""
    options = scenario.options
    release = RELEASES[options.release]
    if options.firewall_driver not in release.drivers:
        what = f"firewall_driver: netavark {release.name} has no driver {options.firewall_driver}"
        yield "firewall_driver", what, f"it has {', '.join(release.drivers)}; release 1.17 has both"
    for name, settings in scenario.networks:
        for key in ("outbound_addr4", "outbound_addr6"):
            if getattr(settings, key) is not None and not release.has_outbound_address:
                what = f"{key}: netavark {release.name} has no such option of a network"
                yield f"networks/{name}/{key}", what, "release 2.0 has it"


def _refuse_networks(scenario: Scenario) -> Iterator[Refusal]:
    """Names, devices, IDs, subnets and gateways of networks."""
    devices: dict[str, str] = {}
    ids: dict[str, str] = {}
    for name, settings in scenario.networks:
        at = f"networks/{name}"
        if name in (NONE_NETWORK, HOST_NETWORK):
            yield at, f"the network name {name!r} is reserved by Podman", "choose another name"
        device = settings.interface_name
        if device in RESERVED_DEVICES or device in devices or (device == "podman0" and name != DEFAULT_NETWORK):
            owner = f"network {devices[device]}" if device in devices else "every host"
            owner = f"network {DEFAULT_NETWORK}" if device == "podman0" and device not in devices else owner
            yield f"{at}/interface_name", f"interface_name: {owner} has the device {device!r}", "choose another name"
        if device:
            devices.setdefault(device, name)
        if settings.id and not _ID.fullmatch(settings.id):
            yield f"{at}/id", f"id: {settings.id!r} is not the ID of a network", "8 to 64 digits of 0-9a-f"
        elif settings.id and settings.id[:8] in ids:
            what = f"id: network {ids[settings.id[:8]]} has the same first 8 digits"
            yield f"{at}/id", what, "the names of chains have these digits: they differ"
        if settings.id:
            ids.setdefault(settings.id[:8], name)
        yield from _refuse_subnets(at, name, settings)


def _refuse_subnets(at: str, name: str, settings: Any) -> Iterator[Refusal]:
    subnets: tuple[Net, ...] = settings.subnet
    for number, subnet in enumerate(subnets):
        if subnet.num_addresses < 4:
            what = f"subnet: {subnet} has no room for a gateway and a container"
            yield f"{at}/subnet/{number}", what, f"use a /{subnet.max_prefixlen - 2} or a larger range"
        other = next((one for one in subnets[:number] if _overlap(one, subnet)), None)
        if other is not None:
            yield f"{at}/subnet/{number}", f"subnet: {subnet} overlaps {other}", "give each a separate range"
    for number, gateway in enumerate(settings.gateway):
        around = next((one for one in subnets if gateway in one), None)
        if around is None:
            ranges = ", ".join(map(str, subnets)) or "no subnet in the file"
            yield f"{at}/gateway/{number}", f"gateway: {gateway} is in no subnet of {name}", f"it has {ranges}"
        elif not _is_host_address(gateway, around):
            what = f"gateway: {gateway} is not the address of a machine in {around}"
            yield f"{at}/gateway/{number}", what, "the bridge has this address"
    for key, version in (("outbound_addr4", 4), ("outbound_addr6", 6)):
        if getattr(settings, key) is not None and version == 6 and not _has_ipv6(settings):
            yield f"{at}/{key}", f"{key}: network {name} has no IPv6", "add ipv6: true"


def _has_ipv6(settings: Any) -> bool:
    return bool(settings.ipv6) or any(subnet.version == 6 for subnet in settings.subnet)


def _refuse_requests(scenario: Scenario) -> Iterator[Refusal]:
    """Networks of containers that do not exist, are listed twice, or cannot be combined; options they do not have."""
    known = {name for name, _ in scenario.networks} | set(PREDEFINED_NETWORKS)
    for node in scenario.nodes:
        for container, settings in node.settings:
            at = f"hosts/{node.name}/containers/{container}"
            requests: list[EndpointRequest] = []
            for number, text in enumerate(settings.networks):
                request, problems = _read_request(text, known)
                yield from ((f"{at}/networks/{number}", *problem) for problem in problems)
                if request is not None:
                    twice = request.network in [one.network for one in requests]
                    if twice:
                        what = f"networks: {request.network!r} is listed twice"
                        yield f"{at}/networks/{number}", what, "remove one of them"
                    requests.append(request)
            exclusive = next((one.network for one in requests if is_exclusive(one.network)), None)
            if exclusive is not None and len(requests) > 1:
                what = f"{container}: a container on {exclusive!r} cannot be on another network"
                yield f"{at}/networks", what, "keep one of them"
            yield from _refuse_single_network_keys(at, settings, requests)
            yield from _refuse_device_names(at, requests)
            if settings.id and not _ID.fullmatch(settings.id):
                yield f"{at}/id", f"id: {settings.id!r} is not the ID of a container", "8 to 64 digits of 0-9a-f"
            for number, text in enumerate(settings.networks):
                if text.startswith(CONTAINER_PREFIX):
                    refusals = refuse_shared_network(node, container, text)
                    yield from ((f"{at}/networks/{number}", *refusal) for refusal in refusals)


def _read_request(text: str, known: set[str]) -> tuple[EndpointRequest | None, list[tuple[str, str]]]:
    """A network with its options as a container asks for it, and what is wrong with them."""
    if text.startswith(CONTAINER_PREFIX):
        return EndpointRequest(text), []
    name, _, options = text.partition(":")
    if name not in known:
        names = sorted(known)
        hint = did_you_mean(name, names, quote=repr) or f"the networks are {', '.join(names)}"
        return None, [(f"networks: there is no network {name!r}", hint)]
    found = []
    for part in options.split(",") if options else ():
        key, equals, value = (one.strip() for one in part.partition("="))
        if key not in ENDPOINT_OPTIONS:
            hint = did_you_mean(key, ENDPOINT_OPTIONS) or f"the options are {', '.join(ENDPOINT_OPTIONS)}"
            found.append((f"networks: a network of a container has no option {key!r}", hint))
        elif not equals or not value:
            found.append((f"networks: option {key} of {name} has no value", f"write {key}=VALUE"))
        elif key == "mac" and not re.fullmatch("([0-9a-f]{2}:){5}[0-9a-f]{2}", value):
            found.append((f"networks: {value!r} is not a MAC address", "such as 02:00:00:00:00:01"))
        elif key.endswith("interface_name") and not re.fullmatch(r"[A-Za-z0-9][\w.-]{0,14}", value):
            found.append((f"networks: {value!r} is not the name of a network device", "at most 15 characters"))
    if not found:
        try:
            return read_request(text), []
        except ValueError as error:
            found.append((f"networks: {error}", "such as net0:ip=10.89.0.5"))
    return None, found


def _refuse_single_network_keys(at: str, settings: Any, requests: list[EndpointRequest]) -> Iterator[Refusal]:
    """`ip`, `ip6` and `mac_address` are for a container with one network."""
    for key, option in (("ip", "ip"), ("ip6", "ip"), ("mac_address", "mac")):
        if getattr(settings, key) in (None, ""):
            continue
        if len(requests) > 1:
            what = f"{key}: the container has several networks"
            yield f"{at}/{key}", what, f"write it at a network: {requests[0].network}:{option}={getattr(settings, key)}"
        elif requests and is_exclusive(requests[0].network):
            yield f"{at}/{key}", f"{key}: the container has no separate network", "remove it"


def _refuse_device_names(at: str, requests: list[EndpointRequest]) -> Iterator[Refusal]:
    names = [one.interface_name for one in requests if one.interface_name]
    for name in names:
        if name == "lo" or names.count(name) > 1:
            what = f"networks: the container has a device {name!r} already"
            yield f"{at}/networks", what, "choose another interface_name"
            return


def _refuse_addresses(scenario: Scenario) -> Iterator[Refusal]:
    """Requested addresses that are in no subnet, or that another container has when this one starts; devices of the
    host with one name."""
    nets = networks(scenario)
    for node in scenario.nodes:
        at, settings_of = f"hosts/{node.name}/containers", dict(node.settings)
        devices: dict[str, str] = {net.device: f"network {net.name}" for net in nets.values()}
        devices |= {name: "every host" for name in RESERVED_DEVICES}
        for container in node.pods:
            for request in endpoint_requests(settings_of.get(container)):
                net = nets.get(request.network)
                if net is None:
                    continue
                for address in request.ips:
                    problem = _address_problem(address, request, net)
                    if problem is not None:
                        yield f"{at}/{container}", f"ip: {problem[0]}", problem[1]
                device = request.host_interface_name
                if device and device in devices:
                    what = f"host_interface_name: {devices[device]} has the device {device!r}"
                    yield f"{at}/{container}/networks", what, "choose another name"
                if device:
                    devices[device] = container
        yield from _refuse_taken_addresses(node, nets)


def _address_problem(address: IP, request: EndpointRequest, net: BridgeNetwork) -> tuple[str, str] | None:
    subnet = next((one for one in net.subnets if address in one), None)
    if subnet is None:
        ranges = ", ".join(map(str, net.subnets))
        return f"{address} is in no subnet of network {net.name}", f"it has {ranges}"
    if not _is_host_address(address, subnet) or address in net.gateways:
        return f"{address} is not a free address of {subnet}", f"the bridge has {', '.join(map(str, net.gateways))}"
    if [one for one in request.ips if one in subnet] != [address]:
        return f"{address} is one of several addresses in {subnet}", "a container has one address in a subnet"
    return None


def _refuse_taken_addresses(node: ScenarioNode, nets: dict[str, BridgeNetwork]) -> Iterator[Refusal]:
    """A container that asks for an address which an earlier container got. And more containers than addresses."""
    owners: dict[tuple[str, IP], str] = {}
    for end in host_endpoints(node, nets):
        for address, subnet in zip(end.addresses, end.network.subnets, strict=True):
            at = f"hosts/{node.name}/containers/{end.container}"
            if (end.network.name, address) in owners:
                what = f"ip: {address} is already the address of {owners[end.network.name, address]}"
                yield at, what, "choose another address, or write this container before that one"
            if not _is_host_address(address, subnet):
                what = f"network {end.network.name} has no address left in {subnet} for {end.container}"
                yield at, what, "give the network a larger subnet"
            owners.setdefault((end.network.name, address), end.container)


def _is_host_address(address: IP, subnet: Net) -> bool:
    last = () if isinstance(subnet, IPv6Network) else (subnet.broadcast_address,)
    return address in subnet and address not in (subnet.network_address, *last)


def _refuse_ports(scenario: Scenario) -> Iterator[Refusal]:
    """Published ports without a network, at an address that the host does not have, or used twice."""
    nets = networks(scenario)
    for number, node in enumerate(scenario.nodes):
        own = [docker_underlay.host_address(scenario.options.underlay, number)]
        own6 = scenario.options.underlay_ipv6.network_address + docker_underlay.FIRST_HOST_OFFSET + number
        gateways = [gateway for net in nets.values() for gateway in net.gateways]
        addresses: set[IP] = {*own, own6, *gateways}
        taken: list[tuple[PublishedPort, str]] = []
        settings_of = dict(node.settings)
        for container in node.pods:
            settings = settings_of.get(container)
            ports: tuple[PublishedPort, ...] = settings.publish if settings is not None else ()
            at = f"hosts/{node.name}/containers/{container}/publish"
            requests = endpoint_requests(settings)
            if ports and is_exclusive(requests[0].network):
                what = f"{container} publishes ports, but has no separate network"
                yield at, what, "ports of a program in a shared network are open there without `publish`"
            elif ports and all(nets[one.network].internal for one in requests if one.network in nets):
                what = f"{container} publishes ports, but all its networks are internal"
                yield at, what, "netavark writes no rules for internal networks: add another network"
            for index, port in enumerate(ports):
                other = next((name for one, name in taken if _same_host_port(one, port)), None)
                if other is not None:
                    what = f"publish: {port.protocol} port {host_ports(port)} is published twice on {node.name}"
                    yield f"{at}/{index}", f"{what}, first for {other}", "choose another port of the host"
                where = port.address
                if where is not None and not (where.is_loopback or where.is_unspecified or where in addresses):
                    listed = ", ".join(map(str, own))
                    yield f"{at}/{index}", f"publish: {node.name} does not have the address {where}", f"it has {listed}"
                taken.append((port, container))


def _same_host_port(one: PublishedPort, other: PublishedPort) -> bool:
    """Whether two mappings want the same port of the host."""
    apart = host_ports(one).last < host_ports(other).first or host_ports(other).last < host_ports(one).first
    if one.protocol != other.protocol or apart:
        return False
    here, there = (_listening_address(port) for port in (one, other))
    return here == there or None in (here, there)


def _listening_address(port: PublishedPort) -> IP | None:
    """Where a port is published; None for everywhere."""
    return None if port.address is None or port.address.is_unspecified else port.address


def _refuse_programs(scenario: Scenario) -> Iterator[Refusal]:
    """Programs that listen on a port which another program, or a published port, uses there."""
    for node in scenario.nodes:
        settings_of = dict(node.settings)
        taken: dict[tuple[str, ListeningPort], str] = {}
        if RELEASES[scenario.options.release].conmon_listens:
            for container, settings in settings_of.items():
                for port in settings.publish:
                    for number in range(port.host_port, port.host_port + port.count):
                        if port.protocol != "sctp":
                            key = node.name, ListeningPort(number, port.protocol)
                            taken[key] = f"the published port of {container}"
        for name, owner, listening in container_programs(node, settings_of):
            for number, listen in enumerate(listening):
                if (owner, listen) in taken:
                    what = f"listen: port {listen} of {owner} is already used by {taken[owner, listen]}"
                    at = f"hosts/{node.name}/containers/{name}/listen/{number}"
                    yield at, what, "programs in one network share its ports: choose another port"
                taken.setdefault((owner, listen), name)


def _refuse_ranges(scenario: Scenario) -> Iterator[Refusal]:
    """Ranges that overlap, networks that got no subnet, and more containers than a bridge has ports."""
    nets = networks(scenario)
    missing = [name for name, _ in scenario.networks if name not in nets]
    if missing:
        yield f"networks/{missing[0]}", f"no free subnet is left for network {missing[0]}", "set its subnet"
    for node in scenario.nodes:
        ends = host_endpoints(node, nets)
        for name, net in nets.items():
            number = sum(end.network == net for end in ends)
            if number > primitives.MAX_BRIDGE_PORTS:
                what = f"network {name} on {node.name} has {number} containers"
                yield "hosts", what, f"a Linux bridge has at most {primitives.MAX_BRIDGE_PORTS} ports: use more hosts"
    options = scenario.options
    found: list[tuple[str, str, Net]] = []
    for name, net in nets.items():
        for subnet in net.subnets:
            key = "default_subnet" if name == DEFAULT_NETWORK else f"networks/{name}/subnet"
            found.append((key, f"network {name}", subnet))
    found += [("underlay", "underlay", options.underlay), ("underlay_ipv6", "underlay_ipv6", options.underlay_ipv6)]
    found += [("internet_ip", "internet_ip", IPv4Network(options.internet_ip))]
    found += [("internet_ipv6", "internet_ipv6", IPv6Network(options.internet_ipv6))]
    for position, (key, label, range_) in enumerate(found):
        for _, other, before in found[:position]:
            if _overlap(range_, before):
                yield key, f"{label} {range_} overlaps {other} {before}", "give each a separate range"


def _overlap(one: Net, other: Net) -> bool:
    if isinstance(one, IPv4Network):
        return isinstance(other, IPv4Network) and one.overlaps(other)
    return isinstance(other, IPv6Network) and one.overlaps(other)

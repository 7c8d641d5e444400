"""The errors for addresses, ranges and gateway modes of Docker's networks. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any

from labctl.core.resources import IP, Net
from labctl.core.scenario_types import Scenario
from labctl.models.lib import docker_underlay, primitives
from labctl.models.lib.docker_hosts import BridgeNetwork
from labctl.models.lib.docker_networks import (
    DEFAULT_NETWORK,
    PREDEFINED_NETWORKS,
    bridge_networks,
    connections,
    host_endpoints,
)

Refusal = tuple[str, str, str]
MODES_SINCE = ("28", "29")  # the releases that have gateway modes, trusted interfaces and direct routing
MIN_IPV6_MTU = 1280  # bytes; below, the kernel gives a device no IPv6


def refuse_modes(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for options that the release does not have, and for networks that cannot be isolated."""
    options = scenario.options
    old = options.release not in MODES_SINCE
    if options.firewall_backend == "nftables" and options.release != "29":
        what = f"firewall_backend: release {options.release} of Docker has no nftables backend"
        yield "firewall_backend", what, "set release: 29"
    if old and options.allow_direct_routing:
        what = f"allow_direct_routing: release {options.release} of Docker has no such option"
        yield "allow_direct_routing", what, "up to 26 direct routing is not prevented; or set release: 28"
    if old and options.ipv6 and options.fixed_cidr_v6 is None:
        what = f"ipv6: release {options.release} of Docker chooses no IPv6 subnets"
        yield "ipv6", what, "set fixed_cidr_v6, or release: 28"
    if options.fixed_cidr_v6 is not None and not options.ipv6:
        yield "fixed_cidr_v6", "fixed_cidr_v6: docker0 has no IPv6", "set ipv6: true, too"
    for name, network in scenario.networks:
        at = f"networks/{name}"
        for key in ("gateway_mode_ipv4", "gateway_mode_ipv6", "trusted_host_interfaces", "host_ipv4", "host_ipv6"):
            if old and getattr(network, key) not in ("nat", (), None):
                what = f"{key}: release {options.release} of Docker has no such option"
                if key in ("host_ipv4", "host_ipv6"):
                    what = f"{key}: labctl has no rules with it for release {options.release}"
                yield f"{at}/{key}", what, "set release: 28 or 29"
        for version in (4, 6):
            key = f"gateway_mode_ipv{version}"
            isolated = getattr(network, key) == "isolated"
            if isolated and not network.internal:
                what = f"{key}: only an internal network can be isolated"
                yield f"{at}/{key}", what, "set internal: true"
            gateway_key = "gateway" if version == 4 else "gateway_ipv6"
            if isolated and getattr(network, gateway_key) is not None:
                what = f"{gateway_key}: the bridge of an isolated network has no address"
                yield f"{at}/{gateway_key}", what, "leave it out"
        if old and network.enable_ipv6 and network.subnet_ipv6 is None:
            what = f"enable_ipv6: release {options.release} of Docker chooses no IPv6 subnets"
            yield f"{at}/enable_ipv6", what, "set subnet_ipv6, or release: 28"
        for key in ("subnet_ipv6", "gateway_ipv6", "gateway_mode_ipv6", "host_ipv6"):
            if not network.enable_ipv6 and getattr(network, key) not in (None, "nat"):
                yield f"{at}/{key}", f"{key}: the network has no IPv6", "set enable_ipv6: true, too"
        if network.enable_ipv6 and (network.mtu or options.mtu) < MIN_IPV6_MTU:
            what = f"mtu: {network.mtu or options.mtu} is too small for IPv6"
            yield (f"{at}/mtu" if network.mtu else "mtu"), what, f"IPv6 needs at least {MIN_IPV6_MTU}"
    if options.ipv6 and options.mtu < MIN_IPV6_MTU:
        yield "mtu", f"mtu: {options.mtu} is too small for IPv6", f"IPv6 needs at least {MIN_IPV6_MTU}"


def refuse_sources(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for source addresses (SNAT) that no host has: no answer would come back."""
    nets = bridge_networks(scenario)
    known = {
        address
        for number, _ in enumerate(scenario.nodes)
        for address in docker_underlay.host_addresses(scenario.options, number, nets.values())
    }
    for name, network in scenario.networks:
        for key in ("host_ipv4", "host_ipv6"):
            address = getattr(network, key)
            if address is not None and address not in known:
                some = ", ".join(str(one) for one in sorted(known, key=lambda one: (one.version, int(one))))
                yield f"networks/{name}/{key}", f"{key}: no host has the address {address}", f"they have {some}"


def refuse_addresses(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for gateways and ranges that are not in the subnet of their network, and for addresses that a container
    cannot request: Docker gives these only in networks for which the user chose the subnet."""
    for name, network in scenario.networks:
        at = f"networks/{name}"
        for key, subnet_key in (("gateway", "subnet"), ("gateway_ipv6", "subnet_ipv6")):
            gateway, subnet = getattr(network, key), getattr(network, subnet_key)
            if gateway is not None and subnet is None:
                yield f"{at}/{key}", f"{key}: the network has no {subnet_key}", f"set its {subnet_key} too"
            elif gateway is not None and not _is_host_address(gateway, subnet):
                what = f"{key}: {gateway} is not the address of a host in {subnet}"
                yield f"{at}/{key}", what, "the bridge has this address"
        if network.ip_range is not None and network.subnet is None:
            yield f"{at}/ip_range", "ip_range: the network has no subnet", "set its subnet too"
        elif network.ip_range is not None and not network.ip_range.subnet_of(network.subnet):
            what = f"ip_range: {network.ip_range} is not a part of the subnet {network.subnet}"
            yield f"{at}/ip_range", what, "Docker gives addresses of this range"
    nets = bridge_networks(scenario)
    with_subnet = {
        4: {name for name, network in scenario.networks if network.subnet is not None},
        6: {name for name, network in scenario.networks if network.subnet_ipv6 is not None},
    }
    for node in scenario.nodes:
        at, taken = f"hosts/{node.name}/containers", dict[IP, str]()
        networks_of: dict[str, list[str]] = {}
        for container, name in connections(node):
            networks_of.setdefault(container, []).append(name)
        for container, settings in node.settings:
            for key, version, addresses in (("ip", 4, settings.ip), ("ip6", 6, settings.ip6)):
                names = [name for name in networks_of[container] if name in with_subnet[version] and name in nets]
                possible = {name: nets[name] for name in names if nets[name].subnet_of(version) is not None}
                used = set[str]()
                for number, address in enumerate(addresses):
                    problem = _requested_address_problem(address, possible, used, taken)
                    if problem is not None:
                        yield f"{at}/{container}/{key}/{number}", f"{key}: {problem[0]}", problem[1]
                    taken.setdefault(address, container)


def _requested_address_problem(
    address: IP, networks: dict[str, BridgeNetwork], used: set[str], taken: dict[IP, str]
) -> tuple[str, str] | None:
    """What is wrong with an address that a container requests, and a hint. Adds its network to `used`."""
    subnets = {name: net.subnet_of(address.version) for name, net in networks.items()}
    name = next((name for name, subnet in subnets.items() if subnet is not None and address in subnet), None)
    if name is None:
        ranges = ", ".join(f"{name} {subnet}" for name, subnet in subnets.items())
        family = "an IPv6 subnet" if address.version == 6 else "a subnet"
        hint = f"it has {ranges}" if ranges else f"Docker needs a network with {family} that the file sets"
        return f"{address} is in no subnet of the container's networks", hint
    of_bridge = [one.ip for one in networks[name].bridge_addresses if one.version == address.version]
    if not _is_host_address(address, subnets[name]) or address in of_bridge:
        hint = f"the bridge has {of_bridge[0]}" if of_bridge else ""
        return f"{address} is not a free address of {subnets[name]}", hint
    if address in taken:
        return f"{address} is already the address of {taken[address]}", "choose another address"
    if name in used:
        return f"{address} is a second address in network {name}", "a container has one address in a network"
    used.add(name)
    return None


def _is_host_address(address: IP, subnet: Any) -> bool:
    ends = (subnet.network_address, subnet.broadcast_address) if address.version == 4 else (subnet.network_address,)
    return address in subnet and address not in ends


def refuse_sizes(scenario: Scenario) -> Iterator[Refusal]:
    """Errors for more containers than a bridge has ports or a range has addresses, and for ranges that overlap."""
    nets = bridge_networks(scenario)
    missing = [name for name, _ in scenario.networks if name not in nets and name not in PREDEFINED_NETWORKS]
    if missing:
        yield f"networks/{missing[0]}", f"no free subnet is left for network {missing[0]}", "set its subnet"
    for node in scenario.nodes:
        found = [item.endpoint for item in host_endpoints(node, nets)]
        for name, net in nets.items():
            ends = [end for end in found if end.network == net]
            yield from _refuse_full_network(node.name, name, net, len(ends))
            requested = {address for _, settings in node.settings for address in settings.ip}
            yield from _refuse_full_range(node.name, name, net, {end.address for end in ends} - requested)
            yield from _refuse_full_ipv6_subnet(node.name, name, net, [end.address6 for end in ends])
    options = scenario.options
    keys = {"subnet": "subnet"} | {
        f"network {name}": f"networks/{name}/subnet" for name in nets if name != DEFAULT_NETWORK
    }
    ranges: dict[str, Net] = {label: net.subnet for label, net in zip(keys, nets.values(), strict=True)}
    ranges |= {"underlay": options.underlay, "internet_ip": IPv4Network(options.internet_ip)}
    yield from ((keys.get(label, label), what, hint) for label, what, hint in primitives.refuse_overlaps(ranges))
    labels = dict(zip(nets, ["fixed_cidr_v6", *list(keys)[1:]], strict=True))
    ranges = {labels[name]: net.subnet6 for name, net in nets.items() if net.subnet6 is not None}
    for label, subnet in ranges.items():
        if subnet.is_multicast or subnet.is_link_local or subnet.is_loopback or subnet.is_unspecified:
            what = f"{subnet} cannot be the IPv6 subnet of a network"
            yield f"{keys[label]}_ipv6" if label in keys else label, what, "such as fd00:1::/64"
    if ranges:
        ranges |= {"underlay_ipv6": options.underlay_ipv6, "internet_ipv6": IPv6Network(options.internet_ipv6)}
    for label, what, hint in primitives.refuse_overlaps(ranges):
        yield f"{keys[label]}_ipv6" if label in keys else label, what, hint


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


def _refuse_full_range(host: str, name: str, net: BridgeNetwork, given: set[IPv4Address]) -> Iterator[Refusal]:
    """An error for a range that is too small for the bridge and for the containers that request no address."""
    if net.ip_range is None:
        return
    last = int(net.ip_range.broadcast_address) - (net.ip_range.broadcast_address == net.subnet.broadcast_address)
    if net.first_address(4) > last or any(int(address) > last for address in given):
        what = f"ip_range: {net.ip_range} has too few addresses for the bridge and the containers of {host}"
        yield f"networks/{name}/ip_range", what, "give the network a larger range"


def _refuse_full_ipv6_subnet(
    host: str, name: str, net: BridgeNetwork, addresses: list[IPv6Address | None]
) -> Iterator[Refusal]:
    given = addresses if net.requested_gateway6 else [net.gateway6, *addresses]
    if net.subnet6 is not None and any(one is None or one not in net.subnet6 for one in given):
        at = "fixed_cidr_v6" if name == DEFAULT_NETWORK else f"networks/{name}/subnet_ipv6"
        what = f"{net.subnet6} has too few addresses for the bridge and the containers of {host}"
        yield at, what, "give the network a larger IPv6 subnet"

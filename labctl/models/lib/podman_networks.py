"""The networks of Podman's hosts, and the containers in them with their addresses and devices. Pure.

Follows containers/common v0.64 (libnetwork/netavark/ipam.go, libnetwork/internal/util/bridge.go): which subnet and
bridge a network gets, and which address a container.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from itertools import count
from typing import Any, NamedTuple

from labctl.core.resources import IP, Net
from labctl.core.scenario_types import PortRange, PublishedPort, Scenario, ScenarioNode
from labctl.models.lib import primitives
from labctl.models.lib.docker_networks import CONTAINER_PREFIX, HOST_NETWORK, NONE_NETWORK

DEFAULT_NETWORK = "podman"
PREDEFINED_NETWORKS = (DEFAULT_NETWORK, NONE_NETWORK, HOST_NETWORK)  # names that no new network can have
# containers.conf, default_subnet_pools: the subnets of new networks are /24
SUBNET_POOLS = tuple(
    IPv4Network(pool) for pool in ("10.89.0.0/16", "10.90.0.0/15", "10.92.0.0/14", "10.96.0.0/11", "10.128.0.0/9")
)
POOL_PREFIX_LENGTH = 24
DEFAULT_METRIC = 100  # of default routes
ENDPOINT_OPTIONS = ("ip", "mac", "interface_name", "host_interface_name")


@dataclass(frozen=True, slots=True)
class Release:
    """What differs between the releases of netavark. `ipv6_multicast` are the destinations that masquerading leaves
    out; `conmon_listens` is whether the Podman that comes with it holds published ports with sockets."""

    name: str
    isolate: str
    ipv6_multicast: str
    has_outbound_address: bool
    conmon_listens: bool
    drivers: tuple[str, ...] = ("nftables",)


RELEASES = {
    "1.17": Release("1.17", "false", "::/8", False, True, ("nftables", "iptables")),
    "2.0": Release("2.0", "strict", "ff00::/8", True, False),
}


class BridgeNetwork(NamedTuple):
    """A bridge network, as netavark gets it."""

    name: str
    id: str
    device: str
    subnets: tuple[Net, ...]
    gateways: tuple[IP, ...]
    internal: bool = False
    isolate: str = "false"
    mtu: int | None = None  # None: that of the host's default route
    metric: int = DEFAULT_METRIC
    default_route: bool = True
    outbound: tuple[IP, ...] = ()

    @property
    def has_ipv6(self) -> bool:
        """Whether containers get an IPv6 address in it."""
        return any(subnet.version == 6 for subnet in self.subnets)


@dataclass(frozen=True, slots=True)
class EndpointRequest:
    """A network of a container with its options, as `podman run --network` takes it."""

    network: str
    ips: tuple[IP, ...] = ()
    mac: str = ""
    interface_name: str = ""
    host_interface_name: str = ""


@dataclass(frozen=True)
class Endpoint:
    """A container in a network: its devices, its addresses (one in each subnet), and all its published ports."""

    container: str
    container_id: str
    network: BridgeNetwork
    device: str
    host_device: str
    addresses: tuple[IP, ...]
    mac: str = ""
    ports: tuple[PublishedPort, ...] = field(default=(), repr=False)

    @cached_property
    def first_addresses(self) -> tuple[tuple[IP, Net], ...]:
        """The first address of each IP version with its subnet, IPv4 first: ports lead only to these."""
        pairs = tuple(zip(self.addresses, self.network.subnets, strict=True))
        found = (next((pair for pair in pairs if pair[0].version == version), None) for version in (4, 6))
        return tuple(pair for pair in found if pair is not None)


def networks(scenario: Scenario) -> dict[str, BridgeNetwork]:
    """Every network by its name: `podman`, then those of the file in the order of their creation.

    A network without a subnet gets the next free range of the pools, one without a device the next free `podmanN`. If
    no range is free, the network is left out.
    """
    options = scenario.options
    settings_of = dict(scenario.networks)
    default = settings_of.pop(DEFAULT_NETWORK, None)
    created = {name: settings for name, settings in settings_of.items() if name not in PREDEFINED_NETWORKS}
    taken: list[Net] = [options.default_subnet, options.underlay, IPv4Network(options.internet_ip)]
    taken += [subnet for settings in created.values() for subnet in settings.subnet]
    devices = {settings.interface_name for settings in created.values()}
    found: dict[str, BridgeNetwork] = {}
    for name, settings in ((DEFAULT_NETWORK, default), *created.items()):
        subnets = _subnets(name, settings, options.default_subnet if name == DEFAULT_NETWORK else None, taken)
        if not subnets:
            continue
        device = settings.interface_name if settings is not None else ""
        if not device:
            first = 0 if name == DEFAULT_NETWORK else 1
            device = next(one for one in (f"podman{number}" for number in count(first)) if one not in devices)
        devices.add(device)
        taken += subnets
        found[name] = _network(name, device, subnets, settings, RELEASES[options.release])
    return found


def _subnets(name: str, settings: Any, default: IPv4Network | None, taken: Sequence[Net]) -> tuple[Net, ...]:
    """The subnets of a network: those of the file; without any, a free one; with `ipv6`, one of each IP version."""
    found: list[Net] = list(settings.subnet) if settings is not None else []
    versions = {subnet.version for subnet in found}
    dual = settings is not None and settings.ipv6
    if not found or (dual and 4 not in versions):
        free = default or next(_free_subnets([one for one in taken if isinstance(one, IPv4Network)]), None)
        if free is None:
            return ()
        found.append(free)
    if dual and 6 not in versions:
        found.append(unique_local_subnet(name))
    return tuple(found)


def _free_subnets(taken: list[IPv4Network]) -> Iterator[IPv4Network]:
    for pool in SUBNET_POOLS:
        yield from primitives.free_subnets(pool, POOL_PREFIX_LENGTH, taken)


def unique_local_subnet(name: str) -> IPv6Network:
    """A /64 below fd00::/8 for a network: Podman's is random, this one is made from its name."""
    digits = primitives.device_names("fd", 14, (name,))[0]
    return IPv6Network((bytes.fromhex(digits) + bytes(8), 64))


def _network(name: str, device: str, subnets: tuple[Net, ...], settings: Any, release: Release) -> BridgeNetwork:
    requested = () if settings is None else settings.gateway
    gateways = tuple(
        next((gateway for gateway in requested if gateway in subnet), subnet.network_address + 1) for subnet in subnets
    )
    if settings is None:
        return BridgeNetwork(name, object_id(name), device, subnets, gateways, isolate=release.isolate)
    return BridgeNetwork(
        name,
        settings.id or object_id(name),
        device,
        subnets,
        gateways,
        settings.internal,
        settings.isolate or release.isolate,
        settings.mtu,
        DEFAULT_METRIC if settings.metric is None else settings.metric,
        not settings.no_default_route,
        tuple(one for one in (settings.outbound_addr4, settings.outbound_addr6) if one is not None),
    )


def object_id(name: str) -> str:
    """The ID of a network or container, made from its name. That of the network `podman` is Podman's own; those of
    other networks, and of containers, are random there."""
    from hashlib import sha256  # loads OpenSSL, which most labs do without

    return sha256(name.encode()).hexdigest()


def host_ports(port: PublishedPort) -> PortRange:
    """The ports of the host that a published port, or a range of them, takes."""
    return PortRange(port.host_port, port.host_port + port.count - 1)


def endpoint_requests(settings: Any) -> tuple[EndpointRequest, ...]:
    """The networks of a container in their order, with what it requests in each. `settings` is the model's `Container`
    object, or None. Raises ValueError for text that `podman run --network` does not take."""
    if settings is None:
        return (EndpointRequest(DEFAULT_NETWORK),)
    found = tuple(read_request(text) for text in settings.networks or (DEFAULT_NETWORK,))
    own = tuple(one for one in (settings.ip, settings.ip6) if one is not None)
    if len(found) == 1 and (own or settings.mac_address):
        first = found[0]
        mac = first.mac or settings.mac_address
        return (EndpointRequest(first.network, first.ips + own, mac, first.interface_name, first.host_interface_name),)
    return found


def read_request(text: str) -> EndpointRequest:
    """One network with options: `net0`, `net0:ip=10.89.0.5,mac=...`. Raises ValueError."""
    name, colon, rest = text.partition(":")
    if text.startswith(CONTAINER_PREFIX) or not colon:
        return EndpointRequest(text)
    ips: list[IP] = []
    words: dict[str, str] = {}
    for part in rest.split(","):
        key, equals, value = (one.strip() for one in part.partition("="))
        if key not in ENDPOINT_OPTIONS or not equals or not value:
            raise ValueError(key)
        if key == "ip":
            ips.append(ip_address(value))
        else:
            words[key] = value
    return EndpointRequest(name.strip(), tuple(ips), **words)


def host_endpoints(node: ScenarioNode, networks_by_name: dict[str, BridgeNetwork]) -> tuple[Endpoint, ...]:
    """The endpoints of a host's containers in the order in which Podman makes them: container after container, each
    with its networks. An address is the requested one, else the next free one."""
    settings_of = dict(node.settings)
    taken = {name: set(net.gateways) for name, net in networks_by_name.items()}
    free = {
        name: tuple(_free_addresses(one, taken[name]) for one in net.subnets) for name, net in networks_by_name.items()
    }
    asked = {name: endpoint_requests(settings_of.get(name)) for name in node.pods}
    host_devices = _host_devices([one for requests in asked.values() for one in requests if one.network in free])
    found = []
    for container, requests in asked.items():
        settings = settings_of.get(container)
        devices = _container_devices(requests)
        for request, device in zip(requests, devices, strict=True):
            if request.network not in networks_by_name:
                continue
            net = networks_by_name[request.network]
            chosen = []
            for subnet, candidates in zip(net.subnets, free[net.name], strict=True):
                address = next((one for one in request.ips if one in subnet), None) or next(candidates)
                taken[net.name].add(address)
                chosen.append(address)
            found.append(
                Endpoint(
                    container,
                    (settings.id if settings is not None else "") or object_id(container),
                    net,
                    device,
                    next(host_devices),
                    tuple(chosen),
                    request.mac,
                    () if settings is None else settings.publish,
                )
            )
    return tuple(found)


def _free_addresses(subnet: Net, taken: set[IP]) -> Iterator[IP]:
    """The addresses that containers get next. `taken` grows while they are read."""
    make = IPv4Address if isinstance(subnet, IPv4Network) else IPv6Address
    for number in count(int(subnet.network_address) + 1):
        if (address := make(number)) not in taken:
            yield address


def _container_devices(requests: Sequence[EndpointRequest]) -> tuple[str, ...]:
    """The devices of a container: the requested names, else eth0, eth1, ..."""
    wanted = {request.interface_name for request in requests}
    free = (name for name in (f"eth{number}" for number in count()) if name not in wanted)
    return tuple(request.interface_name or next(free) for request in requests)


def _host_devices(requests: Sequence[EndpointRequest]) -> Iterator[str]:
    """The host's ends of the veth pairs: the requested names, else the kernel's next, veth0, veth1, ..."""
    wanted = {request.host_interface_name for request in requests}
    free = (name for name in (f"veth{number}" for number in count()) if name not in wanted)
    return (request.host_interface_name or next(free) for request in requests)

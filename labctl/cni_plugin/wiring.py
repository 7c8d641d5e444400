"""The objects that labctl's CNI plugin creates for one container, as a plan of two namespaces: `host` and `pod`. Pure.

    bridge   a port of a bridge on which the node may have an address     follows plugins/main/bridge
    routed   a separate veth pair, the gateway's address and a route      follows plugins/main/ptp

Both of containernetworking/plugins 1.1 (bridge.go, ptp.go, pkg/ip, pkg/ipam). The name of every object is computed
from network, container and device, so that it can be found again without a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha512
from ipaddress import IPv4Address, IPv4Interface, IPv4Network

from labctl.cni.spec import (
    FIRST_PLUGIN_CODE,
    INVALID_NETWORK_CONFIG,
    UNSUPPORTED_FIELD,
    IpConfig,
    Result,
    ResultInterface,
    RouteConfig,
)
from labctl.cni_plugin.config import Config, Failure, Request
from labctl.core.resources import Address, Interface, Link, Plan, Resource, Route, Sysctl

HOST, POD = "host", "pod"
DEFAULT_DESTINATION = IPv4Network("0.0.0.0/0")
MAX_ALIAS_BYTES = 255  # maximum length in bytes of an alias, and of an iptables comment, which is shorter here


@dataclass(frozen=True, slots=True)
class LinkAlias:
    """The owner of a veth pair, from the alias of the host's end: a container, its device, and its addresses."""

    container_id: str
    ifname: str
    addresses: tuple[IPv4Interface, ...] = ()


def host_veth_name(request: Request) -> str:
    """The name of the host's end of a container's veth pair: always the same for one attachment."""
    digest = sha512(f"{request.config.name} {request.container_id} {request.ifname}".encode()).hexdigest()
    return f"veth{digest[:8]}"


def link_alias(request: Request, ipam_result: Result) -> str:
    """The alias of the host's end: it gives the owner to a GC, and the addresses to a DEL.

    Raises Failure for names that are too long for it.
    """
    addresses = (str(item.address) for item in ipam_result.ips)
    alias = " ".join(("labctl-cni", request.config.name, request.container_id, request.ifname, *addresses))
    excess_bytes = len(alias.encode()) - MAX_ALIAS_BYTES
    if excess_bytes > 0:
        message = f"the names of network and container are too long together, by {excess_bytes} bytes"
        raise Failure(
            INVALID_NETWORK_CONFIG, message, "they must fit into a device's alias and into an iptables comment"
        )
    return alias


def parse_link_alias(alias: str, network: str) -> LinkAlias | None:
    """The owner in an alias, or None if it is not an alias of this network."""
    fields = alias.split()
    if len(fields) < 4 or fields[:2] != ["labctl-cni", network]:
        return None
    try:
        addresses = tuple(IPv4Interface(address) for address in fields[4:])
    except ValueError:  # somebody else wrote it
        return None
    return LinkAlias(fields[2], fields[3], addresses)


def validated_addresses(result: Result) -> tuple[IpConfig, ...]:
    """The addresses from IPAM. Raises Failure if there is none, or one of another family than IPv4."""
    if not result.ips:
        raise Failure(INVALID_NETWORK_CONFIG, "the IPAM plugin returned no address")
    if any(item.address.version != 4 for item in result.ips):
        raise Failure(UNSUPPORTED_FIELD, "this plugin does not support IPv6 addresses", "give the IPAM IPv4 ranges")
    return result.ips


def wiring(request: Request, ipam_result: Result, *, ipv6: bool, existing: Plan = (), mac: str | None = None) -> Plan:
    """Every kernel object of one container. `ipam_result` has its addresses and routes. `ipv6` is true if the kernel
    has IPv6; only then are its sysctls written. `existing` are the objects that both namespaces already have: an
    existing bridge stays unchanged, and a destination that another device routes stays with that device. `mac` is for a
    new bridge.

    Raises Failure if the addresses or routes from IPAM cannot be used.
    """
    if request.config.shape == "bridge":
        resources = tuple(_bridge(request, ipam_result, bridge_link(request.config, existing, mac)))
        _check_bridge_addresses(request.config, resources, existing)
    else:
        resources = tuple(_routed_plan(request, ipam_result))
    wanted = (item for item in resources if ipv6 or not (isinstance(item, Sysctl) and ".ipv6." in item.name))
    return tuple(_without_existing_routes(request, ipam_result, wanted, existing))


def bridge_link(config: Config, existing: Plan, mac: str | None = None) -> Link:
    """The existing bridge, up (and promiscuous if configured), or a new one. Raises Failure for another kind of
    device."""
    at = Interface(HOST, config.bridge)
    found = next((item for item in existing if isinstance(item, Link) and item.at == at), None)
    if found is None:
        return Link(at, "bridge", mtu=config.mtu or None, mac=mac, promisc=config.promisc, autoconf=True)
    if found.kind != "bridge":
        raise Failure(FIRST_PLUGIN_CODE, f"{at.dev} exists and is not a bridge, but a {found.kind}")
    # a bridge that is a gateway keeps the MAC address that its neighbours have, whatever ports it gets
    mac_to_keep = found.mac if config.gateway else None
    return replace(found, up=True, promisc=found.promisc or config.promisc, mac=mac_to_keep)


def _check_bridge_addresses(config: Config, resources: Plan, existing: Plan) -> None:
    """Refuse a gateway bridge with another address, as the reference plugin does: that address has another owner."""
    at = Interface(HOST, config.bridge)
    wanted = {item.addr for item in resources if isinstance(item, Address) and item.at == at}
    present = {item.addr for item in existing if isinstance(item, Address) and item.at == at and item.addr.version == 4}
    if wanted and present - wanted:
        names = ", ".join(sorted(map(str, present - wanted)))
        message = f"{at.dev} has another address than {', '.join(sorted(map(str, wanted)))}: {names}"
        raise Failure(FIRST_PLUGIN_CODE, message, "use another bridge, or remove that address")


def _without_existing_routes(
    request: Request, ipam_result: Result, wanted: Iterable[Resource], existing: Plan
) -> Iterator[Resource]:
    """The wanted objects without IPAM's routes to destinations that another device already routes: the first network
    wins, as the specification says. Raises Failure if the wiring itself needs such a route."""
    existing_routes = {item.key: item for item in existing if isinstance(item, Route) and item.ns == POD}
    optional = {route.dst for route in ipam_result.routes}
    for item in wanted:
        existing_route = existing_routes.get(item.key) if isinstance(item, Route) and item.ns == POD else None
        if not isinstance(item, Route) or existing_route is None or existing_route.dev == request.ifname:
            yield item
        elif item.dst not in optional:
            raise Failure(FIRST_PLUGIN_CODE, f"{item.dst} is routed by {existing_route.dev} already in {request.netns}")


def _bridge(request: Request, ipam_result: Result, link: Link) -> Iterator[Resource]:
    config, inner, outer = request.config, Interface(POD, request.ifname), Interface(HOST, host_veth_name(request))
    at = link.at
    yield link
    yield from _veth_pair(request, outer, inner, config.bridge)
    yield Sysctl(POD, f"net.ipv4.conf.{_dotless(inner.dev)}.arp_notify", "1")
    yield Sysctl(HOST, f"net.ipv6.conf.{_dotless(config.bridge)}.accept_ra", "0")
    for item in validated_addresses(ipam_result):
        yield _address(inner, item)
        if config.gateway:
            gateway = int(_gateway(item))
            yield _address(at, replace(item, address=IPv4Interface((gateway, item.address.network.prefixlen))))
    if config.gateway:
        yield Sysctl(HOST, "net.ipv4.ip_forward", "1")
    yield from _routes(inner, ipam_result)


def _routed_plan(request: Request, ipam_result: Result) -> Iterator[Resource]:
    inner, outer = Interface(POD, request.ifname), Interface(HOST, host_veth_name(request))
    yield from _veth_pair(request, outer, inner, None)
    yield Sysctl(HOST, "net.ipv4.ip_forward", "1")
    for item in validated_addresses(ipam_result):
        gateway, address, subnet = _gateway(item), IPv4Address(item.address.ip), IPv4Network(item.address.network)
        yield Address(inner, item.address, connected=False)
        yield Route(POD, IPv4Network((int(gateway), 32)), dev=inner.dev, src=address)
        yield Route(POD, subnet, gateway, inner.dev, src=address)
        yield Address(outer, IPv4Interface((int(gateway), 32)), None)
        yield Route(HOST, IPv4Network((int(address), 32)), dev=outer.dev, scope="host")
    yield from _routes(inner, ipam_result)


def _veth_pair(request: Request, outer: Interface, inner: Interface, master: str | None) -> Iterator[Resource]:
    config, mtu = request.config, request.config.mtu or None
    yield Link(
        outer, "veth", inner, master, mtu, txqueuelen=0, autoconf=True, hairpin=config.hairpin, isolated=config.isolated
    )
    yield Link(inner, "veth", outer, None, mtu, config.mac, txqueuelen=0, autoconf=True)
    yield Sysctl(HOST, f"net.ipv6.conf.{outer.dev}.accept_ra", "0")
    yield Sysctl(POD, f"net.ipv6.conf.{_dotless(inner.dev)}.accept_dad", "0")


def _address(at: Interface, item: IpConfig) -> Address:
    return Address(at, item.address, None if item.address.network.prefixlen == 32 else True)


def _gateway(item: IpConfig) -> IPv4Address:
    """The gateway of an address: from IPAM, else the first address of the subnet."""
    if item.gateway is not None:
        return IPv4Address(str(item.gateway))
    first = IPv4Address(int(item.address.network.network_address) + 1)
    if first == item.address.ip:
        raise Failure(INVALID_NETWORK_CONFIG, f"{item.address} is the address of its subnet's gateway")
    return first


def _routes(inner: Interface, ipam_result: Result) -> Iterator[Resource]:
    """The routes from IPAM. A route without a next hop uses the gateway of the first address, if that has one."""
    for route in ipam_result.routes:
        via = route.gw if route.gw is not None else ipam_result.ips[0].gateway
        yield Route(POD, route.dst, via, inner.dev, metric=route.priority or 0, mtu=route.mtu)


def complete_ipam_result(request: Request, ipam_result: Result) -> Result:
    """IPAM's result, completed: with gateways if the node is the gateway, and with the default route of
    `isDefaultGateway` if IPAM returned none."""
    if request.config.gateway:
        ipam_result = replace(
            ipam_result, ips=tuple(replace(item, gateway=_gateway(item)) for item in validated_addresses(ipam_result))
        )
    if not request.config.is_default_gateway or any(route.dst == DEFAULT_DESTINATION for route in ipam_result.routes):
        return ipam_result
    return replace(
        ipam_result, routes=(*ipam_result.routes, RouteConfig(DEFAULT_DESTINATION, ipam_result.ips[0].gateway))
    )


def add_result(request: Request, ipam_result: Result, macs: dict[Interface, str]) -> Result:
    """The result of an ADD: devices in the reference plugins' order, addresses, routes, after those of `prevResult`."""
    config, inner, outer = request.config, Interface(POD, request.ifname), Interface(HOST, host_veth_name(request))
    before = config.prev_result or Result(config.version)
    bridge = Interface(HOST, config.bridge)
    interfaces = [ResultInterface(bridge.dev, macs.get(bridge, ""))] if config.shape == "bridge" else []
    interfaces += [
        ResultInterface(outer.dev, macs.get(outer, "")),
        ResultInterface(inner.dev, macs.get(inner, ""), request.netns),
    ]
    index = len(before.interfaces) + len(interfaces) - 1
    ips = (replace(item, interface=index) for item in ipam_result.ips)
    dns = {key: value for key, value in (config.raw.get("dns") or {}).items() if value}
    return Result(
        config.version,
        (*before.interfaces, *interfaces),
        (*before.ips, *ips),
        (*before.routes, *ipam_result.routes),
        dns or ipam_result.dns or before.dns,
    )


def attachment_part(request: Request) -> Result:
    """The part of an ADD's result for this attachment's device, which CHECK and DEL use. A DEL may be without the
    namespace."""
    previous = request.config.prev_result
    if previous is None:
        return Result(request.config.version)
    indexes = [
        number
        for number, item in enumerate(previous.interfaces)
        if item.name == request.ifname and (item.sandbox == request.netns if request.netns else item.sandbox)
    ]
    return replace(previous, ips=tuple(item for item in previous.ips if item.interface in (None, *indexes)))


def with_result_macs(request: Request, plan: Plan) -> Plan:
    """A plan with the MAC addresses of the ADD's result, with which a CHECK compares the devices."""
    previous = request.config.prev_result
    interfaces = previous.interfaces if previous is not None else ()
    macs = {Interface(POD if item.sandbox else HOST, item.name): item.mac.lower() for item in interfaces if item.mac}
    if not request.config.gateway:
        macs.pop(Interface(HOST, request.config.bridge), None)  # it has the lowest MAC address of its ports
    return tuple(
        replace(item, mac=macs[item.at]) if isinstance(item, Link) and item.at in macs else item for item in plan
    )


def _dotless(device: str) -> str:
    """A device's name inside a sysctl's dotted name, as sysctl(8) writes it."""
    return device.replace(".", "/")

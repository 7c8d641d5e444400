"""The devices of a Docker host: its bridges, the endpoints of its containers, addresses, routes, settings. Pure.

IPv6 follows moby/moby docker-v29.7.2 (daemon/libnetwork/drivers/bridge/setup_ipv6_linux.go, setup_ip_forwarding.go,
setup_bridgenetfiltering.go; daemon/libnetwork/osl/interface_linux.go), and was compared with 28.5.2, 26.1.5 and
20.10.24.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Interface

from labctl.core.resources import Interface, InterfaceAddress, Link, Resource, Route, Sysctl
from labctl.core.why import explained
from labctl.models.lib import docker_nft_reasons, docker_reasons, primitives
from labctl.models.lib.docker_hosts import BridgeNetwork
from labctl.models.lib.docker_iptables import RANDOM_MAC_RELEASES
from labctl.models.lib.docker_networks import ContainerEndpoint
from labctl.models.lib.docker_underlay import ANYWHERE_IPV6

# 20.10 sets the MTU of a network on the veths only, and the bridge takes the smallest MTU of its ports
PORTS_SET_BRIDGE_MTU_RELEASES = ("20.10",)
# earlier releases give every bridge with IPv6 this address, too
LINK_LOCAL_GATEWAY, LINK_LOCAL_GATEWAY_RELEASES = IPv6Interface("fe80::1/64"), ("20.10", "26")


def bridges(
    host: str, nets: tuple[BridgeNetwork, ...], with_ports: set[BridgeNetwork], release: str, mtu: int
) -> Iterator[Resource]:
    """A host's bridges with their addresses. `with_ports` are the networks with containers on this host."""
    mac_prefix = "02" if release in RANDOM_MAC_RELEASES else "02:42"
    for net in nets:
        at = Interface(host, net.device)
        has_mtu = net in with_ports or release not in PORTS_SET_BRIDGE_MTU_RELEASES
        yield Link(
            at,
            "bridge",
            mtu=(net.mtu if has_mtu else None) or mtu,
            mac=primitives.mac(str(at), mac_prefix),
            txqueuelen=primitives.NO_QUEUE,
            autoconf=_autoconf(net),
            why=docker_reasons.BRIDGE,
        )
        addresses: tuple[InterfaceAddress, ...] = net.bridge_addresses
        if _autoconf(net) and release in LINK_LOCAL_GATEWAY_RELEASES:
            addresses += (LINK_LOCAL_GATEWAY,)
        yield from explained(docker_reasons.BRIDGE_ADDRESS, primitives.addresses(at, *addresses))


def _autoconf(net: BridgeNetwork) -> bool:
    """Whether the bridge has link-local addresses: they need IPv6, and an isolated network has none."""
    return net.subnet6 is not None and net.gateway_mode_ipv6 != "isolated"


def host_settings(
    host: str, nets: tuple[BridgeNetwork, ...], release: str, *, userland_proxy: bool, nftables: bool = False
) -> Iterator[Resource]:
    """The kernel's settings that dockerd changes: forwarding, and whether bridged frames pass the firewall. With the
    backend nftables, forwarding is on before dockerd starts."""
    forwards = docker_nft_reasons.FORWARDS if nftables else docker_reasons.FORWARDS
    yield from primitives.forwarding_sysctls(host, True, rp_filter=2, devices=(), why=forwards)
    every_network = release in RANDOM_MAC_RELEASES and not userland_proxy
    filtered = every_network or any(not net.icc for net in nets)
    why = docker_reasons.BRIDGED_FRAMES if filtered else docker_reasons.BRIDGED_FRAMES_OFF
    yield Sysctl(host, "net.bridge.bridge-nf-call-iptables", str(int(filtered)), why=why)
    with_ipv6 = tuple(net for net in nets if net.subnet6 is not None)
    if with_ipv6:
        for scope in ("all", "default"):
            why = forwards if nftables else docker_reasons.FORWARDS_IPV6
            yield Sysctl(host, f"net.ipv6.conf.{scope}.forwarding", "1", why=why)
        filtered = release in RANDOM_MAC_RELEASES and (every_network or any(not net.icc for net in with_ipv6))
        why = docker_reasons.BRIDGED_FRAMES if filtered else docker_reasons.BRIDGED_FRAMES_OFF
        yield Sysctl(host, "net.bridge.bridge-nf-call-ip6tables", str(int(filtered)), why=why)
    for net in with_ipv6:
        setting = f"net.ipv6.conf.{_in_sysctl(net.device)}"
        yield Sysctl(host, f"{setting}.accept_ra", "0", why=docker_reasons.NO_ROUTER_ADVERTISEMENTS)
        if net.gateway_mode_ipv6 == "isolated":
            yield Sysctl(host, f"{setting}.disable_ipv6", "1", why=docker_reasons.ISOLATED_BRIDGE)
        else:
            yield _no_dad(Interface(host, net.device))
    for net in nets if not userland_proxy else ():
        setting = f"net.ipv4.conf.{_in_sysctl(net.device)}.route_localnet"
        yield Sysctl(host, setting, "1", why=docker_reasons.ROUTE_LOCALNET)


def endpoints(
    host: str, ends: tuple[ContainerEndpoint, ...], release: str, mtu: int, *, hairpin: bool
) -> Iterator[Resource]:
    """The endpoints of a host's containers: veth pairs, addresses and default routes. `hairpin` is a flag of the
    bridges' ports."""
    labels = [end.container if end.device == "eth0" else f"{end.container}/{end.device}" for end in ends]
    devices = primitives.device_names("veth", 7, labels)
    for end, label, device in zip(ends, labels, devices, strict=True):
        net, address = end.endpoint.network, end.endpoint.address
        inner, outer = Interface(end.container, end.device), Interface(host, device)
        ipv6, size = net.subnet6 is not None, net.mtu or mtu
        mac = primitives.mac(label) if release in RANDOM_MAC_RELEASES else "02:42:" + address.packed.hex(":")
        queue = primitives.NO_QUEUE
        whys = (docker_reasons.HOST_END, docker_reasons.CONTAINER_END)
        yield Link(outer, "veth", inner, net.device, size, None, queue, hairpin=hairpin, autoconf=ipv6, why=whys[0])
        yield Link(inner, "veth", outer, None, size, mac, queue, autoconf=ipv6, why=whys[1])
        addresses: list[InterfaceAddress] = [primitives.with_prefix_length(address, net.subnet.prefixlen)]
        if net.subnet6 is not None and end.endpoint.address6 is not None:
            addresses.append(IPv6Interface((int(end.endpoint.address6), net.subnet6.prefixlen)))
            yield _no_dad(outer)
            yield _no_dad(inner)
        yield from explained(docker_reasons.CONTAINER_ADDRESS, primitives.addresses(inner, *addresses))
        why = docker_reasons.CONTAINER_ROUTE
        if end.default_route:
            yield Route(end.container, primitives.ANYWHERE, net.gateway, inner.dev, why=why)
        if end.default_route6:
            yield Route(end.container, ANYWHERE_IPV6, net.gateway6, inner.dev, why=why)


def _no_dad(at: Interface) -> Resource:
    """The link-local address of a device is usable at once; dockerd gives the other addresses without detection."""
    setting = f"net.ipv6.conf.{_in_sysctl(at.dev)}.accept_dad"
    return Sysctl(at.ns, setting, "0", why=docker_reasons.NO_DAD)


def _in_sysctl(device: str) -> str:
    return device.replace(".", "/")

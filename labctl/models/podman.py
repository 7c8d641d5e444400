r"""Podman's bridge networks as netavark makes them: a bridge for each network, published ports, isolated networks.

`labctl plan podman --as shell` shows every command that builds it.

       c1 10.88.0.2       web 10.89.0.2          db 10.89.1.2
            | eth0             | eth0                 | eth0
            |                  |                      |
    +-- host1 -------------------------------------------------------+
    |     veth0              veth1                  veth2            |
    |       |                  |                      |              |
    |    podman0            podman1                podman2           |
    |  10.88.0.1/16       10.89.0.1/24           10.89.1.1/24        |
    |       :                  :                      :              |
    |       :   inet netavark: INPUT, FORWARD, NAT    :  internal    |
    |       :                  :                                     |
    |     eth0 192.168.50.11   -p 8080:80 leads to web:80            |
    +-------|--------------------------------------------------------+
            |
      eth0 192.168.50.1 [internet] 203.0.113.1

netavark has no daemon. Podman calls it for each container that starts, and it adds what this container needs: the
bridge of a network comes with the first container in it, and rules follow in the order of the starts. All rules are in
one table, `inet netavark`, for both IP versions; with `firewall_driver: iptables`, netavark 1 writes chains of iptables
instead. Its policies are `accept`: netavark lets packets of containers pass, and stops no others. So a machine outside
that has a route to a container reaches all its ports, unlike with Docker 28.

A published port is a translation (DNAT), and a client outside keeps its address. There is no proxy: the host itself at
127.0.0.1 and containers of the same network are masqueraded, so that answers come back through the host. The host
routes between the networks, and a packet that leaves its network is masqueraded there too. `isolate: true` keeps two
such networks apart, `strict` keeps a network apart from all others. In netavark 2, `strict` is the default: then a
container does not even reach the published ports of other networks, because isolation is decided after the
translation. An internal network has no rules, and its containers have no default route.

Follows containers/netavark v1.17.2 with Podman 5.8 and, as `release: "2.0"`, v2.0.0 with Podman 6
(src/firewall/nft.rs, src/firewall/iptables.rs, src/network/bridge.rs).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import IP, Interface, Link, NextHop, Process, Resource, Route, Sysctl
from labctl.core.scenario_types import Check, ListeningPort, Machine, PublishedPort, Scenario, ScenarioNode
from labctl.core.why import explained
from labctl.models.lib import docker_underlay, podman_checks, podman_reasons, podman_refusals, primitives
from labctl.models.lib.docker_networks import container_programs, network_owners
from labctl.models.lib.netavark_iptables import IptablesChains
from labctl.models.lib.netavark_nft import DNS_PORT, NftTable
from labctl.models.lib.podman_networks import RELEASES, BridgeNetwork, Endpoint, host_endpoints, networks

FOLLOWS = "netavark 1.17 (Podman 5.8); 2.0 (Podman 6) on request"
MACHINES = ("hosts", "containers")
PARTS = (
    faithful("podman0 and podman1, ..., which exist while a container is in them; addresses in order; routes"),
    faithful("the table inet netavark of 1.17 and 2.0, complete and in order, with both IP versions"),
    faithful("the chains of the driver iptables, which only 1.17 has"),
    faithful("rules, links, addresses and settings were compared with the programs of netavark 1.17.2 and 2.0.0"),
    faithful("published ports: tcp, udp, sctp, ranges, at one address; the sockets that Podman 5 holds them with"),
    faithful("isolate, internal, metric, no_default_route, an MTU, outbound_addr4 and outbound_addr6 of 2.0"),
    faithful("a container's addresses, MAC address and names of its devices; several networks"),
    faithful("`host`, `none`, `container:NAME`"),
    faithful("ip_forward, forwarding of internal bridges, route_localnet, rp_filter and arp_notify"),
    approximation("MAC addresses", "are made from names; Podman's are random"),
    approximation(
        "IDs of networks and containers", "are made from names, unless the file has them; Podman's are random"
    ),
    approximation("a container in several networks", "gets them in the order of the file; in 1.17 the order is random"),
    approximation("several default routes of one metric", "are one route, the last network's, which the kernel uses"),
    approximation("IPv6 settings", "are made in networks that have IPv6, and link-local addresses too"),
    approximation("several hosts", "are on one plain Ethernet (`fabric`)"),
    approximation("rp_filter", "is 2 on hosts, as systemd's distributions set it"),
    approximation("send_redirects", "is 0, so that ICMP redirects do not shorten a path"),
    skipped("aardvark-dns: its rules are there, but nothing answers queries"),
    skipped("rules of firewalld; firewall_driver none; firewall-reload"),
    skipped("networks connected afterwards, aliases, static routes, ip_range, vlan, vrf, unmanaged bridges, DHCP"),
    skipped("macvlan and ipvlan networks; containers without root (pasta, slirp4netns)"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a podman scenario."""

    release: str = option(
        "1.17", "the release of netavark: 1.17 (Podman 5.8) or 2.0 (Podman 6)", choices=tuple(RELEASES)
    )
    firewall_driver: str = option(
        "nftables",
        "what writes the rules (containers.conf, firewall_driver); netavark 2 has only nftables",
        choices=("nftables", "iptables"),
    )
    default_subnet: IPv4Network = option(
        cidr("10.88.0.0/16"), "the subnet of podman0 (containers.conf, default_subnet)"
    )
    dns_bind_port: int = option(
        DNS_PORT, "the port of the name server (containers.conf, dns_bind_port)", minimum=1, maximum=65535
    )
    underlay: IPv4Network = option(cidr("192.168.50.0/24"), "the network of the hosts; host1 has its 11th address")
    internet_ip: IPv4Address = option(address("203.0.113.1"), "the address of the machine `internet`")
    underlay_ipv6: IPv6Network = option(
        IPv6Network("fd00:192:168:50::/64"), "the IPv6 network of the hosts, if a network of the lab has IPv6"
    )
    internet_ipv6: IPv6Address = option(IPv6Address("2001:db8:203:113::1"), "the IPv6 address of `internet`, then")
    routed: bool = option(False, "give `internet` a route to the containers through the first host")
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=65535)


@dataclass(frozen=True, slots=True)
class Network:
    """A network, as `podman network create` makes it. The settings of `podman` change the default network, as a file
    /etc/containers/networks/podman.json does."""

    subnet: tuple[IPv4Network | IPv6Network, ...] = option(
        (), "its subnet, or one of each IP version (--subnet; default: Podman's next)", single=True
    )
    gateway: tuple[IPv4Address | IPv6Address, ...] = option(
        (), "the bridge's address in each subnet (--gateway; default: the first)", single=True
    )
    ipv6: bool = option(
        False, "dual stack: it has a subnet of each IP version (--ipv6)", old=("enable_ipv6", "ipv6_enabled")
    )
    internal: bool = option(False, "no way out (--internal)")
    isolate: str | None = option(
        None,
        "whether it is kept apart from other networks: `true` from those with `isolate` too, `strict` from all (-o"
        " isolate; default: `false` in 1.17, `strict` in 2.0)",
        choices=("true", "false", "strict"),
    )
    interface_name: str = option("", "its device on the host (--interface-name; default: podman1, ...)", form="device")
    mtu: int | None = option(None, "its MTU (-o mtu; default: that of the lab)", minimum=68, maximum=65535)
    metric: int | None = option(
        None, "the metric of the default routes through it (-o metric; default: 100)", minimum=0, maximum=2**32 - 1
    )
    no_default_route: bool = option(False, "containers get no default route through it (-o no_default_route)")
    outbound_addr4: IPv4Address | None = option(
        None, "the source address of packets that leave it (-o outbound_addr4; from 2.0 on)"
    )
    outbound_addr6: IPv6Address | None = option(None, "the same for IPv6 (-o outbound_addr6; from 2.0 on)")
    id: str = option("", "its ID: the names of its chains begin with `nv_` and 8 digits of it (default: by its name)")


@dataclass(frozen=True, slots=True)
class Container:
    """A container's settings, as `podman run` takes them."""

    networks: tuple[str, ...] = option(
        ("podman",),
        "its networks, on eth0, eth1...; each may have options: `net0:ip=10.89.0.5,mac=...,interface_name=...,"
        "host_interface_name=...` (--network). Or one of `host`, `none`, `container:NAME`",
        form="endpoint",
    )
    ip: IPv4Address | None = option(None, "its address, if it has one network (--ip)")
    ip6: IPv6Address | None = option(None, "its IPv6 address, if it has one network (--ip6)")
    mac_address: str = option("", "its MAC address, if it has one network (--mac-address)", form="mac", old=("mac",))
    publish: tuple[PublishedPort, ...] = option(
        (), "published ports (-p): HOST_PORT:CONTAINER_PORT, or two ranges of as many ports", form="publish-sctp"
    )
    listen: tuple[ListeningPort, ...] = option((), "ports that a program in it listens on (default: no program)")
    id: str = option("", "its ID, which rules of iptables have in a comment (default: made from its name)")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Hosts with their bridges and containers, and the internet."""
    options: Options = scenario.options
    nets = networks(scenario)
    hosts = [node.name for node in scenario.nodes]
    with_ipv6 = any(net.has_ipv6 for net in nets.values())
    yield from _with_ipv6(docker_underlay.cables(hosts, options.mtu, podman_reasons.INTERNET_END), with_ipv6)
    if len(hosts) != 1:
        yield Machine("fabric", "fabric")
    yield from docker_underlay.internet(options.underlay, options.internet_ip)
    if with_ipv6:
        yield from docker_underlay.internet_ipv6(options.underlay_ipv6, options.internet_ipv6)
    for number, node in enumerate(scenario.nodes):
        ends = host_endpoints(node, nets)
        host_addresses = _host_addresses(options, number, with_ipv6)
        gateways = [gateway for net in dict.fromkeys(end.network for end in ends) for gateway in net.gateways]
        yield Machine(node.name, "host", (*host_addresses, *gateways))
        yield from primitives.netns(node.name, why=podman_reasons.HOST)
        yield from docker_underlay.attach_host(node.name, _host_ipv4(options, number), options.underlay)
        if with_ipv6:
            yield from docker_underlay.attach_host_ipv6(node.name, _host_ipv6(options, number), options.underlay_ipv6)
        yield from _bridges(node, ends, options)
        yield from _containers(node, ends, (*host_addresses, *gateways))
        yield from _endpoints(node.name, ends, options)
        yield from _rules(node.name, ends, options)
        yield from _processes(node, ends, options)
        if options.routed and number == 0:
            yield from _routes_of_internet(ends, options)
    addresses = (options.internet_ip, options.underlay.network_address + 1)
    more = (options.internet_ipv6, options.underlay_ipv6.network_address + 1) if with_ipv6 else ()
    yield Machine("internet", "internet", (*addresses, *more))


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks that follow from the options: within a network, outside, published ports, and between networks."""
    yield from podman_checks.checks(scenario, networks(scenario))


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what Podman and netavark refuse, and for ranges that overlap or are too small."""
    yield from podman_refusals.refuse(scenario)


def _host_addresses(options: Options, number: int, with_ipv6: bool) -> tuple[IP, ...]:
    ipv4 = _host_ipv4(options, number)
    return (ipv4, _host_ipv6(options, number)) if with_ipv6 else (ipv4,)


def _host_ipv4(options: Options, number: int) -> IPv4Address:
    return docker_underlay.host_address(options.underlay, number)


def _host_ipv6(options: Options, number: int) -> IPv6Address:
    return options.underlay_ipv6.network_address + docker_underlay.FIRST_HOST_OFFSET + number


def _with_ipv6(items: Iterator[Resource], with_ipv6: bool) -> Iterator[Resource]:
    """Devices that have a link-local address, as routers of IPv6 need it."""
    for item in items:
        yield replace(item, autoconf=True) if with_ipv6 and isinstance(item, Link) and item.at.dev == "eth0" else item


def _routes_of_internet(ends: tuple[Endpoint, ...], options: Options) -> Iterator[Resource]:
    first = _host_ipv4(options, 0)
    for net in dict.fromkeys(end.network for end in ends):
        for subnet in net.subnets:
            if isinstance(subnet, IPv4Network):
                why = podman_reasons.ROUTE_TO_CONTAINERS
                yield Route("internet", subnet, first, "eth0", src=options.internet_ip, why=why)


def _bridges(node: ScenarioNode, ends: tuple[Endpoint, ...], options: Options) -> Iterator[Resource]:
    """A host's bridges, in the order of their first containers, with its settings for them."""
    nets = list(dict.fromkeys(end.network for end in ends))
    forwards = any(not net.internal for net in nets)
    forwards_ipv6 = any(not net.internal and net.has_ipv6 for net in nets)
    name = node.name
    why = podman_reasons.FORWARDS if forwards else podman_reasons.NO_FORWARDING
    yield from primitives.forwarding_sysctls(name, forwards, rp_filter=2, devices=("eth0",), why=why)
    if any(net.has_ipv6 for net in nets):
        yield Sysctl(name, "net.ipv6.conf.all.forwarding", str(int(forwards_ipv6)), why=why)
    yield Sysctl(name, "net.bridge.bridge-nf-call-iptables", "0", why=podman_reasons.BRIDGED_FRAMES_OFF)
    for number, net in enumerate(nets):
        yield from _bridge(name, net, options)
        earlier, later = nets[:number], nets[number + 1 :]
        yield from _bridge_settings(name, net, earlier, later)


def _bridge(host: str, net: BridgeNetwork, options: Options) -> Iterator[Resource]:
    bridge = Interface(host, net.device)
    made = primitives.bridge(bridge, mtu=net.mtu or options.mtu)
    for item in explained(podman_reasons.BRIDGE, made):
        yield replace(item, autoconf=net.has_ipv6) if isinstance(item, Link) else item
    for gateway, subnet in zip(net.gateways, net.subnets, strict=True):
        own = primitives.interface_address(gateway, subnet.prefixlen)
        yield from explained(podman_reasons.BRIDGE_ADDRESS, primitives.addresses(bridge, own))


def _bridge_settings(
    host: str, net: BridgeNetwork, earlier: list[BridgeNetwork], later: list[BridgeNetwork]
) -> Iterator[Resource]:
    """netavark's settings for a bridge. It turns forwarding on for the whole host with the first network that is not
    internal, which undoes the setting of internal networks that were there before."""
    ipv4, ipv6 = f"net.ipv4.conf.{_sysctl_name(net.device)}", f"net.ipv6.conf.{_sysctl_name(net.device)}"
    if net.internal:
        why = podman_reasons.INTERNAL_FORWARDING
        yield Sysctl(host, f"{ipv4}.forwarding", _turned_on_later(earlier, later, ipv6=False), why=why)
        if net.has_ipv6:
            yield Sysctl(host, f"{ipv6}.forwarding", _turned_on_later(earlier, later, ipv6=True), why=why)
    else:
        yield Sysctl(host, f"{ipv4}.route_localnet", "1", why=podman_reasons.ROUTE_LOCALNET)
    yield Sysctl(host, f"{ipv4}.rp_filter", "2", why=podman_reasons.RP_FILTER)
    if net.has_ipv6:
        yield Sysctl(host, f"{ipv6}.accept_dad", "0", why=podman_reasons.NO_DAD)
        yield Sysctl(host, f"{ipv6}.accept_ra", "0", why=podman_reasons.NO_ROUTER)


def _turned_on_later(earlier: list[BridgeNetwork], later: list[BridgeNetwork], *, ipv6: bool) -> str:
    """Forwarding of an internal bridge in the end: 1 if the host began to forward after the bridge was made."""

    def turns_on(net: BridgeNetwork) -> bool:
        return not net.internal and (net.has_ipv6 or not ipv6)

    return str(int(not any(map(turns_on, earlier)) and any(map(turns_on, later))))


def _sysctl_name(device: str) -> str:
    return device.replace(".", "/")


def _containers(
    node: ScenarioNode, ends: tuple[Endpoint, ...], host_addresses: tuple[IP, ...]
) -> Iterator[Resource | Machine]:
    """A host's containers, without their devices: each a namespace, or a user of another machine's."""
    addresses_of: dict[str, list[IP]] = {name: [] for name in node.pods}
    for end in ends:
        addresses_of[end.container] += end.addresses
    shared = network_owners(node)
    with_ipv6 = {end.container for end in ends if end.network.has_ipv6}
    for name, addresses in addresses_of.items():
        if name in shared:
            owner = shared[name]
            owner_addresses = host_addresses if owner == node.name else tuple(addresses_of[owner])
            yield Machine(name, "container", owner_addresses, node.name, owner)
            continue
        yield Machine(name, "container", tuple(addresses), node.name)
        yield from primitives.container_netns(name, podman_reasons.NETWORK_OF_CONTAINER)
        if name in with_ipv6:
            yield Sysctl(name, "net.ipv6.conf.all.forwarding", "0", why=podman_reasons.NO_ROUTER_OF_IPV6)


def _endpoints(host: str, ends: tuple[Endpoint, ...], options: Options) -> Iterator[Resource]:
    """The endpoints of a host's containers: veth pairs, addresses, settings and default routes."""
    for end in ends:
        net, inner, outer = end.network, Interface(end.container, end.device), Interface(host, end.host_device)
        label = end.container if end.device == "eth0" else str(inner)
        made = primitives.veth_pair(
            outer,
            inner,
            mtu=net.mtu or options.mtu,
            macs=(None, end.mac or primitives.mac(label)),
            master=net.device,
            whys=(podman_reasons.HOST_END, podman_reasons.CONTAINER_END),
        )
        yield from (replace(item, autoconf=net.has_ipv6) if isinstance(item, Link) else item for item in made)
        for ip, subnet in zip(end.addresses, net.subnets, strict=True):
            own = primitives.interface_address(ip, subnet.prefixlen)
            yield from explained(podman_reasons.CONTAINER_ADDRESS, primitives.addresses(inner, own))
        yield from _endpoint_settings(host, end)
    for container in dict.fromkeys(end.container for end in ends):
        yield from _default_routes([end for end in ends if end.container == container])


def _endpoint_settings(host: str, end: Endpoint) -> Iterator[Resource]:
    device = _sysctl_name(end.device)
    yield Sysctl(end.container, f"net.ipv4.conf.{device}.arp_notify", "1", why=podman_reasons.ARP_NOTIFY)
    yield Sysctl(end.container, f"net.ipv4.conf.{device}.rp_filter", "2", why=podman_reasons.RP_FILTER)
    if end.network.has_ipv6:
        yield Sysctl(end.container, f"net.ipv6.conf.{device}.autoconf", "0", why=podman_reasons.NO_AUTOCONF)
        yield Sysctl(end.container, f"net.ipv6.conf.{device}.accept_dad", "0", why=podman_reasons.NO_DAD)
        outer = _sysctl_name(end.host_device)
        yield Sysctl(host, f"net.ipv6.conf.{outer}.accept_dad", "0", why=podman_reasons.NO_DAD)


def _default_routes(ends: list[Endpoint]) -> Iterator[Resource]:
    """The default routes of a container: one for each IP version of each network, by the first gateway of it.

    Of IPv4 routes with one metric the kernel uses the newest; those of IPv6 become one route with several next hops.
    """
    found: dict[tuple[int, int], list[NextHop]] = {}
    for end in ends:
        net = end.network
        if net.internal or not net.default_route:
            continue
        for version in (4, 6):
            gateway = next((one for one in net.gateways if one.version == version), None)
            if gateway is not None:
                found.setdefault((version, net.metric), []).append(NextHop(gateway, end.device))
    for (version, metric), hops in found.items():
        why = podman_reasons.CONTAINER_ROUTE
        dst = primitives.ANYWHERE if version == 4 else primitives.ANYWHERE_IPV6
        last = hops[-1]
        several = tuple(hops) if version == 6 and len(hops) > 1 else ()
        via, dev = (None, None) if several else (last.via, last.dev)
        yield Route(
            ends[0].container, dst, via, dev, metric=metric, proto=primitives.PROTO_STATIC, nexthops=several, why=why
        )


def _rules(host: str, ends: tuple[Endpoint, ...], options: Options) -> Iterator[Resource]:
    """The rules of a host, as its containers add them."""
    if options.firewall_driver == "nftables":
        table = NftTable(RELEASES[options.release], options.dns_bind_port)
        for end in ends:
            table.set_up(end)
        yield from table.objects(host)
        return
    for version in (4, 6):
        chains = IptablesChains(version, options.dns_bind_port)
        for end in ends:
            chains.set_up(end)
        yield from chains.chains(host)


def _processes(node: ScenarioNode, ends: tuple[Endpoint, ...], options: Options) -> Iterator[Resource]:
    """The programs of containers, and the sockets that Podman 5 holds their published ports with."""
    for name, owner, ports in container_programs(node, dict(node.settings)):
        command = ("serve", name, *(f"{listening.protocol}:{listening.port}" for listening in ports))
        yield Process(owner, name, command, why=podman_reasons.PROGRAM)
    if not RELEASES[options.release].conmon_listens:
        return
    published = {end.container: end.ports for end in ends}
    for container, mappings in published.items():
        held = tuple(
            f"{port.protocol}:{port.address or '0.0.0.0'}:{number}"
            for port in mappings
            if port.protocol != "sctp"
            for number in range(port.host_port, port.host_port + port.count)
        )
        if held:
            yield Process(node.name, f"conmon {container}", ("conmon", *held), why=podman_reasons.PORT_HOLDER)

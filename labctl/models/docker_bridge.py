r"""Docker's bridge networks: a private bridge on every host, published ports, and masquerading of outgoing traffic.

`labctl plan docker-bridge --as shell` shows every command that builds it.

        c1 172.17.0.2        c2 172.17.0.3             web 172.18.0.2
             | eth0               | eth0                    | eth0
             |                    |                         |
    +-- host1 ----------------------------------------------------------+
    |    vethXXXXXXX        vethYYYYYYY                vethZZZZZZZ       |
    |        +---- docker0 ----+                     br-... or bridge:  |
    |              172.17.0.1/16                       172.18.0.1/16    |
    |                  :  routed, filtered, NAT            :            |
    |                eth0 192.168.50.11   -p 8080:80 leads to web:80    |
    +------------------|-------------------------------------------------+
                       |
             eth0 192.168.50.1 [internet] 203.0.113.1

The containers' subnet has no meaning outside its host (every host has the same one), so the host must be a
router that hides it. docker0 is a bridge with an address, and is not connected to the host's NIC: packets
between the two are routed, filtered in FORWARD and masqueraded in POSTROUTING. Frames between containers stay
on the bridge and pass no rules. Packets from a container to its own host pass INPUT, never POSTROUTING, and so
have the container's address.

Each of `networks` is one more such bridge. The host routes between all of them, so rules isolate them: only a
container that is in two networks connects them. A published port is a DNAT rule on the host, and the client
keeps its address. With dockerd's `userland_proxy` on, a process on the host (docker-proxy) serves the clients
that the DNAT rule leaves out: the host at 127.0.0.1, containers of the same network and, up to 28, of other
networks. The container sees all of these with the address of its bridge. With `userland_proxy` off, DNAT serves
the host and the same network too, with masquerading, and bridge ports send frames back where they came from
(hairpin). Packets from other networks are translated and then dropped between the networks; only 29 accepts them.
Without docker-proxy, dockerd itself listens on each published port, so that no other program takes it; it serves none.
`icc: false` needs bridged frames to pass iptables, and from 28 on so does hairpin: Docker switches that on.

Docker 29 can keep its firewall in tables of nft (`firewall_backend: nftables`). A verdict map finds the network of a
packet, so a packet passes the rules of its networks only. There is no chain DOCKER-USER: other rules belong in a
separate table, where an accept is not final. dockerd does not switch forwarding on, but refuses to start without it,
and leaves the policy of forwarding alone (`forward_policy` has no effect). What goes to a network is decided before
what leaves one: so an internal network reaches published ports at its own bridge, which iptables drops.

A network has a gateway mode for IPv4 and one for IPv6. In `nat` published ports are DNAT rules, and nothing from
outside reaches a container's address. In `nat-unprotected` everything does, beside DNAT. In `routed` there is no NAT:
packets keep both addresses, published ports are open at the container's address, and the host's neighbours need a
route. In `isolated` (internal networks only) the bridge has no address: not even the host reaches the containers.
`trusted_host_interfaces` and `allow_direct_routing` open the way that `nat` closes, for some devices or for all.

A network with `enable_ipv6` has a second subnet. Docker masquerades and publishes IPv6 in the same way as IPv4, with
the same chains in ip6tables. At `::`, docker-proxy leads from IPv6 also to a container that has only IPv4.

A container on the network `host` is a process of the host, and has its ports. A container on `container:NAME` is
a process in that container's network. Two programs cannot listen on one port of a network. A container on `none`
has only a loopback device.

Follows moby/moby v28.5.2 (integration/network/bridge/iptablesdoc/generated, libnetwork/drivers/bridge)
and, as `release: 29`, docker-v29.7.2 with both backends (nftables: daemon/libnetwork/drivers/bridge/internal/nftabler
and the documents in integration/network/bridge/nftablesdoc/generated); `release: "20.10"` follows v20.10.24
(vendor/github.com/docker/libnetwork). `release: 26` writes the rules of 20.10, as a daemon of 26.1.5 does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import IP, Interface, Link, Process, Resource, Route, Sysctl
from labctl.core.scenario_types import Check, ListeningPort, Machine, PublishedPort, Scenario, ScenarioNode
from labctl.core.why import LABCTL
from labctl.models.lib import (
    common_reasons,
    docker_checks,
    docker_mode_checks,
    docker_reasons,
    docker_underlay,
    docker_wiring,
    primitives,
)
from labctl.models.lib.docker_hosts import GATEWAY_MODES, DockerHost
from labctl.models.lib.docker_iptables import CHAINS_OF_RELEASE, RANDOM_MAC_RELEASES, UNPRIVILEGED_SYSCTLS
from labctl.models.lib.docker_networks import (
    PLAIN_HABITS,
    ContainerEndpoint,
    Habits,
    bridge_networks,
    container_programs,
    host_endpoints,
    network_owners,
)
from labctl.models.lib.docker_nftables import NftablesTables
from labctl.models.lib.docker_range_refusals import refuse_addresses, refuse_modes, refuse_sizes, refuse_sources
from labctl.models.lib.docker_refusals import refuse_names, refuse_ports, refuse_programs

FOLLOWS = "Docker Engine 28.5 (moby v28.5.2); 29, 26 and 20.10 on request"
MACHINES = ("hosts", "containers")
BACKENDS = ("iptables", "nftables")
PARTS = (
    faithful("docker0 and br-..., addresses in order, routes"),
    faithful("the chains of every release, complete and in order"),
    faithful("all of it was compared with the daemons of 20.10.24, 26.1.5 and 28.5.2; rules also with 29.7.2's"),
    faithful("29's nftables backend: both tables as 29.7.2 lists them, and what 46 connections met"),
    faithful("published ports: their rules, the sockets, docker-proxy's command line and what it serves"),
    faithful(
        "networks with a gateway, a range, an MTU, without masquerading; fixed addresses; networks connected later"
    ),
    faithful(
        "gateway modes, trusted_host_interfaces, host_binding_ipv4, allow_direct_routing; all compared with 28.5.2"
    ),
    faithful("IPv6: addresses, routes, settings, ip6tables' chains (also empty ones), docker-proxy at IPv6 addresses"),
    faithful("default routes and ports in the first network by name: not internal, with IPv6 before others"),
    faithful("in 29, a container's ports in all its routed networks"),
    faithful("`host`, `none`, `container:NAME`"),
    faithful("the FORWARD policy of a daemon that enabled IP forwarding itself"),
    faithful("bridge-nf-call-iptables, hairpin and route_localnet where each release sets them"),
    faithful("every user of a container may ping and use low ports"),
    approximation("MAC addresses", "are made from names; Docker 28 chooses them at random"),
    approximation("`networks`", "exist on every host of the lab"),
    approximation("several hosts", "are on one plain Ethernet (`fabric`)"),
    approximation("an IPv6 subnet that no option names", "is of one range for all; Docker draws a range for each host"),
    approximation(
        "IPv6 addresses", "are usable at once, also link-local ones; the IPv6 of hosts and `internet` is labctl's"
    ),
    approximation("rp_filter", "is 2, as systemd's distributions set it"),
    approximation("send_redirects", "is 0, so that ICMP redirects do not shorten a path"),
    skipped("the embedded DNS"),
    skipped("networks without IPv4, priorities of gateways, inhibit_ipv4; ranges of IPv6 subnets"),
    skipped("--aux-address, --link-local-ip, --mac-address, names of a container's devices, --bridge-accept-fwmark"),
    skipped("ip6tables up to 26, where it is an experiment (dockerd --ip6tables)"),
)
_ROUTE_TO_CONTAINERS = LABCTL.why(
    "The scenario gives the internet a way to the containers (routed): a packet can come straight to {dst}, without a"
    " published port."
)
_INTERNET_END = LABCTL.why("It is the network card of the machine that stands for the internet and is the gateway.")
# before 25, internal networks add a default route, which ends at a DROP (moby 46603)
HABITS = {"20.10": Habits(internal_default_route=True), "29": Habits(routed_ports=True)}
# the daemon of 28 listens on published ports with a backlog of zero, if it has no docker-proxy
ZERO_BACKLOG_RELEASES = ("28",)


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a docker-bridge scenario."""

    release: str = option("28", "firewall rules of Docker Engine 29, 28, 26 or 20.10", choices=tuple(CHAINS_OF_RELEASE))
    subnet: IPv4Network = option(cidr("172.17.0.0/16"), "the subnet of docker0, the same on every host")
    icc: bool = option(True, "containers on docker0 may reach each other (dockerd --icc)")
    userland_proxy: bool = option(True, "dockerd --userland-proxy: a docker-proxy for each published port")
    underlay: IPv4Network = option(cidr("192.168.50.0/24"), "the network of the hosts; host1 has its 11th address")
    internet_ip: IPv4Address = option(address("203.0.113.1"), "the address of the machine `internet`")
    forward_policy: str = option(
        "DROP",
        "policy of FORWARD: DROP if the daemon enabled IP forwarding, ACCEPT if it was on before",
        choices=("DROP", "ACCEPT"),
    )
    underlay_ipv6: IPv6Network = option(
        IPv6Network("fd00:50::/64"), "the IPv6 network of the hosts, if a network of Docker has IPv6"
    )
    internet_ipv6: IPv6Address = option(
        IPv6Address("2001:db8::1"), "the IPv6 address of `internet`, if a network of Docker has IPv6"
    )
    routed: bool = option(False, "give `internet` a route to the containers through the first host")
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=65535)
    firewall_backend: str = option(
        "iptables", "what dockerd writes its rules with (--firewall-backend; nftables: release 29)", choices=BACKENDS
    )
    allow_direct_routing: bool = option(
        False, "packets from outside may go straight to a container's published ports (dockerd --allow-direct-routing)"
    )
    ipv6: bool = option(False, "docker0 has IPv6 (dockerd --ipv6)")
    fixed_cidr_v6: IPv6Network | None = option(
        None, "the IPv6 subnet of docker0 (dockerd --fixed-cidr-v6; default: the first of labctl's own)"
    )


@dataclass(frozen=True, slots=True)
class Network:
    """A user-defined network, as `docker network create` makes it."""

    subnet: IPv4Network | None = option(None, "its subnet; the bridge has the first address (default: Docker's next)")
    internal: bool = option(False, "no traffic in or out (--internal)")
    icc: bool = option(True, "its containers may reach each other (com.docker.network.bridge.enable_icc)")
    bridge: str = option("", "its device on the host (com.docker.network.bridge.name; default: br-...)", form="device")
    gateway: IPv4Address | None = option(None, "the bridge's address (--gateway; default: the first of the subnet)")
    enable_ip_masquerade: bool = option(
        True,
        "packets that leave it get the host's address as source (com.docker.network.bridge.enable_ip_masquerade)",
    )
    mtu: int | None = option(
        None, "its MTU (com.docker.network.driver.mtu; default: that of the lab)", minimum=68, maximum=65535
    )
    ip_range: IPv4Network | None = option(
        None, "the part of the subnet that Docker gives addresses from (--ip-range; default: all of it)"
    )
    enable_ipv6: bool = option(False, "its containers have IPv6 addresses, too (--ipv6)")
    subnet_ipv6: IPv6Network | None = option(
        None, "its IPv6 subnet; the bridge has the first address (--subnet; default: the next of labctl's own)"
    )
    gateway_ipv6: IPv6Address | None = option(
        None, "the bridge's IPv6 address (--gateway; default: the first of the IPv6 subnet)"
    )
    gateway_mode_ipv4: str = option(
        "nat",
        "how IPv4 packets reach its containers (com.docker.network.bridge.gateway_mode_ipv4)",
        choices=GATEWAY_MODES,
    )
    gateway_mode_ipv6: str = option(
        "nat",
        "how IPv6 packets reach its containers (com.docker.network.bridge.gateway_mode_ipv6)",
        choices=GATEWAY_MODES,
    )
    trusted_host_interfaces: tuple[str, ...] = option(
        (),
        "devices of the host from which packets may go straight to its containers"
        " (com.docker.network.bridge.trusted_host_interfaces)",
        form="device",
        single=True,
    )
    host_binding_ipv4: IPv4Address | None = option(
        None,
        "the address at which ports are published that name none (com.docker.network.bridge.host_binding_ipv4)",
        form="binding",
    )
    host_ipv4: IPv4Address | None = option(
        None, "the source of IPv4 packets that leave it, in place of masquerading (com.docker.network.host_ipv4)"
    )
    host_ipv6: IPv6Address | None = option(
        None, "the source of IPv6 packets that leave it, in place of masquerading (com.docker.network.host_ipv6)"
    )


@dataclass(frozen=True, slots=True)
class Container:
    """A container's settings, as `docker run` takes them."""

    networks: tuple[str, ...] = option(
        ("bridge",),
        "its networks, on eth0, eth1...; `bridge` is docker0. Or one of `host`, `none`, `container:NAME`",
        form="network",
    )
    connect: tuple[str, ...] = option(
        (),
        "networks that it is connected to when all containers of its host have started (docker network connect)",
        form="name",
        single=True,
    )
    ip: tuple[IPv4Address, ...] = option(
        (),
        "its address in a network (--ip), or a list of addresses, each in the subnet of another of its networks",
        single=True,
    )
    ip6: tuple[IPv6Address, ...] = option(
        (),
        "its IPv6 address in a network (--ip6), or a list of addresses, each in the subnet of another of its networks",
        single=True,
    )
    publish: tuple[PublishedPort, ...] = option(
        (), "published ports (-p): HOST_PORT:CONTAINER_PORT, or two ranges of as many ports", form="publish"
    )
    listen: tuple[ListeningPort, ...] = option((), "ports that a program in it listens on (default: no program)")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Hosts with their bridges and containers, and the internet."""
    options: Options = scenario.options
    gateway = options.underlay.network_address + 1
    nets = bridge_networks(scenario)
    yield from _uplinks(scenario)
    for number, node in enumerate(scenario.nodes):
        host_address = docker_underlay.host_address(options.underlay, number)
        host_addresses = docker_underlay.host_addresses(options, number, nets.values())
        yield Machine(node.name, "host", host_addresses)
        yield from primitives.host_netns(node.name)
        yield from docker_underlay.attach_host(node.name, host_address, options.underlay)
        if docker_underlay.has_ipv6(nets.values()):
            host_address6 = docker_underlay.host_address_ipv6(options.underlay_ipv6, number)
            yield from docker_underlay.attach_host_ipv6(node.name, host_address6, options.underlay_ipv6)
        ends = host_endpoints(node, nets, HABITS.get(options.release, PLAIN_HABITS))
        every = tuple(nets.values())
        with_ports = {end.endpoint.network for end in ends}
        yield from docker_wiring.bridges(node.name, every, with_ports, options.release, options.mtu)
        nftables = options.firewall_backend == "nftables"
        yield from docker_wiring.host_settings(
            node.name, every, options.release, userland_proxy=options.userland_proxy, nftables=nftables
        )
        yield from _containers(node, ends, host_addresses)
        yield from docker_wiring.endpoints(
            node.name, ends, options.release, options.mtu, hairpin=not options.userland_proxy
        )
        endpoints = tuple(end.endpoint for end in ends)
        host = DockerHost(
            node.name,
            tuple(nets.values()),
            endpoints,
            options.userland_proxy,
            options.forward_policy,
            allow_direct_routing=options.allow_direct_routing,
        )
        if nftables:
            yield from NftablesTables(host).objects()
        else:
            yield from CHAINS_OF_RELEASE[options.release](host).chains()
        yield from _processes(node, host, options.release)
    of_internet: tuple[IP, ...] = (options.internet_ip, gateway)
    if docker_underlay.has_ipv6(nets.values()):
        of_internet += (options.internet_ipv6, options.underlay_ipv6.network_address + 1)
    yield Machine("internet", "internet", of_internet)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks that follow from the options: docker0, shared ports, published ports, and packets from outside."""
    nets = bridge_networks(scenario)
    yield from docker_checks.docker0_checks(scenario, nets)
    yield from docker_checks.shared_port_checks(scenario)
    yield from docker_checks.cross_network_checks(scenario, nets)
    yield from docker_checks.masquerade_checks(scenario, nets)
    yield from docker_checks.routed_access_checks(scenario, nets)
    yield from docker_checks.routed_network_checks(scenario, nets)
    yield from docker_checks.internal_network_checks(scenario, nets)
    yield from docker_mode_checks.direct_access_checks(scenario, nets)
    yield from docker_mode_checks.isolated_network_checks(scenario, nets)
    yield from docker_mode_checks.ipv6_checks(scenario, nets)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what Docker does not allow, and for a bridge, a subnet or an underlay that is too small."""
    options: Options = scenario.options
    yield from refuse_modes(scenario)
    yield from refuse_names(scenario)
    yield from refuse_addresses(scenario)
    yield from refuse_sources(scenario)
    yield from refuse_ports(scenario, HABITS.get(options.release, PLAIN_HABITS))
    yield from refuse_programs(scenario)
    yield from refuse_sizes(scenario)
    yield from docker_underlay.refuse_underlay(options.underlay, len(scenario.nodes))
    yield from docker_underlay.refuse_underlay_ipv6(options.underlay_ipv6, len(scenario.nodes))


def _uplinks(scenario: Scenario) -> Iterator[Resource | Machine]:
    """One host is connected directly to the internet; several share an Ethernet with it."""
    options: Options = scenario.options
    hosts = [node.name for node in scenario.nodes]
    nets = bridge_networks(scenario).values()
    with_ipv6 = docker_underlay.has_ipv6(nets)
    internet = Interface("internet", "eth0")
    if len(hosts) == 1:
        host = Interface(hosts[0], "eth0")
        macs = (primitives.mac(str(host)), primitives.mac(str(internet)))
        whys = (common_reasons.CABLE, _INTERNET_END)
        cable = primitives.veth_pair(host, internet, mtu=options.mtu, macs=macs, whys=whys)
        yield from (_with_autoconf(item) if with_ipv6 else item for item in cable)
    else:
        segment = primitives.ethernet_segment("fabric", [*hosts, "internet"], mtu=options.mtu)
        yield from (_with_autoconf(item) if with_ipv6 and item.ns != "fabric" else item for item in segment)
        yield Machine("fabric", "fabric")
    yield from docker_underlay.internet(options.underlay, options.internet_ip)
    if with_ipv6:
        yield from docker_underlay.internet_ipv6(options.underlay_ipv6, options.internet_ipv6)
    if options.routed and hosts:
        first = docker_underlay.host_address(options.underlay, 0)
        first6 = docker_underlay.host_address_ipv6(options.underlay_ipv6, 0)
        for net in nets:
            why = _ROUTE_TO_CONTAINERS
            if net.gateway_mode_ipv4 != "isolated":
                yield Route("internet", net.subnet, first, "eth0", src=options.internet_ip, why=why)
            if net.subnet6 is not None and net.gateway_mode_ipv6 != "isolated":
                yield Route("internet", net.subnet6, first6, "eth0", src=options.internet_ipv6, why=why)


def _with_autoconf(item: Resource) -> Resource:
    """A network card with a link-local address, as IPv6 needs it."""
    return replace(item, autoconf=True) if isinstance(item, Link) else item


def _processes(node: ScenarioNode, host: DockerHost, release: str) -> Iterator[Resource]:
    """What runs on a host: the programs of its containers, and a docker-proxy for each published port. Without
    docker-proxy, the daemon itself listens on these ports."""
    for name, owner, ports in container_programs(node, dict(node.settings)):
        command = ("serve", name, *(f"{listening.protocol}:{listening.port}" for listening in ports))
        yield Process(owner, name, command, why=docker_reasons.PROGRAM)
    bindings = [port for _, port in (host.bindings if release in RANDOM_MAC_RELEASES else host.bindings_until_26)]
    bindings = [port for port in bindings if port.host_port]
    if not host.userland_proxy:
        held = tuple(f"{port.protocol}:{_in_brackets(port.host_address)}:{port.host_port}" for port in bindings)
        if held:
            backlog = "0" if release in ZERO_BACKLOG_RELEASES else "4096"
            yield Process(node.name, "dockerd", ("dockerd", backlog, *held), why=docker_reasons.PORT_HOLDER)
        return
    for port in bindings:
        host_args = ("-host-ip", str(port.host_address), "-host-port", str(port.host_port))
        container_args = ("-container-ip", str(port.address), "-container-port", str(port.port))
        name = f"docker-proxy {_in_brackets(port.host_address)}:{port.host_port}/{port.protocol}"
        command = ("docker-proxy", "-proto", port.protocol, *host_args, *container_args)
        command += ("-use-listen-fd",) if release in RANDOM_MAC_RELEASES else ()
        yield Process(node.name, name, command, why=docker_reasons.PORT_PROXY)


def _in_brackets(address: IP) -> str:
    """An address before a colon and a port."""
    return f"[{address}]" if address.version == 6 else str(address)


def _containers(
    node: ScenarioNode, ends: Iterable[ContainerEndpoint], host_addresses: tuple[IP, ...]
) -> Iterator[Resource | Machine]:
    """A host's containers, without their devices: each a namespace, or a user of another machine's."""
    addresses_of: dict[str, list[IP]] = {name: [] for name in node.pods}
    for end in ends:
        addresses_of[end.container] += filter(None, (end.endpoint.address, end.endpoint.address6))
    shared = network_owners(node)
    for name, addresses in addresses_of.items():
        if name in shared:
            owner = shared[name]
            owner_addresses = host_addresses if owner == node.name else tuple(addresses_of[owner])
            yield Machine(name, "container", owner_addresses, node.name, owner)
            continue
        yield Machine(name, "container", tuple(addresses), node.name)
        yield from primitives.container_netns(name, docker_reasons.NETWORK_OF_CONTAINER)
        for setting, value in UNPRIVILEGED_SYSCTLS:
            yield Sysctl(name, setting, value, why=docker_reasons.UNPRIVILEGED[setting])

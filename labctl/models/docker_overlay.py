r"""Docker's overlay networks: containers of several hosts on one Ethernet, carried in VXLAN between the hosts.

`labctl plan docker-overlay --as shell` shows every command that builds it.

        c1 10.0.1.2                                           c2 10.0.1.4
      eth0 |   | eth1                                       eth0 |   | eth1
    +- host1 --|-----------------------+                  +- host2 --|-----------------------+
    |      |   +- docker_gwbridge      |                  |      |   +- docker_gwbridge      |
    |      |      172.18.0.1/16        |                  |      |      172.18.0.1/16        |
    |  +- host1-ov ----------------+   |                  |  +- host2-ov ----------------+   |
    |  | veth0 -- br0 10.0.1.1/24  |   |                  |  | veth0 -- br0 10.0.1.1/24  |   |
    |  |           |               |   |                  |  |           |               |   |
    |  |        vxlan0  VNI 4097   |   |                  |  |        vxlan0  VNI 4097   |   |
    |  +-----------:---------------+   |                  |  +-----------:---------------+   |
    |    udp 4789  :  eth0 192.168.50.11|                  |    udp 4789  :  eth0 192.168.50.12|
    +--------------|-------------------+                  +--------------|-------------------+
                   +------------------- fabric --------------------------+
                                          | eth0 192.168.50.1 [internet] 203.0.113.1

Every host has a separate namespace for each network of its containers (Docker: `1-` and the network's id; here
the host's name and the network's). A bridge there connects the containers' veth pairs and one VXLAN device.
Docker creates that device on the host and then moves it. Its UDP socket stays on the host, so the tunnel uses
the host's NIC although the device is in another namespace. The device does not flood. The swarm's gossip informs
each host in advance which container is on which host: for every remote container there is a permanent neighbour, with
which the device answers ARP itself, and a forwarding entry with the host's address. So no ARP request of the
overlay reaches the network of the hosts, and a container that is missing from the table cannot be reached. labctl
replaces the gossip and writes the table.

In the tunnel a frame keeps its MAC addresses, its IP addresses and its TTL, and gets 50 bytes of headers, so
the MTU is 1450. That Ethernet has no connection to the outside. Other traffic of a container leaves through a second
veth pair to docker_gwbridge on its host, which masquerades it and isolates its containers (they reach each other
over the overlay). A network that is `internal` adds no such veth pair. `networks:` makes several networks; a
container may be on many.

Follows moby/moby v28.5.2: libnetwork/drivers/overlay (ov_network.go, joinleave.go, peerdb.go),
drivers/overlay/ovmanager, osl/neigh_linux.go, default_gateway_linux.go, and for the host's rules the same as
docker-bridge. Two swarm nodes of Docker 20.10 were compared with it, object by object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.fidelity import approximation, faithful, needs, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import Address, Fdb, Interface, Link, Neighbour, Resource, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario, ScenarioNode, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, explained
from labctl.models.lib import docker_reasons, docker_swarm, docker_underlay, primitives
from labctl.models.lib.docker_hosts import BridgeNetwork, DockerHost, Endpoint
from labctl.models.lib.docker_iptables import CHAINS_OF_RELEASE, RANDOM_MAC_RELEASES, UNPRIVILEGED_SYSCTLS
from labctl.models.lib.docker_swarm import ContainerEndpoints, OverlayEndpoint, OverlayNetwork

FOLLOWS = "overlay networks of Docker Engine 28.5 (moby v28.5.2); 29, 26 and 20.10 on request"
MACHINES = ("hosts", "containers")
PARTS = (
    needs(
        "vxlan", "vxlan0, made on the host and moved in: proxy, learning, l2miss, l3miss; no group, source or device"
    ),
    faithful("a namespace for each network on each host with br0, VNIs from 4097, the MTU"),
    faithful("a permanent neighbour and a forwarding entry for each remote container; its MAC, 02:42 and the address"),
    faithful("docker_gwbridge and docker0 with the chains of each release, ICC off, iptables for bridged frames"),
    faithful("the order of addresses and veth pairs, with those of the swarm's endpoints unused; internal networks"),
    approximation("the namespaces' names", "are a host's and a network's; Docker uses `1-` and ten letters of an id"),
    approximation("the peer table", "is complete at the start; there is no gossip, and no daemon answers a miss"),
    approximation(
        "br0's default VLAN",
        "stays 1; Docker writes 0. It filters no VLANs, and not every kernel has the setting",
    ),
    approximation(
        "MAC addresses of bridges and on docker_gwbridge", "are made from names; Docker chooses them at random"
    ),
    approximation(
        "rp_filter and send_redirects", "are 2, as distributions with systemd set it, and 0, so that no path changes"
    ),
    skipped("swarm services: the ingress network, load balancers, published ports", "they need IPVS in the kernel"),
    skipped("encrypted networks", "IPsec between the hosts, with rules that match VXLAN's header by u32"),
    skipped("neigh.default.gc_thresh1..3 on the host", "Docker raises them; they exist only for the whole machine"),
    skipped("the embedded DNS, IPv6"),
)

_OVERLAY = Component(
    "dockerd (overlay driver)", Source("moby/moby", "libnetwork/drivers/overlay/ov_network.go", "28.5.2")
)
_PEERS = Component("dockerd (overlay driver)", Source("moby/moby", "libnetwork/drivers/overlay/peerdb.go", "28.5.2"))
_GATEWAY_BRIDGE = Component("dockerd", Source("moby/moby", "libnetwork/default_gateway_linux.go", "28.5.2"))
_NETNS = _OVERLAY.why(
    "It is the part of one overlay network on one host. In a separate namespace, the addresses of the network can be"
    " the same as others on the host, and the host's firewall does not see its frames."
)
_BR0 = _OVERLAY.why(
    "It connects the containers of this network on this host with the tunnel: all hosts together are one Ethernet."
)
_BR0_ADDRESS = _OVERLAY.why(
    "It is the first address of the network, the same on every host; Docker reserves it as gateway."
)
_VXLAN = _OVERLAY.why(
    "It is the tunnel to the other hosts (VNI {id}). It was made on the host and moved here, so its UDP packets use the"
    " host's network. It answers ARP itself and does not flood."
)
_PORT = _OVERLAY.why("It is the overlay's end of the cable of {peer_ns}, a port of {master}.")
_ADDRESS = _OVERLAY.why(
    "It is the address of {ns} in the overlay: the swarm gives each address once, on all hosts together."
)
_NEIGHBOUR = _PEERS.why(
    "The swarm's gossip says that {ip} has this MAC address. So vxlan0 answers ARP requests for it here, and no request"
    " crosses the network of the hosts."
)
_FDB = _PEERS.why(
    "The swarm's gossip says that the container with this MAC address is behind {dst} ({owner}): its frames go there. A"
    " container without such an entry cannot be reached."
)
_GWBRIDGE_END = _GATEWAY_BRIDGE.why(
    "It is the second network card of {ns}, to its own host ({peer_ns}): the overlay has no way out."
)
_GWBRIDGE_ADDRESS = _GATEWAY_BRIDGE.why("It is the address of {ns} on docker_gwbridge, known on its own host only.")
_GWBRIDGE_ROUTE = _GATEWAY_BRIDGE.why("What is not for an overlay leaves by the host itself, which masquerades it.")


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a docker-overlay scenario."""

    release: str = option("28", "firewall rules of Docker Engine 29, 28, 26 or 20.10", choices=tuple(CHAINS_OF_RELEASE))
    docker_gwbridge: IPv4Network = option(
        cidr("172.18.0.0/16"), "the subnet of docker_gwbridge, the same on every host"
    )
    docker0: IPv4Network = option(cidr("172.17.0.0/16"), "the subnet of docker0, which has no containers here")
    underlay: IPv4Network = option(cidr("192.168.50.0/24"), "the network of the hosts; host1 has its 11th address")
    internet_ip: IPv4Address = option(address("203.0.113.1"), "the address of the machine `internet`")
    forward_policy: str = option(
        "DROP",
        "policy of FORWARD: DROP if the daemon enabled IP forwarding, ACCEPT if it was on before",
        choices=("DROP", "ACCEPT"),
    )
    mtu: int = option(1500, "MTU of the hosts' links; Docker's overlays ignore it", minimum=576, maximum=65535)


@dataclass(frozen=True, slots=True)
class Network:
    """An overlay network, as `docker network create -d overlay --attachable` makes it."""

    subnet: IPv4Network | None = option(None, "its subnet; br0 has the first address (default: the next /24 of 10.0/8)")
    internal: bool = option(False, "no traffic out: no veth pair to docker_gwbridge (--internal)")
    mtu: int = option(
        1500,
        "MTU of the hosts' network (com.docker.network.driver.mtu); inside it is 50 less",
        maximum=docker_swarm.MAX_MTU + docker_swarm.OVERHEAD_BYTES,
    )


@dataclass(frozen=True, slots=True)
class Container:
    """A container's settings, as `docker run` takes them."""

    networks: tuple[str, ...] = option((), "its overlay networks, from eth0 on (default: the first)", form="name")


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The Ethernet, and hosts with their two bridges, the namespaces of their overlays, and their containers."""
    options: Options = scenario.options
    nets = docker_swarm.overlay_networks(scenario)
    containers_of = docker_swarm.container_endpoints(scenario, nets)
    all_endpoints = [
        end for containers in containers_of.values() for container in containers for end in container.endpoints
    ]
    yield from _ethernet(scenario)
    for number, node in enumerate(scenario.nodes):
        containers = containers_of[node.name]
        host_address = docker_underlay.host_address(options.underlay, number)
        yield from _host(node, host_address, containers, options)
        for net in nets.values():
            endpoints = [end for end in all_endpoints if end.network == net]
            if any(end.vtep == host_address for end in endpoints):
                yield from _overlay(node.name, net, host_address, endpoints)
        yield from _containers(node, containers, options)
    yield Machine("internet", "internet", (options.internet_ip, options.underlay.network_address + 1))


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks that every network is one Ethernet on all hosts, and that packets between hosts are in a tunnel."""
    nets = docker_swarm.overlay_networks(scenario)
    ends = [
        end
        for containers in docker_swarm.container_endpoints(scenario, nets).values()
        for container in containers
        for end in container.endpoints
    ]
    eth0_ends = [end for end in ends if end.device == "eth0"]  # the end with the address of the container's name
    members = [
        ([end for end in ends if end.network == net], [end for end in eth0_ends if end.network == net])
        for net in nets.values()
    ]
    groups = tuple(
        (tuple(end.container for end in every), tuple(end.container for end in named)) for every, named in members
    )
    if any(len(sources) > 1 and targets for sources, targets in groups):
        say = sentence(
            "every container reaches every other of its network, on any host, and is seen with its own address"
        )
        yield Check(say, "mesh", groups=groups, origin="model")
    pair = next(
        ((one, two) for one in eth0_ends for two in eth0_ends if one.network == two.network and one.vtep != two.vtep),
        None,
    )
    if pair is not None:
        one, two = (end.container for end in pair)
        host = next(node.name for node in scenario.nodes if one in node.pods)
        tunnel = f"vxlan {pair[0].network.vni}"
        sees = (See(Interface(host, "eth0"), src=one, dst=two, ttl=64, encap=tunnel, direction="out"),)
        say = sentence(
            "between two hosts a packet is in a VXLAN tunnel with the VNI of its network, {vni}",
            vni=pair[0].network.vni,
        )
        yield Check(say, "ping", one, two, sees=sees, origin="model")


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for what a swarm does not allow, and for subnets, bridges and an underlay that are too small."""
    yield from docker_swarm.refuse_names(scenario)
    yield from docker_swarm.refuse_sizes(scenario)
    options: Options = scenario.options
    yield from docker_underlay.refuse_underlay(options.underlay, len(scenario.nodes))


def _ethernet(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The Ethernet of the hosts, with `internet` as their gateway."""
    options: Options = scenario.options
    yield Machine("fabric", "fabric")
    yield from primitives.ethernet_segment(
        "fabric", [*(node.name for node in scenario.nodes), "internet"], mtu=options.mtu
    )
    yield from docker_underlay.internet(options.underlay, options.internet_ip)


def _host(
    node: ScenarioNode, host_address: IPv4Address, containers: Iterable[ContainerEndpoints], options: Options
) -> Iterator[Resource | Machine]:
    """A host with its NIC, docker0 and docker_gwbridge, and the rules for both."""
    nets = (
        BridgeNetwork("docker0", options.docker0),
        BridgeNetwork("docker_gwbridge", options.docker_gwbridge, icc=False),
    )
    yield Machine(node.name, "host", (host_address, *(net.gateway for net in nets)))
    yield from primitives.host_netns(node.name)
    yield from docker_underlay.attach_host(node.name, host_address, options.underlay)
    mac_prefix = "02" if options.release in RANDOM_MAC_RELEASES else "02:42"
    reasons = {Link: docker_reasons.BRIDGE, Address: docker_reasons.BRIDGE_ADDRESS}
    for net in nets:
        gateway = primitives.with_prefix_length(net.gateway, net.subnet.prefixlen)
        made = primitives.bridge(
            Interface(node.name, net.device),
            mtu=docker_swarm.DEFAULT_MTU,
            address=gateway,
            mac_prefix=mac_prefix,
            txqueuelen=primitives.NO_QUEUE,
        )
        yield from explained(reasons, made)
    why = docker_reasons.FORWARDS
    yield from primitives.forwarding_sysctls(node.name, True, rp_filter=2, devices=(), why=why)
    yield Sysctl(node.name, "net.bridge.bridge-nf-call-iptables", "1", why=docker_reasons.BRIDGED_FRAMES)
    ends = tuple(
        Endpoint(nets[1], container.gwbridge_endpoint[1])
        for container in containers
        if container.gwbridge_endpoint is not None
    )
    yield from CHAINS_OF_RELEASE[options.release](
        DockerHost(node.name, nets, ends, forward_policy=options.forward_policy)
    ).chains()


def _overlay(
    host: str, net: OverlayNetwork, host_address: IPv4Address, endpoints: list[OverlayEndpoint]
) -> Iterator[Resource | Machine]:
    """A network's namespace on a host: the bridge, the VXLAN device, and the table of remote containers."""
    ns = net.netns_name(host)
    br0, vxlan0 = Interface(ns, "br0"), Interface(ns, "vxlan0")
    yield Machine(ns, "machine", (net.gateway,), host)
    yield from primitives.netns(ns, why=_NETNS)
    # without a fixed MAC address, as in Docker: it has the lowest of its ports
    yield Link(br0, "bridge", mtu=net.mtu, txqueuelen=primitives.NO_QUEUE, why=_BR0)
    gateway = primitives.with_prefix_length(net.gateway, net.subnet.prefixlen)
    yield from explained(_BR0_ADDRESS, primitives.addresses(br0, gateway))
    flags = tuple((flag, "on") for flag in ("learning", "proxy", "l2miss", "l3miss"))
    tunnel = (("id", str(net.vni)), ("dstport", "4789"), *flags)
    yield Link(
        vxlan0, "vxlan", master="br0", mtu=net.mtu, txqueuelen=primitives.NO_QUEUE, options=tunnel, link_netns=host,
        why=_VXLAN,
    )  # fmt: skip
    local_endpoints = [end for end in endpoints if end.vtep == host_address]
    for number, end in enumerate(local_endpoints):
        inner, outer = Interface(end.container, end.device), Interface(ns, f"veth{number}")
        yield from primitives.veth_pair(
            outer, inner, mtu=net.mtu, macs=(None, end.mac), master="br0", txqueuelen=primitives.NO_QUEUE,
            whys=(_PORT, docker_reasons.CONTAINER_END),
        )  # fmt: skip
        address = primitives.with_prefix_length(end.address, net.subnet.prefixlen)
        yield from explained(_ADDRESS, primitives.addresses(inner, address))
    for end in endpoints:
        if end.vtep != host_address:
            yield Neighbour(vxlan0, end.address, end.mac, why=_NEIGHBOUR)
            yield Fdb(vxlan0, end.mac, end.vtep, why=_FDB)


def _containers(
    node: ScenarioNode, endpoints_list: Iterable[ContainerEndpoints], options: Options
) -> Iterator[Resource | Machine]:
    """Containers, each with its veth pair to docker_gwbridge."""
    gwbridge_labels = {
        container.container: f"{container.container}/{container.gwbridge_endpoint[0]}"
        for container in endpoints_list
        if container.gwbridge_endpoint is not None
    }
    devices = dict(zip(gwbridge_labels, primitives.device_names("veth", 7, gwbridge_labels.values()), strict=True))
    gateway, prefix_length = options.docker_gwbridge.network_address + 1, options.docker_gwbridge.prefixlen
    for name, ends, gwbridge_endpoint in endpoints_list:
        gwbridge_addresses = () if gwbridge_endpoint is None else (gwbridge_endpoint[1],)
        yield Machine(name, "container", (*(end.address for end in ends), *gwbridge_addresses), node.name)
        yield from primitives.container_netns(name, docker_reasons.NETWORK_OF_CONTAINER)
        for setting, value in UNPRIVILEGED_SYSCTLS:
            yield Sysctl(name, setting, value, why=docker_reasons.UNPRIVILEGED[setting])
        if gwbridge_endpoint is not None:
            device, gwbridge_address = gwbridge_endpoint
            inner, outer = Interface(name, device), Interface(node.name, devices[name])
            mac = (
                primitives.mac(gwbridge_labels[name])
                if options.release in RANDOM_MAC_RELEASES
                else "02:42:" + gwbridge_address.packed.hex(":")
            )
            yield from primitives.veth_pair(
                outer,
                inner,
                mtu=docker_swarm.DEFAULT_MTU,
                macs=(None, mac),
                master="docker_gwbridge",
                txqueuelen=primitives.NO_QUEUE,
                whys=(docker_reasons.HOST_END, _GWBRIDGE_END),
            )
            interface_address = primitives.with_prefix_length(gwbridge_address, prefix_length)
            yield from explained(_GWBRIDGE_ADDRESS, primitives.addresses(inner, interface_address))
            yield primitives.default_route(name, gateway, device, _GWBRIDGE_ROUTE)

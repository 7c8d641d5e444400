r"""Docker's default network: a private bridge on every host, and masquerade on the way out.

        c1 172.17.0.2        c2 172.17.0.3
             | eth0               | eth0
             |                    |
    +-- host1 ----------------------------+
    |    vethXXXXXXX        vethYYYYYYY   |
    |        +---- docker0 ----+          |
    |              172.17.0.1/16          |
    |                  :  routed, NAT     |
    |                eth0 192.168.50.11   |
    +------------------|------------------+
                       |
             eth0 192.168.50.1 [internet] 203.0.113.1

The containers' subnet means nothing outside its host (every host has the same one), so the host must
be a router that hides it: docker0 is a bridge with an address, no wire joins it to the host's own
card, and what crosses between the two is routed, filtered in FORWARD and masqueraded in POSTROUTING.
Frames between containers stay on the bridge and meet no rule. What a container sends to its own host
passes INPUT, never POSTROUTING, and so carries the container's address.

Follows moby/moby v28.5.2 (integration/network/bridge/iptablesdoc/generated, libnetwork/drivers/bridge);
`release: "20.10"` follows v20.10.24 (vendor/github.com/docker/libnetwork).

faithful        docker0, addresses in order, routes, the whole chain set and its order, the FORWARD policy
                of a daemon that switched forwarding on itself, bridged frames not shown to iptables,
                ping and low ports for every user of a container; 20.10 was compared with a real daemon
approximation   MAC addresses are made from names where Docker 28 draws them at random; several hosts
                hang on one plain Ethernet (`fabric`); rp_filter is 2, as systemd's distributions set it, and
                send_redirects is 0, so that no hint of the kernel's shortens a walk
skipped         the embedded DNS, published ports and the userland proxy, IPv6
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.models import _parts as parts
from labctl.options import address, cidr, option
from labctl.plan import Link, Port, Resource, Route, Sysctl
from labctl.scenario import Machine, Node, Scenario
from labctl.xtables import FirewallRule

FOLLOWS = "Docker Engine 28.5 (moby v28.5.2); 20.10 on request"
MACHINES = ("hosts", "containers")
HOSTS_FROM = 11  # host1 is 192.168.50.11
# since 20.10 everybody in a container may ping and listen below port 1024 (daemon/oci_linux.go, WithSysctls)
UNPRIVILEGED = (("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647"))


@dataclass(frozen=True, slots=True)
class Options:
    """What a docker-bridge scenario may set."""

    release: str = option("28", "whose firewall rules: Docker Engine 28 or 20.10", choices=("28", "20.10"))
    subnet: IPv4Network = option(cidr("172.17.0.0/16"), "the subnet of docker0, the same on every host")
    underlay: IPv4Network = option(cidr("192.168.50.0/24"), "the network between the hosts; host1 is the 11th in it")
    internet_ip: IPv4Address = option(address("203.0.113.1"), "the address of the machine `internet`")
    forward_policy: str = option(
        "DROP",
        "policy of FORWARD: DROP if the daemon switched forwarding on, ACCEPT if it was on before",
        choices=("DROP", "ACCEPT"),
    )
    routed: bool = option(False, "give `internet` a route to the containers through the first host")
    mtu: int = option(1500, "MTU of every link", minimum=576, maximum=65535)


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """Hosts with their bridges and containers, and the way to the internet."""
    options: Options = scenario.options
    gateway = options.underlay.network_address + 1
    yield from _uplinks(scenario, gateway)
    for number, node in enumerate(scenario.nodes):
        own = parts.within(options.underlay, HOSTS_FROM + number)
        yield Machine(node.name, "host", (own, options.subnet.network_address + 1))
        yield from parts.netns(node.name)
        yield from parts.addresses(Port(node.name, "eth0"), parts.iface(own, options.underlay.prefixlen))
        yield parts.default(node.name, gateway)
        yield from _docker0(node, options)
        yield from _containers(node, options)
        yield from (_chains_2010 if options.release == "20.10" else _chains_28)(node, options)
    yield Machine("internet", "internet", (options.internet_ip, gateway))


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """More containers than a bridge has ports or the subnet addresses; ranges that overlap."""
    options: Options = scenario.options
    free = options.subnet.num_addresses - 3
    for node in scenario.nodes:
        count = len(node.pods)
        if count > parts.BRIDGE_PORTS:
            what = f"{node.name} has {count} containers; a Linux bridge takes at most {parts.BRIDGE_PORTS} ports"
            yield "hosts", what, f"spread them over {-(-count // parts.BRIDGE_PORTS)} hosts"
        if count > free:
            what = f"{options.subnet} has {max(free, 0)} addresses for containers and {node.name} has {count}"
            hint = (
                f"{count} containers + network, gateway and broadcast = {count + 3}: a /{parts.prefix_for(count + 3)}"
            )
            yield "subnet", what, hint
    room = options.underlay.num_addresses - HOSTS_FROM - 1
    if len(scenario.nodes) > room:
        what = f"underlay {options.underlay} has room for {max(room, 0)} hosts and there are {len(scenario.nodes)}"
        hint = f"hosts begin at the {HOSTS_FROM}th address: a /{parts.prefix_for(len(scenario.nodes) + HOSTS_FROM + 1)}"
        yield "underlay", what, hint
    internet = IPv4Network(options.internet_ip)
    ranges = {"subnet": options.subnet, "underlay": options.underlay, "internet_ip": internet}
    yield from parts.overlaps(ranges)


def _uplinks(scenario: Scenario, gateway: IPv4Address) -> Iterator[Resource | Machine]:
    """One host hangs on the internet directly; several share an Ethernet with it."""
    options: Options = scenario.options
    hosts = [node.name for node in scenario.nodes]
    there = Port("internet", "eth0")
    if len(hosts) == 1:
        here = Port(hosts[0], "eth0")
        yield from parts.veth(here, there, mtu=options.mtu, macs=(parts.mac(str(here)), parts.mac(str(there))))
    else:
        yield from parts.wire("fabric", [*hosts, "internet"], mtu=options.mtu)
        yield Machine("fabric", "fabric")
    yield from parts.netns("internet")
    yield from parts.forwarding("internet", False, rp_filter=0)
    yield from parts.addresses(there, parts.iface(gateway, options.underlay.prefixlen))
    yield from parts.addresses(Port("internet", "lo"), parts.iface(options.internet_ip, 32))
    if options.routed and hosts:
        first = parts.within(options.underlay, HOSTS_FROM)
        yield Route("internet", options.subnet, first, "eth0", src=options.internet_ip)


def _docker0(node: Node, options: Options) -> Iterator[Resource]:
    gateway = parts.iface(options.subnet.network_address + 1, options.subnet.prefixlen)
    head = "02:42" if options.release == "20.10" else "02"
    yield from parts.bridge(Port(node.name, "docker0"), mtu=options.mtu, address=gateway, head=head)
    yield from parts.forwarding(node.name, True, rp_filter=2, devices=())
    yield Sysctl(node.name, "net.bridge.bridge-nf-call-iptables", "0")


def _containers(node: Node, options: Options) -> Iterator[Resource | Machine]:
    first, prefix, mtu = int(options.subnet.network_address) + 2, options.subnet.prefixlen, options.mtu
    gateway = options.subnet.network_address + 1
    for number, (name, device) in enumerate(zip(node.pods, parts.hashed("veth", 7, node.pods), strict=True)):
        own = IPv4Address(first + number)
        inner, outer = Port(name, "eth0"), Port(node.name, device)
        mac = "02:42:" + own.packed.hex(":") if options.release == "20.10" else parts.mac(name)
        yield Machine(name, "container", (own,), node.name)
        yield from parts.endpoint(name)
        yield from (Sysctl(name, setting, value) for setting, value in UNPRIVILEGED)
        yield Link(outer, "veth", inner, "docker0", mtu)
        yield Link(inner, "veth", outer, None, mtu, mac)
        yield from parts.addresses(inner, parts.iface(own, prefix))
        yield Route(name, parts.ANYWHERE, gateway, "eth0")


def _nat(ns: str, options: Options) -> Iterator[Resource]:
    local = "-m addrtype --dst-type LOCAL -j DOCKER"
    yield parts.chain(ns, "nat", "PREROUTING", local)
    yield parts.chain(ns, "nat", "OUTPUT", f"! -d 127.0.0.0/8 {local}")
    yield parts.chain(ns, "nat", "POSTROUTING", f"-s {options.subnet} ! -o docker0 -j MASQUERADE")
    yield parts.chain(ns, "nat", "DOCKER", "-i docker0 -j RETURN")


def _chains_28(node: Node, options: Options) -> Iterator[Resource]:
    """What iptables-save shows on a host of Docker 28.2 to 28.5 with docker0 alone."""
    ns, first = node.name, int(options.subnet.network_address) + 2
    owned = (IPv4Address(first + number) for number in range(len(node.pods)))
    drops = tuple(FirewallRule(("-d", f"{own}/32", "!", "-i", "docker0", "-j", "DROP")) for own in owned)
    yield parts.chain(ns, "raw", "PREROUTING", *drops)
    yield from _nat(ns, options)
    yield parts.chain(ns, "filter", "FORWARD", "-j DOCKER-USER", "-j DOCKER-FORWARD", policy=options.forward_policy)
    yield parts.chain(ns, "filter", "DOCKER", "! -i docker0 -o docker0 -j DROP")
    yield parts.chain(ns, "filter", "DOCKER-BRIDGE", "-o docker0 -j DOCKER")
    yield parts.chain(ns, "filter", "DOCKER-CT", "-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
    chains = ("DOCKER-CT", "DOCKER-ISOLATION-STAGE-1", "DOCKER-BRIDGE")
    yield parts.chain(ns, "filter", "DOCKER-FORWARD", *(f"-j {name}" for name in chains), "-i docker0 -j ACCEPT")
    stage = "-i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2"
    yield parts.chain(ns, "filter", "DOCKER-ISOLATION-STAGE-1", stage)
    yield parts.chain(ns, "filter", "DOCKER-ISOLATION-STAGE-2", "-o docker0 -j DROP")
    yield parts.chain(ns, "filter", "DOCKER-USER")


def _chains_2010(node: Node, options: Options) -> Iterator[Resource]:
    """What iptables-save shows on a host of Docker 20.10: nothing but the policy guards a container."""
    ns = node.name
    yield from _nat(ns, options)
    yield parts.chain(
        ns,
        "filter",
        "FORWARD",
        "-j DOCKER-USER",
        "-j DOCKER-ISOLATION-STAGE-1",
        "-o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
        "-o docker0 -j DOCKER",
        "-i docker0 ! -o docker0 -j ACCEPT",
        "-i docker0 -o docker0 -j ACCEPT",
        policy=options.forward_policy,
    )
    yield parts.chain(ns, "filter", "DOCKER")
    stage = "-i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2"
    yield parts.chain(ns, "filter", "DOCKER-ISOLATION-STAGE-1", stage, "-j RETURN")
    yield parts.chain(ns, "filter", "DOCKER-ISOLATION-STAGE-2", "-o docker0 -j DROP", "-j RETURN")
    yield parts.chain(ns, "filter", "DOCKER-USER", "-j RETURN")

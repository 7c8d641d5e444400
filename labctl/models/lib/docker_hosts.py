"""A Docker host as its firewall sees it: the bridge networks, their endpoints, and the published ports. Pure.

Both firewall backends of Docker write their rules from these: `docker_iptables` and `docker_nftables`. Which ports are
bound where follows moby/moby docker-v29.7.2 (daemon/libnetwork/drivers/bridge/port_mapping_linux.go).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from typing import NamedTuple

from labctl.core.iptables import FirewallRule
from labctl.core.resources import IP, Chain, InterfaceAddress
from labctl.core.scenario_types import PublishedPort
from labctl.core.why import Reason, RuleShapes
from labctl.models.lib import docker_reasons, primitives

GATEWAY_MODES = ("nat", "nat-unprotected", "routed", "isolated")  # com.docker.network.bridge.gateway_mode_ipv4, _ipv6
ANY_IPV4, ANY_IPV6 = IPv4Address("0.0.0.0"), IPv6Address("::")


class BridgeNetwork(NamedTuple):
    """A bridge network on a host: its device, subnet, and options of `docker network create`. Without a `subnet6` it
    has no IPv6."""

    device: str
    subnet: IPv4Network
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    requested_gateway: IPv4Address | None = None
    mtu: int | None = None  # None: as the host's links
    subnet6: IPv6Network | None = None
    requested_gateway6: IPv6Address | None = None
    gateway_mode_ipv4: str = "nat"  # one of GATEWAY_MODES
    gateway_mode_ipv6: str = "nat"
    trusted_host_interfaces: tuple[str, ...] = ()
    ip_range: IPv4Network | None = None  # the addresses that Docker chooses from; None: all of the subnet
    host_binding: IPv4Address | None = None  # where ports are published that name no address; None: everywhere
    host_ipv4: IPv4Address | None = None  # the source of packets that leave the network (SNAT); None: MASQUERADE
    host_ipv6: IPv6Address | None = None

    @property
    def gateway(self) -> IPv4Address:
        """The bridge's address: the requested one, else the first that Docker gives in this network."""
        return self.requested_gateway or IPv4Address(self.first_address(4))

    @property
    def gateway6(self) -> IPv6Address | None:
        """The bridge's IPv6 address, found in the same way; None without IPv6."""
        return None if self.subnet6 is None else self.requested_gateway6 or IPv6Address(self.first_address(6))

    @property
    def bridge_addresses(self) -> tuple[InterfaceAddress, ...]:
        """The addresses that the bridge has: none of a family with the gateway mode `isolated`."""
        found: list[InterfaceAddress] = []
        if self.gateway_mode_ipv4 != "isolated":
            found.append(IPv4Interface((int(self.gateway), self.subnet.prefixlen)))
        if self.gateway6 is not None and self.subnet6 is not None and self.gateway_mode_ipv6 != "isolated":
            found.append(IPv6Interface((int(self.gateway6), self.subnet6.prefixlen)))
        return tuple(found)

    def first_address(self, version: int) -> int:
        """The first address of a family that Docker gives: of the range, without the address of the subnet itself."""
        subnet: IPv4Network | IPv6Network | None = self.subnet_of(version)
        assert subnet is not None
        first = int((self.ip_range if version == 4 and self.ip_range is not None else subnet).network_address)
        return min(first + (first == int(subnet.network_address)), (1 << subnet.max_prefixlen) - 1)

    def gateway_mode(self, version: int) -> str:
        """The gateway mode of one family: 4 or 6."""
        return self.gateway_mode_ipv4 if version == 4 else self.gateway_mode_ipv6

    def subnet_of(self, version: int) -> IPv4Network | IPv6Network | None:
        """The subnet of one family: 4 or 6."""
        return self.subnet if version == 4 else self.subnet6


class Endpoint(NamedTuple):
    """A container's addresses in a network, and the ports that its host publishes for it there: `ports` for its IPv4
    address, `ports6` for its IPv6 address. A range of ports is written port by port."""

    network: BridgeNetwork
    address: IPv4Address
    ports: tuple[PublishedPort, ...] = ()
    address6: IPv6Address | None = None
    ports6: tuple[PublishedPort, ...] = ()


class PortBinding(NamedTuple):
    """A published port at one address of the host, or at all of a family (0.0.0.0, ::).

    `host_port` is 0 where the gateway mode is `routed`: the port is open at the container's address, and the host binds
    nothing. The host's address may be IPv6 and the container's IPv4: only docker-proxy serves such a binding.
    """

    protocol: str
    host_address: IP
    host_port: int
    address: IP
    port: int


@dataclass(frozen=True, slots=True)
class DockerHost:
    """The properties of a host that its rules depend on. `userland_proxy` is dockerd's --userland-proxy,
    `allow_direct_routing` its --allow-direct-routing, `forward_policy` the policy of FORWARD. `reasons` explain the
    rules of the release."""

    name: str
    networks: tuple[BridgeNetwork, ...]
    endpoints: tuple[Endpoint, ...]
    userland_proxy: bool = True
    forward_policy: str = "DROP"
    reasons: RuleShapes = docker_reasons.RULES_OF_28
    allow_direct_routing: bool = False

    @property
    def external_networks(self) -> tuple[BridgeNetwork, ...]:
        """The networks that are not internal."""
        return tuple(net for net in self.networks if not net.internal)

    @property
    def bindings(self) -> Iterator[tuple[Endpoint, PortBinding]]:
        """Every published port with its endpoint, at each address where it is bound, in the order in which Docker 28
        and later bind them: the endpoints as they are, and for each the smallest container port first."""
        return ((end, binding) for end in self.endpoints for binding in port_bindings(end, self.userland_proxy))

    @property
    def bindings_until_26(self) -> Iterator[tuple[Endpoint, PortBinding]]:
        """The same for Docker 20.10 and 26: for each endpoint the largest port of the host first, together with the
        others of the same container port (SortPortMap in nat/sort.go of docker/go-connections). They have no gateway
        modes."""
        for end in self.endpoints:
            groups: dict[tuple[int, str], list[PublishedPort]] = {}
            for port in sorted(end.ports, key=lambda port: (-port.host_port, -port.port, port.protocol != "tcp")):
                groups.setdefault((port.port, port.protocol), []).append(port)
            for port in (port for group in groups.values() for port in group):
                one = end._replace(ports=(port,), ports6=(port,))
                yield from ((end, binding) for binding in port_bindings(one, self.userland_proxy))

    def chain(
        self,
        table: str,
        name: str,
        rules: Iterable[str | FirewallRule] = (),
        policy: str | None = None,
        family: str = "ip",
        why: Reason | None = None,
    ) -> Chain:
        """A chain of this host, without duplicate rules. `why` is the reason of its policy, if it is not the usual."""
        made = primitives.chain(self.name, table, name, *dict.fromkeys(rules), policy=policy, family=family)
        usual = docker_reasons.policy_reason(policy) if policy else self.reasons.of_chain
        return replace(made, why=why or usual, rule_whys=self.reasons.reasons)


def port_bindings(end: Endpoint, userland_proxy: bool) -> tuple[PortBinding, ...]:
    """The ports of an endpoint, at each address of the host where Docker 28 and later bind them, in their order.

    A port without a host address is bound at 0.0.0.0 and at `::`, or only at the network's `host_binding`. A container
    without an IPv6 address is reached at `::` by docker-proxy, if there is one.
    """
    net = end.network
    default = net.host_binding or ANY_IPV4
    routed4, routed6 = net.gateway_mode_ipv4 == "routed", net.gateway_mode_ipv6 == "routed"
    found: list[tuple[bool, PortBinding]] = []
    for port in end.ports:
        if port.address is None or port.address.version == 4:
            at = ANY_IPV4 if routed4 else port.address or default
            found.append((routed4, PortBinding(port.protocol, at, port.host_port, end.address, port.port)))
    to6: IP | None = end.address6 or (end.address if userland_proxy else None)
    if to6 is not None:
        for port in end.ports6:
            if port.address.version == 6 if port.address is not None else default.is_unspecified:
                at6 = ANY_IPV6 if routed6 or port.address is None else port.address
                found.append((routed6, PortBinding(port.protocol, at6, port.host_port, to6, port.port)))
    found.sort(key=_binding_order)
    return tuple(binding._replace(host_port=0) if routed else binding for routed, binding in found)


def _binding_order(item: tuple[bool, PortBinding]) -> tuple[object, ...]:
    """The order of bindings (cmpPortBindingReqs): with NAT first, then by container port, protocol, host."""
    routed, binding = item
    host = binding.host_address
    return routed, binding.port, binding.protocol != "tcp", binding.host_port, host.version, int(host)

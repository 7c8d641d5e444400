"""The firewall of a Docker host: which rules each release writes, and in which order. Pure.

Docker adds rules one by one, when networks and containers are created: some at the head of a chain, some at
its end. So the order of the rules depends on the order of creation. The functions here follow it: first the
networks in the order of their creation, docker0 first, then the endpoints in the order in which containers start and
are connected.

`Chains28` writes what moby documents for 28.2 to 28.5 (integration/network/bridge/iptablesdoc/generated
in v28.5.2), `Chains29` what it documents for 29 (the same in docker-v29.7.2, iptables backend), and
`ChainsUntil26` what v20.10.24 writes (libnetwork/drivers/bridge, libnetwork/iptables in
vendor/github.com/docker).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Resource
from labctl.models.lib import docker_reasons
from labctl.models.lib.docker_hosts import BridgeNetwork, DockerHost, PortBinding, port_bindings

ESTABLISHED = "-m conntrack --ctstate RELATED,ESTABLISHED"
JUMP_IF_LOCAL = "-m addrtype --dst-type LOCAL -j DOCKER"
RANDOM_MAC_RELEASES = ("28", "29")  # earlier releases make a container's MAC from its address, beginning with 02:42
# since 20.10 every user of a container may ping and listen below port 1024 (daemon/oci_linux.go, WithSysctls)
UNPRIVILEGED_SYSCTLS = (("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647"))


class ChainsUntil26:
    """Docker 20.10 and 26: only the policy of FORWARD protects a port that is not published."""

    REASONS = docker_reasons.RULES_UNTIL_26
    SERVES_OTHER_NETWORKS = False  # whether the host's other networks reach a published port without docker-proxy

    def __init__(self, host: DockerHost) -> None:
        self.host = replace(host, reasons=self.REASONS)
        self.bindings = tuple(
            (end, port)
            for end, port in host.bindings_until_26
            if port.host_address.version == port.address.version == 4
        )

    def chains(self) -> Iterator[Resource]:
        """All chains of the host."""
        host = self.host
        yield from self._nat_chains()
        yield host.chain("filter", "FORWARD", self._forward_rules(), host.forward_policy)
        yield host.chain("filter", "DOCKER", self._accept_rules())
        yield host.chain("filter", "DOCKER-ISOLATION-STAGE-1", [*self._isolation_rules(), "-j RETURN"])
        yield host.chain("filter", "DOCKER-ISOLATION-STAGE-2", [*self._isolation_drops(), "-j RETURN"])
        yield host.chain("filter", "DOCKER-USER", ["-j RETURN"])

    def _nat_chains(self) -> Iterator[Resource]:
        host = self.host
        yield host.chain("nat", "PREROUTING", [JUMP_IF_LOCAL])
        yield host.chain(
            "nat", "OUTPUT", [f"! -d 127.0.0.0/8 {JUMP_IF_LOCAL}" if host.userland_proxy else JUMP_IF_LOCAL]
        )
        yield host.chain("nat", "POSTROUTING", [*self._masquerade_rules(), *self._hairpin_rules()])
        masqueraded = (net for net in reversed(host.external_networks) if net.masquerade)
        # docker-proxy serves containers of the same network
        returns = [f"-i {net.device} -j RETURN" for net in masqueraded] if host.userland_proxy else []
        yield host.chain("nat", "DOCKER", [*returns, *self._dnat_rules()])

    def _masquerade_rules(self) -> Iterator[str]:
        """The newest network first."""
        for net in reversed(self.host.external_networks):
            if not self.host.userland_proxy:
                yield f"-o {net.device} -m addrtype --src-type LOCAL -j MASQUERADE"
            if net.masquerade:
                yield f"-s {net.subnet} ! -o {net.device} -j MASQUERADE"

    def _hairpin_rules(self) -> Iterator[str]:
        """Masquerade packets from a container to its own published port; else they come back with its own address."""
        for _, port in self.bindings:
            yield f"-s {port.address}/32 -d {port.address}/32 {_match(port.protocol, port.port)} -j MASQUERADE"

    def _dnat_rules(self) -> Iterator[str]:
        for end, port in self.bindings:
            at_address = "" if port.host_address.is_unspecified else f"-d {port.host_address}/32 "
            not_from_bridge = f"! -i {end.network.device} " if self.host.userland_proxy else ""
            match = _match(port.protocol, port.host_port)
            yield f"{at_address}{not_from_bridge}{match} -j DNAT --to-destination {port.address}:{port.port}"

    def _accept_rules(self) -> Iterator[str]:
        for end, port in self.bindings:
            br = end.network.device
            yield f"-d {port.address}/32 ! -i {br} -o {br} {_match(port.protocol, port.port)} -j ACCEPT"

    def _forward_rules(self) -> Iterator[str]:
        yield from ("-j DOCKER-USER", "-j DOCKER-ISOLATION-STAGE-1")
        for net in reversed(self.host.networks):
            br = net.device
            if not net.internal:
                yield from (f"-o {br} {ESTABLISHED} -j ACCEPT", f"-o {br} -j DOCKER", f"-i {br} ! -o {br} -j ACCEPT")
            if net.icc:
                yield f"-i {br} -o {br} -j ACCEPT"
        yield from (f"-i {net.device} -o {net.device} -j DROP" for net in self.host.networks if not net.icc)

    def _isolation_rules(self) -> Iterator[str]:
        for net in reversed(self.host.networks):
            yield from _internal(net) if net.internal else (_isolation_rule(net),)

    def _isolation_drops(self) -> Iterator[str]:
        return (f"-o {net.device} -j DROP" for net in reversed(self.host.external_networks))


class Chains28:
    """Docker 28.2 and later: packets to ports that are not published are dropped, in raw and at the end of DOCKER.

    Each family has the same chains, with the rules of the networks and ports that have this family. Those of ip6tables
    exist, without rules of networks, on a host where no network has IPv6.
    """

    REASONS = docker_reasons.RULES_OF_28
    SERVES_OTHER_NETWORKS = False
    INTERNAL_CHAIN = "DOCKER-ISOLATION-STAGE-1"  # it drops packets between internal networks and others
    RETURNS_CONTAINER_TRAFFIC = True  # published ports do not lead containers elsewhere: docker-proxy serves them

    def __init__(self, host: DockerHost) -> None:
        self.host = replace(host, reasons=self.REASONS)
        self.bindings = tuple(host.bindings)

    def chains(self) -> Iterator[Resource]:
        """All chains of the host."""
        for version in (4, 6):
            nets = tuple(net for net in self.host.networks if net.subnet_of(version) is not None)
            yield from self._chains_of(_Family(version, nets))

    def _chains_of(self, family: _Family) -> Iterator[Resource]:
        host, out, name = self.host, family.external_networks, family.name
        raw = (*self._raw_rules(family),)
        if raw or family.version == 4:
            yield host.chain("raw", "PREROUTING", raw, family=name)
        yield from self._nat_chains(family)
        forward = ("-j DOCKER-USER", "-j DOCKER-FORWARD")
        policy, why = (host.forward_policy, None) if family.networks else ("ACCEPT", docker_reasons.POLICY_WITHOUT_IPV6)
        yield host.chain("filter", "FORWARD", forward, policy, family=name, why=why)
        yield host.chain("filter", "DOCKER", self._accept_rules(family), family=name)
        yield host.chain("filter", "DOCKER-BRIDGE", [f"-o {net.device} -j DOCKER" for net in out], family=name)
        answers = [f"-o {net.device} {ESTABLISHED} -j ACCEPT" for net in out]
        yield host.chain("filter", "DOCKER-CT", answers, family=name)
        yield host.chain("filter", "DOCKER-FORWARD", self._forward_rules(family), family=name)
        yield from self._isolation_chains(family)
        yield host.chain("filter", "DOCKER-USER", family=name)

    def _raw_rules(self, family: _Family) -> Iterator[str | FirewallRule]:
        """Packets straight to a container, and those from outside to a port that is published at loopback."""
        for end in self.host.endpoints:
            net, address = end.network, end.address if family.version == 4 else end.address6
            guarded = not net.internal and not self.host.allow_direct_routing
            if address is not None and guarded and net.gateway_mode(family.version) == "nat":
                dst = f"{address}/{address.max_prefixlen}"
                for device in net.trusted_host_interfaces:
                    yield FirewallRule(("-d", dst, "-i", device, "-j", "ACCEPT"))
                yield FirewallRule(("-d", dst, "!", "-i", net.device, "-j", "DROP"))
            for port in port_bindings(end, self.host.userland_proxy) if family.version == 4 else ():
                yield from _loopback_rules(port)

    def _nat_chains(self, family: _Family) -> Iterator[Resource]:
        host, name = self.host, family.name
        yield host.chain("nat", "PREROUTING", [JUMP_IF_LOCAL], family=name)
        not_loopback = f"! -d {family.loopback} " if host.userland_proxy else ""
        yield host.chain("nat", "OUTPUT", [not_loopback + JUMP_IF_LOCAL], family=name)
        masquerade = (*self._masquerade_rules(family),)
        if masquerade or family.version == 4:
            yield host.chain("nat", "POSTROUTING", masquerade, family=name)
        returns = [f"-i {net.device} -j RETURN" for net in reversed(family.external_networks) if net.masquerade]
        returns = returns if host.userland_proxy and self.RETURNS_CONTAINER_TRAFFIC else []
        yield host.chain("nat", "DOCKER", [*returns, *self._dnat_rules(family)], family=name)

    def _masquerade_rules(self, family: _Family) -> Iterator[str]:
        """The newest network first. Without docker-proxy, then one rule for each published port: a container reaches
        itself there."""
        for net in reversed(family.external_networks):
            host_address = net.host_ipv4 if family.version == 4 else net.host_ipv6
            target = "MASQUERADE" if host_address is None else f"SNAT --to-source {host_address}"
            if not self.host.userland_proxy:
                yield f"-o {net.device} -m addrtype --src-type LOCAL -j {target}"
            if net.masquerade and net.gateway_mode(family.version) != "routed":
                yield f"-s {net.subnet_of(family.version)} ! -o {net.device} -j {target}"
        for _, port in self._bindings_of(family) if not self.host.userland_proxy else ():
            if port.host_port:
                address = f"{port.address}/{port.address.max_prefixlen}"
                yield f"-s {address} -d {address} {_match(port.protocol, port.port)} -j MASQUERADE"

    def _bindings_of(self, family: _Family) -> Iterator[tuple[BridgeNetwork, PortBinding]]:
        """The published ports with rules of this family: docker-proxy alone leads from IPv6 to IPv4."""
        for end, port in self.bindings:
            if port.host_address.version == port.address.version == family.version:
                yield end.network, port

    def _dnat_rules(self, family: _Family) -> Iterator[str]:
        not_link_local = "! -s fe80::/10 " if family.version == 6 else ""
        for net, port in self._bindings_of(family):
            if port.host_port:
                at = port.host_address
                at_address = "" if at.is_unspecified else f"-d {at}/{at.max_prefixlen} "
                not_from_bridge = f"! -i {net.device} " if self.host.userland_proxy else ""
                target = f"[{port.address}]" if family.version == 6 else port.address
                match = f"{not_link_local}{at_address}{not_from_bridge}{_match(port.protocol, port.host_port)}"
                yield f"{match} -j DNAT --to-destination {target}:{port.port}"

    def _accept_rules(self, family: _Family) -> Iterator[str]:
        """The newest port first, then what each network does with all others."""
        accepts = [
            f"-d {port.address}/{port.address.max_prefixlen} ! -i {net.device} -o {net.device}"
            f" {_match(port.protocol, port.port)} -j ACCEPT"
            for net, port in self._bindings_of(family)
            if net.gateway_mode(family.version) != "nat-unprotected"
        ]
        yield from reversed([*dict.fromkeys(accepts)])
        for net in family.external_networks:
            mode = net.gateway_mode(family.version)
            if mode == "routed":
                yield f"-o {net.device} -p {family.icmp} -j ACCEPT"
            yield f"! -i {net.device} -o {net.device} -j {'ACCEPT' if mode == 'nat-unprotected' else 'DROP'}"

    def _forward_rules(self, family: _Family) -> Iterator[str]:
        yield from ("-j DOCKER-CT", f"-j {self.INTERNAL_CHAIN}", "-j DOCKER-BRIDGE")
        for net in family.networks:
            br = net.device
            if net.internal or not net.icc:
                yield f"-i {br} -o {br} -j {'ACCEPT' if net.icc else 'DROP'}"
            if not net.internal:
                yield f"-i {br} -j ACCEPT" if net.icc else f"-i {br} ! -o {br} -j ACCEPT"

    def _isolation_chains(self, family: _Family) -> Iterator[Resource]:
        stage = [_isolation_rule(net) for net in family.external_networks]
        first = [rule for net in reversed(family.networks) for rule in self._first_stage(net, family.version)]
        yield self.host.chain("filter", "DOCKER-ISOLATION-STAGE-1", [*first, *stage], family=family.name)
        drops = [f"-o {net.device} -j DROP" for net in reversed(family.external_networks)]
        yield self.host.chain("filter", "DOCKER-ISOLATION-STAGE-2", drops, family=family.name)

    @staticmethod
    def _first_stage(net: BridgeNetwork, version: int) -> tuple[str, ...]:
        """The rules before the isolation of networks: an internal one is closed, other networks reach a routed one."""
        if net.internal:
            return _internal(net, version)
        if net.gateway_mode(version) == "routed":
            return f"-i {net.device} {ESTABLISHED} -j ACCEPT", f"-o {net.device} -j RETURN"
        return ()


class Chains29(Chains28):
    """Docker 29: no isolation stages, as DOCKER and raw drop everything; other networks reach published ports."""

    REASONS = docker_reasons.RULES_OF_29
    SERVES_OTHER_NETWORKS = True
    INTERNAL_CHAIN = "DOCKER-INTERNAL"
    RETURNS_CONTAINER_TRAFFIC = False

    def _isolation_chains(self, family: _Family) -> Iterator[Resource]:
        internal = (
            rule for net in reversed(family.networks) if net.internal for rule in _internal(net, family.version)
        )
        yield self.host.chain("filter", "DOCKER-INTERNAL", internal, family=family.name)


class _Family(NamedTuple):
    """One IP version with the networks that have it, and its words in rules."""

    version: int
    networks: tuple[BridgeNetwork, ...]

    @property
    def name(self) -> str:
        """What a `Chain` calls it."""
        return "ip" if self.version == 4 else "ip6"

    @property
    def external_networks(self) -> tuple[BridgeNetwork, ...]:
        """The networks that are not internal."""
        return tuple(net for net in self.networks if not net.internal)

    @property
    def loopback(self) -> str:
        """The addresses of a machine itself."""
        return "127.0.0.0/8" if self.version == 4 else "::1/128"

    @property
    def icmp(self) -> str:
        """The protocol of pings and errors."""
        return "icmp" if self.version == 4 else "ipv6-icmp"


CHAINS_OF_RELEASE: dict[str, type[ChainsUntil26] | type[Chains28]] = {
    "29": Chains29,
    "28": Chains28,
    "26": ChainsUntil26,
    "20.10": ChainsUntil26,
}


def _loopback_rules(port: PortBinding) -> Iterator[str]:
    """A port that is published at an address of loopback is closed to other machines."""
    if port.host_port and port.host_address.version == 4 and port.host_address.is_loopback:
        match = _match(port.protocol, port.host_port)
        yield f"-d {port.host_address}/32 ! -i lo {match} -j DROP"


def _match(protocol: str, port: int) -> str:
    return f"-p {protocol} -m {protocol} --dport {port}"


def _internal(net: BridgeNetwork, version: int = 4) -> tuple[str, str]:
    """Drop all packets between an internal network and others."""
    subnet, br = net.subnet_of(version), net.device
    not_from, not_to = (f"! -i {br} ", f" ! -o {br}") if version == 6 else ("", "")
    return f"! -s {subnet} {not_from}-o {br} -j DROP", f"! -d {subnet} -i {br}{not_to} -j DROP"


def _isolation_rule(net: BridgeNetwork) -> str:
    return f"-i {net.device} ! -o {net.device} -j DOCKER-ISOLATION-STAGE-2"

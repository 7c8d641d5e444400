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

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Resource
from labctl.core.scenario_types import PublishedPort
from labctl.models.lib import docker_reasons
from labctl.models.lib.docker_hosts import BridgeNetwork, DockerHost

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
        ends = (end._replace(ports=tuple(sorted(end.ports, key=self._publish_order))) for end in host.endpoints)
        self.host = replace(host, endpoints=tuple(ends), reasons=self.REASONS)
        self.return_container_traffic = host.userland_proxy  # docker-proxy serves containers of the same network
        self.hairpin_masquerade = True  # a container reaches itself through its published port

    def chains(self) -> Iterator[Resource]:
        """All chains of the host."""
        host = self.host
        yield from self._nat_chains()
        yield host.chain("filter", "FORWARD", self._forward_rules(), host.forward_policy)
        yield host.chain("filter", "DOCKER", self._accept_rules())
        yield host.chain("filter", "DOCKER-ISOLATION-STAGE-1", [*self._isolation_rules(), "-j RETURN"])
        yield host.chain("filter", "DOCKER-ISOLATION-STAGE-2", [*self._isolation_drops(), "-j RETURN"])
        yield host.chain("filter", "DOCKER-USER", ["-j RETURN"])

    @staticmethod
    def _publish_order(port: PublishedPort) -> tuple[int, ...]:
        """The order in which a container's ports are published: the largest host port first (SortPortMap in
        nat/sort.go of docker/go-connections)."""
        return -port.host_port, -port.port, int(port.protocol != "tcp")

    def _nat_chains(self) -> Iterator[Resource]:
        host = self.host
        yield host.chain("nat", "PREROUTING", [JUMP_IF_LOCAL])
        yield host.chain(
            "nat", "OUTPUT", [f"! -d 127.0.0.0/8 {JUMP_IF_LOCAL}" if host.userland_proxy else JUMP_IF_LOCAL]
        )
        yield host.chain("nat", "POSTROUTING", [*self._masquerade_rules(), *self._hairpin_rules()])
        masqueraded = (net for net in reversed(host.external_networks) if net.masquerade)
        returns = [f"-i {net.device} -j RETURN" for net in masqueraded] if self.return_container_traffic else []
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
        for (_, address, *_), port in self.host.published_ports if self.hairpin_masquerade else ():
            yield f"-s {address}/32 -d {address}/32 {_match(port.protocol, port.port)} -j MASQUERADE"

    def _dnat_rules(self) -> Iterator[str]:
        for (net, address, *_), port in self.host.published_ports:
            at_address = "" if port.address is None else f"-d {port.address}/32 "
            not_from_bridge = f"! -i {net.device} " if self.host.userland_proxy else ""
            match = _match(port.protocol, port.host_port)
            yield f"{at_address}{not_from_bridge}{match} -j DNAT --to-destination {address}:{port.port}"

    def _accept_rules(self) -> Iterator[str]:
        for (net, address, *_), port in self.host.published_ports:
            yield f"-d {address}/32 ! -i {net.device} -o {net.device} {_match(port.protocol, port.port)} -j ACCEPT"

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
            yield from _internal(net) if net.internal else _isolation_rule(net)

    def _isolation_drops(self) -> Iterator[str]:
        return (f"-o {net.device} -j DROP" for net in reversed(self.host.external_networks))


class Chains28(ChainsUntil26):
    """Docker 28.2 and later: packets to ports that are not published are dropped, in raw and at the end of DOCKER."""

    REASONS = docker_reasons.RULES_OF_28

    def __init__(self, host: DockerHost) -> None:
        super().__init__(host)
        self.hairpin_masquerade = not host.userland_proxy

    def chains(self) -> Iterator[Resource]:
        host, out = self.host, self.host.external_networks
        yield host.chain("raw", "PREROUTING", self._raw_rules())
        yield from self._nat_chains()
        yield host.chain("filter", "FORWARD", ["-j DOCKER-USER", "-j DOCKER-FORWARD"], host.forward_policy)
        accepts = [*dict.fromkeys(self._accept_rules())][::-1]
        yield host.chain("filter", "DOCKER", [*accepts, *(f"! -i {net.device} -o {net.device} -j DROP" for net in out)])
        yield host.chain("filter", "DOCKER-BRIDGE", [f"-o {net.device} -j DOCKER" for net in out])
        yield host.chain("filter", "DOCKER-CT", [f"-o {net.device} {ESTABLISHED} -j ACCEPT" for net in out])
        yield host.chain("filter", "DOCKER-FORWARD", self._forward_rules())
        yield from self._isolation_chains()
        yield host.chain("filter", "DOCKER-USER")

    @staticmethod
    def _publish_order(port: PublishedPort) -> tuple[int, ...]:
        """The container's smallest port first (cmpPortBinding in port_mapping_linux.go)."""
        return port.port, int(port.protocol != "tcp"), port.host_port, int(port.address or 0)

    def _raw_rules(self) -> Iterator[str | FirewallRule]:
        for net, address, ports, *_ in self.host.endpoints:
            if not net.internal:
                yield FirewallRule(("-d", f"{address}/32", "!", "-i", net.device, "-j", "DROP"))
            for port in ports:
                if port.address is not None and port.address.is_loopback:
                    match = _match(port.protocol, port.host_port)
                    yield f"-d {port.address}/32 ! -i lo {match} -j DROP"

    def _forward_rules(self) -> Iterator[str]:
        yield from ("-j DOCKER-CT", f"-j {self._isolation_chain_name()}", "-j DOCKER-BRIDGE")
        for net in self.host.networks:
            br = net.device
            if net.internal or not net.icc:
                yield f"-i {br} -o {br} -j {'ACCEPT' if net.icc else 'DROP'}"
            if not net.internal:
                yield f"-i {br} -j ACCEPT" if net.icc else f"-i {br} ! -o {br} -j ACCEPT"

    def _isolation_chain_name(self) -> str:
        """The chain that isolates networks."""
        return "DOCKER-ISOLATION-STAGE-1"

    def _isolation_chains(self) -> Iterator[Resource]:
        stage = [rule for net in self.host.external_networks for rule in _isolation_rule(net)]
        yield self.host.chain("filter", "DOCKER-ISOLATION-STAGE-1", [*self._internal_network_rules(), *stage])
        yield self.host.chain("filter", "DOCKER-ISOLATION-STAGE-2", self._isolation_drops())

    def _internal_network_rules(self) -> Iterator[str]:
        return (rule for net in reversed(self.host.networks) if net.internal for rule in _internal(net))


class Chains29(Chains28):
    """Docker 29: no isolation stages, as DOCKER and raw drop everything; other networks reach published ports."""

    REASONS = docker_reasons.RULES_OF_29
    SERVES_OTHER_NETWORKS = True

    def __init__(self, host: DockerHost) -> None:
        super().__init__(host)
        self.return_container_traffic = False

    def _isolation_chain_name(self) -> str:
        return "DOCKER-INTERNAL"

    def _isolation_chains(self) -> Iterator[Resource]:
        yield self.host.chain("filter", "DOCKER-INTERNAL", self._internal_network_rules())


CHAINS_OF_RELEASE = {"29": Chains29, "28": Chains28, "26": ChainsUntil26, "20.10": ChainsUntil26}


def _match(protocol: str, port: int) -> str:
    return f"-p {protocol} -m {protocol} --dport {port}"


def _internal(net: BridgeNetwork) -> tuple[str, str]:
    """Drop all packets between an internal network and others."""
    return f"! -s {net.subnet} -o {net.device} -j DROP", f"! -d {net.subnet} -i {net.device} -j DROP"


def _isolation_rule(net: BridgeNetwork) -> tuple[str]:
    return (f"-i {net.device} ! -o {net.device} -j DOCKER-ISOLATION-STAGE-2",)

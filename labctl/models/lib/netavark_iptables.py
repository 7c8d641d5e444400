"""The chains of netavark's driver iptables, which netavark 2 no longer has. Pure.

Each IP version has its own chains, made when the first network with a subnet of that version gets a container. Unlike
the driver nftables, this one puts the rules of isolated networks at the head of their chains.

Follows containers/netavark v1.17.2, src/firewall/iptables.rs and src/firewall/varktables/types.rs.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from labctl.core.resources import IP, Chain, Net
from labctl.core.scenario_types import PublishedPort
from labctl.models.lib import podman_reasons, primitives
from labctl.models.lib.netavark_nft import DNS_PORT, IPV4_MULTICAST, leads_to
from labctl.models.lib.podman_networks import BridgeNetwork, Endpoint, host_ports

HOSTPORT_DNAT, HOSTPORT_SETMARK, HOSTPORT_MASQ = (f"NETAVARK-HOSTPORT-{word}" for word in ("DNAT", "SETMARK", "MASQ"))
INPUT, FORWARD = "NETAVARK_INPUT", "NETAVARK_FORWARD"
ISOLATION = tuple(f"NETAVARK_ISOLATION_{number}" for number in (1, 2, 3))
IPV6_MULTICAST = "ff00::/8"
HASH_LENGTH = 13  # hexadecimal digits of a network's name in the names of its chains
_JUMP_FROM_BUILTIN = '-m comment --comment "netavark firewall rules" -j'
_JUMP_IF_LOCAL = f"-m addrtype --dst-type LOCAL -j {HOSTPORT_DNAT}"


class IptablesChains:
    """The chains of one host and one IP version. `set_up` adds what netavark adds for a container in a network."""

    def __init__(self, version: int, dns_port: int = DNS_PORT) -> None:
        self._version, self._dns_port = version, dns_port
        self._chains: dict[tuple[str, str], list[str]] = {}  # by table and name
        self._networks: set[str] = set()
        self._redirected: set[IP] = set()  # addresses of name servers

    def set_up(self, end: Endpoint) -> None:
        """A container joins a network. Internal networks have no rules."""
        net = end.network
        subnets = [subnet for subnet in net.subnets if subnet.version == self._version]
        if net.internal or not subnets:
            return
        if not self._chains:
            self._add_fixed_chains()
        if net.name not in self._networks:
            self._networks.add(net.name)
            self._add_isolation(net)
            for subnet in subnets:
                self._add_subnet(net, subnet)
        self._add_name_servers(net)
        for address, subnet in end.first_addresses:
            if address.version == self._version:
                self._add_ports(end, address, subnet)

    def chains(self, host: str) -> Iterator[Chain]:
        """All chains."""
        family = "ip" if self._version == 4 else "ip6"
        for (table, name), rules in self._chains.items():
            yield primitives.chain(host, table, name, *rules, family=family, shapes=podman_reasons.IPTABLES_RULES)

    def _add(self, table: str, name: str, *rules: str) -> None:
        self._chains.setdefault((table, name), []).extend(rules)

    def _add_fixed_chains(self) -> None:
        """What every host has."""
        self._add("filter", "INPUT", f"{_JUMP_FROM_BUILTIN} {INPUT}")
        self._add("filter", "FORWARD", f"{_JUMP_FROM_BUILTIN} {FORWARD}")
        self._add("filter", INPUT)
        self._add("filter", FORWARD, "-m conntrack --ctstate INVALID -j DROP")
        self._add("filter", ISOLATION[1])
        self._add("filter", ISOLATION[2], f"-j {ISOLATION[1]}")
        self._add("nat", "PREROUTING", _JUMP_IF_LOCAL)
        self._add("nat", "OUTPUT", _JUMP_IF_LOCAL)
        self._add("nat", "POSTROUTING", f"-j {HOSTPORT_MASQ}")
        self._add("nat", HOSTPORT_DNAT)
        comment = '-m comment --comment "netavark portfw masq mark"'
        self._add("nat", HOSTPORT_MASQ, f"{comment} -m mark --mark 0x2000/0x2000 -j MASQUERADE")
        self._add("nat", HOSTPORT_SETMARK, "-j MARK --set-xmark 0x2000/0x2000")

    def _add_isolation(self, net: BridgeNetwork) -> None:
        """A network with isolation asks before it lets a packet out; one without is closed to those with `strict`."""
        first, second, third = (self._chains.setdefault(("filter", name), []) for name in ISOLATION)
        if net.isolate == "false":
            third.insert(0, f"-o {net.device} -j DROP")
        else:
            jump, forward = f"-j {ISOLATION[0]}", self._chains["filter", "FORWARD"]
            if jump not in forward:
                forward.insert(0, jump)
            target = ISOLATION[2 if net.isolate == "strict" else 1]
            first.insert(0, f"-i {net.device} ! -o {net.device} -j {target}")
            second.insert(0, f"-o {net.device} -j DROP")
        if not first:
            del self._chains["filter", ISOLATION[0]]

    def _add_subnet(self, net: BridgeNetwork, subnet: Net) -> None:
        """Forwarding, masquerading, and the way to the name server."""
        own = f"NETAVARK-{network_hash(net)}"
        multicast = IPV4_MULTICAST if isinstance(subnet, IPv4Network) else IPV6_MULTICAST
        self._add("nat", own, f"-d {subnet} -j ACCEPT")
        masquerade = f"! -d {multicast} -j MASQUERADE"
        if masquerade not in self._chains["nat", own]:
            self._add("nat", own, masquerade)
        self._add("nat", "POSTROUTING", f"-s {subnet} -j {own}")
        for protocol in ("udp", "tcp"):
            match = f"-s {subnet} -p {protocol} -m {protocol} --dport {self._dns_port}"
            self._add("filter", INPUT, f"{match} -j ACCEPT")
        self._add("filter", FORWARD, f"-d {subnet} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT")
        self._add("filter", FORWARD, f"-s {subnet} -j ACCEPT")

    def _add_name_servers(self, net: BridgeNetwork) -> None:
        """With another port than 53, queries to the name server of a network are sent to that port."""
        for address in net.gateways if self._dns_port != DNS_PORT else ():
            if address.version == self._version and address not in self._redirected:
                self._redirected.add(address)
                for protocol in ("udp", "tcp"):
                    match = f"-d {_host_prefix(address)} -p {protocol} -m {protocol} --dport {DNS_PORT}"
                    rule = f"{match} -j DNAT --to-destination {_at(address, str(self._dns_port))}"
                    self._chains["nat", HOSTPORT_DNAT].insert(0, rule)

    def _add_ports(self, end: Endpoint, address: IP, subnet: Net) -> None:
        """The published ports of a container."""
        own = f"NETAVARK-DN-{network_hash(end.network)}"
        comment = f'-m comment --comment "dnat name: {end.network.name} id: {end.container_id}"'
        for port in end.ports:
            if not leads_to(port, address):
                continue
            match, host = _port_match(port), _host_match(port)
            self._add("nat", HOSTPORT_DNAT, f"{match} {comment} -j {own}")
            loopback = "127.0.0.1/32" if address.version == 4 else "::1/128"
            for client in (subnet, loopback):
                self._add("nat", own, f"-s {client} {host}{match} -j {HOSTPORT_SETMARK}")
            self._add("nat", own, f"{host}{match} -j DNAT --to-destination {_at(address, _target_ports(port))}")


def network_hash(net: BridgeNetwork) -> str:
    """What stands for a network in the names of its chains: `1D8721804F16F`."""
    from hashlib import sha512  # loads OpenSSL, which most labs do without

    return sha512(net.name.encode()).hexdigest()[:HASH_LENGTH].upper()


def _at(address: IP, ports: str) -> str:
    return f"{address}:{ports}" if address.version == 4 else f"[{address}]:{ports}"


def _host_prefix(address: IP) -> str:
    return f"{address}/{address.max_prefixlen}"


def _host_match(port: PublishedPort) -> str:
    if port.address is None or port.address.is_unspecified:
        return ""
    return f"-d {_host_prefix(port.address)} "


def _port_match(port: PublishedPort) -> str:
    ports = str(host_ports(port)).replace("-", ":")
    return f"-p {port.protocol} -m {port.protocol} --dport {ports}"


def _target_ports(port: PublishedPort) -> str:
    """The ports of the container; of a range, each port leads to the one at the same place: `9100-9102/9000`."""
    last = port.port + port.count - 1
    return str(port.port) if port.count == 1 else f"{port.port}-{last}/{port.host_port}"

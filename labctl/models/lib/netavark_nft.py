"""The table `inet netavark`, as netavark's driver nftables fills it: one container after the other. Pure.

netavark is called for each container and each of its networks. It adds what is not there yet, most of it at the end
of a chain. So the order of the rules is the order in which containers started.

Follows containers/netavark v1.17.2 and v2.0.0, src/firewall/nft.rs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from labctl.core import nft_objects
from labctl.core.resources import IP, Net, NftObject
from labctl.core.scenario_types import PublishedPort
from labctl.models.lib import podman_reasons, primitives
from labctl.models.lib.podman_networks import BridgeNetwork, Endpoint, Release, host_ports

TABLE = "inet netavark"
HOSTPORT_DNAT, HOSTPORT_SETMARK = "NETAVARK-HOSTPORT-DNAT", "NETAVARK-HOSTPORT-SETMARK"
ISOLATION = tuple(f"NETAVARK-ISOLATION-{number}" for number in (1, 2, 3))
DNS_PORT = 53
# the chains that the kernel calls: type, hook, priority
BASE_CHAINS = {
    "INPUT": ("filter", "input", "filter"),
    "FORWARD": ("filter", "forward", "filter"),
    "POSTROUTING": ("nat", "postrouting", "srcnat"),
    "PREROUTING": ("nat", "prerouting", "dstnat"),
    "OUTPUT": ("nat", "output", "-100"),
}
IPV4_MULTICAST = "224.0.0.0/4"


class NftTable:
    """The table of one host. `set_up` adds what netavark adds for one container in one network."""

    def __init__(self, release: Release, dns_port: int = DNS_PORT) -> None:
        self._release, self._dns_port = release, dns_port
        self._chains: dict[str, list[str]] = {}
        self._networks: set[str] = set()
        self._redirected: set[IP] = set()  # addresses of name servers

    def set_up(self, end: Endpoint) -> None:
        """A container joins a network. Internal networks have no rules."""
        if end.network.internal:
            return
        if not self._chains:
            self._add_fixed_chains()
        if end.network.name not in self._networks:
            self._networks.add(end.network.name)
            self._add_isolation(end.network)
            for subnet in end.network.subnets:
                self._add_subnet(end.network, subnet)
        self._add_name_servers(end.network)
        for address, subnet in end.first_addresses:
            self._add_ports(end, address, subnet)

    def objects(self, host: str) -> Iterator[NftObject]:
        """The table, and its chains in the order in which they were made."""
        if self._chains:
            yield nft_objects.table(host, TABLE, why=podman_reasons.TABLE)
        for name, rules in self._chains.items():
            if name in BASE_CHAINS:
                type, hook, priority = BASE_CHAINS[name]
                made = nft_objects.base_chain(host, TABLE, name, rules, type=type, hook=hook, priority=priority)
            else:
                made = nft_objects.chain(host, TABLE, name, rules)
            yield from primitives.nft_explained(podman_reasons.NFT_RULES, made)

    def _add_fixed_chains(self) -> None:
        """What every table has."""
        made = (*BASE_CHAINS, HOSTPORT_DNAT, HOSTPORT_SETMARK, *ISOLATION)
        self._chains = {name: [] for name in made}
        self._chains["POSTROUTING"].append("meta mark & 0x00002000 == 0x00002000 masquerade")
        self._chains[HOSTPORT_SETMARK].append("meta mark set meta mark | 0x00002000")
        for name in ("PREROUTING", "OUTPUT"):
            self._chains[name].append(f"fib daddr type local jump {HOSTPORT_DNAT}")
        self._chains["FORWARD"] += ["ct state invalid drop", f"jump {ISOLATION[0]}"]
        self._chains[ISOLATION[2]].append(f"jump {ISOLATION[1]}")

    def _add_isolation(self, net: BridgeNetwork) -> None:
        """A network with isolation asks before it lets a packet out; one without is closed to those with `strict`."""
        first, second, third = ISOLATION
        if net.isolate == "false":
            self._chains[third].insert(0, f'oifname "{net.device}" drop')
            return
        target = third if net.isolate == "strict" else second
        self._chains[first].append(f'iifname "{net.device}" oifname != "{net.device}" jump {target}')
        self._chains[second].append(f'oifname "{net.device}" drop')

    def _add_subnet(self, net: BridgeNetwork, subnet: Net) -> None:
        """Forwarding, masquerading, and the way to the name server."""
        ip, chain = ip_word(subnet), subnet_chain(net, subnet)
        self._chains[chain] = [f"{ip} daddr {subnet} accept", f"{ip} daddr != {self._masquerade(net, subnet)}"]
        self._chains["INPUT"].append(f"{ip} saddr {subnet} {_dns_match()} accept")
        self._chains["FORWARD"].append(f"{ip} daddr {subnet} ct state established,related accept")
        self._chains["FORWARD"].append(f"{ip} saddr {subnet} accept")
        self._chains["POSTROUTING"].append(f"{ip} saddr {subnet} jump {chain}")

    def _masquerade(self, net: BridgeNetwork, subnet: Net) -> str:
        multicast = IPV4_MULTICAST if isinstance(subnet, IPv4Network) else self._release.ipv6_multicast
        source = next((one for one in net.outbound if one.version == subnet.version), None)
        return f"{multicast} masquerade" if source is None else f"{multicast} snat {ip_word(subnet)} to {source}"

    def _add_name_servers(self, net: BridgeNetwork) -> None:
        """With another port than 53, queries to the name server of a network are sent to that port."""
        for address in net.gateways if self._dns_port != DNS_PORT else ():
            if address not in self._redirected:
                self._redirected.add(address)
                ip = ip_word(address)
                goal = f"dnat {ip} to {_at(address, self._dns_port)}"
                self._chains[HOSTPORT_DNAT].insert(0, f"{ip} daddr {address} {_dns_match()} {goal}")

    def _add_ports(self, end: Endpoint, address: IP, subnet: Net) -> None:
        """The published ports of a container, for one IP version."""
        chain = f"{subnet_chain(end.network, subnet)}_dnat"
        if end.ports:
            self._chains.setdefault(chain, [])
        for port in end.ports:
            if leads_to(port, address):
                self._chains[HOSTPORT_DNAT].append(f"{_port_match(port)} jump {chain}")
                self._chains[chain] += _port_rules(port, address, subnet)


def subnet_chain(net: BridgeNetwork, subnet: Net) -> str:
    """The chain of a subnet: `nv_2f259bab_10_88_0_0_nm16`."""
    text = str(subnet).replace(".", "_").replace(":", "-").replace("/", "_nm")
    return f"nv_{net.id[:8]}_{text}"


def leads_to(port: PublishedPort, address: IP) -> bool:
    """Whether a published port has rules for a container's address: those of the address that it is published at."""
    return port.address is None or port.address.version == address.version


def ip_word(value: IP | Net) -> str:
    """nft's word for the IP version."""
    return "ip" if value.version == 4 else "ip6"


def _dns_match() -> str:
    return f"meta l4proto {{ tcp, udp }} th dport {DNS_PORT}"


def _at(address: IP, port: int) -> str:
    return f"{address}:{port}" if address.version == 4 else f"[{address}]:{port}"


def _port_match(port: PublishedPort) -> str:
    return f"{_host_match(port)}{port.protocol} dport {host_ports(port)}"


def _host_match(port: PublishedPort) -> str:
    """The address of the host, if the port is published at one. The unspecified address stands for all."""
    if port.address is None or port.address.is_unspecified:
        return ""
    return f"{ip_word(port.address)} daddr {port.address} "


def _port_rules(port: PublishedPort, address: IP, subnet: Net) -> Iterable[str]:
    """The rules of a port in the chain of its subnet: which clients are masqueraded, and one translation for each
    port. netavark has no rule for clients at ::1."""
    ip = ip_word(subnet)
    yield f"{ip} saddr {subnet} {_port_match(port)} jump {HOSTPORT_SETMARK}"
    if address.version == 4:
        yield f"ip saddr 127.0.0.1 {_port_match(port)} jump {HOSTPORT_SETMARK}"
    for number in range(port.count):
        match = f"{_host_match(port)}{port.protocol} dport {port.host_port + number}"
        yield f"{match} dnat {ip} to {_at(address, port.port + number)}"

"""The network around a cluster, as far as its load balancers need it: who is where, what it has routes to. Pure.

Everything follows from the plan of the model's lab. So load balancers work on every model with a machine `fabric`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import pairwise

from labctl.core.iptables import FirewallRule
from labctl.core.resources import (
    IP,
    RT_TABLE_MAIN,
    Address,
    Chain,
    Interface,
    Link,
    Neighbour,
    Net,
    Plan,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.why import LABCTL, Component, Source
from labctl.models.lib import primitives

_CLOUD = Component("the cloud's network (load balancers)", Source("labctl", "labctl/kubernetes/services/fabric.py"))
_MAY_LEAVE = _CLOUD.why("{src} is the public address of a load balancer, so packets from it may leave.")
_ANSWERS_ARP = _CLOUD.why(
    "The internet asks for the MAC address of {ip}, a load balancer's: the fabric answers for it."
)
_PROXY_DELAY = LABCTL.why("The fabric answers such requests at once, and not after up to 0.8 s.")
_FROM_INTERNET = _CLOUD.why("The internet has a route to the load balancer's address {dst}: {via}.")
_MAY_ANSWER = _CLOUD.why(
    "Answers of {iif_machine} have the load balancer's address {src} as their source: they may pass."
)
FABRIC, INTERNET = "fabric", "internet"
BALANCER_POOL = IPv4Network("10.254.0.0/16")  # a subnet of it is that of the load balancers
CATCH_ALL_LENGTH = (
    8  # routes to so many addresses, such as 10.0.0.0/8, are for whole kinds of addresses: they take no range
)


@dataclass(frozen=True, slots=True)
class NextHop:
    """Where the fabric sends packets for an address: the device, and the next router if there is one."""

    dev: str
    via: IP | None = None


@dataclass(frozen=True, slots=True)
class Fabric:
    """The fabric of a plan. `subnet_rules` are its policy-routing rules for all packets of one link of a node: the
    route table of a subnet, which another subnet may have too."""

    plan: Plan = field(repr=False)
    uplink: Interface | None
    mtu: int | None
    subnet_rules: tuple[Rule, ...]

    @staticmethod
    def of(plan: Plan, nodes: Collection[str]) -> Fabric | None:
        """The fabric of a plan with these nodes; None if the plan has none."""
        links = [item for item in plan if isinstance(item, Link) and item.ns == FABRIC]
        if not links:
            return None
        uplink = next((one.at for one in links if one.peer is not None and one.peer.ns == INTERNET), None)
        cables = {one.at.dev: one.mtu for one in links if one.peer is not None and one.peer.ns in nodes}
        rules = tuple(
            item
            for item in plan
            if isinstance(item, Rule) and item.ns == FABRIC and item.iif in cables and item.src is item.dst is None
        )
        mtus = [mtu for mtu in cables.values() if mtu is not None]
        return Fabric(plan, uplink, min(mtus, default=None), rules)

    def next_hop(self, ip: IP, *, from_subnet: bool = False) -> NextHop | None:
        """Where packets to an address go; None without a route. With `from_subnet`, the route tables of the nodes'
        subnets count as well, as they do for packets of a node."""
        tables = {rule.table for rule in self.subnet_rules} if from_subnet else set()
        best: tuple[bool, int] | None = None
        found: NextHop | None = None
        for length, in_subnet_table, hop in self._routes(ip, tables):
            # the rules for a subnet come first, and there only a table with a route decides
            rank = (in_subnet_table, length)
            if best is None or rank > best:
                best, found = rank, hop
        return found

    def _routes(self, ip: IP, tables: Collection[int]) -> Iterator[tuple[int, bool, NextHop | None]]:
        """Each route to an address: its prefix length, whether it is in one of the tables, and where it leads."""
        for item in self.plan:
            if isinstance(item, Route) and item.ns == FABRIC and item.dst.version == ip.version and ip in item.dst:
                if item.table == RT_TABLE_MAIN or item.table in tables:
                    hop = NextHop(item.dev, item.via) if item.kind == "unicast" and item.dev else None
                    yield item.dst.prefixlen, item.table in tables, hop
            elif isinstance(item, Address) and item.ns == FABRIC and ip in item.addr.network and item.connected:
                yield item.addr.network.prefixlen, False, NextHop(item.at.dev)

    @property
    def devices(self) -> frozenset[str]:
        """The names of the fabric's devices."""
        return frozenset(item.at.dev for item in self.plan if isinstance(item, Link) and item.ns == FABRIC)

    def free_network(self, prefix_length: int) -> IPv4Network | None:
        """A range that overlaps no address and no route of the lab; None if there is none."""
        taken: set[Net] = set()
        for item in self.plan:
            if isinstance(item, Address):
                taken.add(item.addr.network)
            elif isinstance(item, Route) and item.dst.prefixlen > CATCH_ALL_LENGTH:
                taken.add(item.dst)
        ranges = [one for one in taken if isinstance(one, IPv4Network)]
        return next(primitives.free_subnets(BALANCER_POOL, prefix_length, ranges), None)

    def announce(self, ip: IPv4Address) -> Iterator[Resource]:
        """Make the machine `internet` send packets for an address to the fabric, which has a route to it. In the range
        of the internet the fabric answers ARP for it. Where only some addresses may leave (AWS), this one may."""
        if self.uplink is None:
            return
        guard = f"-o {self.uplink.dev} -j DROP"
        if any(guard in map(str, chain.rules) for chain in self._chains(("filter", "FORWARD"))):
            accept = f"-s {ip}/32 -o {self.uplink.dev} -j ACCEPT"
            yield primitives.chain(FABRIC, "filter", "FORWARD", (accept, _MAY_LEAVE))
        own = [item.addr for item in self.plan if isinstance(item, Address) and item.at == self.uplink]
        networks = [one.network for one in own if one.network.prefixlen < 32]
        if any(ip in one for one in networks):
            yield Neighbour(self.uplink, ip, None, proxy=True, why=_ANSWERS_ARP)
            yield Sysctl(FABRIC, f"net.ipv4.neigh.{self.uplink.dev}.proxy_delay", "0", why=_PROXY_DELAY)
        elif networks:
            router = next(one.ip for one in own if one.network.prefixlen < 32)
            yield Route(INTERNET, primitives.host_prefix(ip), router, "eth0", why=_FROM_INTERNET)

    def accept_source(self, ip: IPv4Address, node_devices: Iterable[str]) -> Iterator[Resource]:
        """Let nodes send from the address of a load balancer, where the fabric checks from which addresses they send:
        their answers have it."""
        devices = tuple(node_devices)
        for item in self._chains(("raw", "PREROUTING"), ("filter", "FORWARD")):
            guarded = [dev for dev in devices if any(_checks_source(rule, dev) for rule in item.rules)]
            if guarded:
                rules = ((f"-s {ip}/32 -i {dev} -j ACCEPT", _MAY_ANSWER) for dev in guarded)
                yield primitives.chain(FABRIC, item.table, item.name, *rules)

    def _chains(self, *names: tuple[str, str]) -> list[Chain]:
        """The fabric's chains of iptables with these tables and names."""
        chains = (item for item in self.plan if isinstance(item, Chain) and item.ns == FABRIC and item.family == "ip")
        return [one for one in chains if (one.table, one.name) in names]


def _checks_source(rule: FirewallRule, dev: str) -> bool:
    """Whether a rule concerns the source addresses of packets from this device."""
    words = str(rule).split()
    return "-s" in words and any(pair == ("-i", dev) for pair in pairwise(words))

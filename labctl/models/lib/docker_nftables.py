"""The tables that dockerd makes with `--firewall-backend=nftables`, in the words of nft. Pure.

dockerd makes two tables, `ip docker-bridges` and `ip6 docker-bridges`. Their base chains find the network of a packet
by one look in a verdict map, keyed by the bridge: a packet passes the rules of its networks only. Each network has
four chains: what may come in, what may go out, and the two of masquerading. The tables have no chain for the user, and
the policy of every base chain is accept. Other rules belong in a separate table, where an
accept is not final: Docker's chain at the same hook sees the packet too.

The order of the objects is that in which nft lists them: the maps and the chains of the daemon's start, sorted by name,
then the chains of each network in the order of creation. Rules stand in the order in which dockerd adds them: those of
the network, then those of endpoints and ports as containers start. The elements of a map are sorted, as nft 1.1 prints
them.

Follows moby/moby docker-v29.7.2 (daemon/libnetwork/drivers/bridge/internal/nftabler, and the goldens beside it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.core import nft_objects
from labctl.core.resources import IP, NftObject
from labctl.models.lib import docker_nft_reasons
from labctl.models.lib.docker_hosts import BridgeNetwork, DockerHost, PortBinding, port_bindings

FAMILIES = {"ip": 4, "ip6": 6}
# each network has a chain with one of these names in front, and the map with this name has the jumps to it
IN, OUT, MASQUERADE_IN, MASQUERADE_OUT = NETWORK_CHAINS = (
    "filter-forward-in",
    "filter-forward-out",
    "nat-postrouting-in",
    "nat-postrouting-out",
)
PORT_CHAIN = "nat-prerouting-and-output"
ESTABLISHED = "ct state established,related counter accept"
TO_THE_HOST = f"fib daddr type local counter jump {PORT_CHAIN}"
NOT_LOOPBACK = {"ip": "ip daddr != 127.0.0.0/8 ", "ip6": "ip6 daddr != ::1 "}  # docker-proxy serves these
NOT_LINK_LOCAL = {"ip": "", "ip6": "ip6 saddr != fe80::/10 "}
ICMP = {"ip": "ip protocol icmp", "ip6": "meta l4proto ipv6-icmp"}


class NftablesTables:
    """The tables of a host of Docker 29."""

    def __init__(self, host: DockerHost) -> None:
        self.host = host

    def objects(self) -> Iterator[NftObject]:
        """Both tables: that of IPv6 is there on every host, with its maps empty where no network has IPv6."""
        for family, version in FAMILIES.items():
            yield from _Table(self.host, family, version).objects()


class _Table:
    """One of the tables of a host, that of one family."""

    def __init__(self, host: DockerHost, family: str, version: int) -> None:
        self.host, self.family, self.version = host, family, version
        self.name = f"{family} docker-bridges"
        self.subnets = {net: subnet for net in host.networks if (subnet := net.subnet_of(version)) is not None}
        # of each container, its address in this family, and what the host binds for it
        self.endpoints = [
            (end.network, ip, tuple(one for one in port_bindings(end, host.userland_proxy) if one.address == ip))
            for end in host.endpoints
            if (ip := end.address if version == 4 else end.address6) is not None and not end.network.internal
        ]

    def objects(self) -> Iterator[NftObject]:
        """The table, and what is in it, in the order of `nft list ruleset`."""
        yield nft_objects.table(self.host.name, self.name, why=docker_nft_reasons.TABLE)
        for prefix in NETWORK_CHAINS:
            jumps = (f'"{net.device}" : jump {prefix}__{net.device}' for net in self.subnets)
            name = f"{prefix}-jumps"
            made = nft_objects.map_(self.host.name, self.name, name, sorted(jumps), type="ifname : verdict")
            yield docker_nft_reasons.explained(made)
        yield from self._base_chains()
        for net in self.subnets:
            yield self._chain(f"{IN}__{net.device}", self._rules_in(net))
            yield self._chain(f"{OUT}__{net.device}", self._rules_out(net))
            yield self._chain(f"{MASQUERADE_IN}__{net.device}", self._masquerades_in(net))
            yield self._chain(f"{MASQUERADE_OUT}__{net.device}", self._masquerades_out(net))

    def _base_chains(self) -> Iterator[NftObject]:
        """The chains of the daemon's start. All but one are called by hooks."""
        skip = NOT_LOOPBACK[self.family] if self.host.userland_proxy else ""
        jumps = {name: f"vmap @{name}-jumps" for name in NETWORK_CHAINS}
        forwards = (f"oifname {jumps[IN]}", f"iifname {jumps[OUT]}")
        masquerades = (f"iifname {jumps[MASQUERADE_OUT]}", f"oifname {jumps[MASQUERADE_IN]}")
        yield self._base_chain("filter-FORWARD", "filter", "forward", "filter", forwards)
        yield self._base_chain("nat-OUTPUT", "nat", "output", "dstnat", [skip + TO_THE_HOST])
        yield self._base_chain("nat-POSTROUTING", "nat", "postrouting", "srcnat", masquerades)
        yield self._base_chain("nat-PREROUTING", "nat", "prerouting", "dstnat", [TO_THE_HOST])
        yield self._chain(PORT_CHAIN, self._dnat_rules())
        yield self._base_chain("raw-PREROUTING", "filter", "prerouting", "raw", self._raw_rules())

    def _base_chain(self, name: str, kind: str, hook: str, priority: str, rules: Iterable[str]) -> NftObject:
        made = nft_objects.base_chain(
            self.host.name, self.name, name, rules, type=kind, hook=hook, priority=priority, policy="accept"
        )
        return docker_nft_reasons.explained(made)

    def _chain(self, name: str, rules: Iterable[str]) -> NftObject:
        """A chain without duplicate rules: one port of a container may be published twice."""
        return docker_nft_reasons.explained(nft_objects.chain(self.host.name, self.name, name, dict.fromkeys(rules)))

    def _rules_in(self, net: BridgeNetwork) -> Iterator[str]:
        """What may come into a network."""
        verdict, device, mode = "accept" if net.icc else "drop", f'"{net.device}"', net.gateway_mode(self.version)
        yield ESTABLISHED
        if net.internal:
            yield f'iifname != {device} counter drop comment "INTERNAL NETWORK INGRESS"'
            yield f'counter {verdict} comment "ICC"'
            return
        if mode == "routed":
            yield f'{ICMP[self.family]} counter accept comment "ICMP"'
        yield f'iifname {device} counter {verdict} comment "ICC"'
        if mode == "nat-unprotected":
            yield 'counter accept comment "UNPROTECTED"'
            return
        for _, ip, bindings in self._endpoints_of(net):
            to_it = f"{self.family} daddr {ip}"
            for one in bindings:
                yield f"{to_it} {one.protocol} dport {one.port} counter accept"
        yield 'counter drop comment "UNPUBLISHED PORT DROP"'

    def _rules_out(self, net: BridgeNetwork) -> Iterator[str]:
        """What may leave a network."""
        yield ESTABLISHED
        if net.internal:
            yield f'oifname != "{net.device}" counter drop comment "INTERNAL NETWORK EGRESS"'
        else:
            yield 'counter accept comment "OUTGOING"'

    def _masquerades_in(self, net: BridgeNetwork) -> Iterator[str]:
        """Without docker-proxy: packets of the host itself, and of a container to its own published port."""
        if self.host.userland_proxy or net.internal:
            return
        verdict, comment = self._new_source(net)
        yield f'fib saddr type local counter {verdict} comment "{comment} FROM HOST"'
        for _, ip, bindings in self._endpoints_of(net):
            own = f"{self.family} saddr {ip} {self.family} daddr {ip}"
            for one in self._translated(bindings):
                yield f'{own} {one.protocol} dport {one.port} counter masquerade comment "MASQ TO OWN PORT"'

    def _masquerades_out(self, net: BridgeNetwork) -> Iterator[str]:
        """Packets of containers to everywhere else, where the network is not one that others have a route to."""
        if net.masquerade and not net.internal and net.gateway_mode(self.version) != "routed":
            verdict, comment = self._new_source(net)
            match = f'oifname != "{net.device}" {self.family} saddr {self.subnets[net]}'
            yield f'{match} counter {verdict} comment "{comment}"'

    def _new_source(self, net: BridgeNetwork) -> tuple[str, str]:
        """How packets of a network get another source, and the comment: that of the device, or a fixed one."""
        fixed = net.host_ipv4 if self.version == 4 else net.host_ipv6
        return ("masquerade", "MASQUERADE") if fixed is None else (f"snat to {fixed}", "SNAT")

    def _dnat_rules(self) -> Iterator[str]:
        """The published ports."""
        local = NOT_LINK_LOCAL[self.family]
        for net, ip, bindings in self.endpoints:
            skip = f'iifname != "{net.device}" ' if self.host.userland_proxy else ""
            to = str(ip) if self.version == 4 else f"[{ip}]"
            for one in self._translated(bindings):
                at = "" if one.host_address.is_unspecified else f"{self.family} daddr {one.host_address} "
                match = f"{skip}{local}{at}{one.protocol} dport {one.host_port}"
                yield f'{match} counter dnat to {to}:{one.port} comment "DNAT"'

    def _raw_rules(self) -> Iterator[str]:
        """Packets that must not arrive: those straight to a container's address, and those to a loopback address."""
        for net, ip, bindings in self.endpoints:
            if net.gateway_mode(self.version) == "nat" and not self.host.allow_direct_routing:
                devices = [f'"{device}"' for device in sorted({net.device, *net.trusted_host_interfaces})]
                known = devices[0] if len(devices) == 1 else f"{{ {', '.join(devices)} }}"
                yield f'{self.family} daddr {ip} iifname != {known} counter drop comment "DROP DIRECT ACCESS"'
            for one in self._translated(bindings) if self.version == 4 else ():
                if one.host_address.is_loopback:
                    match = f'iifname != "lo" ip daddr {one.host_address} {one.protocol} dport {one.host_port}'
                    yield f'{match} counter drop comment "DROP REMOTE LOOPBACK"'

    def _endpoints_of(self, net: BridgeNetwork) -> Iterator[tuple[BridgeNetwork, IP, tuple[PortBinding, ...]]]:
        return (one for one in self.endpoints if one[0] == net)

    def _translated(self, bindings: Iterable[PortBinding]) -> Iterator[PortBinding]:
        """The bindings that rules translate: not those of a routed network, nor those of the other family, which
        docker-proxy serves."""
        return (one for one in bindings if one.host_port and one.host_address.version == self.version)

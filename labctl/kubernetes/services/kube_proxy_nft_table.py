"""What kube-proxy's table has in mode nftables whatever Services there are, and how its rules are spelled. Pure.

Source: kubernetes `pkg/proxy/nftables/proxier.go`, 1.30 to 1.36. The texts are those of nft 1.0.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_network, summarize_address_range
from typing import Literal

from labctl.core.resources import IP, Net
from labctl.kubernetes.services.kube_proxy_config import ProxyConfig

SERVICE_KEY = "ipv{version}_addr . inet_proto . inet_service : verdict"
NODE_PORT_KEY = "inet_proto . inet_service : verdict"
NODE_PORTS = "meta l4proto . th dport vmap"


@dataclass(frozen=True, slots=True)
class TableObject:
    """The table, or a set, map or chain in it: what it is, and its elements or rules, in nft's words."""

    kind: Literal["table", "set", "map", "chain"]
    name: str
    header: tuple[str, ...] = ()
    entries: tuple[str, ...] = ()


def static_objects(config: ProxyConfig, version: Literal[4, 6]) -> Iterator[TableObject]:
    """The table, its sets and maps without elements of Services, and its chains but those of Services, in the order in
    which nft lists them."""
    assert config.nft is not None, "the mode is nftables"
    yield TableObject("table", "", ('comment "rules for kube-proxy"',))
    yield from _sets(config, version)
    yield from _maps(version)
    yield from _base_chains(filters_after_dnat=config.nft.filters_after_dnat)
    yield from _jump_chains(config, version)


def _sets(config: ProxyConfig, version: Literal[4, 6]) -> Iterator[TableObject]:
    assert config.nft is not None
    address = f"ipv{version}_addr"
    if config.nft.has_hairpin_set:
        kind = f"type {address} . {address} . inet_proto . inet_service"
        yield TableObject("set", "hairpin-connections", (kind, 'comment "service hairpin connections"'))
    yield TableObject("set", "cluster-ips", (f"type {address}", 'comment "Active ClusterIPs"'))
    addresses = node_port_addresses(config, version)
    if addresses is not None:
        header = (f"type {address}", 'comment "IPs that accept NodePort traffic"')
        yield TableObject("set", "nodeport-ips", header, tuple(map(str, addresses)))


def _maps(version: Literal[4, 6]) -> Iterator[TableObject]:
    by_address = f"type {SERVICE_KEY.format(version=version)}"
    for name, kind, comment in (
        ("no-endpoint-services", by_address, "vmap to drop or reject packets to services with no endpoints"),
        (
            "no-endpoint-nodeports",
            f"type {NODE_PORT_KEY}",
            "vmap to drop or reject packets to service nodeports with no endpoints",
        ),
        ("firewall-ips", by_address, "destinations that are subject to LoadBalancerSourceRanges"),
        ("service-ips", by_address, "ClusterIP, ExternalIP and LoadBalancer IP traffic"),
        ("service-nodeports", f"type {NODE_PORT_KEY}", "NodePort traffic"),
    ):
        yield TableObject("map", name, (kind, f'comment "{comment}"'))


def _base_chains(*, filters_after_dnat: bool) -> Iterator[TableObject]:
    """The chains at the hooks. Until 1.32 the filter sees the addresses of Services themselves, because it comes before
    DNAT; what pods send to an external address with the policy Local is then dropped (kubernetes issue 131765)."""
    firewall, services, cluster_ips, node_ports = (
        f"ct state new jump {name}"
        for name in ("firewall-check", "service-endpoints-check", "cluster-ips-check", "nodeport-endpoints-check")
    )
    if filters_after_dnat:
        yield _base("filter-prerouting-pre-dnat", "filter", "prerouting", "dstnat - 10", firewall)
        yield _base("filter-output-pre-dnat", "filter", "output", "-110", firewall)
        yield _base("filter-input", "filter", "input", "filter", node_ports, services)
        yield _base("filter-forward", "filter", "forward", "filter", services, cluster_ips)
        yield _base("filter-output", "filter", "output", "filter", services, cluster_ips)
    else:
        yield _base("filter-prerouting", "filter", "prerouting", "dstnat - 10", firewall)
        yield _base("filter-input", "filter", "input", "-110", node_ports, services)
        yield _base("filter-forward", "filter", "forward", "-110", services, cluster_ips)
        yield _base("filter-output", "filter", "output", "-110", services, firewall)
        yield _base("filter-output-post-dnat", "filter", "output", "-90", cluster_ips)
    yield _base("nat-prerouting", "nat", "prerouting", "dstnat", "jump services")
    yield _base("nat-output", "nat", "output", "-100", "jump services")
    yield _base("nat-postrouting", "nat", "postrouting", "srcnat", "jump masquerading")


def _base(name: str, kind: str, hook: str, priority: str, *rules: str) -> TableObject:
    return TableObject("chain", name, (f"type {kind} hook {hook} priority {priority}; policy accept;",), rules)


def _jump_chains(config: ProxyConfig, version: Literal[4, 6]) -> Iterator[TableObject]:
    assert config.nft is not None
    ip, mark = f"ip{'6' * (version == 6)}", config.nft_mark
    to_service = f"{ip} daddr . meta l4proto . th dport vmap"
    if node_port_addresses(config, version) is None:
        to_node = f"{ip} daddr != {'127.0.0.0/8' if version == 4 else '::1'}"
        local = f"fib daddr type local {to_node}"
    else:
        to_node = local = f"{ip} daddr @nodeport-ips"
    yield TableObject("chain", "nodeport-endpoints-check", (), (f"{to_node} {NODE_PORTS} @no-endpoint-nodeports",))
    yield TableObject("chain", "service-endpoints-check", (), (f"{to_service} @no-endpoint-services",))
    yield TableObject("chain", "firewall-check", (), (f"{to_service} @firewall-ips",))
    services: tuple[str, ...] = (f"{to_service} @service-ips", f"{local} {NODE_PORTS} @service-nodeports")
    if config.nft.has_hairpin_set:
        services = (*_mark_for_all(config, version), *services)
        masquerade: tuple[str, ...] = (
            f"meta mark & {mark} != 0x00000000 meta mark set meta mark ^ {mark} masquerade fully-random",
            f"ct status dnat {ip} saddr . {ip} daddr . meta l4proto . th dport @hairpin-connections"
            " masquerade fully-random",
        )
    else:
        masquerade = (
            f"meta mark & {mark} == 0x00000000 return",
            f"meta mark set meta mark ^ {mark}",
            "masquerade fully-random",
        )
    yield TableObject("chain", "services", (), services)
    yield TableObject("chain", "masquerading", (), masquerade)
    unused = [f'{ip} daddr @cluster-ips reject comment "Reject traffic to invalid ports of ClusterIPs"']
    cidrs = [one for one in config.service_cidrs if one.version == version]
    if cidrs and config.nft.drops_unallocated:
        unused.append(f'{ip} daddr {interval_set(cidrs)} drop comment "Drop traffic to unallocated ClusterIPs"')
    yield TableObject("chain", "cluster-ips-check", (), tuple(unused))
    if not config.nft.has_hairpin_set:
        yield TableObject("chain", "mark-for-masquerade", (), (set_mark(config),))
    helper = 'comment "helper for @no-endpoint-services / @no-endpoint-nodeports"'
    yield TableObject("chain", "reject-chain", (helper,), ("reject",))


def _mark_for_all(config: ProxyConfig, version: Literal[4, 6]) -> Iterator[str]:
    """From 1.36 on, one rule marks for all cluster IPs what does not come from pods."""
    to = f"ip{'6' * (version == 6)} daddr @cluster-ips"
    if config.masquerade_all:
        yield f'{to} {set_mark(config)} comment "masquerade all clusterIP traffic"'
    elif others := local_traffic(config, version, "!= "):
        yield f'{to} {others} {set_mark(config)} comment "masquerade clusterIP traffic from outside cluster"'


def node_port_addresses(config: ProxyConfig, version: Literal[4, 6]) -> tuple[IP, ...] | None:
    """The addresses of the node that serve nodePorts; None if all but loopback do. By default only the main address
    does, other than in mode iptables."""
    main = config.node_ip(version)
    ranges = [one for one in config.node_port_ranges if one.version == version]
    only_main = config.primary_node_ports or not config.node_port_ranges
    if only_main or (not ranges and config.nft is not None and config.nft.keeps_other_family):
        return () if main is None else (main,)
    found = config.node_port_addresses(version)
    return None if found is None else tuple(ip for ip in found if not ip.is_loopback)


def set_mark(config: ProxyConfig) -> str:
    """The statement that marks a packet for masquerading."""
    return f"meta mark set meta mark | {config.nft_mark}"


def local_traffic(config: ProxyConfig, version: Literal[4, 6], negation: str = "") -> str:
    """The match of packets of this cluster's pods, or with `!= ` of all others; "" if kube-proxy cannot tell."""
    found = config.local_traffic.match(version)
    if found is None:
        return ""
    option, value = found
    if option == "-s":
        return f"ip{'6' * (version == 6)} saddr {negation}{value}"
    word = "iif" if config.nft is not None and config.nft.matches_device_number else "iifname"
    return f'{word} {negation}"{value.removesuffix("+")}{"*" * value.endswith("+")}"'


def interval_set(found: Iterable[Net | IP]) -> str:
    """Ranges as nft prints them: one is written as it is, of several those that touch become one."""
    ranges = sorted(_ends(one) for one in found)
    if len(ranges) == 1:
        return _interval(*ranges[0])
    merged: list[tuple[IP, IP]] = []
    for first, last in ranges:
        if merged and int(first) <= int(merged[-1][1]) + 1:
            merged[-1] = merged[-1][0], max(merged[-1][1], last)
        else:
            merged.append((first, last))
    return f"{{ {', '.join(_interval(first, last) for first, last in merged)} }}"


def _ends(one: Net | IP) -> tuple[IP, IP]:
    net = ip_network(one)
    return net.network_address, net.broadcast_address


def _interval(first: IP, last: IP) -> str:
    parts = list(summarize_address_range(first, last))
    if len(parts) > 1:
        return f"{first}-{last}"
    return str(first if first == last else parts[0])


def duration(seconds: int) -> str:
    """Seconds as nft prints them: `3h`, `1m30s`."""
    text = ""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, seconds = divmod(seconds, size)
        text += f"{number}{unit}" if number else ""
    return text or "0s"

"""The configuration of kube-proxy, and what differs between its releases. Pure.

The keys are those of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, Literal

from labctl.core.resources import IP, Net
from labctl.kubernetes.api.api_objects import Node
from labctl.kubernetes.services.endpoint_choice import HintRules

LOOPBACK: dict[int, IP] = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
IPTABLES, NFTABLES = MODES = ("iptables", "nftables")
MASQUERADE_BIT = 14  # the bit of the mark of packets that need masquerading


@dataclass(frozen=True, slots=True, order=True)
class Release:
    """A release of kube-proxy, such as 1.33, and what its rules have."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    @classmethod
    def parse(cls, text: str) -> Release:
        """The release of a version such as `1.33`, `v1.33.4`. Raises ValueError."""
        found = re.fullmatch(r"v?(\d+)\.(\d+)(\.\d+.*)?", text)
        if found is None:
            raise ValueError(f"{text!r} is not a version of Kubernetes, such as 1.33")
        return cls(int(found[1]), int(found[2]))

    @property
    def counts_with_nfacct(self) -> bool:
        """Whether rules count packets in nfacct objects, where the kernel has them."""
        return (self.major, self.minor) >= (1, 31)

    @property
    def is_known_in_nftables_mode(self) -> bool:
        """Whether the rules of this release in mode nftables are known. The mode itself is older: alpha in 1.29."""
        return (self.major, self.minor) >= (1, 30)

    @property
    def reads_ip_mode(self) -> bool:
        """Whether an address of a load balancer with ipMode Proxy gets no rules."""
        return (self.major, self.minor) >= (1, 30)

    @property
    def ignores_open_source_range(self) -> bool:
        """Whether the source range 0.0.0.0/0 means no firewall."""
        return (self.major, self.minor) >= (1, 35)

    def hint_rules(self, gates: Mapping[str, bool]) -> HintRules:
        """How it reads hints. `gates` are its featureGates."""
        same_node = gates.get("PreferSameTrafficDistribution", (self.major, self.minor) >= (1, 34))
        distribution = gates.get("ServiceTrafficDistribution", (self.major, self.minor) >= (1, 31))
        return HintRules(not distribution, same_node)


@dataclass(frozen=True, slots=True)
class NftShape:
    """What differs between the releases in mode nftables. The names say what a release has, and the comments since
    when or until when."""

    filters_after_dnat: bool  # since 1.33: only the firewall of load balancers sees addresses before DNAT
    has_hairpin_set: bool  # since 1.36: a set instead of chains of endpoints, and no chain that sets the mark
    matches_port_to_mark: bool  # until 1.33: the rule for clients outside the cluster has the port too
    drops_unallocated: bool  # since 1.33, in 1.31 and 1.32 behind a gate: cluster IPs that no Service has
    comments_firewall: bool  # until 1.30: the elements of firewall-ips have a comment
    keeps_other_family: bool  # until 1.30: ranges of one family leave nodePorts of the other at the main address
    matches_device_number: bool  # until 1.32: `iif`, which nft refuses while there is no such device

    @classmethod
    def of(cls, release: Release, gates: Mapping[str, bool]) -> NftShape:
        """The shape of a release. `gates` are its featureGates.

        Source: kubernetes pkg/proxy/nftables/proxier.go; pull requests 132456 (filters, 1.34 and 1.33.6), 134024
        (`iifname`, 1.35, 1.34.2 and 1.33.6).
        """
        found = release.major, release.minor
        several_cidrs = found >= (1, 31) and gates.get("MultiCIDRServiceAllocator", found >= (1, 33))
        return cls(
            filters_after_dnat=found >= (1, 33),
            has_hairpin_set=found >= (1, 36),
            matches_port_to_mark=found < (1, 34),
            drops_unallocated=several_cidrs,
            comments_firewall=found < (1, 31),
            keeps_other_family=found < (1, 31),
            matches_device_number=found < (1, 33),
        )


@dataclass(frozen=True, slots=True)
class LocalTraffic:
    """How kube-proxy recognises packets of this cluster's pods: by source ranges, or by the device they come from."""

    ranges: tuple[Net, ...] = ()
    device: str = ""  # with a + at its end: the beginning of the names of devices

    def match(self, version: Literal[4, 6]) -> tuple[str, str] | None:
        """The option of iptables and its value; None if it cannot recognise packets of this family."""
        if self.device:
            return "-i", self.device
        found = next((one for one in self.ranges if one.version == version), None)
        return None if found is None else ("-s", str(found))


@dataclass(frozen=True, slots=True)
class ProxyConfig:
    """What one kube-proxy is told. `node_addresses` are all addresses of its node, `node_port_ranges` the ranges
    of those that serve nodePorts (none: all), or `primary_node_ports` chooses the node's InternalIP addresses;
    `has_nfacct` is whether the kernel has nfacct, `drops_invalid` whether it drops what conntrack calls INVALID.

    For the mode nftables: `nft` is the shape of its rules (None: mode iptables), `service_cidrs` are the ranges of
    cluster IPs, `devices` the names of the node's devices (None: not known).
    """

    release: Release
    node: Node
    local_traffic: LocalTraffic
    hints: HintRules
    masquerade_all: bool = False
    masquerade_bit: int = MASQUERADE_BIT
    localhost_node_ports: bool = True
    node_addresses: tuple[IP, ...] = ()
    node_port_ranges: tuple[Net, ...] = ()
    primary_node_ports: bool = False
    has_nfacct: bool = True
    drops_invalid: bool = True
    nft: NftShape | None = None
    service_cidrs: tuple[Net, ...] = ()
    devices: frozenset[str] | None = None

    @property
    def mark(self) -> str:
        """The mark of packets that need masquerading, as iptables-save prints it."""
        return f"{1 << self.masquerade_bit:#x}"

    @property
    def nft_mark(self) -> str:
        """The same mark, as nft prints it."""
        return f"{1 << self.masquerade_bit:#010x}"

    def node_port_addresses(self, version: Literal[4, 6]) -> tuple[IP, ...] | None:
        """The node's addresses of a family that serve nodePorts; None if all do."""
        if self.primary_node_ports:
            return tuple(ip for ip in self.node.internal_ips if ip.version == version)
        ranges = [one for one in self.node_port_ranges if one.version == version]
        if not ranges or any(one.prefixlen == 0 for one in ranges):
            return None
        addresses = dict.fromkeys((*self.node_addresses, LOOPBACK[version]))
        return tuple(ip for ip in addresses if any(ip in one for one in ranges))

    @property
    def serves_localhost(self) -> bool:
        """Whether nodePorts are served at 127.0.0.1. Never in IPv6, and never in mode nftables."""
        if self.nft is not None:
            return False
        addresses = self.node_port_addresses(4)
        return self.localhost_node_ports and (addresses is None or any(ip.is_loopback for ip in addresses))

    def node_ip(self, version: Literal[4, 6]) -> IP | None:
        """The node's main address of a family."""
        return next((one for one in self.node.internal_ips if one.version == version), None)


def read_config(
    config: Mapping[str, Any],
    release: Release,
    node: Node,
    addresses: Iterable[IP],
    *,
    has_nfacct: bool = True,
    be_liberal: bool = False,
    service_cidrs: Iterable[Net] = (),
    devices: Iterable[str] | None = None,
) -> ProxyConfig:
    """The settings in a KubeProxyConfiguration for a node. `addresses` are all addresses of the node's devices;
    `be_liberal` is its sysctl nf_conntrack_tcp_be_liberal. Raises ValueError."""
    mode = config.get("mode") or IPTABLES
    if mode not in MODES:
        raise ValueError(f"mode: {mode!r} is not one of {', '.join(MODES)}")
    if mode == NFTABLES and not release.is_known_in_nftables_mode:
        raise ValueError(f"the rules of kube-proxy {release} in mode nftables are not known")
    gates = config.get("featureGates") or {}
    settings = config.get(mode) or {}
    wanted = config.get("nodePortAddresses") or []
    bit = settings.get("masqueradeBit")
    return ProxyConfig(
        release,
        node,
        _local_traffic(config, node),
        release.hint_rules(gates),
        bool(settings.get("masqueradeAll")),
        MASQUERADE_BIT if bit is None else bit,
        settings.get("localhostNodePorts") is not False,
        tuple(addresses),
        tuple(ip_network(one, strict=False) for one in wanted if one != "primary"),
        wanted == ["primary"],
        has_nfacct,
        not (be_liberal or (config.get("conntrack") or {}).get("tcpBeLiberal")),
        NftShape.of(release, gates) if mode == NFTABLES else None,
        tuple(service_cidrs),
        None if devices is None else frozenset(devices),
    )


def _local_traffic(config: Mapping[str, Any], node: Node) -> LocalTraffic:
    mode, detect = config.get("detectLocalMode") or "ClusterCIDR", config.get("detectLocal") or {}
    if mode == "ClusterCIDR":
        cidrs = [one for one in (config.get("clusterCIDR") or "").split(",") if one]
        return LocalTraffic(tuple(map(ip_network, cidrs)))
    if mode == "NodeCIDR":
        return LocalTraffic(node.pod_cidrs)
    if mode == "BridgeInterface":
        return LocalTraffic(device=detect["bridgeInterface"])
    if mode == "InterfaceNamePrefix":
        return LocalTraffic(device=detect["interfaceNamePrefix"] + "+")
    raise ValueError(f"detectLocalMode: {mode!r} is not ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix")

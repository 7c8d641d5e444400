"""kube-proxy on every node of a lab: its chains and its settings as kernel objects. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from labctl.core.iptables import FirewallRule, split_words
from labctl.core.resources import IP, Chain, Plan, Resource, Sysctl
from labctl.core.resources import Address as AddressResource
from labctl.kubernetes.api_objects import Node
from labctl.kubernetes.cluster_state import ClusterState
from labctl.kubernetes.kube_proxy_config import ProxyConfig, Release, read_config
from labctl.kubernetes.kube_proxy_iptables import kube_proxy_chains

RELEASE = "1.35"  # the release whose rules are written, if the scenario does not say
FAMILIES: tuple[tuple[Literal[4, 6], str], ...] = ((4, "ip"), (6, "ip6"))


def kube_proxy(state: ClusterState, plan: Plan) -> Iterator[Resource]:
    """The chains of every node, and the sysctl for nodePorts at 127.0.0.1. A family without nodes of it gets none.

    Raises ValueError for a configuration that kube-proxy refuses.
    """
    addresses: dict[str, list[IP]] = {}
    for item in plan:
        if isinstance(item, AddressResource):
            addresses.setdefault(item.ns, []).append(item.addr.ip)
    versions = {ip.version for node in state.cluster.nodes for ip in node.internal_ips}
    for node in state.cluster.nodes:
        config = proxy_config(state, node, tuple(addresses.get(node.name, ())))
        if config.serves_localhost:
            yield Sysctl(node.name, "net.ipv4.conf.all.route_localnet", "1")
        for version, family in FAMILIES:
            if version in versions:
                for (table, name), texts in kube_proxy_chains(state.cluster, config, version).items():
                    yield Chain(node.name, table, name, _rules(texts), family=family)


def proxy_config(state: ClusterState, node: Node, addresses: tuple[IP, ...]) -> ProxyConfig:
    """The configuration of a node's kube-proxy. Raises ValueError."""
    settings = dict(state.kube_proxy)
    release = Release.parse(str(settings.pop("version", RELEASE)))
    has_nfacct = bool(settings.pop("nfacct", False))
    settings.setdefault("clusterCIDR", ",".join(map(str, state.cluster_cidrs)))
    return read_config(settings, release, node, addresses, has_nfacct=has_nfacct)


_PARSED: dict[str, FirewallRule] = {}


def _rules(texts: list[str]) -> tuple[FirewallRule, ...]:
    """Texts of iptables-save as rules. They are in the form that the kernel gives back, so only the words are split;
    a node's rules are mostly those of the other nodes."""
    return tuple(_rule(text) for text in texts)


def _rule(text: str) -> FirewallRule:
    found = _PARSED.get(text)
    if found is None:
        found = FirewallRule(tuple(split_words(text) if '"' in text else text.split()))
        if len(_PARSED) < 200_000:
            _PARSED[text] = found
    return found

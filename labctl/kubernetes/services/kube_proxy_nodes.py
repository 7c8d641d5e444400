"""kube-proxy on every node of a lab: its rules, in either mode, and its settings as kernel objects. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_save import saved_rule
from labctl.core.resources import IP, Chain, Link, Neighbour, NftObject, Plan, Resource, Sysctl
from labctl.core.resources import Address as AddressResource
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.api_objects import Cluster, Node
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.services.kube_proxy_config import NFTABLES, ProxyConfig, Release, read_config
from labctl.kubernetes.services.kube_proxy_iptables import SharedRules, kube_proxy_chains
from labctl.kubernetes.services.kube_proxy_nft_reasons import TABLES
from labctl.kubernetes.services.kube_proxy_nftables import TABLE, SharedTables, kube_proxy_table, refused_device
from labctl.kubernetes.services.kube_proxy_reasons import ROUTE_LOCALNET, RULES

RELEASE = "1.35"  # the release whose rules are written, if the scenario does not say
FAMILIES: tuple[tuple[Literal[4, 6], str], ...] = ((4, "ip"), (6, "ip6"))


def kube_proxy(state: ClusterState, plan: Plan) -> Iterator[Resource]:
    """What kube-proxy writes on every node: chains, and the sysctl for nodePorts at 127.0.0.1; or in mode nftables its
    table. A family without nodes of it gets none.

    Raises ValueError for a configuration that kube-proxy refuses.
    """
    addresses: dict[str, list[IP]] = {}
    devices: dict[str, list[str]] = {}
    for item in plan:
        if isinstance(item, AddressResource):
            addresses.setdefault(item.ns, []).append(item.addr.ip)
        elif isinstance(item, Link):
            for at in (item.at, *([item.peer] if item.peer is not None else [])):
                devices.setdefault(at.ns, ["lo"]).append(at.dev)
    chains, tables = _Chains(state.cluster), SharedTables(state.cluster)
    versions = {ip.version for node in state.cluster.nodes for ip in node.internal_ips}
    for node in state.cluster.nodes:
        config = proxy_config(state, node, addresses.get(node.name, ()), devices.get(node.name, ()))
        if config.serves_localhost:
            yield Sysctl(node.name, "net.ipv4.conf.all.route_localnet", "1", why=ROUTE_LOCALNET)
        for version, family in FAMILIES:
            if version not in versions:
                continue
            if config.nft is None:
                yield from chains.of(node.name, config, version, family)
            else:
                table = f"{family} {TABLE}"
                for one in kube_proxy_table(state.cluster, config, version, tables):
                    yield NftObject(
                        node.name, table, one.kind, one.name, one.header, one.entries,
                        why=TABLES.of_chain, rule_whys=TABLES.reasons,
                    )  # fmt: skip


class _Chains:
    """The chains of mode iptables of all nodes, which share most rules."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.shared, self.rules = cluster, SharedRules(cluster), _ParsedRules()

    def of(self, node: str, config: ProxyConfig, version: Literal[4, 6], family: str) -> Iterator[Chain]:
        """The chains of one node, of one address family."""
        for (table, name), texts in kube_proxy_chains(self.cluster, config, version, self.shared).items():
            parsed = self.rules.parse(texts)
            yield Chain(node, table, name, parsed, family=family, why=RULES.of_chain, rule_whys=RULES.reasons)


class _ParsedRules:
    """Lists of texts as rules, each list once: the nodes share most lists. The texts are in the form that the kernel
    gives back, so they are only split."""

    def __init__(self) -> None:
        self._by_id: dict[int, tuple[list[str], tuple[FirewallRule, ...]]] = {}  # with the list, which keeps its id

    def parse(self, texts: list[str]) -> tuple[FirewallRule, ...]:
        """The rules in a list of texts."""
        found = self._by_id.get(id(texts))
        if found is None:
            found = self._by_id[id(texts)] = (texts, tuple([saved_rule(text, "ip") for text in texts]))
        return found[1]


def kube_proxy_problems(state: ClusterState, lab: Lab) -> Iterator[ObjectProblem]:
    """An error where the packets of pods do not pass the node, so that kube-proxy's rules there do nothing for them.

    A warning where its rule against INVALID packets stops other packets: in mode tunnel of Azure CNI's bridge, an
    answer to a pod passes its node twice, and conntrack calls the second time INVALID.
    """
    if not state.cluster.services:
        return
    first = state.cluster.services[0]
    node_of = {one.machine: one.node for one in state.pods}
    for item in lab.plan:
        if isinstance(item, Link) and item.ns in node_of and item.peer is not None and item.peer.ns != node_of[item.ns]:
            what = f"the packets of the pod {item.ns} do not pass kube-proxy's rules on {node_of[item.ns]}"
            hint = f"in the model {lab.model}, its cable leads to another namespace: choose another model"
            yield ObjectProblem("Service", first.namespace, first.name, (), what, hint)
            return
    yield from _refused_devices(state, lab)
    if state.kube_proxy.get("mode") == NFTABLES:
        return  # this mode has no rule against INVALID packets
    settings = state.kube_proxy.get("conntrack") or {}
    if lab.model != "azure-cni-bridge" or settings.get("tcpBeLiberal"):
        return
    pods = {ip for one in state.pods for ip in one.ips}
    if not any(isinstance(item, Neighbour) and item.ip in pods for item in lab.plan):
        what = "kube-proxy drops answers to pods from outside: in mode tunnel they pass a node twice, then as INVALID"
        hint = "write kube_proxy: {conntrack: {tcpBeLiberal: true}}, or use mode: bridge"
        yield ObjectProblem("Service", first.namespace, first.name, (), what, hint, warning=True)


def _refused_devices(state: ClusterState, lab: Lab) -> Iterator[ObjectProblem]:
    """A warning where nft refuses all that kube-proxy writes, because a rule names a device that is not there."""
    first = state.cluster.services[0]
    for node in state.cluster.nodes:
        links = (item for item in lab.plan if isinstance(item, Link))
        ends = (at for item in links for at in (item.at, item.peer) if at is not None and at.ns == node.name)
        config = proxy_config(state, node, (), ["lo", *(at.dev for at in ends)])
        for version, _ in FAMILIES:
            if device := refused_device(config, version):
                what = f"kube-proxy {config.release} writes no rules on {node.name}: nft needs the device {device}"
                hint = f"{node.name} has no such device; from 1.33 on, kube-proxy writes its name"
                yield ObjectProblem("Service", first.namespace, first.name, (), what, hint, warning=True)
                return


def proxy_config(
    state: ClusterState, node: Node, addresses: Iterable[IP], devices: Iterable[str] | None = None
) -> ProxyConfig:
    """The configuration of a node's kube-proxy. Raises ValueError."""
    settings = dict(state.kube_proxy)
    release = Release.parse(str(settings.pop("version", RELEASE)))
    has_nfacct = bool(settings.pop("nfacct", False))
    settings.setdefault("clusterCIDR", ",".join(map(str, state.cluster_cidrs)))
    return read_config(
        settings,
        release,
        node,
        addresses,
        has_nfacct=has_nfacct,
        service_cidrs=state.service_cidrs,
        devices=devices,
    )

"""kube-proxy on every node of a lab: its chains and its settings as kernel objects. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_save import saved_rule
from labctl.core.resources import IP, Chain, Link, Neighbour, Plan, Resource, Sysctl
from labctl.core.resources import Address as AddressResource
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.api_objects import Node
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.services.kube_proxy_config import ProxyConfig, Release, read_config
from labctl.kubernetes.services.kube_proxy_iptables import SharedRules, kube_proxy_chains
from labctl.kubernetes.services.kube_proxy_reasons import ROUTE_LOCALNET, RULES

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
    shared, rules = SharedRules(state.cluster), _ParsedRules()
    versions = {ip.version for node in state.cluster.nodes for ip in node.internal_ips}
    for node in state.cluster.nodes:
        config = proxy_config(state, node, tuple(addresses.get(node.name, ())))
        if config.serves_localhost:
            yield Sysctl(node.name, "net.ipv4.conf.all.route_localnet", "1", why=ROUTE_LOCALNET)
        for version, family in FAMILIES:
            if version in versions:
                for (table, name), texts in kube_proxy_chains(state.cluster, config, version, shared).items():
                    parsed = rules.parse(texts)
                    yield Chain(
                        node.name, table, name, parsed, family=family, why=RULES.of_chain, rule_whys=RULES.reasons
                    )


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
    settings = state.kube_proxy.get("conntrack") or {}
    if lab.model != "azure-cni-bridge" or settings.get("tcpBeLiberal"):
        return
    pods = {ip for one in state.pods for ip in one.ips}
    if not any(isinstance(item, Neighbour) and item.ip in pods for item in lab.plan):
        what = "kube-proxy drops answers to pods from outside: in mode tunnel they pass a node twice, then as INVALID"
        hint = "write kube_proxy: {conntrack: {tcpBeLiberal: true}}, or use mode: bridge"
        yield ObjectProblem("Service", first.namespace, first.name, (), what, hint, warning=True)


def proxy_config(state: ClusterState, node: Node, addresses: tuple[IP, ...]) -> ProxyConfig:
    """The configuration of a node's kube-proxy. Raises ValueError."""
    settings = dict(state.kube_proxy)
    release = Release.parse(str(settings.pop("version", RELEASE)))
    has_nfacct = bool(settings.pop("nfacct", False))
    settings.setdefault("clusterCIDR", ",".join(map(str, state.cluster_cidrs)))
    return read_config(settings, release, node, addresses, has_nfacct=has_nfacct)

"""Which policy engine enforces NetworkPolicies in a lab, and the chains and sets that it writes on every node. Pure.

Calico recognises a packet's pod by the node's device to it. That needs a node that routes between its pods, as it does
where each has a device of its own. On a bridge, the device of a packet is the bridge. There labctl writes the rules of
kube-router, which recognises a pod by its address, and also sees what one pod of a bridge sends to another, if bridged
frames pass iptables (bridge-nf-call-iptables).

Both have a mode that writes native tables of nft. A model that has the chains of Calico or kube-router itself has them
in nftables then, as a node has after the switch.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain, Interface, Link, Neighbour, Plan, Resource, Sysctl, assemble
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.policies.calico_policies import calico_policies
from labctl.kubernetes.policies.kube_router_nftables_policies import kube_router_nftables_policies
from labctl.kubernetes.policies.kube_router_policies import kube_router_policies
from labctl.models.lib import calico_nftables, kube_router_nftables
from labctl.models.lib.calico_felix import FelixConfig, common_prefix

PolicyEngine: TypeAlias = Literal["calico", "calico-nftables", "kube-router", "kube-router-nftables"]
NFTABLES = "-nftables"  # the end of the name of an engine that writes tables of nft
OWN_ENGINES = {"weave": "weave-npc", "cilium": "Cilium", "antrea": "Antrea"}  # of models with other engines
INTERFACE_PREFIXES = ("cali", "azv", "eni", "lxc", "gke", "veth")  # of the nodes' devices to pods
CLUSTER_POLICY = "ClusterNetworkPolicy"
BRIDGE_CALL = "net.bridge.bridge-nf-call-iptables"
# of Felix where another program has rules in mangle, too: AWS's manifest sets this
MANGLE_ALLOW_ACTIONS = {"eni": "RETURN"}


@dataclass(frozen=True, slots=True)
class _NodePods:
    """The pods of a node by the node's devices to them; `bridged` if these are ports of a bridge, and `filtered` if
    the frames of that bridge pass iptables. `prefix` is that of the devices to pods and of no other device of the node,
    "" if there is none. `elsewhere` are pods that are connected to another namespace, `unknown` those without an
    address."""

    node: str
    pods: dict[str, Pod]
    bridged: bool
    filtered: bool
    prefix: str
    elsewhere: tuple[Pod, ...] = ()
    unknown: tuple[Pod, ...] = ()


def policy_chains(state: ClusterState, lab: Lab) -> Iterator[Resource]:
    """The chains and sets that enforce the policies of the cluster, on every node with pods. Nothing without policies,
    and nothing where `policy_problems` has a refusal."""
    if _writes_nothing(state, lab):
        return
    there = {(item.ns, item.name) for item in lab.plan if isinstance(item, Chain)}
    engine = policy_engine(state, lab)
    if engine == "calico-nftables":
        yield from _calico_tables(state, lab, there)
        return
    for one in _node_pods(state, lab):
        if engine == "calico":
            only = (one.node, "cali-FORWARD") in there
            yield from calico_policies(state, _felix(one), one.pods, workloads_only=only)
        elif engine == "kube-router":
            jumps = (one.node, "KUBE-ROUTER-FORWARD") not in there
            yield from kube_router_policies(state, one.node, one.pods.values(), jumps=jumps)
        else:
            yield from kube_router_nftables_policies(state, one.node, one.pods.values())


def _calico_tables(state: ClusterState, lab: Lab, there: Collection[tuple[str, str]]) -> Iterator[Resource]:
    """Felix's tables of nft: what the model has of Felix, with the chains of policies."""
    own: dict[str, dict[tuple[object, ...], Resource]] = {}
    for item in lab.plan:
        if calico_nftables.is_felix(item):
            own.setdefault(item.ns, {})[item.key] = item
    for one in _node_pods(state, lab):
        felix = replace(_felix(one), max_chain_name=calico_nftables.MAX_CHAIN_NAME)
        only = (one.node, "cali-FORWARD") in there
        made = assemble(calico_policies(state, felix, one.pods, workloads_only=only))
        own[one.node] = own.get(one.node, {}) | {item.key: item for item in made}
    for node, items in own.items():
        yield from calico_nftables.in_nftables(node, items.values())


def without_replaced(plan: Plan, state: ClusterState, lab: Lab) -> Plan:
    """The plan without the chains and sets of iptables that the engine of the cluster has in nftables instead: those
    of a model that is Calico's or kube-router's own."""
    engine = policy_engine(state, lab)
    if not engine.endswith(NFTABLES) or _writes_nothing(state, lab):
        return plan
    calico = engine == "calico-nftables"
    is_own = calico_nftables.is_felix if calico else kube_router_nftables.is_kube_router
    is_rule = calico_nftables.is_felix_rule if calico else kube_router_nftables.is_kube_router_rule
    kept = (_without(item, is_rule) if is_own(item) else item for item in plan)
    return tuple(item for item in kept if item is not None)


def _without(item: Resource, is_rule: Callable[[FirewallRule], bool]) -> Resource | None:
    """A built-in chain without some of its rules; None if nothing is left, and for anything else."""
    if not isinstance(item, Chain) or item.name.startswith(("cali-", "KUBE-")):
        return None
    rules = tuple(rule for rule in item.rules if not is_rule(rule))
    return replace(item, rules=rules) if rules or item.policy not in (None, "ACCEPT") else None


def _writes_nothing(state: ClusterState, lab: Lab) -> bool:
    """Whether there is no policy to enforce, or a reason why none can be."""
    has_policies = state.policies or state.cluster_policies
    return not has_policies or any(not one.warning for one in policy_problems(state, lab))


def policy_engine(state: ClusterState, lab: Lab) -> PolicyEngine:
    """The engine that the scenario names, else the one that fits the model: kube-router for its own model and for pods
    on a bridge, Calico for pods that the node routes to."""
    if state.policy_engine is not None:
        return state.policy_engine
    nodes = _node_pods(state, lab)
    routed = lab.model != "kube-router" and all(one.prefix and not one.bridged for one in nodes)
    return "calico" if routed else "kube-router"


def policy_problems(state: ClusterState, lab: Lab) -> Iterator[ObjectProblem]:
    """Why the policies cannot be enforced here, and a warning where the model's own engine is another one."""
    if not (state.policies or state.cluster_policies):
        return
    engine = policy_engine(state, lab)
    on_bridge, by_device = "kube-router", engine.startswith("calico")
    if engine.endswith(NFTABLES):
        on_bridge += NFTABLES

    def problem(what: str, hint: str, *, warning: bool = False) -> ObjectProblem:
        if not state.policies:
            return ObjectProblem(CLUSTER_POLICY, "", state.cluster_policies[0].name, (), what, hint, warning)
        first = state.policies[0]
        return ObjectProblem("NetworkPolicy", first.namespace, first.name, (), what, hint, warning)

    for one in _node_pods(state, lab):
        if one.bridged and not one.filtered:
            what = f"packets between pods of {one.node} pass no iptables rule in the model {lab.model}"
            yield problem(what, "no engine that labctl has can filter them: choose another model")
            return
        if one.bridged and by_device:
            what = (
                f"policy_engine {engine}: the pods of {one.node} are on a bridge, where Calico sees no device of a pod"
            )
            yield problem(what, f"kube-router's rules match addresses: policy_engine: {on_bridge}")
            return
        if one.unknown:
            what = f"the address of the pod {one.unknown[0].machine} is known only when a plugin has attached it"
            yield problem(what, f"policies need addresses: choose another model than {lab.model}")
            return
        if one.elsewhere:
            what = f"no packet of the pod {one.elsewhere[0].machine} passes the rules of {one.node}"
            yield problem(what, f"in the model {lab.model}, its cable leads to another namespace: choose another model")
            return
        if lab.model == "azure-cni-bridge" and not _has_neighbours(lab, one):
            what = f"in mode tunnel, answers pass {one.node} twice, and kube-router drops the second as INVALID"
            yield problem(what, "use mode: bridge, or another model")
            return
        if by_device and not one.prefix:
            what = f"policy_engine {engine}: the devices of {one.node} to its pods have no common prefix"
            yield problem(what, f"kube-router's rules match addresses: policy_engine: {on_bridge}")
            return
    yield from _cluster_policy_problems(state, engine)
    if engine == "calico-nftables" and state.cluster.services and state.kube_proxy.get("mode") != "nftables":
        what = "Calico in nftables needs kube-proxy in the mode nftables in a cluster; here it writes iptables"
        yield problem(what, "kube_proxy: {mode: nftables}", warning=True)
    own = OWN_ENGINES.get(lab.model)
    if own is not None:
        what = f"the model {lab.model} has policies of its own engine, {own}, which labctl does not write"
        yield problem(what, f"labctl writes rules as {engine} does", warning=True)


def _cluster_policy_problems(state: ClusterState, engine: PolicyEngine) -> Iterator[ObjectProblem]:
    """Which ClusterNetworkPolicies the engine does not know."""
    for one in state.cluster_policies:
        if engine.startswith("kube-router"):
            what = "kube-router, which enforces the policies of this lab, does not have ClusterNetworkPolicies"
            hint = "Calico has them: choose a model with a device for each pod, such as calico or azure-cni-transparent"
            yield ObjectProblem(CLUSTER_POLICY, "", one.name, (), what, hint)
            continue
        for side, rules in (("ingress", one.ingress), ("egress", one.egress)):
            for at, rule in enumerate(rules):
                if any(isinstance(port.port, str) for port in rule.ports):
                    path = ("spec", side, at, "protocols")
                    what = (
                        "destinationNamedPort: Calico does not know it, and would treat the rule as one for everything"
                    )
                    yield ObjectProblem(CLUSTER_POLICY, "", one.name, path, what, "write the numbers of the ports")


def _felix(one: _NodePods) -> FelixConfig:
    """Felix where it only enforces policies, with the prefix of the node's devices to pods."""
    action = MANGLE_ALLOW_ACTIONS.get(one.prefix, "ACCEPT")
    return FelixConfig(
        one.node, None, (), (), (), "", nat_outgoing=False, interface_prefix=one.prefix, mangle_allow_action=action
    )


def _node_pods(state: ClusterState, lab: Lab) -> tuple[_NodePods, ...]:
    links = {item.at: item for item in lab.plan if isinstance(item, Link)}
    filtered = {
        item.ns for item in lab.plan if isinstance(item, Sysctl) and (item.name, item.value) == (BRIDGE_CALL, "1")
    }
    pods_of: dict[str, list[Pod]] = {}
    for pod in state.pods:
        if not pod.host_network:
            pods_of.setdefault(pod.node, []).append(pod)
    found = []
    for node, pods in pods_of.items():
        outer = {pod.machine: _outer(links, pod) for pod in pods}
        own = {pod.machine: link for pod in pods if (link := outer[pod.machine]) is not None and link.at.ns == node}
        devices = {own[pod.machine].at.dev: pod for pod in pods if pod.machine in own}
        others = {at.dev for at in links if at.ns == node} - devices.keys()
        elsewhere = tuple(one for one in pods if outer[one.machine] is not None and one.machine not in own)
        found.append(
            _NodePods(
                node,
                devices,
                any(link.master is not None for link in own.values()),
                node in filtered,
                _prefix(devices, others),
                elsewhere,
                tuple(one for one in pods if outer[one.machine] is None or not one.ips),
            )
        )
    return tuple(found)


def _has_neighbours(lab: Lab, one: _NodePods) -> bool:
    """Whether a node has neighbour entries for its pods, so that it sends packets to them itself: Azure CNI has none in
    mode tunnel, where the fabric gets these packets."""
    ips = {ip for pod in one.pods.values() for ip in pod.ips}
    return any(isinstance(item, Neighbour) and item.ns == one.node and item.ip in ips for item in lab.plan)


def _outer(links: Mapping[Interface, Link], pod: Pod) -> Link | None:
    """The other end of the veth pair of a pod."""
    inner = links.get(Interface(pod.machine, "eth0"))
    return links.get(inner.peer) if inner is not None and inner.peer is not None else None


def _prefix(devices: Collection[str], others: Collection[str]) -> str:
    """The prefix of all these devices that no other device has."""
    known = (one for one in INTERFACE_PREFIXES if all(name.startswith(one) for name in devices))
    prefix = next(known, common_prefix(sorted(devices)).rstrip("0123456789"))
    return "" if any(name.startswith(prefix) for name in others) else prefix

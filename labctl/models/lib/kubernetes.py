"""What the Kubernetes models share: Kubernetes' own rules as checks, and the chains of ip-masq-agent.

Kubernetes requires three things of a network: every pod has a separate address; every pod reaches every other
pod without address translation; the processes of a node reach the pods of that node.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from types import MappingProxyType
from typing import Any, Literal

from labctl.core.resources import Interface, Net, Resource
from labctl.core.scenario_types import Check, Scenario, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source
from labctl.models.lib import pods, primitives

NO_PODS: Mapping[str, IPv4Address] = MappingProxyType({})
SAME_BRIDGE_TEXT = "pods of one node reach each other over its bridge, with no router between them"  # the TTL stays 64
_JUMP = (
    '-m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic'
    ' to our custom {0} chain" -m addrtype ! --dst-type LOCAL -j {0}'
)
_LOCAL = '-d {} -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN'
_LAST = '-m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)"'

_PORT_PROTOCOLS = ("tcp", "udp", "sctp")  # the protocols with ports, in the agent's order

MASQ_AGENT = Component("ip-masq-agent", Source("kubernetes-sigs/ip-masq-agent", "cmd/ip-masq-agent", "2.10"))
_MASQ_JUMP = MASQ_AGENT.why(
    "It sends every packet that leaves {ns}, except those for {ns} itself, to the agent's own chain. The agent may"
    " write that chain again at any time, and touches no rule of other programs."
)
_MASQ_CHAIN = MASQ_AGENT.why(
    "It decides which packets keep their source address, and which get that of the node (masquerade)."
)
_MASQ_EXEMPT = MASQ_AGENT.why("Packets to {dst} keep the address of the pod: machines there have a way back to it.")
_MASQ_PORTS = MASQ_AGENT.why(
    "Of the connections of this protocol that are left, this part gets the address of the node and a source port of the"
    " range {to_ports}. Ports outside these ranges stay free for others."
)
_MASQ_ALL = MASQ_AGENT.why(
    "All other packets get the address of the node as their source: machines outside have no way back to the address of"
    " a pod. It must be the last rule of the chain."
)


@dataclass(frozen=True, slots=True)
class ClusterDefaults:
    """What a model's clusters have by default, for Services on top: `CLUSTER` of a model.

    `cidr_option` is the model's option with the range that kube-proxy takes as that of pods (clusterCIDR); None if
    kube-proxy gets no range there. `service_cidrs` are ranges of cluster IPs, the preferred one first. `load_balancer`
    is the ipMode of the cloud's load balancers: VIP if packets arrive at nodes unchanged, Proxy if the destination has
    become the node's address and nodePort. `refuse_service_cidr` yields (what, hint) for each reason why the cloud
    refuses a range of Services; it gets the range and the model's options.
    """

    cidr_option: str | None = "pod_cidr"
    service_cidrs: tuple[str, ...] = ()
    load_balancer: Literal["VIP", "Proxy"] = "VIP"
    refuse_service_cidr: Callable[[Net, Any], Iterable[tuple[str, str]]] | None = None


def ip_masq_agent(
    ns: str,
    exempt_ranges: Iterable[object],
    *,
    random_fully: bool = False,
    chain: str = "IP-MASQ-AGENT",
    to_ports: Sequence[tuple[int, int]] = (),
    family: str = "ip",
) -> Iterator[Resource]:
    """The chains of kubernetes-sigs/ip-masq-agent: packets to the exempt ranges keep their source address.

    Azure/ip-masq-agent-v2 writes the same. AKS lets it masquerade link-local destinations too (`masqLinkLocal`), so
    these are exempt only if `exempt_ranges` has them. `random_fully` chooses random ports, as upstream does since 2.10;
    `chain` is the chain's name (`--masq-chain`), `to_ports` are the ranges of source ports (`--to-ports`), and `family`
    is `ip6` for the chains of ip6tables.
    """
    yield primitives.chain(ns, "nat", "POSTROUTING", (_JUMP.format(chain), _MASQ_JUMP), family=family)
    random = " --random-fully" if random_fully else ""
    rules = [(_LOCAL.format(network), _MASQ_EXEMPT) for network in exempt_ranges]
    for protocol in _PORT_PROTOCOLS if to_ports else ():
        left = sum(last - first + 1 for first, last in to_ports)
        for number, (first, last) in enumerate(to_ports):
            share = (last - first + 1) / left
            left -= last - first + 1
            some = "" if number == len(to_ports) - 1 else f"-m statistic --mode random --probability {share:.10f} "
            ports = f"{first}-{last}" if first != last else f"{first}"
            rules.append((f"-p {protocol} {_LAST} {some}-j MASQUERADE --to-ports {ports}{random}", _MASQ_PORTS))
    rules.append((f"{_LAST} -j MASQUERADE{random}", _MASQ_ALL))
    yield primitives.chain(ns, "nat", chain, *rules, why=_MASQ_CHAIN, family=family)


def network_model_checks(
    scenario: Scenario, separate_nodes: Collection[str] = (), masqueraded: Mapping[str, IPv4Address] = NO_PODS
) -> Iterator[Check]:
    """The checks of Kubernetes' own rules. A rule that needs more pods than there are is left out.

    `separate_nodes` are the nodes behind a router that has no routes to pods: only pods on the same side of it are
    checked. `masqueraded` are the pods to which no pod keeps its address, because the nodes do not exempt their
    addresses from masquerading; each with the address that it sees.
    """
    sides = (
        tuple(pod for node, pod in scenario.pods if (node.name in separate_nodes) is behind_router)
        for behind_router in (False, True)
    )
    targets_of = ((pods, tuple(pod for pod in pods if pod not in masqueraded)) for pods in sides)
    groups = tuple((pods, targets) for pods, targets in targets_of if len(pods) > 1 and targets)
    if masqueraded:
        yield from _masquerade_check(scenario, masqueraded)
        if groups:
            say = sentence("a pod is seen with its own address by every pod that the nodes exempt from masquerading")
            yield Check(say, "mesh", groups=groups, origin="model")
    elif groups:
        say = sentence("every pod reaches every pod and is seen with its own address")
        if separate_nodes:
            say = sentence("every pod reaches every pod of its node's subnet and is seen with its own address")
        yield Check(say, "mesh", groups=groups, origin="model")
    groups = tuple(((node.name,), node.pods) for node in scenario.nodes if node.pods)
    if groups:
        yield Check(sentence("each node reaches its own pods"), "mesh", groups=groups, origin="model")


def _masquerade_check(scenario: Scenario, masqueraded: Mapping[str, IPv4Address]) -> Iterator[Check]:
    """A check that the nodes masquerade packets to other pods, between two nodes if there are pods on two."""
    pairs = [
        (node is not other, node.pods, target)
        for node in scenario.nodes
        for other, target in scenario.pods
        if target in masqueraded and any(pod != target for pod in node.pods)
    ]
    if pairs:
        _, sources, target = max(pairs, key=lambda pair: pair[0])
        source = next(pod for pod in sources if pod != target)
        at = Interface(target, "eth0")
        sees = (See(at, src=str(masqueraded[target]), dst=target), See(at, src=source, negate=True))
        say = sentence("the nodes masquerade packets to the pods' range too: a pod sees its own node's address")
        yield Check(say, "ping", source, target, sees=sees, origin="model")


def same_node_check(
    scenario: Scenario, description: str, ttl: int, masqueraded: Mapping[str, IPv4Address] = NO_PODS
) -> Iterator[Check]:
    """A check of the path between two pods of one node, by the TTL on arrival. Nothing if no node has two pods.

    `masqueraded` is that of `network_model_checks`.
    """
    for node in scenario.nodes:
        if len(node.pods) > 1:
            source, target, *_ = node.pods
            seen_source = str(masqueraded.get(target, source))
            sees = (See(Interface(target, "eth0"), src=seen_source, dst=target, ttl=ttl),)
            yield Check(description, "ping", source, target, sees=sees, origin="model")
            return


def node_pod_ranges(pod_cidr: IPv4Network, prefix_length: int, node_count: int) -> list[IPv4Network]:
    """Each node's part of the pod CIDR, in the order of the nodes: a network with this prefix length.

    A pod CIDR that is too small gives fewer parts than there are nodes, see `refuse_pod_cidr`.
    """
    base, count = int(pod_cidr.network_address), min(node_count, _range_count(pod_cidr, prefix_length))
    return [IPv4Network((base + (number << 32 - prefix_length), prefix_length)) for number in range(count)]


def _range_count(pod_cidr: IPv4Network, prefix_length: int) -> int:
    """The number of ranges of this prefix length in a pod CIDR."""
    return 2 ** (prefix_length - pod_cidr.prefixlen) if prefix_length >= pod_cidr.prefixlen else 0


def refuse_pod_cidr(pod_cidr: IPv4Network, prefix_length: int, node_count: int) -> Iterator[tuple[str, str, str]]:
    """Errors for a pod CIDR that has fewer ranges of this prefix length than there are nodes."""
    capacity = _range_count(pod_cidr, prefix_length)
    if node_count > capacity:
        fitting_length = prefix_length - max(node_count - 1, 0).bit_length()
        what = f"pod_cidr {pod_cidr} holds {capacity} ranges of /{prefix_length}, but there are {node_count} nodes"
        ranges = f"2^({prefix_length} - {fitting_length}) = {2 ** (prefix_length - fitting_length)}"
        yield "pod_cidr", what, f"{ranges}: a /{fitting_length} is large enough"


def refuse_pod_counts(
    scenario: Scenario, max_pods: int, *, max_pods_fixed: bool = False
) -> Iterator[tuple[str, str, str]]:
    """Errors for nodes with more pods than `max_pods`, and for containers of one pod that conflict. A scenario may
    raise the limit, unless `max_pods_fixed`."""
    yield from pods.refuse(scenario)
    for node in scenario.nodes:
        if len(node.pods) > max_pods:
            limit = "the limit" if max_pods_fixed else "max_pods"
            hint = f"spread them over {-(-len(node.pods) // max_pods)} nodes"
            hint += "" if max_pods_fixed else ", or raise max_pods"
            yield f"nodes/{node.name}/pods", f"{node.name} has {len(node.pods)} pods, but {limit} is {max_pods}", hint

"""What the Kubernetes models share: Kubernetes' own rules as checks, and the chains of ip-masq-agent.

Kubernetes requires three things of a network: every pod has a separate address; every pod reaches every other
pod without address translation; the processes of a node reach the pods of that node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Network

from labctl.core.resources import Interface, Resource
from labctl.core.scenario_types import Check, Scenario, See
from labctl.models.lib import pods, primitives

SAME_BRIDGE_TEXT = "pods of one node reach each other over its bridge, with no router between them"  # the TTL stays 64
_JUMP = (
    '-m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic'
    ' to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT'
)
_LOCAL = '-d {} -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN'
_LAST = (
    '-m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)"'
    " -j MASQUERADE"
)


def ip_masq_agent(ns: str, exempt_ranges: Iterable[object], *, random_fully: bool = False) -> Iterator[Resource]:
    """The chains of kubernetes-sigs/ip-masq-agent: packets to the exempt ranges keep their source address.

    Azure/ip-masq-agent-v2 writes the same. AKS lets it masquerade link-local destinations too (`masqLinkLocal`), so
    these are exempt only if `exempt_ranges` has them. `random_fully` chooses random ports, as upstream does since 2.10.
    """
    yield primitives.chain(ns, "nat", "POSTROUTING", _JUMP)
    last = _LAST + (" --random-fully" if random_fully else "")
    yield primitives.chain(ns, "nat", "IP-MASQ-AGENT", *(_LOCAL.format(network) for network in exempt_ranges), last)


def network_model_checks(scenario: Scenario, separate_nodes: Collection[str] = ()) -> Iterator[Check]:
    """The checks of Kubernetes' own rules. A rule that needs more pods than there are is left out.

    `separate_nodes` are the nodes behind a router that has no routes to pods: only pods on the same side of it are
    checked.
    """
    sides = (
        tuple(pod for node, pod in scenario.pods if (node.name in separate_nodes) is behind_router)
        for behind_router in (False, True)
    )
    groups = tuple((pods, pods) for pods in sides if len(pods) > 1)
    if groups:
        targets = "every pod of its node's subnet" if separate_nodes else "every pod"
        yield Check(
            f"every pod reaches {targets} and is seen with its own address", "mesh", groups=groups, origin="model"
        )
    groups = tuple(((node.name,), node.pods) for node in scenario.nodes if node.pods)
    if groups:
        yield Check("each node reaches its own pods", "mesh", groups=groups, origin="model")


def same_node_check(scenario: Scenario, description: str, ttl: int) -> Iterator[Check]:
    """A check of the path between two pods of one node, by the TTL on arrival. Nothing if no node has two pods."""
    for node in scenario.nodes:
        if len(node.pods) > 1:
            source, target, *_ = node.pods
            sees = (See(Interface(target, "eth0"), src=source, dst=target, ttl=ttl),)
            yield Check(description, "ping", source, target, sees=sees, origin="model")
            return


def node_pod_ranges(pod_cidr: IPv4Network, prefix_length: int, node_count: int) -> list[IPv4Network]:
    """Each node's part of the pod CIDR, in the order of the nodes: a network with this prefix length."""
    base = int(pod_cidr.network_address)
    return [IPv4Network((base + (number << 32 - prefix_length), prefix_length)) for number in range(node_count)]


def refuse_pod_cidr(pod_cidr: IPv4Network, prefix_length: int, node_count: int) -> Iterator[tuple[str, str, str]]:
    """Errors for a pod CIDR that has fewer ranges of this prefix length than there are nodes."""
    capacity = 2 ** (prefix_length - pod_cidr.prefixlen) if prefix_length >= pod_cidr.prefixlen else 0
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
            yield "nodes", f"{node.name} has {len(node.pods)} pods, but {limit} is {max_pods}", hint

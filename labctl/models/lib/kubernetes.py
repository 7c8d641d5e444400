"""What every Kubernetes model shares: Kubernetes' own rules as checks, and the agent that masquerades.

Kubernetes asks three things of a network: every pod has an address of its own, every pod reaches every
pod without address translation, and what runs on a node reaches the pods of that node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Network

from labctl.core.resources import Port, Resource
from labctl.core.scenario_types import Check, Scenario, See
from labctl.models.lib import pods, primitives

ON_A_BRIDGE = "pods of one node meet on its bridge, and nobody routes between them"  # which leaves a TTL of 64
_JUMP = (
    '-m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic'
    ' to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT'
)
_LOCAL = '-d {} -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN'
_LAST = (
    '-m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)"'
    " -j MASQUERADE"
)


def masq_agent(ns: str, exempt: Iterable[object], *, random_fully: bool = False) -> Iterator[Resource]:
    """The chains of kubernetes-sigs/ip-masq-agent: what goes to the `exempt` ranges keeps its source address.

    Azure/ip-masq-agent-v2 writes the same. AKS has it masquerade link-local destinations (`masqLinkLocal`), so
    they are exempt only where `exempt` names them. `random_fully` draws the ports, as upstream does since 2.10.
    """
    yield primitives.chain(ns, "nat", "POSTROUTING", _JUMP)
    last = _LAST + (" --random-fully" if random_fully else "")
    yield primitives.chain(ns, "nat", "IP-MASQ-AGENT", *(_LOCAL.format(network) for network in exempt), last)


def kubernetes_rules(scenario: Scenario, apart: Collection[str] = ()) -> Iterator[Check]:
    """The checks of Kubernetes' own rules. A rule that needs more pods than there are is left out.

    `apart` are the nodes that a router which knows no pods parts from the others: pods meet on either side of it.
    """
    sides = (tuple(pod for node, pod in scenario.pods if (node.name in apart) is far) for far in (False, True))
    groups = tuple((pods, pods) for pods in sides if len(pods) > 1)
    if groups:
        among = "every pod of its node's subnet" if apart else "every pod"
        yield Check(
            f"every pod reaches {among} and is seen with its own address", "mesh", groups=groups, origin="model"
        )
    groups = tuple(((node.name,), node.pods) for node in scenario.nodes if node.pods)
    if groups:
        yield Check("each node reaches its own pods", "mesh", groups=groups, origin="model")


def one_node(scenario: Scenario, say: str, ttl: int) -> Iterator[Check]:
    """The check of how pods of one node meet: by the time to live that is left. None where no node has two."""
    for node in scenario.nodes:
        if len(node.pods) > 1:
            source, target, *_ = node.pods
            sees = (See(Port(target, "eth0"), src=source, dst=target, ttl=ttl),)
            yield Check(say, "ping", source, target, sees=sees, origin="model")
            return


def node_ranges(pod_cidr: IPv4Network, length: int, count: int) -> list[IPv4Network]:
    """Each node's part of the pod CIDR, in the nodes' order: a network of that prefix length."""
    base = int(pod_cidr.network_address)
    return [IPv4Network((base + (number << 32 - length), length)) for number in range(count)]


def refuse_pod_cidr(pod_cidr: IPv4Network, length: int, nodes: int) -> Iterator[tuple[str, str, str]]:
    """Refusals for a pod CIDR with fewer ranges of that length than there are nodes."""
    held = 2 ** (length - pod_cidr.prefixlen) if length >= pod_cidr.prefixlen else 0
    if nodes > held:
        fits = length - max(nodes - 1, 0).bit_length()
        what = f"pod_cidr {pod_cidr} holds {held} ranges of /{length} and there are {nodes} nodes"
        yield "pod_cidr", what, f"2^({length} - {fits}) = {2 ** (length - fits)}: a /{fits} would do"


def refuse_pods(scenario: Scenario, most: int, *, fixed: bool = False) -> Iterator[tuple[str, str, str]]:
    """Refusals for nodes with more pods than `max_pods`, which may be `fixed`, and for containers of a pod that cannot
    be together."""
    yield from pods.refuse(scenario)
    for node in scenario.nodes:
        if len(node.pods) > most:
            hint = f"spread them over {-(-len(node.pods) // most)} nodes" + ("" if fixed else ", or raise max_pods")
            yield (
                "nodes",
                f"{node.name} has {len(node.pods)} pods and {'the most is' if fixed else 'max_pods is'} {most}",
                hint,
            )

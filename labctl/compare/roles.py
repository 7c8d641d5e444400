"""The machines that take part in a comparison, found by their roles, for any model. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.core.resources import Address
from labctl.core.scenario_types import Lab, Machine
from labctl.core.topology import LEAF_ROLES

NODE_ROLES = ("node", "host")


@dataclass(frozen=True, slots=True)
class Roles:
    """The machines that take part: `pod` and its `node`; `same_node_pod`, another pod of that node; `other_node_pod`, a
    pod of the node `other_node`; `routed_pod`, a pod of a node behind a router; `vm`, a machine in the nodes' network;
    and `internet`. A role is None if the lab has no such machine.

    `pods` are all pods and containers that have their own address and namespace.
    """

    pod: str
    node: str
    same_node_pod: str | None = None
    other_node_pod: str | None = None
    other_node: str | None = None
    vm: str | None = None
    internet: str | None = None
    pods: tuple[str, ...] = ()
    routed_pod: str | None = None


def find_roles(lab: Lab) -> Roles | None:
    """The roles in a lab; None if none of its pods and containers has its own network.

    The pods are the first two of the first node that has two, the first of another node, and the first of a node
    that is in another subnet.
    """
    pods = [one for one in lab.machines if one.role in LEAF_ROLES and one.netns_of is None and one.addresses and one.on]
    if not pods:
        return None
    by_node: dict[str, list[Machine]] = {}
    for one in pods:
        by_node.setdefault(str(one.on), []).append(one)
    node = next((name for name, node_pods in by_node.items() if len(node_pods) > 1), next(iter(by_node)))
    first_node_pods = by_node[node]
    far = next((others[0] for name, others in by_node.items() if name != node), None)
    nodes = [one.name for one in lab.machines if one.role in NODE_ROLES and one.name != node]
    return Roles(
        first_node_pods[0].name,
        node,
        first_node_pods[1].name if len(first_node_pods) > 1 else None,
        far.name if far else None,
        far.on if far else next(iter(nodes), None),
        _first(lab, "vm"),
        _first(lab, "internet"),
        tuple(one.name for one in pods),
        next((others[0].name for name, others in by_node.items() if _in_other_subnet(lab, node, name)), None),
    )


def _in_other_subnet(lab: Lab, node: str, other: str) -> bool:
    """Whether the other node is outside this node's subnet (a subnet, not a single address)."""
    first_addresses = {one.name: one.addresses[0] for one in lab.machines if one.addresses}
    if node not in first_addresses or other not in first_addresses:
        return False
    node_addresses = (item.addr for item in lab.plan if isinstance(item, Address) and item.ns == node)
    network = next((addr.network for addr in node_addresses if addr.ip == first_addresses[node]), None)
    return network is not None and network.prefixlen < network.max_prefixlen and first_addresses[other] not in network


def absence_text(role: str, roles: Roles) -> str:
    """The reason why a machine is missing, in a few words.

    `role` is `mate` (same_node_pod), `far` (other_node_pod), `beyond` (routed_pod), `other` (other_node), `vm` or
    `internet`.
    """
    if role == "mate":
        return "one pod on its node"
    if role == "far" and roles.other_node is not None:
        return "no pod on another node"
    if role == "beyond":
        return "no node behind a router"
    return {"far": "no second node", "other": "no second node", "vm": "no vm", "internet": "no internet"}[role]


def _first(lab: Lab, role: str) -> str | None:
    return next((one.name for one in lab.machines if one.role == role and one.addresses), None)

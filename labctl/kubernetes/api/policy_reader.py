"""Read namespaces, pods and NetworkPolicies from their JSON form. Pure. Raises ValueError as `api_reader` does."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from labctl.kubernetes.api.policy_objects import (
    ContainerPort,
    Direction,
    IPBlock,
    Namespace,
    NetworkPolicy,
    Peer,
    Pod,
    PolicyPort,
    PolicyRule,
)
from labctl.kubernetes.api.selectors import OPERATORS, Requirement, Selector


def read_namespace(item: Mapping[str, Any]) -> Namespace:
    """A Namespace."""
    return Namespace(item["metadata"]["name"], dict(item["metadata"].get("labels") or {}))


def read_pod(item: Mapping[str, Any]) -> Pod:
    """A Pod."""
    meta, spec, status = item["metadata"], item.get("spec") or {}, item.get("status") or {}
    ips = [one["ip"] for one in status.get("podIPs") or ()] or ([status["podIP"]] if status.get("podIP") else [])
    ports = [
        ContainerPort(one.get("name") or "", one["containerPort"], one.get("protocol", "TCP"))
        for container in spec.get("containers") or ()
        for one in container.get("ports") or ()
    ]
    return Pod(
        meta.get("namespace", "default"),
        meta["name"],
        tuple(map(ip_address, ips)),
        dict(meta.get("labels") or {}),
        tuple(ports),
        spec.get("nodeName") or "",
        bool(spec.get("hostNetwork")),
    )


def read_policy(item: Mapping[str, Any]) -> NetworkPolicy:
    """A NetworkPolicy. Without `policyTypes`, it isolates for ingress, and for egress only if it has egress rules."""
    meta, spec = item["metadata"], item.get("spec") or {}
    types: tuple[Direction, ...] = ("Ingress", "Egress") if spec.get("egress") else ("Ingress",)
    if spec.get("policyTypes"):
        unknown = sorted(set(spec["policyTypes"]) - {"Ingress", "Egress"})
        if unknown:
            raise ValueError(f"policyTypes: {unknown[0]!r} is not Ingress or Egress")
        types = tuple(one for one in ("Ingress", "Egress") if one in spec["policyTypes"])
    return NetworkPolicy(
        meta.get("namespace", "default"),
        meta["name"],
        read_selector(spec.get("podSelector") or {}),
        types,
        tuple(_rule(one, "from") for one in spec.get("ingress") or ()),
        tuple(_rule(one, "to") for one in spec.get("egress") or ()),
    )


def read_selector(item: Mapping[str, Any]) -> Selector:
    """A label selector."""
    requirements = []
    for one in item.get("matchExpressions") or ():
        if one["operator"] not in OPERATORS:
            raise ValueError(
                f"matchExpressions: {one['operator']!r} is not {', '.join(OPERATORS[:-1])} or {OPERATORS[-1]}"
            )
        requirements.append(Requirement(one["key"], one["operator"], tuple(one.get("values") or ())))
    return Selector(tuple((item.get("matchLabels") or {}).items()), tuple(requirements))


def _rule(item: Mapping[str, Any] | None, side: str) -> PolicyRule:
    item = item or {}
    return PolicyRule(tuple(map(_peer, item.get(side) or ())), tuple(map(_port, item.get("ports") or ())))


def _peer(item: Mapping[str, Any]) -> Peer:
    block = item.get("ipBlock")
    if block is not None:
        exceptions = tuple(ip_network(one, strict=False) for one in block.get("except") or ())
        return Peer(block=IPBlock(ip_network(block["cidr"], strict=False), exceptions))
    pods, namespaces = item.get("podSelector"), item.get("namespaceSelector")
    if pods is None and namespaces is None:
        raise ValueError("a peer needs podSelector, namespaceSelector or ipBlock")
    return Peer(
        None if pods is None else read_selector(pods), None if namespaces is None else read_selector(namespaces)
    )


def _port(item: Mapping[str, Any]) -> PolicyPort:
    return PolicyPort(item.get("protocol", "TCP"), item.get("port"), item.get("endPort"))

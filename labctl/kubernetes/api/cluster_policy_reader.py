"""Read ClusterNetworkPolicies from their JSON form. Pure. Raises ValueError as `api_reader` does.

A field that would change what a rule means is refused if labctl does not know it: a rule without its ports would open
more than its author wrote.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from labctl.core.names import did_you_mean
from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.api.cluster_policy_objects import (
    ACTIONS,
    MAX_PEERS,
    MAX_PRIORITY,
    MAX_PROTOCOLS,
    MAX_RULE_NAME,
    MAX_RULES,
    TIERS,
    ClusterPolicy,
    ClusterRule,
)
from labctl.kubernetes.api.policy_objects import IPBlock, Peer, PolicyPort
from labctl.kubernetes.api.policy_reader import read_selector
from labctl.kubernetes.api.selectors import EVERYTHING, Selector

PROTOCOLS: dict[str, Protocol] = {"tcp": "TCP", "udp": "UDP", "sctp": "SCTP"}
NOT_SUPPORTED = {
    "nodes": "labctl does not match nodes by their labels; write the addresses of the nodes in `networks`",
    "domainNames": "labctl has no DNS that a policy could follow; write the addresses in `networks`",
}


def read_cluster_policy(item: Mapping[str, Any]) -> ClusterPolicy:
    """A ClusterNetworkPolicy. Raises ValueError, which begins with the field."""
    meta, spec = item["metadata"], item.get("spec") or {}
    _keys(spec, ("tier", "priority", "subject", "ingress", "egress"), "spec")
    tier, priority = spec.get("tier"), spec.get("priority")
    if tier not in TIERS:
        raise ValueError(f"tier: {tier!r} is not {' or '.join(TIERS)}")
    if not isinstance(priority, int) or isinstance(priority, bool) or not 0 <= priority <= MAX_PRIORITY:
        raise ValueError(f"priority: {priority!r} is not a number from 0 to {MAX_PRIORITY}")
    namespaces, pods = _pods(spec.get("subject") or {}, "subject")
    pods = EVERYTHING if pods is None else pods
    rules = {}
    for direction, side in (("ingress", "from"), ("egress", "to")):
        given = spec.get(direction) or ()
        _at_most(given, MAX_RULES, direction, "rules")
        rules[direction] = tuple(_rule(one or {}, side, f"{direction}[{at}]") for at, one in enumerate(given))
    return ClusterPolicy(meta["name"], tier, priority, namespaces, pods, **rules)


def _rule(item: Mapping[str, Any], side: str, at: str) -> ClusterRule:
    if "ports" in item:
        raise ValueError(
            f"{at}.ports: v1alpha2 has `protocols` instead, such as: - tcp: {{destinationPort: {{number: 80}}}}"
        )
    _keys(item, ("name", "action", side, "protocols"), at)
    action, name = item.get("action"), item.get("name") or ""
    if action not in ACTIONS:
        hint = " (v1alpha1's Allow is Accept now)" if action == "Allow" else ""
        raise ValueError(f"{at}.action: {action!r} is not {', '.join(ACTIONS[:-1])} or {ACTIONS[-1]}{hint}")
    if len(name) > MAX_RULE_NAME:
        raise ValueError(f"{at}.name: has {len(name)} characters, more than {MAX_RULE_NAME}")
    given, protocols = item.get(side) or (), item.get("protocols")
    if not given:
        raise ValueError(f"{at}.{side}: needs at least one peer; `namespaces: {{}}` means the pods of all namespaces")
    _at_most(given, MAX_PEERS, f"{at}.{side}", "peers")
    _at_most(protocols or (), MAX_PROTOCOLS, f"{at}.protocols", "items")
    if protocols is not None and not protocols:
        raise ValueError(f"{at}.protocols: an empty list is not allowed; without the key, a rule means all protocols")
    peers = [peer for n, one in enumerate(given) for peer in _peers(one or {}, side, f"{at}.{side}[{n}]")]
    ports = [port for n, one in enumerate(protocols or ()) for port in _ports(one or {}, f"{at}.protocols[{n}]")]
    if any(isinstance(one.port, str) for one in ports) and any(one.block is not None for one in peers):
        raise ValueError(
            f"{at}.protocols: destinationNamedPort needs peers that are pods; `networks` has no named ports"
        )
    return ClusterRule(action, tuple(peers), tuple(ports), name)


def _peers(item: Mapping[str, Any], side: str, at: str) -> list[Peer]:
    """A peer of the API: one of pods, or one for each of its `networks`."""
    known = ("namespaces", "pods", *(("networks", *NOT_SUPPORTED) if side == "to" else ()))
    for key, reason in NOT_SUPPORTED.items():
        if key in item and key in known:
            raise ValueError(f"{at}.{key}: {reason}")
    if "networks" in item and side == "from":
        raise ValueError(f"{at}.networks: only egress rules have networks; ingress rules know peers by their labels")
    _keys(item, known, at)
    if "networks" not in item:
        namespaces, pods = _pods(item, at)
        return [Peer(pods, namespaces)]
    if len(item) != 1 or not item["networks"]:
        raise ValueError(f"{at}: needs exactly one of {', '.join(known[:3])}, and it cannot be an empty list")
    _at_most(item["networks"], MAX_PEERS, f"{at}.networks", "ranges")
    return [Peer(block=IPBlock(ip_network(one, strict=False))) for one in item["networks"]]


def _pods(item: Mapping[str, Any], at: str) -> tuple[Selector, Selector | None]:
    """The selectors of `namespaces` or `pods`: for the namespaces, and for the pods in them (None: `namespaces`)."""
    _keys(item, ("namespaces", "pods", "networks"), at)
    given = [key for key in ("namespaces", "pods") if item.get(key) is not None]
    if len(given) != 1:
        raise ValueError(f"{at}: needs exactly one of namespaces and pods")
    if given == ["namespaces"]:
        return read_selector(item["namespaces"]), None
    pods = item["pods"]
    _keys(pods, ("namespaceSelector", "podSelector"), f"{at}.pods")
    if pods.get("podSelector") is None:
        raise ValueError(f"{at}.pods: needs podSelector; {{}} means all pods")
    return read_selector(pods.get("namespaceSelector") or {}), read_selector(pods["podSelector"])


def _ports(item: Mapping[str, Any], at: str) -> list[PolicyPort]:
    """The ports of an item of `protocols`. A named port means the port of that name, whatever its protocol."""
    _keys(item, (*PROTOCOLS, "destinationNamedPort"), at)
    if len(item) != 1:
        raise ValueError(f"{at}: needs exactly one of {', '.join(PROTOCOLS)} and destinationNamedPort")
    key, value = next(iter(item.items()))
    if key == "destinationNamedPort":
        return [PolicyPort(protocol, str(value)) for protocol in PROTOCOLS.values()]
    port = (value or {}).get("destinationPort")
    _keys(value or {}, ("destinationPort",), f"{at}.{key}")
    if not port:
        raise ValueError(f"{at}.{key}: needs destinationPort; all ports are range: {{start: 1, end: 65535}}")
    _keys(port, ("number", "range"), f"{at}.{key}.destinationPort")
    if len(port) != 1:
        raise ValueError(f"{at}.{key}.destinationPort: needs exactly one of number and range")
    if "number" in port:
        return [PolicyPort(PROTOCOLS[key], _port(port["number"], f"{at}.{key}.destinationPort.number"))]
    ends = [
        _port((port["range"] or {}).get(end), f"{at}.{key}.destinationPort.range.{end}") for end in ("start", "end")
    ]
    if ends[0] >= ends[1]:
        raise ValueError(f"{at}.{key}.destinationPort.range: start {ends[0]} is not less than end {ends[1]}")
    return [PolicyPort(PROTOCOLS[key], *ends)]


def _port(value: Any, at: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= 65535:
        raise ValueError(f"{at}: {value!r} is not a port from 1 to 65535")
    return value


def _at_most(items: Iterable[Any], limit: int, at: str, noun: str) -> None:
    number = len(tuple(items))
    if number > limit:
        raise ValueError(f"{at}: has {number} {noun}, more than {limit}")


def _keys(item: Mapping[str, Any], known: Iterable[str], at: str) -> None:
    """Raises ValueError for a key that is not known."""
    known = tuple(known)
    unknown = next((key for key in item if key not in known), None)
    if unknown is not None:
        hint = did_you_mean(unknown, known) or f"known are {', '.join(known)}"
        raise ValueError(f"{at}: there is no {unknown!r}; {hint}")

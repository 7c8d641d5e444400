"""Policies of the kinds that cyclonus generates: every kind of peers with every kind of ports, for each direction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from labctl.kubernetes.api.policy_objects import (
    ContainerPort,
    Direction,
    IPBlock,
    NetworkPolicy,
    Peer,
    Pod,
    PolicyPort,
    PolicyRule,
)
from labctl.kubernetes.api.selectors import EVERYTHING, Requirement, Selector
from tests.support.policy_cases import NAMES
from tests.support.policy_labs import PolicyLab

A, B = Selector((("pod", "a"),)), Selector((("pod", "b"),))
NOT_X = Selector((), (Requirement("kubernetes.io/metadata.name", "NotIn", ("x",)),))
OTHER_NUMBERS = ("x/b", "y/b", "z/a")  # pods whose port `web` is 81; that of the others is 80
PORTS: list[tuple[PolicyPort, ...]] = [
    (),
    (PolicyPort("TCP"),),
    (PolicyPort("TCP", 80),),
    (PolicyPort("UDP", 80),),
    (PolicyPort("TCP", 79, 80),),
    (PolicyPort("TCP", "web"),),
    (PolicyPort("UDP", "web"),),
    (PolicyPort("TCP", "absent"),),
    (PolicyPort("TCP", 79), PolicyPort("TCP", "web")),
    (PolicyPort("TCP", 80), PolicyPort("UDP", "web"), PolicyPort("TCP", "api")),
    (PolicyPort("TCP", 80), PolicyPort("TCP")),
    (*(PolicyPort("TCP", 100 + 2 * step) for step in range(20)), PolicyPort("TCP", 80)),
]


def peers(lab: PolicyLab) -> list[tuple[Peer, ...]]:
    """Every kind of peer, and pairs of them."""
    kinds = [Peer(pods, namespaces) for pods in (None, EVERYTHING, B) for namespaces in (None, EVERYTHING, NOT_X)][1:]
    one, other = (IPv4Network(lab.pod(name).ips[0]) for name in ("y/b", "z/b"))
    around = one.supernet(new_prefix=4)
    blocks = [
        (IPBlock(around),),
        (IPBlock(one),),
        (IPBlock(around, (one,)),),
        (IPBlock(around, (one, other)),),
        (IPBlock(around, (one,)), IPBlock(one)),
        (IPBlock(around, (one,)), IPBlock(around, (other,))),
        (IPBlock(IPv4Network("0.0.0.0/0"), (other,)),),
    ]
    sets = [(), *((kind,) for kind in kinds), *(tuple(Peer(block=block) for block in group) for group in blocks)]
    return [*sets, (Peer(A), Peer(B, NOT_X)), (Peer(B), Peer(block=IPBlock(around, (other,)))), (Peer(A), Peer(A))]


def policies(lab: PolicyLab, direction: Direction) -> Iterator[NetworkPolicy]:
    """Policies of the pod x/a: one for each kind of peers and ports."""
    for some_peers in peers(lab):
        for ports in PORTS:
            rules = (PolicyRule(some_peers, ports),)
            if direction == "Ingress":
                yield NetworkPolicy("x", "p", A, ("Ingress",), ingress=rules)
            else:
                yield NetworkPolicy("x", "p", A, ("Egress",), egress=rules)


def named_pods(lab: PolicyLab) -> dict[str, Pod]:
    """The pods with named ports: `web` and `api` mean 80 and 81, or the reverse."""
    found = {}
    for one in lab.state.pods:
        web = 81 if str(one) in OTHER_NUMBERS else 80
        ports = (ContainerPort("web", web), ContainerPort("api", 161 - web))
        found[str(one)] = replace(one, labels={"pod": one.name}, ports=ports)
    return found


def named_containers() -> dict[str, str]:
    """The containers of the pods with the same names, for a scenario."""
    return {one: "one:api=80 other:web=81" if one in OTHER_NUMBERS else "one:web=80 other:api=81" for one in NAMES}


def spec(policy: NetworkPolicy) -> Mapping[str, Any]:
    """A policy as its author writes it, with its namespace."""
    found: dict[str, Any] = {"namespace": policy.namespace, "podSelector": _selector(policy.pods)}
    found["policyTypes"] = list(policy.types)
    for key, side, rules in (("ingress", "from", policy.ingress), ("egress", "to", policy.egress)):
        if rules:
            found[key] = [
                {
                    **({side: [_peer(peer) for peer in one.peers]} if one.peers else {}),
                    **({"ports": [_port(port) for port in one.ports]} if one.ports else {}),
                }
                for one in rules
            ]
    return found


def _selector(one: Selector) -> dict[str, Any]:
    expressions = [
        {"key": each.key, "operator": each.operator, **({"values": list(each.values)} if each.values else {})}
        for each in one.requirements
    ]
    labels = {"matchLabels": dict(one.labels)} if one.labels else {}
    return {**labels, **({"matchExpressions": expressions} if expressions else {})}


def _peer(one: Peer) -> dict[str, Any]:
    if one.block is not None:
        exceptions = {"except": [str(net) for net in one.block.exceptions]} if one.block.exceptions else {}
        return {"ipBlock": {"cidr": str(one.block.cidr), **exceptions}}
    sides = (("podSelector", one.pods), ("namespaceSelector", one.namespaces))
    return {key: _selector(selector) for key, selector in sides if selector is not None}


def _port(one: PolicyPort) -> dict[str, Any]:
    port = {} if one.port is None else {"port": one.port}
    return {"protocol": one.protocol, **port, **({} if one.end_port is None else {"endPort": one.end_port})}

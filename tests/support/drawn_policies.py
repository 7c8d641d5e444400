"""NetworkPolicies that Hypothesis draws: peers, ports, directions, selectors and several policies at once.

A strategy that does not depend on what is drawn is made once: Hypothesis validates each new one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv4Network

from hypothesis import strategies as some

from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.api.policy_objects import (
    ContainerPort,
    IPBlock,
    NetworkPolicy,
    Peer,
    Pod,
    PolicyPort,
    PolicyRule,
)
from labctl.kubernetes.api.selectors import EVERYTHING, Requirement, Selector

PROTOCOLS: tuple[Protocol, ...] = ("TCP", "UDP", "SCTP")
NUMBERS = (79, 80, 81, 82, 90)
PORT_NAMES = ("one", "two")
NAME_LABEL = "kubernetes.io/metadata.name"


@cache
def selectors(key: str, values: Sequence[str]) -> some.SearchStrategy[Selector]:
    """Selectors of a label with these values; also of a label that nobody has."""
    keys = some.sampled_from((key, key, "absent"))
    lists = some.lists(some.sampled_from(values), min_size=1, max_size=2, unique=True).map(tuple)
    requirements = some.one_of(
        some.builds(Requirement, keys, some.sampled_from(("In", "NotIn")), lists),
        some.builds(Requirement, keys, some.sampled_from(("Exists", "DoesNotExist"))),
    )
    labels = some.tuples(keys, some.sampled_from(values)).map(lambda one: (one,))
    return some.one_of(
        some.just(EVERYTHING),
        some.builds(Selector, labels),
        some.builds(Selector, some.just(()), some.lists(requirements, min_size=1, max_size=2).map(tuple)),
        some.builds(Selector, labels, requirements.map(lambda one: (one,))),
    )


@some.composite
def blocks(draw: some.DrawFn, ips: Sequence[IPv4Address]) -> IPBlock:
    """Blocks around these addresses, with exceptions inside of them."""
    length = draw(some.sampled_from((0, 4, 8, 16, 24, 29, 32)))
    net = IPv4Network((draw(some.sampled_from(ips)), length), strict=False)
    longer = [one for one in (16, 24, 29, 30, 32) if one > length]
    exceptions = (
        draw(some.lists(some.tuples(some.sampled_from(ips), some.sampled_from(longer)), max_size=2)) if longer else []
    )
    nets = (IPv4Network((ip, size), strict=False) for ip, size in exceptions)
    return IPBlock(net, tuple(one for one in nets if one.subnet_of(net)))


@cache
def peers(ips: tuple[IPv4Address, ...]) -> some.SearchStrategy[Peer]:
    """Peers of all kinds."""
    pods, namespaces = selectors("pod", "abc"), selectors(NAME_LABEL, "xyz")
    return some.one_of(
        some.builds(Peer, pods),
        some.builds(Peer, some.none(), namespaces),
        some.builds(Peer, pods, namespaces),
        some.builds(Peer, some.none(), some.none(), blocks(ips)),
    )


@cache
def ports() -> some.SearchStrategy[PolicyPort]:
    """Items of `ports`: numbers, ranges, names, all ports of a protocol."""
    protocol = some.sampled_from(PROTOCOLS)
    ranges = some.tuples(some.sampled_from(NUMBERS), some.sampled_from(NUMBERS)).map(sorted)
    return some.one_of(
        some.builds(PolicyPort, protocol, some.sampled_from(NUMBERS)),
        some.builds(PolicyPort, protocol, some.sampled_from(PORT_NAMES)),
        some.builds(PolicyPort, protocol),
        some.builds(lambda one, both: PolicyPort(one, both[0], both[1]), protocol, ranges),
        some.integers(1, 40).map(lambda step: PolicyPort("TCP", 100 + 2 * step)),
    )


@cache
def rules(ips: tuple[IPv4Address, ...]) -> some.SearchStrategy[PolicyRule]:
    """Rules; sometimes with more ports than one rule of iptables can have."""
    few = some.lists(ports(), max_size=3)
    many = few.map(lambda some_ports: [*some_ports, *(PolicyPort("TCP", 200 + 2 * step) for step in range(17))])
    return some.builds(
        PolicyRule, some.lists(peers(ips), max_size=3).map(tuple), some.one_of(few, few, many).map(tuple)
    )


@cache
def rule_lists(ips: tuple[IPv4Address, ...]) -> some.SearchStrategy[tuple[PolicyRule, ...]]:
    """None, one or two rules."""
    return some.lists(rules(ips), max_size=2).map(tuple)


@some.composite
def policies(draw: some.DrawFn, ips: Sequence[IPv4Address]) -> tuple[NetworkPolicy, ...]:
    """Up to four policies, mostly of one namespace."""
    found = []
    for number in range(draw(some.integers(1, 4))):
        types = draw(some.sampled_from((("Ingress",), ("Egress",), ("Ingress", "Egress"))))
        listed = rule_lists(tuple(ips))
        found.append(
            NetworkPolicy(
                draw(some.sampled_from("xxxy")),
                f"p{number}",
                draw(selectors("pod", "abc")),
                types,
                draw(listed) if "Ingress" in types else (),
                draw(listed) if "Egress" in types else (),
            )
        )
    return tuple(draw(some.permutations(found)))


@some.composite
def named(draw: some.DrawFn, pods: Sequence[Pod]) -> dict[str, Pod]:
    """The pods with ports of drawn names: the same name may mean another number in each."""
    return {str(pod): replace(pod, ports=tuple(draw(container_ports()))) for pod in pods}


@cache
def container_ports() -> some.SearchStrategy[list[ContainerPort]]:
    """None, one or two ports of a pod, with names."""
    one = some.builds(
        ContainerPort, some.sampled_from(PORT_NAMES), some.sampled_from(NUMBERS), some.sampled_from(PROTOCOLS)
    )
    return some.lists(one, max_size=2)

"""The conformance tests of ClusterNetworkPolicy, as data.

Eight pods: the namespaces g, s, h and r, each with the pods 0 and 1. A namespace and its pods have the label `house`
with the namespace's name, and a pod has the label `pod` with its own name. A case has policies, and pokes: flows with
the answer that a conforming cluster gives. A variant is the same policy after a change that the test makes.

The facts are those of conformance/tests and conformance/base of kubernetes-sigs/network-policy-api 0.2; the names of
the cases are those of its tests. Its tests for one protocol (EgressTCP, IngressUDP, ...) have the same rules and pokes
as its combined ones (Gress), for one protocol and direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.api.cluster_policy_reader import read_cluster_policy
from labctl.kubernetes.api.policy_objects import ContainerPort, Namespace, Pod
from labctl.kubernetes.api.policy_reader import read_policy
from labctl.kubernetes.policies.policy_oracle import PolicyOracle

HOUSES = "gshr"
HOUSE_PODS = tuple(f"{house}/{number}" for house in HOUSES for number in "01")
HOUSE_PORTS: tuple[tuple[int, Protocol], ...] = (
    (80, "TCP"), (8080, "TCP"), (53, "UDP"), (5353, "UDP"), (9003, "SCTP"), (9005, "SCTP"),
)  # fmt: skip
HOUSE_NAMESPACES = {house: Namespace(house, {"house": house}) for house in HOUSES}
Spec = dict[str, Any]


@dataclass(frozen=True)
class Poke:
    """A flow `SOURCE>TARGET` at a port, such as `g/0>r/1`, and whether it connects."""

    flow: str
    port: int
    connects: bool

    @property
    def protocol(self) -> Protocol:
        """The protocol that the pods serve at this port."""
        return dict(HOUSE_PORTS)[self.port]

    def __str__(self) -> str:
        return f"{self.flow} {self.protocol} {self.port} {'connects' if self.connects else 'is denied'}"


@dataclass(frozen=True)
class ClusterCase:
    """Policies and the pokes at them."""

    name: str
    specs: tuple[Spec, ...]
    pokes: tuple[Poke, ...]
    network_policies: tuple[Spec, ...] = ()

    @property
    def oracle(self) -> PolicyOracle:
        """The oracle of its policies."""
        return house_oracle(self.specs, self.network_policies)

    def __str__(self) -> str:
        return self.name


def house_oracle(specs: tuple[Spec, ...], network_policies: tuple[Spec, ...] = ()) -> PolicyOracle:
    """An oracle of ClusterNetworkPolicies and of NetworkPolicies of the namespace g, both given as their specs. A key
    `name` names a policy; without one, it is p1, p2, ..."""
    cluster = [
        read_cluster_policy({"metadata": {"name": spec.get("name", f"p{number}")}, "spec": _without_name(spec)})
        for number, spec in enumerate(specs, 1)
    ]
    policies = [
        read_policy({"metadata": {"name": f"np{number}", "namespace": "g"}, "spec": spec})
        for number, spec in enumerate(network_policies, 1)
    ]
    return PolicyOracle(tuple(policies), HOUSE_NAMESPACES, tuple(cluster))


def house_pod(name: str) -> Pod:
    """One of the eight pods."""
    house, number = name.split("/")
    address = IPv4Address(f"10.244.{HOUSES.index(house)}.{2 + int(number)}")
    ports = tuple(ContainerPort(f"serve-{port}", port, protocol) for port, protocol in HOUSE_PORTS)
    return Pod(house, number, (address,), {"house": house, "pod": f"{house}{number}"}, ports)


def _without_name(spec: Spec) -> Spec:
    return {key: value for key, value in spec.items() if key != "name"}


def houses(house: str) -> Spec:
    """A peer or subject: the pods of a namespace."""
    return {"namespaces": {"matchLabels": {"kubernetes.io/metadata.name": house}}}


def house_pods(labels: dict[str, str], namespace: dict[str, str] | None = None) -> Spec:
    """A peer or subject: pods by their labels."""
    selectors: Spec = {"podSelector": {"matchLabels": labels}}
    return {"pods": {**selectors, **({"namespaceSelector": {"matchLabels": namespace}} if namespace else {})}}


def ports(*numbers: int | tuple[int, int]) -> Spec:
    """`protocols` with these ports or ranges, each with the protocol that the pods serve there."""
    items = []
    for one in numbers:
        first = one[0] if isinstance(one, tuple) else one
        port = {"range": {"start": one[0], "end": one[1]}} if isinstance(one, tuple) else {"number": one}
        items.append({dict(HOUSE_PORTS)[first].lower(): {"destinationPort": port}})
    return {"protocols": items}


def rules(side: str, *given: tuple[str, Spec, Spec]) -> list[Spec]:
    """Rules of an action, a peer and protocols. `side` is `from` or `to`."""
    return [{"action": action, side: [peer], **protocols} for action, peer, protocols in given]


def policy(subject: Spec, tier: str = "Admin", priority: int = 15, **more: Any) -> Spec:
    """The spec of a ClusterNetworkPolicy."""
    return {"tier": tier, "priority": priority, "subject": subject, **more}


def pokes(*texts: str) -> tuple[Poke, ...]:
    """Pokes from texts: `g/0>r/0 80 5353 9003` connects at these ports, `g/0>r/0 !80` does not."""
    found = []
    for text in texts:
        flow, *numbers = text.split()
        found += [Poke(flow, int(one.lstrip("!")), not one.startswith("!")) for one in numbers]
    return tuple(found)


def swapped(spec: Spec, one: int, other: int) -> Spec:
    """The policy with two of its rules exchanged, in both directions."""
    changed = {}
    for direction in ("ingress", "egress"):
        changed[direction] = list(spec[direction])
        changed[direction][one], changed[direction][other] = spec[direction][other], spec[direction][one]
    return {**spec, **changed}


EVERYTHING_ELSE: Spec = {}
LOW = ports(80, 53, 9003)
GRESS = policy(
    houses("g"),
    egress=rules("to", *(
        *((action, houses("r"), EVERYTHING_ELSE) for action in ("Accept", "Deny", "Pass")),
        ("Deny", houses("s"), LOW), ("Pass", houses("s"), LOW),
        ("Accept", houses("h"), ports(8080, 5353, 9003)), ("Deny", houses("h"), EVERYTHING_ELSE),
    )),
    ingress=rules("from", *(
        *((action, houses("r"), EVERYTHING_ELSE) for action in ("Accept", "Deny", "Pass")),
        ("Deny", houses("s"), LOW), ("Pass", houses("s"), LOW),
        ("Accept", houses("h"), ports(80, 5353, 9003)), ("Deny", houses("h"), EVERYTHING_ELSE),
    )),
)  # fmt: skip
BASELINE_GRESS = {
    **{key: value for key, value in GRESS.items() if key not in ("ingress", "egress")}, "tier": "Baseline",
    **{way: [one for one in GRESS[way] if one["action"] != "Pass"] for way in ("ingress", "egress")},
}  # fmt: skip
ALLOWED_GRESS = pokes("g/0>r/0 80 9003", "g/1>r/0 53", "r/0>g/0 80", "r/1>g/0 53 9003")
ALLOWED_AT_PORTS = pokes(
    "g/0>h/1 8080 5353 9003", "g/1>h/1 !80 !53 !9005", "h/0>g/1 80 5353 9003", "h/1>g/1 !8080 !53 !9005"
)
DENIED_GRESS = pokes("g/0>r/1 !80 !9003", "g/1>r/1 !53", "r/0>g/1 !80", "r/1>g/1 !53 !9003")
DENIED_AT_PORTS = pokes(
    "g/0>s/0 !80 !53 !9003", "g/1>s/0 8080 5353 9005", "s/0>g/0 !80 !53 !9003", "s/1>g/0 8080 5353 9005"
)
PASSED_AT_PORTS = pokes("g/0>s/0 80 53 9003", "g/1>s/0 8080 5353 9005", "s/0>g/0 80 53 9003", "s/1>g/0 8080 5353 9005")

DENY_S: Spec = {
    "ingress": rules("from", ("Deny", houses("s"), {})), "egress": rules("to", ("Deny", houses("s"), {})),
}  # fmt: skip
PASS_S: Spec = {"ingress": rules("from", ("Pass", houses("s"), {})), "egress": rules("to", ("Pass", houses("s"), {}))}
ALLOW_S: Spec = {
    "ingress": rules("from", ("Accept", houses("s"), {})),
    "egress": rules("to", ("Accept", houses("s"), {})),
}
NP_S: Spec = {
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [{"from": [{"namespaceSelector": {"matchLabels": {"house": "s"}}}]}],
    "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"house": "s"}}}]}],
}
BASELINE_S = policy(houses("g"), "Baseline", 10, name="default", **DENY_S)
INTO_G, OUT_OF_G = ("s/0>g/0 80", "s/1>g/0 8080"), ("g/0>s/0 80", "g/1>s/0 8080")
DENIED_S = pokes("s/0>g/0 !80", "s/1>g/0 !8080", "g/0>s/0 !80", "g/1>s/0 !8080")

OF_G = house_pods({"house": "g"}, {"house": "g"})
PRIORITY_50 = policy(OF_G, priority=50, name="priority-50", **DENY_S)
BASELINE_ALLOW = policy(OF_G, "Baseline", 10, name="default", **ALLOW_S)

H0 = house_pods({"pod": "h0"}, {"house": "h"})


def by_labels(tier: str) -> tuple[Spec, ...]:
    """The policies that select pods by their labels alone, and one pod."""
    first = policy(
        house_pods({"house": "g"}), tier, 20,
        egress=rules("to", ("Deny", house_pods({"house": "r"}), {}), ("Deny", H0, {})),
        ingress=rules("from", ("Deny", house_pods({"house": "s"}), {}), ("Deny", H0, {})),
    )  # fmt: skip
    one_pod = house_pods({"pod": "r0"}, {"house": "r"})
    return first, policy(one_pod, tier, 21, egress=rules("to", ("Deny", houses("s"), {})))


def port_ranges(tier: str) -> Spec:
    """The policy that allows a range of ports for each namespace, and denies the rest of all houses."""
    every_house: Spec = {"namespaces": {"matchExpressions": [{"key": "house", "operator": "Exists"}]}}
    ranges = (("r", (80, 8080)), ("h", (53, 5353)), ("s", (9003, 9005)))
    given = [*(("Accept", houses(house), ports(one)) for house, one in ranges), ("Deny", every_house, {})]
    return policy(houses("g"), tier, 9, ingress=rules("from", *given), egress=rules("to", *given))


def same_priority(tier: str) -> tuple[Spec, ...]:
    """Three policies with one priority, which are all applied."""
    return tuple(
        policy(houses(subject), tier, 15, ingress=rules("from", ("Deny", houses(peer), ports(port))),
               egress=rules("to", ("Deny", houses(peer), ports(port))))
        for subject, peer, port in (("g", "s", 80), ("g", "h", 80), ("h", "s", 8080))
    )  # fmt: skip


def cidrs(tier: str, *more: str) -> Spec:
    """The policy that denies all addresses, except those of the namespace s and `more`."""
    first = [("Accept", {"networks": list(more)}, {})] if more else []
    given = [*first, ("Accept", house_pods({"house": "s"}, {"house": "s"}), {}),
             ("Deny", {"networks": ["0.0.0.0/0", "::/0"]}, {})]  # fmt: skip
    return policy(OF_G, tier, 85, egress=rules("to", *given))


LABEL_POKES = pokes(
    "g/0>r/0 !80", "g/0>h/0 !80", "g/0>h/1 80", "s/0>g/0 !80", "h/0>g/0 !80", "h/1>g/0 80", "s/0>h/0 80",
    "r/0>s/0 !80", "r/1>s/0 80",
)  # fmt: skip
RANGE_POKES = pokes(
    "g/0>r/0 80 8080 !53", "g/0>h/0 53 5353 !80", "g/0>s/0 9003 9005 !80",
    "r/0>g/0 80 8080 !53", "h/0>g/0 53 5353 !80", "s/0>g/0 9003 9005 !80",
)  # fmt: skip
SAME_POKES = pokes(
    "s/0>g/0 !80 8080", "g/0>s/0 !80 8080", "h/0>g/0 !80", "g/1>h/0 !80", "s/1>h/0 !8080 80", "h/1>s/0 !8080",
    "h/0>s/0 80", "r/0>g/0 80", "g/1>r/0 80",
)  # fmt: skip
CIDR_POKES = pokes("g/1>r/0 !80 !53 !9003", "g/1>h/0 !80 !53 !9003", "g/1>s/0 80 53 9003")
ALLOWED_CIDR_POKES = pokes("g/1>r/0 80 53 9003", "g/1>h/0 80 53 9003", "g/1>r/1 !80 !53 !9003", "g/1>h/1 !80 !53 !9003")
TWO_PODS = ("10.244.3.2/32", "10.244.2.2/32")  # r/0 and h/0


def of_both_tiers() -> list[ClusterCase]:
    """The cases that both tiers have, with the same pokes."""
    found = []
    for tier in ("Admin", "Baseline"):
        into, out = ({way: DENY_S[way]} for way in ("ingress", "egress"))
        found += [
            ClusterCase(f"{tier}: pod selectors", by_labels(tier), LABEL_POKES),
            ClusterCase(f"{tier}: port ranges", (port_ranges(tier),), RANGE_POKES),
            ClusterCase(f"{tier}: same priority", same_priority(tier), SAME_POKES),
            ClusterCase(f"{tier}: networks", (cidrs(tier),), CIDR_POKES),
            ClusterCase(f"{tier}: networks of two pods", (cidrs(tier, *TWO_PODS),), ALLOWED_CIDR_POKES),
            ClusterCase(f"{tier}: ingress rules do not touch egress", (policy(houses("g"), tier, 20, **into),),
                        pokes("s/0>g/0 !80", "g/0>r/0 80", "g/0>h/0 80", "g/0>s/0 80")),
            ClusterCase(f"{tier}: egress rules do not touch ingress", (policy(houses("g"), tier, 20, **out),),
                        pokes("g/0>s/0 !80", "r/0>g/0 80", "h/0>g/0 80", "s/0>g/0 80")),
        ]  # fmt: skip
    return found


CLUSTER_CASES = (
    ClusterCase("Admin: allow-gress", (GRESS,), ALLOWED_GRESS),
    ClusterCase("Admin: allow-gress at ports", (GRESS,), ALLOWED_AT_PORTS),
    ClusterCase("Admin: deny-gress", (swapped(GRESS, 0, 1),), DENIED_GRESS),
    ClusterCase("Admin: deny-gress at ports", (swapped(GRESS, 0, 1),), DENIED_AT_PORTS),
    ClusterCase("Admin: pass-gress", (swapped(GRESS, 0, 2),),
                pokes("g/0>r/0 80 5353 9003", "r/0>g/0 80", "r/1>g/0 53 9003")),
    ClusterCase("Admin: pass-gress at ports", (swapped(GRESS, 3, 4),), PASSED_AT_PORTS),
    ClusterCase("Baseline: allow-gress", (BASELINE_GRESS,), ALLOWED_GRESS),
    ClusterCase("Baseline: allow-gress at ports", (BASELINE_GRESS,), ALLOWED_AT_PORTS),
    ClusterCase("Baseline: deny-gress", (swapped(BASELINE_GRESS, 0, 1),), DENIED_GRESS),
    ClusterCase("Baseline: deny-gress at ports", (swapped(BASELINE_GRESS, 0, 1),), DENIED_AT_PORTS),
    ClusterCase("Integration: Deny of the Admin tier", (policy(houses("g"), priority=10, **DENY_S), BASELINE_S),
                DENIED_S, (NP_S,)),
    ClusterCase("Integration: pass-ingress to a NetworkPolicy",
                (policy(houses("g"), priority=10, **PASS_S), BASELINE_S), pokes(*INTO_G), (NP_S,)),
    ClusterCase("Integration: pass-egress to a NetworkPolicy",
                (policy(houses("g"), priority=10, **PASS_S), BASELINE_S), pokes(*OUT_OF_G), (NP_S,)),
    ClusterCase("Integration: pass to the Baseline tier",
                (policy(houses("g"), priority=10, **PASS_S), BASELINE_S), DENIED_S),
    ClusterCase("Priority: 50 before 60",
                (PRIORITY_50, policy(OF_G, priority=60, name="other", **PASS_S), BASELINE_ALLOW), DENIED_S),
    ClusterCase("Priority: 40 before 50",
                (PRIORITY_50, policy(OF_G, priority=40, name="other", **PASS_S), BASELINE_ALLOW),
                pokes(*INTO_G, *OUT_OF_G)),
    *of_both_tiers(),
)  # fmt: skip

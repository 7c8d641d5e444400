"""The truth tables of Kubernetes' own end-to-end tests of NetworkPolicy, as data.

Nine pods: the namespaces x, y, z, each with the pods a, b, c, which have the label `pod` and serve 80 and 81 by TCP,
UDP and SCTP. The policies are in x if they do not name another namespace. `denied` lists the flows that must not pass,
as `SOURCE>TARGET` with `x/a`, `x/*`, `*`; all others pass. The names are those of the tests in
kubernetes test/e2e/network/netpol/network_policy.go (1.36), in a few words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any

from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.api.policy_objects import ContainerPort, Namespace, Pod
from labctl.kubernetes.api.policy_reader import read_policy
from labctl.kubernetes.policies.policy_oracle import PolicyOracle

NAMES = tuple(f"{namespace}/{pod}" for namespace in "xyz" for pod in "abc")
PORTS: tuple[tuple[int, Protocol], ...] = tuple((port, proto) for port in (80, 81) for proto in ("TCP", "UDP", "SCTP"))
ADDRESSES = {name: IPv4Address(f"10.244.{'xyz'.index(name[0])}.{2 + 'abc'.index(name[2])}") for name in NAMES}
Spec = dict[str, Any]


@dataclass(frozen=True)
class PolicyCase:
    """Policies, and the flows that they deny at one port. `labels` are further labels of pods and namespaces."""

    name: str
    specs: tuple[Spec, ...]
    denied: tuple[str, ...]
    port: int = 80
    protocol: Protocol = "TCP"
    labels: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.name}, {self.protocol} {self.port}"

    @property
    def oracle(self) -> PolicyOracle:
        """The oracle of its policies."""
        policies = [
            read_policy({"metadata": {"name": f"p{number}", "namespace": spec.get("namespace", "x")}, "spec": spec})
            for number, spec in enumerate(self.specs, 1)
        ]
        namespaces = {name: Namespace(name, dict(self.labels.get(name, {}))) for name in "xyz"}
        return PolicyOracle(tuple(policies), namespaces)

    def pod(self, name: str) -> Pod:
        """One of the nine pods."""
        namespace, pod = name.split("/")
        ports = tuple(ContainerPort(f"serve-{port}-{proto.lower()}", port, proto) for port, proto in PORTS)
        return Pod(namespace, pod, (ADDRESSES[name],), {"pod": pod, **self.labels.get(name, {})}, ports)

    @property
    def denied_flows(self) -> set[tuple[str, str]]:
        """The flows that must not pass."""
        found = {flow for text in self.denied if text[0] != "-" for flow in flows(text)}
        return found - {flow for text in self.denied if text[0] == "-" for flow in flows(text[1:])}


def flows(text: str) -> set[tuple[str, str]]:
    """The flows of `SOURCE>TARGET`; none from a pod to itself."""
    source, target = text.split(">")
    return {(one, other) for one in _pods(source) for other in _pods(target) if one != other}


def _pods(text: str) -> tuple[str, ...]:
    if text == "*":
        return NAMES
    return tuple(name for name in NAMES if name == text or (text.endswith("/*") and name[0] == text[0]))


def pod(name: str) -> Spec:
    return {"podSelector": {"matchLabels": {"pod": name}}}


def ns(name: str) -> Spec:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def expression(kind: str, key: str, operator: str, *values: str) -> Spec:
    return {f"{kind}Selector": {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}}


def ingress(target: str = "", *peers: Spec, ports: list[Spec] | None = None, **more: Any) -> Spec:
    rule = {**({"from": list(peers)} if peers else {}), **({"ports": ports} if ports else {})}
    selector = pod(target)["podSelector"] if target else {}
    return {"podSelector": selector, "policyTypes": ["Ingress"], "ingress": [rule], **more}


def egress(source: str = "", *peers: Spec, ports: list[Spec] | None = None, **more: Any) -> Spec:
    rule = {**({"to": list(peers)} if peers else {}), **({"ports": ports} if ports else {})}
    selector = pod(source)["podSelector"] if source else {}
    return {"podSelector": selector, "policyTypes": ["Egress"], "egress": [rule], **more}


def tcp(port: int | str) -> list[Spec]:
    return [{"protocol": "TCP", "port": port}]


def block(cidr: str, *exceptions: str) -> Spec:
    return {"ipBlock": {"cidr": cidr, **({"except": list(exceptions)} if exceptions else {})}}


NAME = "kubernetes.io/metadata.name"
DENY_INGRESS: Spec = {"podSelector": {}, "policyTypes": ["Ingress"]}
DENY_EGRESS: Spec = {"podSelector": {}, "policyTypes": ["Egress"]}
DENY_ALL: Spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
ON_81 = ingress("a", ns("y"), ports=tcp(81))
WITHIN = {"x/a": str(ADDRESSES["x/a"]), "x/b": f"{ADDRESSES['x/b']}/32", "y/b": f"{ADDRESSES['y/b']}/32"}
BUT_B = egress("a", block(f"{WITHIN['x/a']}/4", WITHIN["x/b"]))

CASES = (
    PolicyCase("deny ingress", (DENY_INGRESS,), ("*>x/*",)),
    PolicyCase("deny all", (DENY_ALL,), ("*>x/*", "x/*>*")),
    PolicyCase("from pods of the server's namespace by PodSelector", (ingress("a", pod("b")),), ("*>x/a", "-x/b>x/a")),
    PolicyCase("ingress for a target", (DENY_INGRESS, ingress("a", {"podSelector": {}, "namespaceSelector": {}})),
               ("*>x/b", "*>x/c")),
    PolicyCase("from pods in all namespaces", (ingress("a", {"namespaceSelector": {}}),), ()),
    PolicyCase("only from another namespace", (ingress("a", ns("y")),), ("x/*>x/a", "z/*>x/a")),
    PolicyCase("PodSelector with MatchExpressions", (ingress("a", expression("pod", "pod", "In", "b")),),
               ("*>x/a", "-x/b>x/a")),
    PolicyCase("NamespaceSelector with MatchExpressions", (ingress("a", expression("namespace", NAME, "In", "y")),),
               ("x/*>x/a", "z/*>x/a")),
    PolicyCase("PodSelector or NamespaceSelector",
               (ingress("a", expression("namespace", NAME, "NotIn", "x"), pod("b")),), ("x/c>x/a",)),
    PolicyCase("PodSelector and NamespaceSelector",
               (ingress("a", {**expression("namespace", NAME, "NotIn", "x"), **pod("b")}),),
               ("*>x/a", "-y/b>x/a", "-z/b>x/a")),
    PolicyCase("several values of both selectors",
               (ingress("a", {**expression("namespace", NAME, "NotIn", "x"),
                              **expression("pod", "pod", "In", "b", "c")}),),
               ("x/*>x/a", "y/a>x/a", "z/a>x/a")),
    PolicyCase("any of two PodSelectors", (ingress("a", pod("b"), pod("c")),), ("*>x/a", "-x/b>x/a", "-x/c>x/a")),
    PolicyCase("only from a pod in another namespace", (ingress("a", {**ns("y"), **pod("a")}),),
               ("*>x/a", "-y/a>x/a")),
    PolicyCase("ports", (ON_81,), ("x/*>x/a", "z/*>x/a"), 81),
    PolicyCase("ports", (ON_81,), ("*>x/a",), 80),
    PolicyCase("stacked policies", (ON_81, ingress("a", ns("y"), ports=tcp(80))), ("x/*>x/a", "z/*>x/a"), 80),
    PolicyCase("stacked policies", (ON_81, ingress("a", ns("y"), ports=tcp(80))), ("x/*>x/a", "z/*>x/a"), 81),
    PolicyCase("allow all", (ingress(),), (), 80),
    PolicyCase("allow all", (ingress(),), (), 81),
    PolicyCase("one named port", (ingress(ports=tcp("serve-81-tcp")),), ("*>x/*",), 80),
    PolicyCase("one named port", (ingress(ports=tcp("serve-81-tcp")),), (), 81),
    PolicyCase("one named port from a namespace", (ingress("a", ns("y"), ports=tcp("serve-80-tcp")),),
               ("x/*>x/a", "z/*>x/a"), 80),
    PolicyCase("one named port from a namespace", (ingress("a", ns("y"), ports=tcp("serve-80-tcp")),), ("*>x/a",), 81),
    PolicyCase("egress to a named port", (egress(ports=tcp("serve-80-tcp")),), (), 80),
    PolicyCase("egress to a named port", (egress(ports=tcp("serve-80-tcp")),), ("x/*>*",), 81),
    PolicyCase("a label of another protocol's port", (ingress(ports=tcp("serve-81-udp")),), ("*>x/*",), 81),
    PolicyCase("a namespace without the label",
               (ingress("a", {"namespaceSelector": {"matchLabels": {"ns2": "updated"}}}),), ("*>x/a",)),
    PolicyCase("a namespace with the new label",
               (ingress("a", {"namespaceSelector": {"matchLabels": {"ns2": "updated"}}}),), ("*>x/a", "-y/*>x/a"),
               labels={"y": {"ns2": "updated"}}),
    PolicyCase("a pod with the new label", (ingress("a", {"podSelector": {"matchLabels": {"pod2": "updated"}}}),),
               ("*>x/a", "-x/b>x/a"), labels={"x/b": {"pod2": "updated"}}),
    PolicyCase("no pods of other namespaces", (ingress("", {"podSelector": {}}),), ("y/*>x/*", "z/*>x/*")),
    PolicyCase("a pod before its label", ({**DENY_INGRESS, "podSelector": {"matchLabels": {"target": "isolated"}}},),
               ()),
    PolicyCase("a pod after its label", ({**DENY_INGRESS, "podSelector": {"matchLabels": {"target": "isolated"}}},),
               ("*>x/a",), labels={"x/a": {"target": "isolated"}}),
    PolicyCase("no egress of one pod", ({**pod("a"), "policyTypes": ["Egress"]},), ("x/a>*",)),
    PolicyCase("no egress of a namespace", (DENY_EGRESS,), ("x/*>*",)),
    PolicyCase("ingress and egress in one object",
               ({**ingress("a", pod("b")), "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": tcp(80)}]},),
               ("*>x/a", "-x/b>x/a"), 80),
    PolicyCase("ingress and egress in one object",
               ({**ingress("a", pod("b")), "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": tcp(80)}]},),
               ("*>x/a", "-x/b>x/a", "x/a>*"), 81),
    PolicyCase("the client's side denies, although the server allows",
               (egress("a", {**ns("y"), **pod("a")}), ingress("a", {**ns("x"), **pod("a")}, namespace="y"),
                ingress("b", {**ns("x"), **pod("a")}, namespace="y")),
               ("x/a>*", "-x/a>y/a", "*>y/a", "*>y/b", "-x/a>y/a")),
    PolicyCase("egress to a server in another namespace", (egress("a", {**ns("y"), **pod("a")}),),
               ("x/a>*", "-x/a>y/a")),
    PolicyCase("any port of a protocol", (ingress("a", ports=[{"protocol": "TCP"}]),), ("*>x/a",), 80, "UDP"),
    PolicyCase("any port of a protocol", (ingress("a", ports=[{"protocol": "TCP"}]),), (), 81),
    PolicyCase("allow all counts more than a port", (ingress(ports=tcp(80)),), ("*>x/*",), 81),
    PolicyCase("allow all counts more than a port", (ingress(ports=tcp(80)), ingress()), (), 81),
    PolicyCase("egress: allow all counts more than a port", (egress(ports=tcp(80)),), ("x/*>*",), 81),
    PolicyCase("egress: allow all counts more than a port", (egress(ports=tcp(80)), egress()), (), 81),
    PolicyCase("egress to a CIDR", (egress("a", block(WITHIN["y/b"])),), ("x/a>*", "-x/a>y/b")),
    PolicyCase("an exception in a CIDR", (BUT_B,), ("x/a>x/b",)),
    PolicyCase("an address in a CIDR and in the exception of another", (BUT_B, egress("a", block(WITHIN["x/b"]))), ()),
    PolicyCase("only the exception", (egress("a", block(WITHIN["x/b"])),), ("x/a>*", "-x/a>x/b")),
    PolicyCase("egress open, ingress not said", (egress("a"),), ()),
    PolicyCase("egress open, ingress closed", (egress("a"), {**pod("a"), "policyTypes": ["Ingress"]}), ("*>x/a",)),
    PolicyCase("SCTP is not TCP",
               (DENY_INGRESS, ingress("a", ports=[{"protocol": "SCTP", "port": 81}])), ("*>x/*",), 81),
    PolicyCase("a rule for SCTP isolates", (ingress("a", ports=[{"protocol": "SCTP", "port": 80}]),), ("*>x/a",), 81),
    PolicyCase("UDP is not TCP", (ingress("a", ports=[{"protocol": "UDP", "port": 81}]),), ("*>x/a",), 81),
    PolicyCase("the namespaces' own label", (ingress("a", ns("y")),), ("x/*>x/a", "z/*>x/a")),
    PolicyCase("the namespaces' own label with MatchExpressions",
               (egress("a", expression("namespace", NAME, "NotIn", "y")),), ("x/a>y/*",)),
    PolicyCase("UDP: deny ingress", (DENY_INGRESS,), ("*>x/*",), 80, "UDP"),
    PolicyCase("UDP: ports", (ingress("a", ns("y"), ports=[{"protocol": "UDP", "port": 81}]),),
               ("x/*>x/a", "z/*>x/a"), 81, "UDP"),
    PolicyCase("UDP: a pod in another namespace",
               (ingress("a", {**ns("y"), **pod("a")}),), ("*>x/a", "-y/a>x/a"), 80, "UDP"),
    PolicyCase("SCTP: deny ingress", (DENY_INGRESS,), ("*>x/*",), 80, "SCTP"),
    PolicyCase("a range of ports", (ingress("a", ports=[{"protocol": "TCP", "port": 79, "endPort": 80}]),), (), 80),
    PolicyCase("a range of ports",
               (ingress("a", ports=[{"protocol": "TCP", "port": 79, "endPort": 80}]),), ("*>x/a",), 81),
)  # fmt: skip

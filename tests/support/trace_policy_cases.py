"""Cases of traces in labs with NetworkPolicies: the policy is the cause, and not the rule that enforces it."""

from __future__ import annotations

from tests.support.trace_case import Case, case

_TEXT = """
name: NAME
model: MODEL
nodes:
  node1:
    pods:
      a: {namespace: x, labels: {app: web}, containers: ['web:http=80']}
      b: {namespace: x}
      c: {namespace: y}
  node2: {pods: {d: {namespace: y}, e: {namespace: z}}}
policies:
  x/deny-all: {podSelector: {}, policyTypes: [Ingress, Egress]}
  x/allow-web:
    podSelector: {matchLabels: {app: web}}
    ingress:
      - from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}]
        ports: [{port: http}]
services:
  x/web: {selector: {app: web}, ports: [{port: 8080, targetPort: http}]}
"""
LABS = {
    "fences": _TEXT.replace("NAME", "fences").replace("MODEL", "calico"),
    "fences-bridged": _TEXT.replace("NAME", "fences-bridged").replace("MODEL", "kubenet"),
}
INGRESS = "NetworkPolicies x/deny-all and x/allow-web (ingress) deny it: no rule of them allows TCP 80 from e"
EGRESS = "NetworkPolicy x/deny-all (egress) denies it: no rule allows"

CASES: tuple[Case, ...] = (
    case("policy-ingress", "fences", "", "e a --tcp 80", "rule", INGRESS, "filter/cali-tw-"),
    case("policy-egress", "fences", "", "b c --udp 53", "rule", f"{EGRESS} UDP 53 to c", "filter/cali-fw-"),
    case("policy-ping", "fences", "", "b a", "rule", f"{EGRESS} ICMP to a", "filter/cali-fw-"),
    case("policy-service", "fences", "", "e web.x --tcp 8080", "rule", INGRESS, "cluster IP of Service x/web"),
    case(
        "policy-reject", "fences-bridged", "", "e a --tcp 80", "rule", INGRESS, "KUBE-POD-FW-", verdict="refused"
    ),
    case(
        "policy-reject-bridged",
        "fences-bridged",
        "",
        "b a --tcp 80",
        "rule",
        INGRESS.replace("from e", "from b"),
        "bridge-nf-call-iptables = 1",
        verdict="refused",
    ),
    case(
        "policy-allows",
        "fences",
        "node1: iptables-legacy -I FORWARD -p tcp --dport 80 -j DROP",
        "d a --tcp 80",
        "rule",
        "a rule of FORWARD in node1 dropped the request",
        "filter/FORWARD rule 1",
    ),
)  # fmt: skip

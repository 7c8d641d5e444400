"""The policies that deny a probe: what the cluster of the lab says about each form that the packet had. Pure.

A packet changes on its way: a Service's address becomes that of a pod, a masquerade hides its source. A policy engine
sees one of these forms, and so a denial is kept with its addresses and port.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address

from labctl.core.resources import IP
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.calico_policies import policy_chain_name
from labctl.kubernetes.policies.calico_tiers import of_cluster_policy
from labctl.kubernetes.policies.policy_explanation import explain
from labctl.kubernetes.policies.policy_oracle import Decision, Endpoint, PolicyOracle, Traffic
from labctl.models.lib import calico_nftables
from labctl.models.lib.kube_router_node import PodFirewall
from labctl.tracing.evidence import PolicyDenial, TraceEvidence
from labctl.tracing.hop_routing import nat_endpoint

Form = tuple[IP, IP, int | None]  # source, destination, destination port
TRAFFIC: dict[str, Traffic] = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP"}


def with_policy_denials(evidence: TraceEvidence, state: ClusterState) -> TraceEvidence:
    """The evidence of a lost probe with what the policies of the cluster say about each form that it had."""
    if evidence.answer == "reply" or not (state.policies or state.cluster_policies):
        return evidence
    oracle = PolicyOracle.of(state)
    pods = {ip: pod for pod in state.pods if not pod.host_network for ip in pod.ips}
    found = [one for form in dict.fromkeys(_forms(evidence)) for one in _denials(oracle, pods, evidence, form)]
    return evidence.with_details(policy_denials=tuple(found))


def _forms(evidence: TraceEvidence) -> Iterator[Form]:
    """Every form in which the request was seen, outside of tunnels: by a tap, by a rule, or after a translation."""
    for item in evidence.observations:
        if item.role == "request" and item.encap == "none":
            yield item.src, item.dst, item.dport
            yield (item.src, *nat_endpoint(evidence, item))
    for hit in evidence.rule_hits:
        if hit.role == "request" and hit.neighbour is None:
            yield hit.src, hit.dst, hit.dport


def _denials(oracle: PolicyOracle, pods: dict[IP, Pod], evidence: TraceEvidence, form: Form) -> Iterator[PolicyDenial]:
    src, dst, port = form
    source: Endpoint = pods.get(src, src)
    target: Endpoint = pods.get(dst, dst)
    # a packet that was seen has left its pod, also if it goes to the pod itself
    found = explain(oracle, source, target, TRAFFIC[evidence.question.protocol], port or 0, hairpin=True)
    for one in found.directions:
        pod = source if one.decision.direction == "Egress" else target
        if not one.decision.allowed and isinstance(pod, Pod):
            chains = tuple(_chains(oracle, evidence, pod, one.decision))
            yield PolicyDenial(pod.node, src, dst, port, one.decision.direction, pod.machine, chains, one.reason)


def _chains(oracle: PolicyOracle, evidence: TraceEvidence, pod: Pod, decision: Decision) -> Iterator[str]:
    """The chains that enforce a denial: of kube-router, that of the pod; of Calico, that of the node's device to the
    pod, or that of the ClusterNetworkPolicy that denies, with its name in iptables and in nftables."""
    yield from (PodFirewall(pod.name, ip, pod.namespace).chain for ip in pod.ips[:1] if isinstance(ip, IPv4Address))
    if decision.tier != "NetworkPolicy":
        policy = next(one for one in oracle.cluster_policies if one.name == decision.policy)
        calico_policy = of_cluster_policy(policy)
        yield policy_chain_name(calico_policy, decision.direction)
        long = policy_chain_name(calico_policy, decision.direction, calico_nftables.MAX_CHAIN_NAME)
        yield calico_nftables.chain_name(long)
        return
    prefix = "cali-fw-" if decision.direction == "Egress" else "cali-tw-"
    for link in evidence.namespace(pod.node).links:
        if link.peer is not None and link.peer.ns == pod.machine:
            name = f"{prefix}{link.at.dev}"
            yield from (name, calico_nftables.chain_name(name))

"""Labs with the nine pods of Kubernetes' tests of NetworkPolicy, on any model, and what their plans do with packets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, lru_cache
from ipaddress import IPv4Address
from typing import Any

from labctl import models
from labctl.core.resources import IP, Interface, Link
from labctl.core.scenario_types import Lab, Scenario
from labctl.kubernetes.api.cluster_policy_objects import ClusterPolicy
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.policy_objects import NetworkPolicy, Pod
from labctl.kubernetes.composition import cluster_state, merge
from labctl.kubernetes.policies.policy_engine import policy_chains, without_replaced
from labctl.scenario.document import Reader
from labctl.scenario.parser import parse_scenario
from tests.support.iptables_walk import NodeFilter, WalkedPacket
from tests.support.nft_walk import NftTables
from tests.support.policy_cases import ADDRESSES, NAMES, PolicyCase

# pods of each namespace on one node and on several, and each pair of namespaces on one node
NODES = {"node1": ("x/a", "x/b", "y/a", "z/b"), "node2": ("x/c", "y/b", "z/a"), "node3": ("y/c", "z/c")}
PORTS = "s80:serve-80-tcp=80,serve-80-udp=80/udp s81:serve-81-tcp=81,serve-81-udp=81/udp"


def machine(name: str) -> str:
    """The name in the lab of a pod such as `x/a`."""
    return name.replace("/", "-")


def scenario_text(
    model: str,
    labels: Mapping[str, Mapping[str, str]] | None = None,
    ports: Mapping[str, str] | None = None,
) -> str:
    """A scenario with the nine pods. `labels` are further labels of pods, `ports` their containers."""
    lines = [f"name: policies-{model}", f"model: {model}", "nodes:"]
    for node, pods in NODES.items():
        lines.append(f"  {node}:\n    pods:")
        for name in pods:
            own = {"pod": name[2:], **(labels or {}).get(name, {})}
            text = ", ".join(f"{key}: {value}" for key, value in own.items())
            containers = ", ".join(f"'{one}'" for one in (ports or {}).get(name, PORTS).split())
            lines.append(
                f"      {machine(name)}: {{namespace: {name[0]}, labels: {{{text}}}, containers: [{containers}]}}"
            )
    return "\n".join(lines) + "\n"


@cache
def bare_lab(model: str) -> tuple[Lab, Scenario]:
    """The lab of a model with the nine pods, and its scenario."""
    found = parse_scenario(scenario_text(model), "policies.yaml", Reader())
    scenario = found.scenario
    assert scenario is not None, model
    return models.compile_lab(scenario), scenario


@dataclass(frozen=True)
class PolicyLab:
    """A lab with policies: what is built, and the pods with the addresses that they have in it."""

    lab: Lab
    state: ClusterState

    def pod(self, name: str) -> Pod:
        found = self._pods.get(name)
        if found is None:
            found = self.state.pod(name)
            assert found is not None, name
            self._pods[name] = found
        return found

    @cached_property
    def _pods(self) -> dict[str, Pod]:
        return {}

    def passes(self, source: str, target: str, protocol: str, port: int) -> bool:
        """Whether the filter tables of the nodes on the way, and their tables of nft, let the first packet of a
        connection pass."""
        one, other = self.pod(source), self.pod(target)
        return all(
            node.verdict("FORWARD", packet) == "ACCEPT" and tables.verdict("forward", packet)[0] == "accept"
            for (node, tables), packet in self._visits(one, other, protocol, port)
        )

    def _visits(
        self, one: Pod, other: Pod, protocol: str, port: int
    ) -> Iterable[tuple[tuple[NodeFilter, NftTables], WalkedPacket]]:
        (iif, bridged), (oif, _) = self._device(one), self._device(other)
        way = (one.ips[0], other.ips[0], protocol, port)
        if one.node == other.node:
            return [(self._filter(one.node), walked_packet(*way, iif, oif, bridged))]
        return [
            (self._filter(one.node), walked_packet(*way, iif, "eth0", False)),
            (self._filter(other.node), walked_packet(*way, "eth0", oif, False)),
        ]

    def _filter(self, node: str) -> tuple[NodeFilter, NftTables]:
        """The filter table and the tables of nft of a node, read once."""
        found = self._filters.get(node)
        if found is None:
            found = self._filters[node] = (NodeFilter.of(self.lab.plan, node), NftTables.of(self.lab.plan, node))
        return found

    @cached_property
    def _filters(self) -> dict[str, tuple[NodeFilter, NftTables]]:
        return {}

    def _device(self, pod: Pod) -> tuple[str, bool]:
        """The device by which a packet of the pod enters its node: a bridge, or the pod's own."""
        link = self._outer_ends[Interface(pod.machine, "eth0")]
        return (link.master, True) if link.master is not None else (link.at.dev, False)

    @cached_property
    def _outer_ends(self) -> dict[Interface, Link]:
        """The links whose peers are inside of pods, by these."""
        return {item.peer: item for item in self.lab.plan if isinstance(item, Link) and item.peer is not None}


@cache
def address(text: str) -> IPv4Address:
    return IPv4Address(text)


@lru_cache(maxsize=4096)
def walked_packet(source: IP, target: IP, protocol: str, port: int, iif: str, oif: str, bridged: bool) -> WalkedPacket:
    """A packet: the same one in each lab, so that it is read once."""
    return WalkedPacket(address(source), address(target), protocol.lower(), port, iif, oif, bridged)


def policy_lab(
    model: str,
    policies: Iterable[NetworkPolicy],
    labels: Mapping[str, Mapping[str, str]] | None = None,
    engine: Any = None,
    pods: Mapping[str, Pod] | None = None,
    cluster_policies: Iterable[ClusterPolicy] = (),
) -> PolicyLab:
    """The lab of a model with policies. `pods` are other pods of these names, with the addresses of the lab's."""
    lab, scenario = bare_lab(model)
    names = tuple((machine(name), name[2:]) for name in NAMES)
    case = PolicyCase("", (), (), labels=labels or {})
    declared = Declared(
        tuple(case.oracle.namespaces.values()),
        policies=tuple(policies),
        pod_names=names,
        policy_engine=engine,
        cluster_policies=tuple(cluster_policies),
    )
    state = cluster_state(lab, replace(scenario, kubernetes=declared), declared, models_defaults(model))
    state = replace(state, pods=tuple(_as_in(case, one, (pods or {}).get(str(one))) for one in state.pods))
    return PolicyLab(with_policy_chains(lab, state), state)


def with_policy_chains(lab: Lab, state: ClusterState) -> Lab:
    """The lab with what its policy engine writes."""
    plan = merge(without_replaced(lab.plan, state, lab), policy_chains(state, lab))
    return replace(lab, plan=plan, kubernetes=state)


def models_defaults(model: str) -> Any:
    from labctl.models.lib.kubernetes import ClusterDefaults

    return getattr(models.find_model(model), "CLUSTER", None) or ClusterDefaults()


def _as_in(case: PolicyCase, pod: Pod, other: Pod | None) -> Pod:
    """The pod of the lab with the labels and ports of the same pod of a case (a scenario has no ports of SCTP)."""
    wanted = other or case.pod(str(pod))
    return replace(pod, labels=wanted.labels, ports=wanted.ports)


def placed(case: PolicyCase, lab: Lab) -> PolicyCase:
    """A case whose policies name the addresses of the lab's pods instead of those of the table."""
    machines = {one.name: one.addresses[0] for one in lab.machines if one.addresses}
    new = {str(ip): str(machines[machine(name)]) for name, ip in ADDRESSES.items()}

    def text(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: text(item) for key, item in value.items()}
        if isinstance(value, list):
            return [text(item) for item in value]
        if isinstance(value, str) and value.partition("/")[0] in new:
            address, slash, length = value.partition("/")
            return new[address] + slash + length
        return value

    return replace(case, specs=tuple(text(one) for one in case.specs))

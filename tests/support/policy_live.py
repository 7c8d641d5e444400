"""Labs with NetworkPolicies in the kernel: the nine pods of Kubernetes' tests, and which of them reach which."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from ipaddress import IPv4Address

from labctl import api
from labctl.core.scenario_types import Lab
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.port_pairs import PortPairs, in_turns
from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.policies.policy_oracle import PolicyOracle
from labctl.lab import lifecycle
from tests.support.policy_cases import NAMES, PolicyCase
from tests.support.policy_labs import machine, scenario_text

Flow = tuple[str, str]
PROTOCOLS: dict[str, Protocol] = {"TCP": "TCP", "UDP": "UDP", "SCTP": "SCTP"}


def policy_text(model: str, case: PolicyCase, ports: Mapping[str, str] | None = None, engine: str | None = None) -> str:
    """The scenario of a case on a model: its nine pods and its policies. `ports` are the pods' containers."""
    labels = {name: dict(labels) for name, labels in case.labels.items()}
    pods = {name: one for name, one in labels.items() if "/" in name}
    policies = {
        f"{spec.get('namespace', 'x')}/p{number}": {key: value for key, value in spec.items() if key != "namespace"}
        for number, spec in enumerate(case.specs, 1)
    }
    namespaces: Mapping[str, object] = {name: one for name, one in labels.items() if "/" not in name}
    keys = {"policies": policies, "namespaces": namespaces, "policy_engine": engine}
    return scenario_text(model, pods, ports) + "".join(
        f"{key}: {json.dumps(value)}\n" for key, value in keys.items() if value
    )


def build(model: str, case: PolicyCase, ports: Mapping[str, str] | None = None, engine: str | None = None) -> Lab:
    """Build the lab of a case, or change the running one of another case into it."""
    definition = api.load(policy_text(model, case, ports, engine))
    return lifecycle.up(definition).lab


def not_enforced(lab: Lab, protocol: str, port: int) -> list[str]:
    """The pairs of pods that do not meet what the oracle says, each with both."""
    oracle, pods = PolicyOracle.of(lab.kubernetes), {one.machine: one for one in lab.kubernetes.pods}
    wrong = []
    for (one, other), answer in answers(lab, protocol, port).items():
        verdict = oracle.verdict(pods[one], pods[other], PROTOCOLS[protocol.upper()], port)
        if verdict.allowed != (answer == "connected"):
            wrong.append(f"{one} > {other}:{port} {answer}, {verdict}")
    return wrong


def connected(lab: Lab, protocol: str, port: int, flows: Iterable[Flow] = ()) -> dict[Flow, str]:
    """What flows between the nine pods meet: connected, refused, timeout; without `flows`, all of them."""
    names = {machine(name): name for name in NAMES}
    found = answers(lab, protocol, port, {(machine(one), machine(other)) for one, other in flows})
    return {(names[one], names[other]): answer for (one, other), answer in found.items()}


def answers(lab: Lab, protocol: str, port: int, wanted: Collection[Flow] = ()) -> dict[Flow, str]:
    """What each pair of pods meets, by their names in the lab; only the `wanted` ones, if any are given."""
    pods = [(one.name, IPv4Address(one.addresses[0])) for one in lab.machines if one.role == "pod"]
    requests = in_turns([name for name, _ in pods], pods)
    with NetnsThread() as thread, PortPairs(lab.name, protocol.lower(), port, thread) as pairs:
        found = pairs.ask(one for one in requests if not wanted or one[:2] in wanted)
    return {pair: answer for pair, (answer, _) in found.items()}

"""Labs with NetworkPolicies in the kernel: the nine pods of Kubernetes' tests, and which of them reach which."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from labctl import api
from labctl.core.scenario_types import Lab
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.port_pairs import PortPairs, in_turns
from labctl.kubernetes.api_objects import Protocol
from labctl.kubernetes.policy_oracle import PolicyOracle
from labctl.lab import lifecycle
from tests.support.policy_cases import NAMES, PolicyCase
from tests.support.policy_labs import machine, scenario_text

Flow = tuple[str, str]
PROTOCOLS: dict[str, Protocol] = {"TCP": "TCP", "UDP": "UDP", "SCTP": "SCTP"}


def policy_text(model: str, case: PolicyCase, ports: Mapping[str, str] | None = None) -> str:
    """The scenario of a case on a model: its nine pods and its policies. `ports` are the pods' containers."""
    labels = {name: dict(labels) for name, labels in case.labels.items()}
    pods = {name: one for name, one in labels.items() if "/" in name}
    policies = {
        f"{spec.get('namespace', 'x')}/p{number}": {key: value for key, value in spec.items() if key != "namespace"}
        for number, spec in enumerate(case.specs, 1)
    }
    namespaces: Mapping[str, object] = {name: one for name, one in labels.items() if "/" not in name}
    keys = {"policies": policies, "namespaces": namespaces}
    return scenario_text(model, pods, ports) + "".join(
        f"{key}: {json.dumps(value)}\n" for key, value in keys.items() if value
    )


def build(model: str, case: PolicyCase, ports: Mapping[str, str] | None = None) -> Lab:
    """Build the lab of a case, or change the running one of another case into it."""
    definition = api.load(policy_text(model, case, ports))
    return lifecycle.up(definition).lab


def not_enforced(lab: Lab, protocol: str, port: int) -> list[str]:
    """The flows that do not meet what the oracle says, each with both."""
    state = lab.kubernetes
    oracle = PolicyOracle.of(state)
    wrong = []
    for (one, other), answer in connected(lab, protocol, port).items():
        ends = [next(pod for pod in state.pods if pod.machine == machine(name)) for name in (one, other)]
        verdict = oracle.verdict(ends[0], ends[1], PROTOCOLS[protocol.upper()], port)
        if verdict.allowed != (answer == "connected"):
            wrong.append(f"{one} > {other}:{port} {answer}, {verdict}")
    return wrong


def connected(lab: Lab, protocol: str, port: int, flows: Iterable[Flow] = ()) -> dict[Flow, str]:
    """What each pair of pods meets: connected, refused, timeout; without `flows`, all pairs of different pods."""
    addresses = {one.name: IPv4Address(one.addresses[0]) for one in lab.machines if one.addresses}
    names = {machine(name): name for name in NAMES}
    wanted = {(machine(one), machine(other)) for one, other in flows}
    requests = in_turns(list(names), [(name, addresses[name]) for name in names])
    with NetnsThread() as thread, PortPairs(lab.name, protocol.lower(), port, thread) as pairs:
        answers = pairs.ask(one for one in requests if not wanted or one[:2] in wanted)
    return {(names[one], names[other]): answer for (one, other), (answer, _) in answers.items()}

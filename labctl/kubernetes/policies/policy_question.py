"""A question about policies, from the names that a person writes: pods, Services, machines and addresses. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import TypeAlias

from labctl.core.names import did_you_mean, summarize_names
from labctl.core.plan_paths import PlanPaths
from labctl.core.resources import IP
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.kubernetes.api.api_objects import Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.policy_explanation import Explanation, explain
from labctl.kubernetes.policies.policy_oracle import Endpoint, PolicyOracle, Traffic, Verdict
from labctl.kubernetes.policies.policy_ways import Way, node_source, ways
from labctl.kubernetes.policies.policy_words import endpoint_name
from labctl.kubernetes.services.endpoint_choice import Backend, backends

Named: TypeAlias = Pod | Service | IP
ICMP_NOTE = (
    "the API does not define ICMP: Calico denies what no rule without ports allows (as this answer does), kube-router"
    " lets pings pass"
)


@dataclass(frozen=True, slots=True)
class PolicyAnswer:
    """The answer about a source and a target.

    A target that is a Service has explanations for each of its backends: one, or one for each way to it on which the
    verdict is another. `allowed` is None if the question reaches
    no policy: the Service has no such port, or no backend. `notes` are sentences about the whole.
    """

    source: str
    target: str
    protocol: Traffic
    port: int
    explanations: tuple[Explanation, ...] = ()
    notes: tuple[str, ...] = ()
    service: str = ""

    @property
    def allowed(self) -> bool | None:
        """Whether all connections are allowed; None if there is none."""
        if not self.explanations:
            return None
        return all(one.verdict.allowed for one in self.explanations)


def answer(lab: Lab, state: ClusterState, source: str, target: str, protocol: Traffic, port: int) -> PolicyAnswer:
    """The answer about two names. Raises UsageError for a name that nothing has, and for a source that cannot open a
    connection."""
    opening, wanted = find(lab, state, source), find(lab, state, target)
    if isinstance(opening, Service):
        raise UsageError(f"{source} is a Service, which opens no connections", "name a pod, a machine or an address")
    if isinstance(wanted, Service):
        return _about_service(lab, state, opening, wanted, protocol, port)
    seen = None
    if isinstance(wanted, Pod) and lab.machine(source) is not None:  # a name, not an address that is meant as it is
        seen = node_source(PlanPaths(lab.plan), state, opening, wanted)
    one = explain(PolicyOracle.of(state), opening, wanted, protocol, port, seen_as=seen)
    notes = list(_endpoint_notes(opening, wanted))
    if seen is not None:
        notes.append(f"{source} sends to {endpoint_name(wanted)} from {seen}: policies see that source")
    if protocol == "ICMP" and one.directions:
        notes.append(ICMP_NOTE)
    return PolicyAnswer(_shown(source, opening), _shown(target, wanted), protocol, port, (one,), tuple(notes))


def find(lab: Lab, state: ClusterState, name: str) -> Named:
    """What a name means: a pod (`a`, `x/a`, `pod/x/a`), a Service (`web`, `x/web`, `service/x/web`, or `web.x` as in
    cluster DNS), another machine of the lab, or an address. A pod comes before a Service of the same name. Raises
    UsageError."""
    kind, slash, rest = name.partition("/")
    wanted, kinds = (rest, (kind,)) if slash and kind in ("pod", "service") else (name, ("pod", "service"))
    if "pod" in kinds:
        pod = state.pod(wanted)
        found = [pod] if pod is not None else [one for one in state.pods if one.name == wanted]
        if found:
            return _only(name, found)
    if "service" in kinds:
        services = [one for one in state.cluster.services if wanted in (str(one), one.name)]
        if services:
            return _only(name, services)
    virtual = next((one for one in lab.virtual_addresses if name in one.names), None)
    if virtual is not None:
        return _by_address(state, virtual.ips[0])
    machine = lab.machine(name)
    if machine is not None and machine.addresses:
        return _by_address(state, machine.addresses[0])
    try:
        return _by_address(state, ip_address(name))
    except ValueError:
        raise _no_such_name(lab, state, name) from None


def names(lab: Lab, state: ClusterState) -> tuple[str, ...]:
    """Every name that `find` knows, for completion and suggestions: pods, Services, other machines."""
    pods = [name for one in state.pods for name in (one.machine, str(one)) if name]
    machines = (machine.name for machine in lab.machines if machine.addresses)
    return tuple(dict.fromkeys([*pods, *map(str, state.cluster.services), *machines]))


def _only(name: str, found: Collection[Pod | Service]) -> Pod | Service:
    if len(found) > 1:
        raise UsageError(f"{name!r} can be {', '.join(map(str, found))}", "write the namespace, too")
    return next(iter(found))


def _by_address(state: ClusterState, ip: IP) -> Named:
    pod = next((one for one in state.pods if ip in one.ips and not one.host_network), None)
    if pod is not None:
        return pod
    services = (one for one in state.cluster.services if ip in (*one.cluster_ips, *one.load_balancer_ips))
    return next(services, ip)


def _no_such_name(lab: Lab, state: ClusterState, name: str) -> UsageError:
    known = names(lab, state)
    hint = did_you_mean(name, known) or f"it has {summarize_names(known, 8)}"
    return UsageError(f"lab {lab.name} has no pod, Service, machine or address {name!r}", hint)


def _shown(name: str, found: Named) -> str:
    """The name as it was written, and what it means, if that is not the same."""
    meaning = str(found) if isinstance(found, Service) else endpoint_name(found)
    return name if name == meaning else f"{name} ({meaning})"


def _about_service(
    lab: Lab, state: ClusterState, source: Endpoint, service: Service, protocol: Traffic, port: int
) -> PolicyAnswer:
    source_name, oracle = endpoint_name(source), PolicyOracle.of(state)

    def about(*notes: str, explanations: Iterable[Explanation] = ()) -> PolicyAnswer:
        shown = f"Service {service}"
        return PolicyAnswer(source_name, shown, protocol, port, tuple(explanations), notes, str(service))

    if protocol == "ICMP":
        return about(f"Service {service} does not forward ICMP: name one of its pods")
    at = next((one for one in service.ports if (one.port, one.protocol) == (port, protocol)), None)
    if at is None:
        ports = ", ".join(f"{one.protocol} {one.port}" for one in service.ports) or "none"
        return about(f"Service {service} has no {protocol} port {port}: its ports are {ports}; no policy is asked")
    found = [one for one in _backends(state, service, at) if one.endpoint.ready]
    if not found:
        return about(f"Service {service} has no ready backend for {protocol} {port}; no policy is asked")
    explanations: list[Explanation] = []
    paths = PlanPaths(lab.plan)
    for one in found:
        target = _by_address(state, one.ip)
        if isinstance(target, Pod):
            open_ways = list(ways(paths, state, source, service, at, target))
            explanations += _by_ways(oracle, source, target, protocol, one.port, open_ways)
        elif not isinstance(target, Service):
            explanations.append(explain(oracle, source, target, protocol, one.port))
    notes = ["policies see the backend that kube-proxy chose, and the port of that pod"]
    if any(way.seen_as for one in explanations for way in one.ways):
        notes.append(
            "a node that sends a connection to another node gives it its own address: policies see that source"
        )
    return about(*notes, explanations=explanations)


def _by_ways(
    oracle: PolicyOracle, source: Endpoint, target: Pod, protocol: Traffic, port: int, open_ways: Iterable[Way]
) -> list[Explanation]:
    """An explanation for each verdict on the ways to one backend."""
    found: dict[tuple[bool, Verdict], Explanation] = {}
    for way in open_ways:
        seen = way.seen_as
        one = explain(oracle, source, target, protocol, port, hairpin=source == target, seen_as=seen)
        first = found.setdefault((seen is None, one.verdict), one)
        found[seen is None, one.verdict] = replace(first, ways=(*first.ways, way))
    return list(found.values())


def _backends(state: ClusterState, service: Service, port: ServicePort) -> list[Backend]:
    of_version = (backends(state.cluster, service, port, version, "") for version in (4, 6))
    return [one for version in of_version for one in version]


def _endpoint_notes(source: Endpoint, target: Endpoint) -> Iterable[str]:
    for end in (source, target):
        if isinstance(end, Pod) and end.host_network:
            yield f"{endpoint_name(end)} uses the network of its node: no policy selects it"
    if not isinstance(source, Pod) and not isinstance(target, Pod):
        yield "no end is a pod, so no policy is asked"

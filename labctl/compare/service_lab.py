"""The scenario with Services and a NetworkPolicy on top, to ask every Kubernetes model the same about them. Pure.

One pod is the backend of two Services with a nodePort, one for each externalTrafficPolicy. An Ingress of each mode
leads to it, unless the lab cannot have one. A policy lets only the Services' port into the backend; a connection to
another port shows how its engine refuses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from labctl import models
from labctl.compare.roles import Roles
from labctl.core.resources import attachments_of
from labctl.core.scenario_types import Lab
from labctl.core.topology import Topology
from labctl.errors import UsageError
from labctl.kubernetes.api.api_objects import Endpoint, EndpointPort, EndpointSlice, Service, ServicePort
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.ingress_objects import MODES, BackendRef, Ingress, Mode
from labctl.kubernetes.api.policy_objects import NetworkPolicy, PolicyPort, PolicyRule
from labctl.scenario.definition import Definition, scenario_of, with_kubernetes

NAMESPACE, CLUSTER, LOCAL, POLICY = "default", "compare-cluster", "compare-local", "compare-policy"
PORT, TARGET_PORT, DENIED_PORT = 80, 8080, 8081
WRONG_PORT = 81  # a port that no Service has


def backend(roles: Roles) -> str | None:
    """The pod behind the Services: on another node than the client, if there is one. None if no second pod exists."""
    return roles.other_node_pod or roles.same_node_pod


def with_services(definition: Definition, lab: Lab, roles: Roles) -> Lab:
    """The lab of a definition with the Services and the policy, without checks. It uses the same substitutes as `lab`.

    Raises UsageError, with the reason, if the lab is not a cluster, has no second pod, or cannot have Services.
    """
    pod = backend(roles)
    if tuple(models.find_model(lab.model).MACHINES) != ("nodes", "pods"):
        raise UsageError("no Kubernetes")
    if pod is None:
        raise UsageError("no second pod")
    address = Topology(lab).address_of(pod, 4)
    if address is None or attachments_of(lab.plan):
        raise UsageError("plugins give pods their addresses, after the rules are written")
    scenario = scenario_of(definition, lab)
    machine = lab.machine(pod)
    endpoint = Endpoint(address, str(machine.on) if machine is not None else "")
    declared = scenario.kubernetes or Declared()
    declared = replace(
        declared,
        services=(*declared.services, _service(CLUSTER), _service(LOCAL, external_policy="Local")),
        slices=(*declared.slices, *(_slice(name, endpoint) for name in (CLUSTER, LOCAL))),
        policies=(*declared.policies, _policy()),
        ingresses=(*declared.ingresses, *map(_ingress, MODES)),
    )
    found = with_kubernetes(replace(scenario, kubernetes=declared))
    refused = {one.name for one in found.kubernetes.problems if one.kind == "Ingress" and not one.warning}
    if refused:  # such as mode ip where pods are not routable
        possible = tuple(one for one in declared.ingresses if one.name not in refused)
        found = with_kubernetes(replace(scenario, kubernetes=replace(declared, ingresses=possible)))
    impossible = [one.what for one in found.kubernetes.problems if one.kind == "Service" and not one.warning]
    if impossible:
        raise UsageError(impossible[0])
    return replace(found, checks=())


def ingress_name(mode: Mode) -> str:
    """The name of the Ingress of a mode."""
    return f"compare-{mode}"


def _ingress(mode: Mode) -> Ingress:
    """An Ingress that sends everything to the Service."""
    return Ingress(NAMESPACE, ingress_name(mode), default_backend=BackendRef(NAMESPACE, CLUSTER, PORT), mode=mode)


def _service(name: str, **settings: Any) -> Service:
    return Service(NAMESPACE, name, "NodePort", ports=(ServicePort(PORT, target_port=TARGET_PORT),), **settings)


def _slice(service: str, endpoint: Endpoint) -> EndpointSlice:
    return EndpointSlice(NAMESPACE, f"{service}-1", service, 4, (endpoint,), (EndpointPort("", TARGET_PORT),))


def _policy() -> NetworkPolicy:
    """It isolates all pods of the namespace, and lets everybody in at the Services' port."""
    return NetworkPolicy(NAMESPACE, POLICY, ingress=(PolicyRule(ports=(PolicyPort(port=TARGET_PORT),)),))

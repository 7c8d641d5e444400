"""What a scenario and its manifests declare: API objects before the lab's addresses are known. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from labctl.core.resources import Net
from labctl.kubernetes.api.api_objects import EndpointSlice, Service
from labctl.kubernetes.api.cluster_policy_objects import ClusterPolicy
from labctl.kubernetes.api.ingress_objects import Gateway, HTTPRoute, Ingress
from labctl.kubernetes.api.policy_objects import Namespace, NetworkPolicy


@dataclass(frozen=True, slots=True)
class Declared:
    """The API objects of a scenario, in the order of its text. Pods are not here: they are in the scenario's nodes,
    with their labels in `labctl.models.lib.pods.PodSettings`.

    `pod_names` has the Kubernetes names of pods that have another name in the lab, `subdomains` the Services under
    which pods of a StatefulSet have names, by the pods' names in the lab, `zones` the zones of nodes.
    `service_cidrs` are the ranges of cluster IPs (none: labctl chooses one), `kube_proxy` the keys of a
    KubeProxyConfiguration, and `version`.
    A Service has no addresses where its author wrote none; `labctl.kubernetes.services.address_choice` chooses them.
    `warnings` are sentences for the author, with their places. `policy_engine` is the engine that enforces policies
    (calico, kube-router), None for the one that fits the model.
    """

    namespaces: tuple[Namespace, ...] = ()
    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    policies: tuple[NetworkPolicy, ...] = ()
    cluster_policies: tuple[ClusterPolicy, ...] = ()
    warnings: tuple[str, ...] = ()
    pod_names: tuple[tuple[str, str], ...] = ()
    subdomains: tuple[tuple[str, str], ...] = ()
    zones: dict[str, str] = field(default_factory=dict, hash=False)
    service_cidrs: tuple[Net, ...] = ()
    kube_proxy: dict[str, Any] = field(default_factory=dict, hash=False)
    ingresses: tuple[Ingress, ...] = ()
    gateways: tuple[Gateway, ...] = ()
    http_routes: tuple[HTTPRoute, ...] = ()
    policy_engine: Literal["calico", "calico-nftables", "kube-router", "kube-router-nftables"] | None = None

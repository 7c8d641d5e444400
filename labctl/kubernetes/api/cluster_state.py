"""The cluster of a lab: its API objects, with the nodes and pods that the lab has, and every address chosen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from labctl.core.resources import Net
from labctl.kubernetes.api.api_objects import Cluster
from labctl.kubernetes.api.cluster_policy_objects import ClusterPolicy
from labctl.kubernetes.api.http_routes import HttpLoadBalancer
from labctl.kubernetes.api.policy_objects import Namespace, NetworkPolicy, Pod
from labctl.kubernetes.api.problems import ObjectProblem


@dataclass(frozen=True, slots=True)
class ClusterState:
    """What the components of a cluster see: kube-proxy, the policy engine, the load balancers.

    `cluster` has nodes (their names are those of the lab's machines), Services and the slices of their endpoints. Each
    of the `pods` has in `machine` its name in the lab. `service_cidrs` are the ranges of cluster IPs, `cluster_cidrs`
    those by which kube-proxy recognises pods, `kube_proxy` its other settings. `http_balancers` are those of Ingresses
    and Gateways. `problems` are mistakes in objects that only the lab as a whole shows. `policy_engine` is the engine
    that the scenario names (calico, kube-router), None for the one that fits the model.
    """

    cluster: Cluster = field(default_factory=Cluster)
    pods: tuple[Pod, ...] = ()
    namespaces: dict[str, Namespace] = field(default_factory=dict, hash=False)
    policies: tuple[NetworkPolicy, ...] = ()
    service_cidrs: tuple[Net, ...] = ()
    cluster_cidrs: tuple[Net, ...] = ()
    kube_proxy: dict[str, Any] = field(default_factory=dict, hash=False)
    cluster_policies: tuple[ClusterPolicy, ...] = ()
    http_balancers: tuple[HttpLoadBalancer, ...] = ()
    problems: tuple[ObjectProblem, ...] = ()
    subdomains: dict[str, str] = field(default_factory=dict, hash=False)
    policy_engine: Literal["calico", "calico-nftables", "kube-router", "kube-router-nftables"] | None = None

    def pod(self, name: str) -> Pod | None:
        """The pod with this name in the lab, or `namespace/name`; None if there is none."""
        return next((one for one in self.pods if name in (one.machine, str(one))), None)

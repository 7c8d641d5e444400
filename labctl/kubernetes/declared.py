"""What a scenario and its manifests declare: API objects before the lab's addresses are known. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from labctl.kubernetes.api_objects import EndpointSlice, Service
from labctl.kubernetes.policy_objects import Namespace, NetworkPolicy


@dataclass(frozen=True, slots=True)
class Declared:
    """The API objects of a scenario, in the order of its text. Pods are not here: they are in the scenario's nodes,
    with their labels in `labctl.models.lib.pods.PodSettings`.

    A Service has no addresses where its author wrote none; `labctl.kubernetes.cluster_state` chooses them. `warnings`
    are sentences for the author, with their places.
    """

    namespaces: tuple[Namespace, ...] = ()
    services: tuple[Service, ...] = ()
    slices: tuple[EndpointSlice, ...] = ()
    policies: tuple[NetworkPolicy, ...] = ()
    warnings: tuple[str, ...] = ()

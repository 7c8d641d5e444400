"""What makes pods: a Pod itself, or an object with a template, as read from its JSON form. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from labctl.core.scenario_types import ListeningPort, PodContainer, Protocol, PublishedPort
from labctl.scenario.manifests.api_types import Path

_PROTOCOLS: dict[str, Protocol] = {"TCP": "tcp", "UDP": "udp"}


@dataclass(frozen=True, slots=True)
class PodSource:
    """An object that makes pods.

    `replicas` is how many pods it makes; a DaemonSet makes one on each node. `template` is the path to the metadata and
    the spec of its pods, `owners` are the kinds and names of the objects that made it. `has_sctp` is whether a
    container has a port of SCTP, on which no container of labctl listens. `subdomain` is the headless Service under
    which each of its pods has a name, "" for none: the `serviceName` of a StatefulSet.
    """

    kind: str
    namespace: str
    name: str
    labels: tuple[tuple[str, str], ...]
    containers: tuple[PodContainer, ...]
    host_ports: tuple[PublishedPort, ...] = ()
    node: str = ""
    host_network: bool = False
    replicas: int = 1
    template: Path = ()
    owners: tuple[tuple[str, str], ...] = ()
    has_sctp: bool = False
    subdomain: str = ""

    def pod_names(self, nodes: int) -> tuple[str, ...]:
        """The names of its pods in a cluster of so many nodes. Those of a StatefulSet are numbered from 0, as the real
        ones are; those of the others from 1, where real ones have random names."""
        if self.kind == "Pod":
            return (self.name,)
        first = 0 if self.kind == "StatefulSet" else 1
        count = nodes if self.kind == "DaemonSet" else self.replicas
        return tuple(f"{self.name}-{number}" for number in range(first, first + count))


def read_pod(item: Mapping[str, Any]) -> PodSource | None:
    """A Pod; None for one that has ended, which has no network and is behind no Service."""
    ended = (item.get("status") or {}).get("phase") in ("Succeeded", "Failed")
    return None if ended else _source("Pod", item, item, ())


def read_template(kind: str) -> Callable[[Mapping[str, Any]], PodSource]:
    """The function that reads an object of a kind with a template."""
    return lambda item: _source(kind, item, item["spec"]["template"], ("spec", "template"))


def _source(kind: str, item: Mapping[str, Any], template: Mapping[str, Any], path: Path) -> PodSource:
    meta, spec = item["metadata"], template["spec"]
    owners = tuple((one.get("kind", ""), one.get("name", "")) for one in meta.get("ownerReferences") or ())
    containers = tuple(
        PodContainer(
            one["name"],
            tuple(
                ListeningPort(port["containerPort"], _PROTOCOLS[protocol], port.get("name", ""))
                for port in one.get("ports") or ()
                if (protocol := port.get("protocol", "TCP")) in _PROTOCOLS
            ),
        )
        for one in spec["containers"]
    )
    ports = [port for one in spec["containers"] for port in one.get("ports") or ()]
    protocols = [port.get("protocol", "TCP") for port in ports]
    return PodSource(
        kind,
        meta.get("namespace", "default"),
        meta["name"],
        tuple(((template.get("metadata") or {}).get("labels") or {}).items()),
        containers,
        tuple(
            PublishedPort(port["hostPort"], port["containerPort"], _PROTOCOLS[protocol])
            for port, protocol in zip(ports, protocols, strict=True)
            if port.get("hostPort") and protocol in _PROTOCOLS
        ),
        spec.get("nodeName", ""),
        bool(spec.get("hostNetwork")),
        item["spec"].get("replicas", 1),
        path,
        owners,
        "SCTP" in protocols,
        item["spec"].get("serviceName", "") if kind == "StatefulSet" else "",
    )

"""Namespaces, pods and NetworkPolicies, as the Kubernetes API describes them (v1, networking.k8s.io/v1). Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from labctl.core.resources import IP, Net
from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.api.selectors import EVERYTHING, Selector

Direction: TypeAlias = Literal["Ingress", "Egress"]


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace. The API server gives it the label `kubernetes.io/metadata.name` itself."""

    name: str
    own_labels: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, with the one that every namespace has."""
        return {**self.own_labels, "kubernetes.io/metadata.name": self.name}


@dataclass(frozen=True, slots=True)
class ContainerPort:
    """A port that a container of a pod names."""

    name: str
    port: int
    protocol: Protocol = "TCP"


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod. `host_network` is True if it uses its node's network namespace; `machine` is its name in the lab."""

    namespace: str
    name: str
    ips: tuple[IP, ...] = ()
    labels: dict[str, str] = field(default_factory=dict, hash=False)
    ports: tuple[ContainerPort, ...] = ()
    node: str = ""
    host_network: bool = False
    machine: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class IPBlock:
    """The addresses of a range, without those of its exceptions."""

    cidr: Net
    exceptions: tuple[Net, ...] = ()

    def __contains__(self, ip: IP) -> bool:
        return ip in self.cidr and not any(ip in one for one in self.exceptions)


@dataclass(frozen=True, slots=True)
class Peer:
    """An item of `from` or `to`: pods by their labels, by those of their namespaces, or by both; or addresses.

    Without a namespace selector, only pods of the policy's own namespace are meant.
    """

    pods: Selector | None = None
    namespaces: Selector | None = None
    block: IPBlock | None = None


@dataclass(frozen=True, slots=True)
class PolicyPort:
    """An item of `ports`. `port` is a number, a name, or None for all ports of the protocol; `end_port` ends a
    range."""

    protocol: Protocol = "TCP"
    port: int | str | None = None
    end_port: int | None = None


@dataclass(frozen=True, slots=True)
class PolicyRule:
    """A rule: these peers at these ports. No peers are all peers, no ports are all ports of all protocols."""

    peers: tuple[Peer, ...] = ()
    ports: tuple[PolicyPort, ...] = ()


@dataclass(frozen=True, slots=True)
class NetworkPolicy:
    """A NetworkPolicy. `types` are the directions in which it isolates the pods that it selects."""

    namespace: str
    name: str
    pods: Selector = EVERYTHING
    types: tuple[Direction, ...] = ("Ingress",)
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()

    def rules(self, direction: Direction) -> tuple[PolicyRule, ...]:
        """Its rules for one direction."""
        return self.ingress if direction == "Ingress" else self.egress

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

"""Pods of manifests on the nodes of a scenario: the node of each, its name in the lab, and its settings."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Iterable
from typing import Any

from labctl.core.names import did_you_mean, summarize_names
from labctl.core.scenario_types import PodContainer, ScenarioNode
from labctl.scenario.document import Reader
from labctl.scenario.field_types import InvalidValue
from labctl.scenario.manifests.api_types import Path
from labctl.scenario.manifests.places import ObjectPlaces, object_title
from labctl.scenario.manifests.pod_sources import PodSource
from labctl.scenario.nodes_field import MAX_MACHINES, RESERVED
from labctl.scenario.values import LABEL


class PodPlacement:
    """Places pods, one source after the other. Problems and warnings have the places of their objects.

    Afterwards, `nodes` are the scenario's nodes with all pods, and `pod_names` has the Kubernetes names of those that
    have another name in the lab, `subdomains` the headless Services under which pods have names.
    """

    def __init__(self, nodes: tuple[ScenarioNode, ...], model: Any, places: ObjectPlaces, reader: Reader) -> None:
        self.places, self.reader = places, reader
        self.settings_class = getattr(model, "Container", None)
        self.reserved = {*RESERVED, *getattr(model, "RESERVED_NAMES", ())}
        self.node_names = [node.name for node in nodes]
        self.pods: dict[str, dict[str, Any]] = {node.name: _settings(node) for node in nodes}
        self.owners = {name: "a node" for name in self.node_names}
        self.known: dict[tuple[str, str], tuple[str, str]] = {}  # namespace and name -> node and name in the lab
        for node in nodes:
            for name, settings in self.pods[node.name].items():
                self.owners[name] = "a pod of the scenario"
                self.known[getattr(settings, "namespace", "default"), name] = (node.name, name)
        self.node_numbers = {name: number for number, name in enumerate(self.node_names)}
        self.free = [(len(self.pods[name]), number) for number, name in enumerate(self.node_names)]
        heapq.heapify(self.free)
        self.pod_names: list[tuple[str, str]] = []
        self.subdomains: list[tuple[str, str]] = []
        self.warnings: list[str] = []

    @property
    def nodes(self) -> tuple[ScenarioNode, ...]:
        """The scenario's nodes with all pods."""
        return tuple(
            ScenarioNode(name, tuple(pods), tuple((pod, one) for pod, one in pods.items() if one is not None))
            for name, pods in self.pods.items()
        )

    def place(self, sources: Iterable[PodSource]) -> None:
        """Place the pods of all sources, in their order. An object that belongs to another one of the same manifests
        makes no pods: the other one makes them."""
        for source in sources:
            owned = any((kind, source.namespace, name) in self.places.trees for kind, name in source.owners)
            if not owned and self.node_names and self._is_possible(source):
                self._place(source)

    def _is_possible(self, source: PodSource) -> bool:
        if source.host_network:
            what = "left out: it has hostNetwork, and pods of labctl have a network namespace each"
            self._warn(source, (*source.template, "spec", "hostNetwork"), what)
            return False
        if source.has_sctp:
            what = "its ports of SCTP are left out: containers of labctl listen on TCP and UDP"
            self._warn(source, (*source.template, "spec", "containers"), what)
        if source.host_ports and not self._has_setting("host_ports"):
            what = "hostPort is left out: this model has no host ports"
            self._warn(source, (*source.template, "spec", "containers"), what)
        if source.node and source.node not in self.pods:
            known = summarize_names(self.node_names)
            hint = (
                did_you_mean(source.node, self.node_names)
                or f"the nodes are {known}; without nodeName, labctl chooses one"
            )
            self._add_problem(source, ("spec", "nodeName"), f"the lab has no node {source.node!r}", hint)
            return False
        total = len(self.owners) + len(source.pod_names(len(self.node_names)))
        if total > MAX_MACHINES:
            what = f"{total} machines are too many for one lab"
            self._add_problem(source, (), what, f"at most {MAX_MACHINES}")
            return False
        return True

    def _place(self, source: PodSource) -> None:
        settings = self._new_settings(source)
        for number, name in enumerate(source.pod_names(len(self.node_names))):
            known = self.known.get((source.namespace, name))
            if known is not None:
                self._merge(source, *known)
                continue
            node = self.node_names[number] if source.kind == "DaemonSet" else source.node or self._least_used()
            machine = name if source.namespace == "default" else f"{source.namespace}-{name}"
            if not self._is_free(source, name, machine):
                return
            self.owners[machine] = object_title(source.kind, source.namespace, source.name)
            self.known[source.namespace, name] = (node, machine)
            self.places.makers[machine] = (source.kind, source.namespace, source.name)
            self.pods[node][machine] = settings
            heapq.heappush(self.free, (len(self.pods[node]), self.node_numbers[node]))
            if machine != name:
                self.pod_names.append((machine, name))
            if source.subdomain:
                self.subdomains.append((machine, source.subdomain))

    def _least_used(self) -> str:
        """The node with the fewest pods, the first of several. `free` may have older numbers of pods: they are too
        small, and another entry has the present one."""
        while True:
            count, number = self.free[0]
            name = self.node_names[number]
            if len(self.pods[name]) == count:
                return name
            heapq.heappop(self.free)

    def _is_free(self, source: PodSource, name: str, machine: str) -> bool:
        """Whether a pod can have this name in the lab; else a problem is recorded."""
        named = (
            f"the pod {name!r}"
            if machine == name
            else f"the pod {name!r} of {source.namespace}, {machine!r} in the lab,"
        )
        if machine in self.owners:
            what = f"{named} has the name of {self.owners[machine]}"
        elif machine in self.reserved:
            what = f"{named} has the name of a machine that models create"
        else:
            try:
                LABEL.convert(machine)
            except InvalidValue as bad:
                self._add_problem(source, ("metadata", "name"), f"{named} is not possible: {bad.message}", bad.hint)
                return False
            return True
        self._add_problem(source, ("metadata", "name"), what, "choose another name")
        return False

    def _new_settings(self, source: PodSource) -> Any:
        if self.settings_class is None:
            return None
        ports = {"host_ports": source.host_ports} if self._has_setting("host_ports") and source.host_ports else {}
        return self.settings_class(
            containers=source.containers, labels=source.labels, namespace=source.namespace, **ports
        )

    def _has_setting(self, name: str) -> bool:
        fields = () if self.settings_class is None else dataclasses.fields(self.settings_class)
        return any(field.name == name for field in fields)

    def _merge(self, source: PodSource, node: str, machine: str) -> None:
        """Give a pod that is known already the labels and ports of another source of it."""
        if source.kind != "Pod":
            what = f"its pod {machine!r} is already a pod of the lab"
            self._add_problem(
                source, ("metadata", "name"), what, "remove it from the scenario, or rename one of the two"
            )
            return
        if source.node and source.node != node:
            what = f"the scenario has the pod {machine!r} on {node}, not on {source.node}"
            self._add_problem(source, ("spec", "nodeName"), what, f"remove nodeName, or write {node}")
            return
        old = self.pods[node][machine]
        if old is None:
            self.pods[node][machine] = self._new_settings(source)
            return
        labels = dict(old.labels)
        for key, value in source.labels:
            if labels.setdefault(key, value) != value:
                what = f"the scenario gives the pod {machine!r} the label {key}={labels[key]}"
                self._add_problem(source, ("metadata", "labels", key), what, "the two must be the same")
        containers = {one.name: one for one in old.containers}
        used = {port: one.name for one in old.containers for port in one.ports}
        for number, one in enumerate(source.containers):
            for index, port in enumerate(one.ports):
                if used.setdefault(port, one.name) != one.name:
                    what = f"port {port.port} is already used by the container {used[port]!r} of the scenario"
                    path: Path = ("spec", "containers", number, "ports", index, "containerPort")
                    self._add_problem(source, path, what, "the containers of a pod share its ports")
            ports = dict.fromkeys((*one.ports, *(containers[one.name].ports if one.name in containers else ())))
            containers[one.name] = PodContainer(one.name, tuple(ports))
        changed: dict[str, Any] = {"containers": tuple(containers.values()), "labels": tuple(labels.items())}
        if self._has_setting("host_ports"):
            changed["host_ports"] = tuple(dict.fromkeys((*old.host_ports, *source.host_ports)))
        self.pods[node][machine] = dataclasses.replace(old, **changed)

    def _add_problem(self, source: PodSource, path: Path, what: str, hint: str = "") -> None:
        at = self.places.position(source.kind, source.namespace, source.name, self._in_template(source, path))
        title = object_title(source.kind, source.namespace, source.name)
        self.reader.add_problem(at, f"{title}: {what}", hint)

    def _warn(self, source: PodSource, path: Path, what: str) -> None:
        at = self.places.position(source.kind, source.namespace, source.name, path)
        title = object_title(source.kind, source.namespace, source.name)
        self.warnings.append(f"{at.file}:{at.line}:{at.column}: {title}: {what}")

    def _in_template(self, source: PodSource, path: Path) -> Path:
        """A path in a pod as the path in the object that makes it."""
        return (*source.template, *path) if path[:1] == ("spec",) else path


def _settings(node: ScenarioNode) -> dict[str, Any]:
    settings = dict(node.settings)
    return {pod: settings.get(pod) for pod in node.pods}

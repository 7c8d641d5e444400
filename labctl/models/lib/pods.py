"""Pods with several containers, for every Kubernetes model: a sandbox that keeps the network, and the containers.

A container runtime makes a pod's network once, for a process that does nothing (`pause`). It starts every container
of the pod in that network, so the containers share one address, one set of ports and one loopback. A container may
end and start again while the pod keeps its address. When the sandbox ends, the whole pod ends.

Follows the pod sandbox of the Container Runtime Interface (kubernetes/cri-api, RunPodSandbox and StopPodSandbox)
and build/pause of kubernetes/kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.fidelity import approximation, faithful
from labctl.core.options import option
from labctl.core.resources import Process, Resource
from labctl.core.scenario_types import Check, ListeningPort, PodContainer, Scenario, ScenarioNode
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source
from labctl.models.lib.common_reasons import RUNTIME

SANDBOX_PROCESS = "pause"
_PAUSE = Component(
    "the container runtime (containerd)", Source("kubernetes/kubernetes", "build/pause/linux/pause.c")
).why(
    "It only holds the network of the pod {ns}: containers can end and start again, and the pod keeps its"
    " address. When it ends, the whole pod ends."
)
_CONTAINER = RUNTIME.why(
    "It is the container {name} of the pod {ns}, started in the network that the process pause holds. It listens on"
    " {ports}."
)
PARTS = (
    faithful("a pod with several containers, which share one address, one loopback and one set of ports of a sandbox"),
    approximation(
        "containers",
        "are programs of labctl that listen. They use the machine's files, and share one process namespace, so that"
        " the kernel ends them with their sandbox, as a kubelet does",
    ),
    approximation("a pod without `containers`", "is a network namespace without processes"),
)


@dataclass(frozen=True, slots=True)
class PodSettings:
    """The settings of a pod in a scenario."""

    containers: tuple[PodContainer, ...] = option(
        (), "its containers, each with the ports that it listens on, such as web:80 or, with its name, web:http=80"
    )
    labels: tuple[tuple[str, str], ...] = option((), "its Kubernetes labels, such as {app: web}", form="labels")
    namespace: str = option("default", "its Kubernetes namespace", form="name")


def pause_and_containers(node: ScenarioNode) -> Iterator[Resource]:
    """The sandboxes and containers of a node's pods."""
    for name, containers in _pods(node):
        if containers:
            yield Process(name, SANDBOX_PROCESS, (SANDBOX_PROCESS,), sandbox=True, why=_PAUSE)
        for container in containers:
            ports = (f"{port.protocol}:{port.port}" for port in container.ports)
            command = ("serve", container.name, *ports)
            yield Process(name, container.name, command, inside=SANDBOX_PROCESS, why=_CONTAINER)


def listening_ports(settings: PodSettings) -> tuple[ListeningPort, ...]:
    """The ports that the containers of a pod listen on."""
    return tuple(port for container in settings.containers for port in container.ports)


def checks(scenario: Scenario) -> Iterator[Check]:
    """Checks that the containers of a pod share its ports and its loopback device."""
    for node in scenario.nodes:
        for pod, containers in _pods(node):
            listening = [(container.name, port) for container in containers for port in container.ports]
            if len(containers) > 1 and listening:
                name, port = listening[0]
                say = sentence(
                    "the containers of pod {pod} share its ports: only {name} can listen on {port}",
                    pod=pod,
                    name=name,
                    port=port,
                )
                yield Check(say, "taken", pod, pod, port.port, protocol=port.protocol, origin="model")
                loopback_text = sentence(
                    "the containers of pod {pod} share its loopback: they reach {name} at 127.0.0.1", pod=pod, name=name
                )
                yield Check(loopback_text, port.protocol, pod, "127.0.0.1", port.port, listen=False, origin="model")


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for containers of one pod with the same name or the same port."""
    for node in scenario.nodes:
        for pod, containers in _pods(node):
            at = f"nodes/{node.name}/pods/{pod}/containers"
            names: set[str] = set()
            ports: dict[object, str] = {}
            for number, container in enumerate(containers):
                if container.name in names or container.name == SANDBOX_PROCESS:
                    problem = "the name of the sandbox" if container.name == SANDBOX_PROCESS else "listed twice"
                    what = f"containers: {container.name!r} is {problem} in pod {pod}"
                    yield f"{at}/{number}", what, "choose another name"
                names.add(container.name)
                for port in container.ports:
                    if port in ports:
                        what = f"containers: port {port} of pod {pod} is already used by {ports[port]}"
                        yield f"{at}/{number}", what, "the containers of a pod share its ports: choose another port"
                    ports.setdefault(port, container.name)


def _pods(node: ScenarioNode) -> Iterator[tuple[str, tuple[PodContainer, ...]]]:
    """Each pod that has settings, with its containers."""
    settings = dict(node.settings)
    return ((pod, settings[pod].containers) for pod in node.pods if pod in settings)

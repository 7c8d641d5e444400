"""Pods of several containers, for every Kubernetes model: a sandbox that holds the network, and who lives in it.

A container runtime makes a pod's network once, for a process that does nothing (`pause`), and starts every
container of the pod in it: they have one address, one set of ports and one loopback. So a container may die and
come back and the pod keeps its address; when the sandbox dies, all of it goes.

Follows the pod sandbox of the Container Runtime Interface (kubernetes/cri-api, RunPodSandbox and StopPodSandbox)
and build/pause of kubernetes/kubernetes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from labctl.core.fidelity import approximation, faithful
from labctl.core.options import option
from labctl.core.resources import Process, Resource
from labctl.core.scenario_types import Check, Node, Run, Scenario

SANDBOX = "pause"
PARTS = (
    faithful("a pod of several containers: one address, one loopback and one set of ports for all, held by a sandbox"),
    approximation(
        "containers",
        "are programs of labctl's that listen; they share one process namespace, so that the kernel ends them with"
        " their sandbox as a kubelet does, and the machine's files",
    ),
    approximation("a pod without `containers`", "is a bare network namespace, with nothing running in it"),
)


@dataclass(frozen=True, slots=True)
class Pod:
    """What a file may say of a pod."""

    containers: tuple[Run, ...] = option((), "its containers, each with the ports it listens on: web:80")


def processes(node: Node) -> Iterator[Resource]:
    """The sandboxes and containers of a node's pods."""
    for name, runs in _pods(node):
        if runs:
            yield Process(name, SANDBOX, (SANDBOX,), sandbox=True)
        for run in runs:
            ports = (f"{listen.protocol}:{listen.port}" for listen in run.listens)
            yield Process(name, run.name, ("serve", run.name, *ports), inside=SANDBOX)


def checks(scenario: Scenario) -> Iterator[Check]:
    """What containers of one pod share: the ports, and the loopback device on which they meet."""
    for node in scenario.nodes:
        for pod, runs in _pods(node):
            listening = [(run.name, listen) for run in runs for listen in run.listens]
            if len(runs) > 1 and listening:
                name, listen = listening[0]
                say = f"the containers of pod {pod} share its ports: {listen} is {name}'s and nobody else's"
                yield Check(say, "taken", pod, pod, listen.port, protocol=listen.protocol, origin="model")
                meet = f"and its loopback: they reach {name} at 127.0.0.1"
                yield Check(meet, listen.protocol, pod, "127.0.0.1", listen.port, listen=False, origin="model")


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Containers of one pod that want one name or one port."""
    for node in scenario.nodes:
        for pod, runs in _pods(node):
            at = f"nodes/{node.name}/pods/{pod}/containers"
            names: set[str] = set()
            ports: dict[object, str] = {}
            for number, run in enumerate(runs):
                if run.name in names or run.name == SANDBOX:
                    whose = "the sandbox's name" if run.name == SANDBOX else "there twice"
                    yield f"{at}/{number}", f"containers: {run.name!r} is {whose} in pod {pod}", "choose another name"
                names.add(run.name)
                for listen in run.listens:
                    if listen in ports:
                        what = f"containers: port {listen} of pod {pod} is {ports[listen]}'s already"
                        yield f"{at}/{number}", what, "containers of a pod share its ports: choose another"
                    ports.setdefault(listen, run.name)


def _pods(node: Node) -> Iterator[tuple[str, tuple[Run, ...]]]:
    """Each pod of which the file says something, with its containers."""
    settings = dict(node.settings)
    return ((pod, settings[pod].containers) for pod in node.pods if pod in settings)

"""What runs in a lab, as objects of its plan: pods' attachments by CNI plugins, and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.core.interface import Port


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's device, made by the plugins of a CNI network list that run in the node's namespace.

    `conflist` (as this node has it) and `args` (what there is to tell under each capability) are JSON text; `path`
    is where plugins are looked for, "" for the usual. What they make is observed after the ADD, and kept.
    """

    pod: str
    node: str
    conflist: str
    args: str = "{}"
    ifname: str = "eth0"
    path: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        return ("attachment", self.pod, self.ifname)

    @property
    def ns(self) -> str:
        return self.pod

    @property
    def at(self) -> Port:
        return Port(self.pod, self.ifname)


@dataclass(frozen=True, slots=True)
class Process:
    """A program that runs in a namespace for as long as the lab does: a container's, docker-proxy, a pod's pause.

    `name` is unique in its namespace. `command` is what runs; its first word may be one of `labctl.kernel.programs`
    (`pause`, `serve`, `docker-proxy`). A `sandbox` holds its namespace: a process namespace begins with it, in which
    runs what names it in `inside`, and with its end all of that goes, and the network. Any `pid` will do.
    """

    ns: str
    name: str
    command: tuple[str, ...]
    sandbox: bool = False
    inside: str | None = None
    pid: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return ("process", self.ns, self.name)

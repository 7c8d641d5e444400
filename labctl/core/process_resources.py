"""Objects of a plan that programs create or run: CNI attachments of pods, and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.core.interface import Port


@dataclass(frozen=True, slots=True)
class Attachment:
    """A pod's device, created by the plugins of a CNI network list, which run in the node's namespace.

    `conflist` (with this node's values) and `args` (the capability arguments, by capability) are JSON text. `path` is
    the plugins' search path (CNI_PATH), "" for the default. labctl observes what the plugins created after the ADD,
    and keeps a record of it.
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
    """A program that runs in a namespace as long as the lab runs: a container's program, docker-proxy, a pod's pause.

    `name` is unique in its namespace. `command` is the command line; its first word may be one of
    `labctl.kernel.programs` (`pause`, `serve`, `docker-proxy`). A `sandbox` process holds its network namespace. It is
    the first process of a new PID namespace, in which the processes run that name it in `inside`; when it ends, they
    end too, and the network is gone. `pid` is only in observed processes; None means any.
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

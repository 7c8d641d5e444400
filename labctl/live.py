"""The Python API for a running lab: its machines, commands in them, and its verbs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from labctl.definition import choose, recall
from labctl.errors import UsageError

if TYPE_CHECKING:
    from types import TracebackType

    from labctl.api import Traced
    from labctl.diff import Change
    from labctl.lab import Result
    from labctl.plan import IP
    from labctl.results import Report
    from labctl.scenario import Lab, Machine

TIMEOUT = 60.0  # seconds: the default timeout of a command


@dataclass(frozen=True, slots=True)
class Completed:
    """A command that ran in a machine: its exit code (127: not found, 128 + signal: killed) and its output."""

    node: str
    command: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        """Whether its exit code is 0."""
        return self.returncode == 0


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of a running lab: a pod, a container, a node, a host, the fabric, the internet."""

    name: str
    lab: RunningLab

    @property
    def addresses(self) -> tuple[IP, ...]:
        """Its addresses, the main address first; none if labctl's record of the lab is lost."""
        machine = self.lab.compiled.machine(self.name)
        return machine.addresses if machine is not None else ()

    @property
    def address(self) -> IP:
        """Its main address. Raises UsageError if it has none."""
        if not self.addresses:
            raise UsageError(f"{self.name} has no address")
        return self.addresses[0]

    def run(
        self, command: str | Sequence[str], *, timeout: float | None = TIMEOUT, input: str | None = None
    ) -> Completed:
        """Run a command in it, as `labctl exec` does, and wait for its end.

        A text runs with `sh -c`, so pipes work; a list is a program and its arguments. `input` is its standard input,
        empty by default. Every exit code is returned; none raises an error. Raises TimeoutError after `timeout` seconds
        (default 60; None: no limit), after killing the command and all processes that it started; KernelError if the
        machine cannot be entered.
        """
        from labctl.kernel import command as room

        words = ("sh", "-c", command) if isinstance(command, str) else tuple(command)
        if not words:
            raise UsageError("no command is given")
        found = room.run(self.lab.name, self.lab.home(self.name), words, timeout=timeout, input=input)
        return Completed(self.name, words, *found)

    def __repr__(self) -> str:
        return f"<{self.lab.name}/{self.name}>"


class RunningLab:
    """A running lab. `labctl.up` returns it; `RunningLab(name)` is a lab that runs now, `RunningLab()` the only one.

    `lab["a"]` is a machine. As a context manager, it is always removed at the end.
    """

    def __init__(self, name: str | None = None, result: Result | None = None) -> None:
        self.name: str = choose(name) if result is None else result.lab.name
        self.result = result  # what `up` did; None if the lab was already running

    @cached_property
    def compiled(self) -> Lab:
        """Its definition: plan, machines with their addresses, checks. Raises UsageError if the record is lost."""
        from labctl.attach import resolved

        return resolved(recall(self.name)) if self.result is None else self.result.lab

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its machines, including those that share another's namespace (Docker's `host` network)."""
        from labctl.kernel import places

        there = places.labs().get(self.name, ())
        return (*there, *(one.name for one in self._guests() if one.within in there))

    def home(self, node: str) -> str:
        """The namespace of a machine. Raises UsageError with a suggestion if the machine does not exist."""
        __tracebackhide__ = True  # pytest shows the caller's line
        if node not in self.nodes:
            import difflib

            close = difflib.get_close_matches(str(node), self.nodes, 1, 0.5)
            known = f"its machines are {', '.join(self.nodes)}" if self.nodes else "the lab is down"
            hint = f"did you mean {close[0]}? {known}" if close else known
            raise UsageError(f"lab {self.name} has no machine {node!r}", hint)
        return next((str(one.within) for one in self._guests() if one.name == node), node)

    def _guests(self) -> tuple[Machine, ...]:
        """The machines that share the namespace of another machine."""
        try:
            return tuple(one for one in self.compiled.machines if one.within is not None)
        except UsageError:  # the record of the lab is lost
            return ()

    def __getitem__(self, node: str) -> Node:
        __tracebackhide__ = True
        self.home(node)
        return Node(node, self)

    def __contains__(self, node: object) -> bool:
        return node in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __bool__(self) -> bool:
        return True

    def status(self) -> tuple[Change, ...]:
        """Every current difference between the kernel and the definition; empty if there is no drift."""
        from labctl import lab as labs

        return labs.status(self.name, recall(self.name))

    def check(self, word: str | None = None, *, pcap: str | os.PathLike[str] | None = None) -> Report:
        """Prove its claims with packets, as `labctl.check` does. `report.verdict` is "pass" if all are true."""
        from labctl import api

        return api.check(self, word, pcap=pcap)

    def trace(
        self,
        source: str,
        target: str,
        *,
        tcp: int | None = None,
        udp: int | None = None,
        size: int | None = None,
        fragment: bool = False,
        listen: bool = False,
    ) -> Traced:
        """Follow one packet between two of its machines, as `labctl.trace` does."""
        from labctl import api

        how: dict[str, Any] = {"tcp": tcp, "udp": udp, "size": size, "fragment": fragment, "listen": listen}
        return api.trace(source, target, lab=self, **how)

    def down(self) -> tuple[str, ...]:
        """Remove it. Returns the machines that were removed. Can be called twice."""
        from labctl import api

        return api.down(self)

    def __enter__(self) -> RunningLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def __repr__(self) -> str:
        return f"<lab {self.name}>"

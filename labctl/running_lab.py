"""The Python API for a running lab: its machines, commands in them, and its verbs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from labctl.core import result_log
from labctl.core.text import short_repr
from labctl.errors import MissingError, UsageError
from labctl.lab.records import load_compiled_lab, resolve_lab_name

if TYPE_CHECKING:
    from types import TracebackType

    from labctl.core.diff import Change
    from labctl.core.lab_results import UpResult
    from labctl.core.resources import IP, Resource
    from labctl.core.results import Outcome, Report
    from labctl.core.scenario_types import Check, Lab, ListeningPort, Machine
    from labctl.kernel.node_exec.background import BackgroundProcess
    from labctl.packets.decode import Frame
    from labctl.report.node_view import NodeView
    from labctl.tracing.comparison import TraceComparison
    from labctl.tracing.evidence import TraceEvidence
    from labctl.tracing.result import TraceResult, TraceVerdict

MessageCallback: TypeAlias = Callable[[str], None]
ROOT_HINT = "run this program as root, with sudo; or in a separate user namespace, as docs/rootless.md says"
TIMEOUT_S = 60.0  # the default timeout of a command in seconds
START_TIMEOUT_S = 10.0  # seconds within which a program must listen on its port


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

    def __repr__(self) -> str:
        last = (self.stderr.strip() or self.stdout.strip()).splitlines()[-1:]
        words = " ".join(self.command)
        words = words if len(words) <= 80 else f"{words[:79]}…"
        return short_repr(
            self, f"{self.node}: exit code {self.returncode}: {words}{''.join(f': {line}' for line in last)}"
        )

    def __str__(self) -> str:
        """The command, what it printed, and its exit code."""
        printed = [part.rstrip("\n") for part in (self.stdout, self.stderr) if part]
        return "\n".join([f"{self.node}$ {' '.join(self.command)}", *printed, f"exit code {self.returncode}"])


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
        self, command: str | Sequence[str], *, timeout: float | None = TIMEOUT_S, input: str | None = None
    ) -> Completed:
        """Run a command in it, as `labctl exec` does, and wait for its end.

        A text runs with `sh -c`, so pipes work; a list is a program and its arguments. `input` is its standard input,
        empty by default. Every exit code is returned; none raises an error. Raises TimeoutError after `timeout` seconds
        (default 60; None: no limit), after killing the command and all processes that it started; KernelError if the
        machine cannot be entered.
        """
        from labctl.kernel.node_exec import run_command

        argv = _argv(command)
        found = run_command.run(self.lab.name, self.lab.namespace_of(self.name), argv, timeout_s=timeout, input=input)
        return Completed(self.name, argv, *found)

    def start(
        self, command: str | Sequence[str], *, wait_port: int | str | None = None, timeout: float = START_TIMEOUT_S
    ) -> BackgroundProcess:
        """Start a program in the background of it, and with `wait_port` wait until the program listens on that port.

        `wait_port` is 80 or "80/tcp", or "53/udp"; the socket must belong to the program, or to a process that it
        started. A text runs with `sh -c`, a list is a program and its arguments. The standard input is empty, and
        `.output` has what was printed. The program runs until `.stop()`, the end of the `with` block, or the end of
        the lab; all that it started ends with it. Raises UsageError if there is no such program, or if it ends before
        it listens, with its exit code and its last lines; TimeoutError after `timeout` seconds; KernelError if the
        machine cannot be entered.
        """
        from labctl.kernel.node_exec import background

        port = None if wait_port is None else _port(wait_port)
        argv = _argv(command)
        started = background.start(self.lab.name, self.lab.namespace_of(self.name), argv, name=self.name)
        self.lab.background.append(started)
        if port is not None:
            try:
                started.wait_for_port(port, timeout)
            except BaseException:
                started.stop()
                raise
        return started

    def __repr__(self) -> str:
        return f"<{self.lab.name}/{self.name}>"


def _argv(command: str | Sequence[str]) -> tuple[str, ...]:
    argv = ("sh", "-c", command) if isinstance(command, str) else tuple(command)
    if not argv:
        raise UsageError("no command is given")
    return argv


def _port(value: int | str) -> ListeningPort:
    """The value of `wait_port`. Raises UsageError."""
    from labctl.scenario.field_types import InvalidValue
    from labctl.scenario.port_values import LISTENING_PORT

    try:
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            raise InvalidValue(f"{value!r} is not a port", "")
        port: ListeningPort = LISTENING_PORT.convert(str(value))
    except InvalidValue as error:
        raise UsageError(f"wait_port={value!r}: {error}", "80 or '80/tcp' for TCP, '53/udp' for UDP") from None
    return port


@dataclass(frozen=True, slots=True)
class Traced:
    """One packet that was followed: the result, the evidence for it, and the frames that were captured."""

    story: TraceResult
    evidence: TraceEvidence
    frames: tuple[Frame, ...] = field(default=(), repr=False)
    names: Mapping[IP, str] = field(default_factory=dict, repr=False)

    @property
    def verdict(self) -> TraceVerdict:
        """`answered`, `refused`, `unanswered` or `lost`."""
        return self.story.verdict

    @property
    def answered(self) -> bool:
        """Whether it was delivered and its reply came back."""
        return self.story.verdict == "answered"

    @property
    def hops(self) -> tuple[str, ...]:
        """The machines that the request passed, its sender first. A machine that it passed twice appears twice."""
        return tuple(step.node for leg in self.story.legs if leg.name == "request" for step in leg.steps)

    def __repr__(self) -> str:
        return short_repr(self, repr(self.story).removeprefix(f"<{type(self.story).__name__} ").removesuffix(">"))

    def __str__(self) -> str:
        """What `labctl trace` prints in a pipe."""
        from labctl.report.trace import lines

        return "\n".join(lines(self.story))

    def compare(self, other: Traced) -> TraceComparison:
        """Compare it with another trace: `.difference` is the first place where the other packet met something else."""
        from labctl.tracing.comparison import compare_traces

        return compare_traces(self.story, other.story)

    def save(self, path: str | os.PathLike[str], *others: Traced) -> None:
        """Write its packets, and those of other traces of the lab, as one pcapng file, with the lab's names for
        Wireshark. Raises UsageError."""
        from labctl.packets.pcapng import pcapng
        from labctl.report.output_files import write_bytes

        traces = (self, *others)
        comment = "; ".join(f"{one.story.probe}: {one.story.sentence}" for one in traces)
        frames = [frame for one in traces for frame in one.frames]
        write_bytes(os.fspath(path), pcapng(frames, dict(self.names), comment))


class RunningLab:
    """A running lab. `labctl.up` returns it; `RunningLab(name)` is a lab that runs now, `RunningLab()` the only one.

    `lab["a"]` is a machine. As a context manager, it is always removed at the end.
    """

    def __init__(
        self, name: str | None = None, result: UpResult | None = None, *, definition: Lab | None = None
    ) -> None:
        self._definition = definition  # its compiled definition, if the caller has it; else it is in the record
        lab = result.lab if result is not None else definition
        self.name: str = resolve_lab_name(name) if lab is None else lab.name
        self.result = result  # the result of `up`; None if the lab was already running
        self.background: list[BackgroundProcess] = []  # all that was started in its machines with `start`

    @cached_property
    def compiled(self) -> Lab:
        """Its definition: plan, machines with their addresses, checks. Raises UsageError if the record is lost."""
        from labctl.lab.cni_attach import with_pod_addresses

        return with_pod_addresses(load_compiled_lab(self.name)) if self.result is None else self.result.lab

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of its machines, including those that share another's namespace (Docker's `host` network)."""
        from labctl.kernel.host import paths

        running = paths.labs().get(self.name, ())
        return (*running, *(machine.name for machine in self._machines_sharing_netns() if machine.netns_of in running))

    def namespace_of(self, node: str) -> str:
        """The namespace of a machine. Raises UsageError with a suggestion if the machine does not exist."""
        __tracebackhide__ = True  # pytest shows the caller's line
        if node not in self.nodes:
            from labctl.core.names import did_you_mean

            machines = f"its machines are {', '.join(self.nodes)}" if self.nodes else "the lab is down"
            hint = f"{did_you_mean(str(node), self.nodes, 0.5)} {machines}".lstrip()
            raise UsageError(f"lab {self.name} has no machine {node!r}", hint)
        return next((str(machine.netns_of) for machine in self._machines_sharing_netns() if machine.name == node), node)

    def _machines_sharing_netns(self) -> tuple[Machine, ...]:
        """The machines that share the namespace of another machine."""
        try:
            return tuple(machine for machine in self.compiled.machines if machine.netns_of is not None)
        except UsageError:  # the record of the lab is lost
            return ()

    def __getitem__(self, node: str) -> Node:
        __tracebackhide__ = True
        self.namespace_of(node)
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
        from labctl.lab import lifecycle

        return lifecycle.status(self.name, load_compiled_lab(self.name))

    @contextmanager
    def fault(self, kind: str, on: str | None = None) -> Iterator[str]:
        """Give the lab a fault of the catalogue for the time of a `with` block, as `labctl break` and `fix` do.

        `on` is the object (`node1`, `node1/eth0`); without it, the first that fits. Gives the name of the object.
        Raises UsageError if the fault does not fit, KernelError if the kernel refuses it.
        """
        from labctl.faults.catalogue import find_fault
        from labctl.lab.break_fix import break_lab, fix
        from labctl.lab.cni_attach import with_plugin_results

        require_root("break")
        lab = with_plugin_results(self._recorded())
        record = break_lab(lab, find_fault(lab, kind, on))
        try:
            yield record.on
        finally:
            fix(lab, [record])

    def check(
        self,
        word: str | None = None,
        *,
        pcap: str | os.PathLike[str] | None = None,
        keep: Callable[[Check, bytes], str] | None = None,
        progress: Callable[[Outcome], None] | None = None,
        all_pairs: bool = False,
    ) -> Report:
        """Prove its claims with packets, as `labctl.check` does. `report.verdict` is "pass" if all are true."""
        from labctl.checks import runner

        require_root("check")
        if pcap is not None and keep is None:
            from labctl.report.output_files import pcap_writer

            keep = pcap_writer(os.fspath(pcap), _log)
        report = runner.run(self._recorded(), word, progress, keep, all_pairs=all_pairs)
        result_log.publish(self.name, report)
        return report

    def trace(
        self,
        source: str,
        target: str,
        *,
        tcp: int | None = None,
        udp: int | None = None,
        size: int | None = None,
        fragment: bool = False,
        sport: int | None = None,
        listen: bool | str = False,
        progress: MessageCallback | None = None,
        warn: MessageCallback | None = None,
    ) -> Traced:
        """Follow one packet between two of its machines, as `labctl.trace` does."""
        from labctl.kernel.rule_trace.trace_setup import TraceSetup

        require_root("trace")
        options: dict[str, object] = {"icmp": False, "tcp": tcp, "udp": udp, "size": size, "fragment": fragment}
        options |= {"sport": sport, "listen": listen}
        with TraceSetup(self.name) as setup:  # the kernel creates, and later removes, a tracing instance meanwhile
            from labctl.core.resources import Attachment
            from labctl.core.topology import Topology

            lab = self._recorded()
            if any(isinstance(item, Attachment) for item in lab.plan):
                from labctl.lab.cni_attach import with_plugin_results

                lab = with_plugin_results(lab)
            topology = Topology(lab)
            from labctl.tracing.request import question_of
            from labctl.tracing.run import trace_packet

            question = question_of(topology, source, target, options)
            evidence, frames = trace_packet(
                topology.lab,
                question,
                setup=setup,
                progress=progress or (lambda _: None),
                warn=warn or _log,
            )
            from labctl.kernel.host import paths
            from labctl.tracing.diagnosis import diagnose
            from labctl.tracing.result import with_command

            story = with_command(diagnose(evidence), paths.command_prefix(self.name), paths.sudo())
            traced = Traced(story, evidence, tuple(frames), topology.machine_by_address)
        result_log.publish(self.name, traced)
        return traced

    def down(self, *, warn: MessageCallback | None = None, force: bool = False) -> tuple[str, ...]:
        """Remove it; with `force`, also the lab of another user. Returns the machines that were removed. Can be called
        twice."""
        removed = remove(self.name, warn, force=force)  # also ends all processes in its namespaces
        while self.background:
            self.background.pop().stop()
        return removed

    def _recorded(self) -> Lab:
        """Its compiled definition, from the caller or from the record. Raises UsageError if the record is lost."""
        return self._definition if self._definition is not None else load_compiled_lab(self.name)

    def __enter__(self) -> RunningLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    def __repr__(self) -> str:
        return f"<lab {self.name}>"


def remove(name: str, warn: MessageCallback | None = None, *, force: bool = False) -> tuple[str, ...]:
    """Remove a lab; returns its machines that were removed. Needs root. `warn` gets the errors of CNI plugins."""
    from labctl.lab import lifecycle

    require_root("down")
    return lifecycle.down(name, force=force, warn=warn)


def read_views(lab: str, nodes: Sequence[str], *, details: bool) -> list[NodeView]:
    """All that the kernel holds in these nodes of a lab, for `show`; with `details`, also what only one node's page
    shows (see `read_nodes`). Needs root."""
    from labctl.kernel.observe.node_view import read_nodes
    from labctl.lab import lifecycle
    from labctl.report.node_view import NodeView

    objects: dict[str, list[Resource]] = {one: [] for one in nodes}
    for item in lifecycle.observe(lab):
        objects.get(item.ns, []).append(item)
    states = read_nodes(lab, nodes, details=details)
    return [NodeView(one, tuple(objects[one]), state) for one, state in states.items()]


def require_root(verb: str) -> None:
    """Raise MissingError without root, LimitError if only a few files can be opened (`down` needs no more). With root,
    also remove what killed verbs left."""
    if os.geteuid() != 0:
        raise MissingError(f"labctl.{verb} needs root", ROOT_HINT)
    from labctl.kernel.host import limits, paths

    if verb != "down":
        limits.prepare_open_files()
    if paths.has_unfinished_work():
        from labctl.lab.leftovers import sweep

        for sentence in sweep():
            _log(sentence)


def _log(text: str) -> None:
    import logging

    logging.getLogger("labctl").warning("%s", text)

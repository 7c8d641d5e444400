"""Faults of programs that listen: missing, on loopback only, on another port."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from labctl.core.diff import Change
from labctl.core.resources import Process
from labctl.core.scenario_types import Check
from labctl.core.sentence import sentence
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects, ProbeProtocol, Traffic

SERVE = "serve"  # labctl's own server, the program of a container with ports


def _served(objects: LabObjects) -> Iterator[tuple[Process, int, Check]]:
    """The ports of servers to which a check claims a connection from another machine: the program, the place of the
    port among its words, and the check."""
    for process in objects.all(Process):
        if process.command[:1] != (SERVE,):
            continue
        for place, word in enumerate(process.command[2:], 2):
            protocol, _, port = word.partition(":")
            for check in objects.lab.checks:
                if (check.probe, str(check.port), check.expect) != (protocol, port, "reply") or check.listen:
                    continue
                end = objects.topology.namespace_of(check.target)
                machine = objects.topology.machines.get(end or "")
                home = machine.netns_of if machine is not None and machine.netns_of is not None else end
                outside = not check.target.startswith("127.") and check.source != process.ns
                if home == process.ns and outside:
                    yield process, place, check
                    break


def _traffic(check: Check) -> tuple[Traffic, ...]:
    protocols: tuple[ProbeProtocol, ...] = ("tcp",) if check.probe == "tcp" else ("udp",)
    return (Traffic(check.source, check.target, protocols, check.port, listen=False),)


def _absent(objects: LabObjects) -> Iterator[Fault]:
    done = set()
    for process, _, check in _served(objects):
        if process.key in done:
            continue
        done.add(process.key)
        name = f"{process.ns}/{process.name}"
        causes = (ExpectedCause(("closed-port",), (process.ns, str(check.port))),)
        yield Fault("listener-missing", name, (Change(None, process),), causes, _traffic(check))


def _elsewhere(kind: str, objects: LabObjects) -> Iterator[Fault]:
    """The program with one word changed: another port, or 127.0.0.1."""
    for process, place, check in _served(objects):
        protocol, _, port = process.command[place].partition(":")
        other = f"{protocol}:127.0.0.1:{port}" if kind == "listener-loopback" else f"{protocol}:{int(port) + 1}"
        broken = replace(process, command=(*process.command[:place], other, *process.command[place + 1 :]))
        causes = (ExpectedCause(("closed-port",), (process.ns, port)),)
        if kind == "listener-loopback":
            causes = (ExpectedCause(("loopback-only",), (process.ns, f"127.0.0.1:{port}")),)
        name = f"{process.ns}/{process.name}/{protocol}:{port}"
        yield Fault(kind, name, (Change(broken, process),), causes, _traffic(check))


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "listener-missing",
        sentence("The program that should listen on a port does not run."),
        sentence("Connections to the port are refused: nothing listens there."),
        _absent,
    ),
    FaultKind(
        "listener-loopback",
        sentence("A program listens at 127.0.0.1 only."),
        sentence("Connections from other machines are refused; those from the machine itself work."),
        partial(_elsewhere, "listener-loopback"),
    ),
    FaultKind(
        "listener-wrong-port",
        sentence("A program listens on another port."),
        sentence("Connections to the port that was agreed are refused."),
        partial(_elsewhere, "listener-wrong-port"),
    ),
)

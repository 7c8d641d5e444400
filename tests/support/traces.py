"""Traces of running labs, and the recordings of them in tests/golden/traces."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

from labctl.core.topology import Topology
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.packets.decode import Frame
from labctl.render import dataclass_json
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.request import question_of
from labctl.tracing.result import TraceResult
from labctl.tracing.run import trace_packet
from tests.support.paths import GOLDEN

TRACES = GOLDEN / "traces"


def recording(name: str) -> TraceEvidence:
    """The evidence of a recorded trace: read once, and without what another test found in it."""
    return replace(_read_once(name))


@cache
def _read_once(name: str) -> TraceEvidence:
    return dataclass_json.from_json(TraceEvidence, json.loads((TRACES / f"{name}.json").read_text()))


def words_of(probe: str) -> tuple[str, str, dict[str, object]]:
    """A probe as the command line takes it."""
    source, target, *rest = probe.split()
    options: dict[str, object] = {
        "icmp": False,
        "tcp": None,
        "udp": None,
        "size": None,
        "fragment": False,
        "listen": False,
        "sport": None,
    }
    while rest:
        flag = rest.pop(0).removeprefix("--")
        if flag == "listen" and rest and ":" in rest[0]:
            options[flag] = rest.pop(0)
            continue
        options[flag] = int(rest.pop(0)) if flag in ("tcp", "udp", "size", "sport") else True
    return source, target, options


def traced(name: str, probe: str) -> tuple[TraceEvidence, TraceResult]:
    """Trace on a running lab."""
    evidence, _ = traced_frames(name, probe)
    return evidence, diagnose(evidence)


def traced_frames(name: str, probe: str) -> tuple[TraceEvidence, list[Frame]]:
    """The evidence of a trace on a running lab, and its frames."""
    source, target, options = words_of(probe)
    who = Topology(lifecycle.load_compiled_lab(name))
    return trace_packet(who.lab, question_of(who, source, target, options))


@contextmanager
def trace_lab(folder: Path, text: str, name: str) -> Iterator[lifecycle.Definition]:
    """A lab of the trace cases under another name: tracing instances of all test workers lie side by side."""
    file = folder / f"{name}.yaml"
    file.write_text(re.sub("^name: .*", f"name: {name}", text, flags=re.MULTILINE))
    definition = lifecycle.define(str(file))
    lifecycle.up(definition)
    try:
        yield definition
    finally:
        lifecycle.down(name)


def forget_neighbours(name: str) -> None:
    """Remove the neighbours that the machines of a lab have learned, so that a trace begins as in a new lab."""
    for node in paths.labs()[name]:
        subprocess.run(["ip", "-n", paths.netns_name(name, node), "neigh", "flush", "all"], check=True)


def broken(name: str, command: str) -> None:
    node, _, words = command.partition(": ")
    words = words.replace("tables-legacy", f"tables-{backend.backend_of(name)}")
    subprocess.run(["ip", "netns", "exec", paths.netns_name(name, node), *words.split()], check=True)

"""Traces on live labs: one thing is broken, and the story names it. Recordings of them are the goldens of
`test_trace_story.py`: `LABCTL_GOLDEN=write ./scripts/test tests/test_trace_live.py` makes them anew."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from trace_cases import CASES, LABS, Case, routes_of

from labctl.core.topology import Topology
from labctl.kernel.firewall import backend
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.lab import lifecycle
from labctl.render import dataclass_json
from labctl.tracing.diagnosis import diagnose
from labctl.tracing.evidence import TraceEvidence
from labctl.tracing.request import question_of
from labctl.tracing.result import TraceResult
from labctl.tracing.run import trace_packet

pytestmark = pytest.mark.root
TRACES = Path(__file__).parent / "traces"


@pytest.fixture(scope="module")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, lifecycle.Definition]]:
    """The labs of the cases, up."""
    folder = tmp_path_factory.mktemp("labs")
    made = {}
    for name, text in LABS.items():
        (folder / f"{name}.yaml").write_text(text)
        made[name] = lifecycle.define(str(folder / f"{name}.yaml"))
        lifecycle.up(made[name])
    yield made
    for name in LABS:
        lifecycle.down(name)


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
    }
    while rest:
        flag = rest.pop(0).removeprefix("--")
        options[flag] = int(rest.pop(0)) if flag in ("tcp", "udp", "size") else True
    return source, target, options


def traced(name: str, probe: str) -> tuple[TraceEvidence, TraceResult]:
    """Trace on a running lab."""
    source, target, options = words_of(probe)
    who = Topology(lifecycle.load_compiled_lab(name))
    evidence, _ = trace_packet(who.lab, question_of(who, source, target, options), listen=bool(options["listen"]))
    return evidence, diagnose(evidence)


@contextmanager
def listening(name: str, words: str) -> Iterator[None]:
    """A listener that never answers: `tcp h2 127.0.0.1 80`."""
    kind, node, address, port = words.split()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with NetnsThread() as inside:
        path = paths.netns_path(name, node)
        style = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
        with inside.run(path, socket.socket, family, style) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, int(port)))
            if kind == "tcp":
                sock.listen()
            yield


def broken(name: str, command: str) -> None:
    node, _, words = command.partition(": ")
    words = words.replace("tables-legacy", f"tables-{backend.backend_of(name)}")
    subprocess.run(["ip", "netns", "exec", paths.netns_name(name, node), *words.split()], check=True)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_broken_is_told(case: Case, labs: dict[str, lifecycle.Definition]) -> None:
    try:
        for command in case.breaks:
            broken(case.lab, command)
        with ExitStack() as stack:
            if case.listen:
                stack.enter_context(listening(case.lab, case.listen))
            evidence, story = traced(case.lab, case.probe)
    finally:
        lifecycle.up(labs[case.lab])
    if os.environ.get("LABCTL_GOLDEN") == "write":
        (TRACES / f"{case.name}.json").write_text(json.dumps(dataclass_json.to_json(evidence)) + "\n")
    told = [note.text for note in story.facts]
    assert story.verdict == case.verdict, (story.sentence, story.why, told)
    assert case.place in story.sentence
    if case.kind is None:
        assert story.why is None or case.verdict == "lost"
    else:
        assert story.why is not None, (story.sentence, told)
        assert story.why.kind == case.kind, (story.why, told)
        assert case.says in story.why.sentence
    assert any(case.fact in text for text in told) or not case.fact, told
    assert not case.routes or routes_of(story) == case.routes

"""Traces on live labs: one thing is broken, and the trace names it.

The recordings of them are the input of tests/unit/tracing/test_diagnosis.py. `./scripts/test
tests/live/tracing/test_diagnosis.py --update-golden` makes new ones.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from threading import Event, Thread

import pytest

from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.lab import lifecycle
from labctl.render import dataclass_json
from tests.support import (
    load_balancer_trace_cases,
    trace_end_cases,
    trace_policy_cases,
    trace_port_cases,
    trace_snat_cases,
)
from tests.support.golden import Golden
from tests.support.trace_cases import CASES as PATH_CASES
from tests.support.trace_cases import LABS as PATH_LABS
from tests.support.trace_cases import Case, routes_of, rules_of
from tests.support.traces import broken, forget_neighbours, traced

pytestmark = pytest.mark.firewall
CASES = (
    *PATH_CASES,
    *trace_end_cases.CASES,
    *trace_policy_cases.CASES,
    *trace_port_cases.CASES,
    *trace_snat_cases.CASES,
    *load_balancer_trace_cases.CASES,
)
LABS = PATH_LABS | trace_end_cases.LABS | trace_policy_cases.LABS | trace_port_cases.LABS | trace_snat_cases.LABS
LABS |= load_balancer_trace_cases.LABS


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


@contextmanager
def listening(name: str, words: str) -> Iterator[None]:
    """A listener that never answers, or returns each datagram as it came: `tcp h2 127.0.0.1 80`, `echo c1 ::1 53`."""
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
            with echoing(sock) if kind == "echo" else nullcontext():
                yield


@contextmanager
def echoing(sock: socket.socket) -> Iterator[None]:
    """Return every datagram to its sender, from a thread."""
    stop = Event()

    def serve() -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                sock.sendto(*sock.recvfrom(65536))

    sock.settimeout(0.05)
    thread = Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_broken_is_told(case: Case, labs: dict[str, lifecycle.Definition], golden: Golden) -> None:
    forget_neighbours(case.lab)
    try:
        for command in case.breaks:
            broken(case.lab, command)
        with ExitStack() as stack:
            if case.listen:
                stack.enter_context(listening(case.lab, case.listen))
            evidence, story = traced(case.lab, case.probe)
    finally:
        lifecycle.up(labs[case.lab])
    golden(f"traces/{case.name}.json").record(json.dumps(dataclass_json.to_json(evidence)) + "\n")
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
    assert not case.rules or rules_of(story) == case.rules

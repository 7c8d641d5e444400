"""A worker process, from both sides: its protocol, and what happens when it ends. No lab and no root."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from labctl.errors import UsageError
from labctl.view import processes
from labctl.view.processes import WorkerError, WorkerProcess, command
from labctl.view.protocol import Lines, encode, error_document
from tests.support.command_line import pretend_empty_machine

ECHO = """
import json, os, signal, sys, time
for line in sys.stdin:
    request = json.loads(line)
    send = lambda **found: print(json.dumps({"id": request["id"], **found}), flush=True)
    verb = request["verb"]
    if verb == "die":
        sys.stderr.write("it is broken\\n")
        sys.exit(3)
    if verb == "garbage":
        print("{", flush=True)
    if verb == "wait":
        send(event={"waits": os.getpid()})
        time.sleep(60)
    for number in range(request["arguments"].get("events", 0)):
        send(event={"number": number})
    send(result={"pid": os.getpid(), **request["arguments"]})
"""


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch) -> WorkerProcess:
    monkeypatch.setattr(processes, "command", lambda lab: [sys.executable, "-c", ECHO])
    return WorkerProcess("k")


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_one_process_answers_all_requests_in_order_with_their_events(echo: WorkerProcess) -> None:
    async def run() -> None:
        events: list[Any] = []
        answers = await asyncio.gather(*(echo.request("x", {"events": 3, "n": n}, events.append) for n in range(4)))
        assert [answer["n"] for answer in answers] == [0, 1, 2, 3]
        assert len({answer["pid"] for answer in answers}) == 1
        assert events == [{"number": number} for number in range(3)] * 4
        await echo.close()
        assert not is_there(answers[0]["pid"])

    asyncio.run(run())


@pytest.mark.parametrize("verb", ["die", "garbage"])
def test_a_process_that_ends_is_an_error_and_the_next_request_starts_another(echo: WorkerProcess, verb: str) -> None:
    async def run() -> None:
        first = (await echo.request("x", {}))["pid"]
        with pytest.raises(WorkerError) as caught:
            await echo.request(verb, {})
        assert caught.value.document["kind"] == "ended"
        assert ("it is broken" in str(caught.value)) == (verb == "die")
        assert (await echo.request("x", {}))["pid"] != first
        await echo.close()

    asyncio.run(run())


def test_closing_interrupts_a_verb(echo: WorkerProcess) -> None:
    async def run() -> None:
        events: list[Any] = []
        waiting = asyncio.create_task(echo.request("wait", {}, events.append))
        while not events:
            await asyncio.sleep(0.01)
        await echo.close()
        with pytest.raises(WorkerError):
            await waiting
        assert not is_there(events[0]["waits"])
        await echo.close()  # nothing is left to end

    asyncio.run(run())


def test_the_worker_starts_from_any_folder_and_imports_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_empty_machine(monkeypatch, tmp_path)
    (tmp_path / "json.py").write_text("raise SystemExit('the json.py of the current folder')")
    monkeypatch.chdir(tmp_path)
    assert command("k")[1] == "-I"

    async def run() -> None:
        worker = WorkerProcess("k")
        assert await worker.request("status", {}) == {"gone": True}
        with pytest.raises(WorkerError, match="no lab 'k' runs"):
            await worker.request("trace", {"from": "a", "to": "b"})
        with pytest.raises(WorkerError) as caught:
            await worker.request("nothing", {})
        assert caught.value.document["kind"] == "bug"
        await worker.close()

    asyncio.run(run())


def test_the_worker_ends_with_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_empty_machine(monkeypatch, tmp_path)

    async def run() -> None:
        worker = WorkerProcess("k")
        await worker.request("status", {})
        child = worker._child
        assert child is not None
        child._process.stdin.close()  # type: ignore[union-attr]
        deadline = time.monotonic() + 20
        while not child.wait(0.05):
            assert time.monotonic() < deadline
        assert child.returncode == 128 + signal.SIGTERM
        await worker.close()

    asyncio.run(run())


def test_lines_are_put_together_and_a_line_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lines, documents = Lines(), [{"text": "ä\n"}, {"n": 1}]
    data = b"".join(map(encode, documents))
    assert [found for at in range(len(data)) for found in lines.add(data[at : at + 1])] == documents
    monkeypatch.setattr("labctl.view.protocol.MAX_LINE_BYTES", 10)
    with pytest.raises(ValueError, match="too long"):
        lines.add(b"x" * 11)


def test_an_error_goes_through_the_protocol() -> None:
    document = error_document(UsageError("what", "hint"))

    assert json.loads(encode(document)) == {"error": "what", "hint": "hint", "kind": "usage"}

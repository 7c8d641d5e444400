"""Ask the servers behind an address who they are: many connections, each from another source port.

labctl's server (`labctl.kernel.programs.serve`) answers with its machine and with the client that it saw.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from labctl.core.resources import IP
from labctl.core.results import BackendAnswer
from labctl.core.sentence import sentence
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.clients import _Client

WINDOW = 32  # connections at the same time; a server's backlog holds twice as many
DATAGRAM = b"GET /who"
EXHAUSTED_ERRNOS = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}  # problems of this machine
MAX_ANSWER_BYTES = 65536


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked where. `host` and `path` are those of the HTTP request; a datagram has none."""

    address: IP
    port: int
    protocol: str
    host: str = ""
    path: str = "/who"

    @property
    def request(self) -> bytes:
        """The bytes to send."""
        if self.protocol == "udp":
            return DATAGRAM
        ip = self.address
        host = self.host or (f"[{ip}]" if ip.version == 6 else str(ip))
        return f"GET {self.path} HTTP/1.0\r\nHost: {host}\r\nAccept: application/json\r\n\r\n".encode()


def ask(
    thread: NetnsThread, netns: Path, question: Question, count: int, timeout_s: float
) -> tuple[BackendAnswer, ...]:
    """The answers to `count` connections from a namespace; each may take `timeout_s` seconds. After one that failed,
    no more begin.

    Raises OSError if the namespace cannot be entered.
    """
    found: list[BackendAnswer] = []
    waiting: dict[_Conversation, float] = {}
    left = count
    try:
        while left or waiting:
            new = min(WINDOW - len(waiting), left)
            if new:
                deadline = time.monotonic() + timeout_s
                waiting |= dict.fromkeys(thread.run(netns, _begin, question, new), deadline)
                left -= new
            for one in _finished(waiting):
                found.append(one.result())
                left = 0 if found[-1].problem else left
                one.close()
                del waiting[one]
    finally:
        for one in waiting:
            one.close()
    return tuple(found)


def _begin(question: Question, count: int) -> list[_Conversation]:
    """Begin conversations. Runs inside the source's namespace."""
    kind = _Datagram if question.protocol == "udp" else _Stream
    return [kind(question) for _ in range(count)]


def _finished(waiting: dict[_Conversation, float]) -> list[_Conversation]:
    """Wait until at least one conversation is over, or its time is."""
    while True:
        for one in waiting:
            one.step()
        now = time.monotonic()
        for one, deadline in waiting.items():
            if now >= deadline:
                one.time_out()
        if done := [one for one in waiting if one.answer is not None]:
            return done
        poll = select.poll()
        for one in waiting:
            for fd, events in one.fds():
                poll.register(fd, events)
        poll.poll(max(1, (min(waiting.values()) - now) * 1000))


class _Conversation(_Client):
    """A question and its answer, from a source port that no earlier probe used."""

    def __init__(self, question: Question, kind: int) -> None:
        family = socket.AF_INET if question.address.version == 4 else socket.AF_INET6
        super().__init__(socket.socket(family, kind | socket.SOCK_CLOEXEC))
        self._request, self.received = question.request, b""
        try:
            self._bind(None, question.port)
            number = self._socket.connect_ex((str(question.address), question.port))
        except OSError as error:
            number = error.errno or 0
        if number not in (0, errno.EINPROGRESS):
            self._fail(number, "broken" if number in EXHAUSTED_ERRNOS else "unreachable")

    def result(self) -> BackendAnswer:
        """What the answer says."""
        if self.answer != "reply":
            return BackendAnswer(problem=self.detail, tool_fault=self.answer == "broken")
        body = self.received.partition(b"\r\n\r\n")[2] if self.received.startswith(b"HTTP/") else self.received
        return read_answer(body)


class _Stream(_Conversation):
    """A connection with an HTTP request."""

    def __init__(self, question: Question) -> None:
        self._is_connected = False
        super().__init__(question, socket.SOCK_STREAM)

    def _events(self) -> int:
        return int(select.POLLIN if self._is_connected else select.POLLOUT)

    def _step(self) -> None:
        if not self._is_connected:
            if not self._check_connection():
                return
            self._is_connected = True
            self._socket.send(self._request)
        while data := self._socket.recv(4096):
            self.received += data
            if len(self.received) > MAX_ANSWER_BYTES:
                break
        if self.received:
            self.set_answer("reply", "")
        else:
            self.set_answer("unreachable", sentence("the connection was closed without an answer"))


class _Datagram(_Conversation):
    """A datagram and its answer."""

    def __init__(self, question: Question) -> None:
        super().__init__(question, socket.SOCK_DGRAM)
        if self.answer is None:
            try:
                self._socket.send(self._request)
            except OSError as error:
                self._fail_to_send(error.errno or 0)

    def _step(self) -> None:
        self.received = self._socket.recv(4096)
        self.set_answer("reply", "")


def read_answer(body: bytes) -> BackendAnswer:
    """An answer of labctl's server; one without a machine if another server has answered."""
    try:
        fields: dict[str, Any] = json.loads(body)
        host, _, port = str(fields["client"]).rpartition(":")
        client, name = ip_address(host.strip("[]")), str(fields["name"])
        forwarded_for = str(fields.get("forwarded_for") or "")
        return BackendAnswer(str(fields["machine"]), client, int(port), name, forwarded_for=forwarded_for)
    except (ValueError, KeyError, TypeError):
        return BackendAnswer()

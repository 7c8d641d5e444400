"""Connections between many pairs of namespaces at one port: TCP and SCTP connect, UDP asks and is echoed.

Each target listens, on a socket that labctl opens there; where a program already has the port, that program answers.
All connections of a part are open at the same time, so that many silent pairs take as long as one. When no more answers
come, the caller is asked for evidence why the other pairs are silent. If there is none, they are asked again, with new
source ports: one lost packet decides nothing.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal, Protocol, TypeAlias

from labctl.core.resources import IP
from labctl.errors import MissingError
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.clients import IP_RECVERR, IPV6_RECVERR
from labctl.kernel.probes.listener import Listener
from labctl.kernel.probes.unused_ids import bind_unused_port

Answer: TypeAlias = Literal["connected", "refused", "unreachable", "timeout", "unknown"]
Answers: TypeAlias = dict[tuple[str, str], tuple[Answer, str]]  # by source and target, each with its detail
PortRequest: TypeAlias = tuple[str, str, IP]  # source namespace, target namespace, the target's address

PART = 1000  # connections that are open at the same time
TRIES = 2
TRY_S = 0.5  # seconds that a silent pair is waited for, in each try
BACKLOG = 4096  # connections that may wait to be accepted
QUIET_S = (0.005, 0.05)  # seconds of silence after which evidence is looked for; the last time at the end of the try
IPPROTO_SCTP = 132
LINGER_OFF = struct.pack("ii", 1, 0)  # a closed connection is reset at once, and keeps no port
UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM, errno.ENOPROTOOPT, errno.EHOSTDOWN}
QUESTION = b"labctl policy"


class SilenceEvidence(Protocol):
    """What a caller knows about packets that got no answer. It decides, not the time that nothing came."""

    def begin(self) -> None:
        """A try begins: only its own packets are evidence."""

    def explain(self, without_connection: int) -> str:
        """Why so many pairs of this try are silent or refused. "" if that is not known of each of them."""


@dataclass
class PortPairs:
    """The listeners of a measurement. A context manager: it closes them. `kind` is tcp, udp or sctp."""

    lab: str
    kind: str
    port: int
    thread: NetnsThread
    answers: Answers = field(default_factory=dict)
    _listeners: dict[tuple[str, int], socket.socket | Listener] = field(default_factory=dict)
    _problems: dict[tuple[str, int], str] = field(default_factory=dict)
    _refusals: int = 0  # pairs of the present try that met an error

    def __enter__(self) -> PortPairs:
        return self

    def __exit__(self, *exc: object) -> None:
        for one in self._listeners.values():
            one.close()
        self._listeners.clear()

    def ask(self, requests: Iterable[PortRequest], evidence: SilenceEvidence | None = None) -> Answers:
        """The answer of each pair. A pair that cannot be asked is `unknown`, with the reason.

        A silent pair is not waited for if there is evidence that its packet was dropped. Raises MissingError if the
        kernel does not have the protocol.
        """
        self._require_protocol()
        feed = iter(requests)
        while part := list(islice(feed, PART)):
            for _, target, address in part:
                self._listen(target, address.version)
            for _ in range(TRIES):
                if part:
                    part = self._ask_once(part, evidence)
        return self.answers

    def _require_protocol(self) -> None:
        try:
            _socket(self.kind, 4).close()
        except OSError as error:
            if error.errno in (errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT):
                name = self.kind.upper()
                raise MissingError(
                    f"this kernel has no {name} sockets", f"modprobe {self.kind}, where it has it"
                ) from None
            raise

    def _listen(self, target: str, version: int) -> None:
        if (target, version) in self._listeners or (target, version) in self._problems:
            return
        try:
            opened = self.thread.run(paths.netns_path(self.lab, target), self._listener, version)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:  # a program has the port, and answers
                self._problems[target, version] = f"cannot listen in {target}: {error.strerror}"
            return
        self._listeners[target, version] = opened

    def _listener(self, version: int) -> socket.socket | Listener:
        if self.kind == "udp":
            return Listener("udp", version, self.port)
        sock = _socket(self.kind, version)
        try:
            if version == 6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", self.port))
            sock.listen(BACKLOG)
        except OSError:
            sock.close()
            raise
        return sock

    def _ask_once(self, part: Sequence[PortRequest], evidence: SilenceEvidence | None) -> list[PortRequest]:
        """Open a connection for each pair, and wait for the answers. Returns the pairs with an unexplained silence."""
        by_source: dict[str, list[PortRequest]] = {}
        for request in part:
            by_source.setdefault(request[0], []).append(request)
        open_sockets: dict[int, tuple[socket.socket, PortRequest]] = {}
        self._refusals = 0
        if evidence:
            evidence.begin()
        for source, requests in by_source.items():
            try:
                opened = self.thread.run(paths.netns_path(self.lab, source), self._open_all, requests)
            except OSError as error:
                self._all_unknown(requests, f"cannot open a socket in {source}: {error.strerror}")
                continue
            open_sockets |= {sock.fileno(): (sock, request) for sock, request in opened}
        why = ""
        try:
            why = self._wait(open_sockets, evidence)
        finally:
            silent = [request for _, request in open_sockets.values()]
            for sock, _ in open_sockets.values():
                sock.close()
        for source, target, address in silent:
            problem = self._problems.get((target, address.version))
            self.answers[source, target] = ("unknown", problem) if problem else ("timeout", why)
        return [] if why else silent

    def _open_all(self, requests: Sequence[PortRequest]) -> list[tuple[socket.socket, PortRequest]]:
        opened = []
        for request in requests:
            sock = _socket(self.kind, request[2].version)
            try:
                self._connect(sock, request[2])
            except OSError as error:
                sock.close()
                self._decide(request, error.errno or 0)
                continue
            opened.append((sock, request))
        return opened

    def _connect(self, sock: socket.socket, address: IP) -> None:
        """Begin to connect. Raises OSError if the source's own kernel refuses."""
        if self.kind == "udp":
            level, option = (socket.IPPROTO_IP, IP_RECVERR) if address.version == 4 else (41, IPV6_RECVERR)
            sock.setsockopt(level, option, 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_OFF)
        bind_unused_port(sock, self.port)
        code = sock.connect_ex((str(address), self.port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        if self.kind == "udp":
            sock.send(QUESTION)

    def _wait(
        self, open_sockets: dict[int, tuple[socket.socket, PortRequest]], evidence: SilenceEvidence | None
    ) -> str:
        """Take every socket with an answer out of `open_sockets`, until all have one, or the silence of the others is
        explained, or the time is up. Returns the explanation. An answer that comes while it is looked for refutes it.
        """
        deadline, pauses = time.monotonic() + TRY_S, iter(QUIET_S)
        pause = next(pauses)
        wanted = select.EPOLLIN if self.kind == "udp" else select.EPOLLOUT
        with select.epoll() as epoll:
            for fd in open_sockets:
                epoll.register(fd, wanted)
            for listener in self._listeners.values():
                epoll.register(
                    listener.fileno() if isinstance(listener, socket.socket) else _fd(listener), select.EPOLLIN
                )
            while open_sockets and (left := deadline - time.monotonic()) > 0:
                events = epoll.poll(min(left, pause))
                if not events and evidence:
                    why, pause = evidence.explain(len(open_sockets) + self._refusals), next(pauses, TRY_S)
                    events = epoll.poll(0)
                    if why and not events:
                        return why
                for fd, _ in events:
                    if fd in open_sockets:
                        sock, request = open_sockets.pop(fd)
                        epoll.unregister(fd)
                        self._decide(request, _error(sock, self.kind))
                        sock.close()
                for listener in self._listeners.values():
                    _serve(listener)
        return ""

    def _decide(self, request: PortRequest, code: int) -> None:
        source, target, _ = request
        self._refusals += bool(code)
        if not code:
            self.answers[source, target] = ("connected", "")
        elif code == errno.ECONNREFUSED:
            self.answers[source, target] = ("refused", os.strerror(code))
        elif code in UNREACHABLE:
            self.answers[source, target] = ("unreachable", os.strerror(code))
        else:
            self.answers[source, target] = ("unknown", os.strerror(code))

    def _all_unknown(self, requests: Iterable[PortRequest], why: str) -> None:
        self.answers.update({(source, target): ("unknown", why) for source, target, _ in requests})


def _socket(kind: str, version: int) -> socket.socket:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    flags = socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    if kind == "udp":
        return socket.socket(family, socket.SOCK_DGRAM | flags)
    return socket.socket(family, socket.SOCK_STREAM | flags, IPPROTO_SCTP if kind == "sctp" else 0)


def _error(sock: socket.socket, kind: str) -> int:
    """The error of a socket that has an event; 0 for a connection, or a datagram that came back."""
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code or kind != "udp":
        return code
    try:
        sock.recv(len(QUESTION))
    except OSError as error:
        return error.errno or 0
    return 0


def _serve(listener: socket.socket | Listener) -> None:
    """Answer what has arrived: a datagram is echoed, a connection is accepted and closed."""
    if isinstance(listener, Listener):
        listener.step()
        return
    with suppress(OSError):  # none waits, or one is gone
        while True:
            listener.accept()[0].close()


def _fd(listener: Listener) -> int:
    return listener.fds()[0][0]


def in_turns(sources: Sequence[str], targets: Sequence[tuple[str, IP]]) -> Iterator[PortRequest]:
    """All pairs of different namespaces, so that the connections of a part are spread over the targets."""
    for shift in range(len(targets)):
        for at, source in enumerate(sources):
            target, address = targets[(at + shift) % len(targets)]
            if target != source:
                yield source, target, address

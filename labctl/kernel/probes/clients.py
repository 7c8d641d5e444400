"""Probes: the real ping, labctl's own echo request where there is no ping, TCP and UDP clients.

Each is a small state machine without a thread: `fds()` returns what to wait for, `step()` advances it, and it is done
when `answer` is set. Create a probe inside the source's namespace; any thread may call `step()`.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import struct
from functools import lru_cache

from labctl.core.observations import Answer
from labctl.core.resources import IP
from labctl.core.sentence import joined, sentence
from labctl.kernel.host import child_process
from labctl.kernel.probes.unused_ids import ICMP_IDS, bind_source_port, flush_path_mtu
from labctl.packets.icmp import echo_request
from labctl.packets.probe_id import REPLY_SUFFIX, REQUEST_SUFFIX, PayloadMarker, ProbeId

SOL_RAW, ICMP_FILTER = 255, 1
IP_RECVERR, IPV6_RECVERR = 11, 25
EXHAUSTED_ERRNOS = {errno.ENOBUFS, errno.ENOMEM}  # a problem of the machine (full neighbour table), not of the lab
EXHAUSTED_HINT = sentence("is the machine's neighbour table full? see labctl doctor")
BLOCKED_ERRNOS = {errno.ENETUNREACH, errno.EPERM, errno.EACCES, errno.EINVAL, errno.EADDRNOTAVAIL, errno.EMSGSIZE}
NO_ROUTE_ERRNOS = {errno.ENETUNREACH, errno.EHOSTUNREACH}
MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}  # IP_MTU_DISCOVER, IPV6_MTU_DISCOVER
PMTUDISC_DO = 2  # IP_PMTUDISC_DO: no fragments
ECHO_REPLY, ICMP6_ECHO_REPLY = 0, 129  # types of ICMP messages
DEFAULT_PAYLOAD_BYTES = 56  # bytes of payload of an echo, as of ping
PING_VERSION_TIMEOUT_S = 5  # seconds that `ping -V` may take
DISCARD_PORT = 9  # any port does: only the route to it is looked up


@lru_cache(maxsize=1)
def ping_program() -> str | None:
    """The path of iputils' ping; None if there is none (other pings have no option for the marker)."""
    import shutil

    path = shutil.which("ping")
    if path is None:
        return None
    try:
        version = child_process.run([path, "-V"], timeout_s=PING_VERSION_TIMEOUT_S)
    except (OSError, child_process.ChildTimeoutError):
        return None
    return path if "iputils" in version.stdout else None


def route_problem(target: IP, source: IP) -> str | None:
    """Why this thread's namespace has no route from its address `source` to `target`; None if it has one.

    This sends nothing: `connect` on a datagram socket only looks up the route.
    """
    with socket.socket(socket.AF_INET if target.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((str(source), 0))
        except OSError:
            return None
        try:
            sock.connect((str(target), DISCARD_PORT))
        except OSError as error:
            return os.strerror(error.errno) if error.errno in NO_ROUTE_ERRNOS else None
    return None


class Probe:
    """The base of all probes. `probe_id` identifies its packets; a TCP client has none before its SYN."""

    probe_id: ProbeId | None = None
    marker: bytes | None = None  # what a TCP client sends once it is connected
    sport = 0

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.detail = ""

    def fds(self) -> list[tuple[int, int]]:
        """The file descriptors and poll events that this probe waits for; none when it is done."""
        raise NotImplementedError

    def step(self) -> None:
        """Read what has arrived and continue, without waiting."""
        raise NotImplementedError

    def close(self) -> None:
        """Release what the probe holds, in any state."""
        raise NotImplementedError

    def time_out(self) -> None:
        """The time is over: without an answer so far, the answer is `timeout`."""
        if self.answer is None:
            self.set_answer("timeout", self.detail or sentence("no answer"))

    def set_answer(self, answer: Answer, detail: str) -> None:
        """Set the answer, with a short explanation."""
        self.answer, self.detail = answer, detail


class Ping(Probe):
    """The real ping: one echo request that contains the marker. ping chooses a new ICMP identifier each time."""

    def __init__(self, program: str, address: IP, marker: bytes, timeout_s: float = 1, size: int | None = None) -> None:
        super().__init__()
        self.probe_id = PayloadMarker(marker)
        size_args = [] if size is None else ["-M", "do", "-s", str(size)]
        if size_args:
            flush_path_mtu()
        command = ["ping", "-n", "-c", "1", "-W", str(max(1, math.ceil(timeout_s))), "-p", marker.hex(), *size_args]
        command.append(str(address))
        self._child = child_process.Child(command, executable=program, environment={**os.environ, "LC_ALL": "C"})

    def fds(self) -> list[tuple[int, int]]:
        return [] if self.answer else [(self._child.pidfd, select.POLLIN)]

    def step(self) -> None:
        if self.answer is not None or not self._child.wait(0):
            return
        self._child.kill()  # what it has started
        self.set_answer(*ping_answer(self._child.returncode, *self._child.output()))

    def time_out(self) -> None:
        """The time is over. A ping that could not send prints an error at once, but still waits for a reply."""
        if self.answer is None:
            self._child.kill()
            out, err = self._child.output()
            if err.strip():
                self.set_answer(*ping_answer(1, out, err))
        super().time_out()

    def close(self) -> None:
        self._child.close()


def ping_answer(code: int, out: str, err: str) -> tuple[Answer, str]:
    """The answer, with a short explanation, that ping's exit code and output mean."""
    if code == 0:
        line = next((line for line in out.splitlines() if " bytes from " in line), "a reply")
        return "reply", f"ping: {line}"
    complaint = next((line for line in err.splitlines() if line.strip()), "")
    if "No buffer space" in complaint or "Cannot allocate" in complaint:
        return "broken", joined("; ", (complaint, EXHAUSTED_HINT))
    if "connect:" in complaint or "sendmsg:" in complaint or "local error:" in complaint:
        return "blocked", complaint
    error = next((line for line in out.splitlines() if line.startswith("From ")), "")
    if error:
        return "unreachable", f"ping: {error}"
    if code == 1:
        return "timeout", "ping: 1 packet transmitted, 0 received"
    return "broken", complaint or f"ping: exit code {code}"


class _Client(Probe):
    """A probe that uses a socket of this process."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._socket = sock
        sock.setblocking(False)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)

    def fds(self) -> list[tuple[int, int]]:
        return [] if self.answer else [(self._socket.fileno(), self._events())]

    def close(self) -> None:
        self._socket.close()

    def step(self) -> None:
        if self.answer is not None:
            return
        try:
            self._step()
        except BlockingIOError:
            pass
        except OSError as error:
            self._fail(error.errno or 0, "unreachable")

    def _events(self) -> int:
        return int(select.POLLIN)

    def _bind(self, sport: int | None, target: int) -> None:
        """Bind to the source port, or to an unused one for None. Raises OSError; then the socket is closed."""
        try:
            self.sport = bind_source_port(self._socket, sport, target)
        except OSError:
            self._socket.close()
            raise

    def _step(self) -> None:
        raise NotImplementedError

    def _fail(self, number: int, otherwise: Answer) -> None:
        answer: Answer = {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "timeout"}.get(number, otherwise)  # type: ignore[assignment]
        self.set_answer(answer, os.strerror(number))

    def _fail_to_send(self, number: int) -> None:
        """Set the answer for a send or connect that failed at once: mostly the source's kernel refused to send."""
        if number in EXHAUSTED_ERRNOS:
            self._fail(number, "broken")
            return
        self._fail(number, "blocked" if number in BLOCKED_ERRNOS else "unreachable")

    def _check_connection(self) -> bool:
        """Whether a started TCP connection is established. Sets the answer if it failed."""
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._fail(number, "unreachable")
            return False
        try:
            self._socket.getpeername()
        except OSError:
            return False  # not yet
        return True


class Echo(_Client):
    """labctl's own echo request, for machines without ping and for a second attempt."""

    reply_text: str = sentence("labctl's own echo request was answered")

    def __init__(self, address: IP, marker: bytes, size: int | None = None) -> None:
        self._open_socket(address, marker)
        try:
            self._socket.connect((str(address), 0))
            if size is not None:
                flush_path_mtu()
                self._socket.setsockopt(*MTU_DISCOVER[address.version], PMTUDISC_DO)
            size = size or DEFAULT_PAYLOAD_BYTES
            self._socket.send(echo_request(address.version, ICMP_IDS.next_id(), 1, marker, size))
        except OSError as error:
            self._fail_to_send(error.errno or 0)

    def _open_socket(self, address: IP, marker: bytes) -> None:
        four = address.version == 4
        protocol = socket.IPPROTO_ICMP if four else socket.IPPROTO_ICMPV6
        family = socket.AF_INET if four else socket.AF_INET6
        super().__init__(socket.socket(family, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol))
        self.probe_id = PayloadMarker(marker)
        self._reply_type, self._marker = ECHO_REPLY if four else ICMP6_ECHO_REPLY, marker

    def _step(self) -> None:
        while True:
            data = self._socket.recv(65536)
            body = data[(data[0] & 15) * 4 :] if self._reply_type == ECHO_REPLY else data  # IPv4: after the IP header
            if body and body[0] == self._reply_type and self._marker in body:
                return self.set_answer("reply", self.reply_text)


class StreamClient(_Client):
    """A client of one TCP connection."""

    def __init__(self, address: IP) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        super().__init__(socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC))
        self._is_connected, self._received = False, b""

    def _connect(self, address: IP, port: int) -> None:
        """Send the first packet. An error that says at once why it cannot leave is the answer."""
        number = self._socket.connect_ex((str(address), port))
        if number not in (0, errno.EINPROGRESS):
            self._fail_to_send(number)

    def _events(self) -> int:
        return int(select.POLLIN if self._is_connected else select.POLLOUT)


class TcpClient(StreamClient):
    """One connection. A `marker` must also come back through it.

    It comes from the source port `sport`, or if that is None from an unused one. A reset closes a connection from a
    given port, which is then free at once; with `reset`, any connection. Raises OSError, with EADDRINUSE if another
    socket has the port.
    """

    def __init__(
        self, address: IP, port: int, marker: bytes | None, sport: int | None = None, reset: bool = False
    ) -> None:
        super().__init__(address)
        self.marker = marker
        self._bind(sport, port)
        if sport is not None or reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("=ii", 1, 0))
        self._connect(address, port)

    def _step(self) -> None:
        if not self._is_connected:
            if not self._check_connection():
                return None
            self._is_connected = True
            self.detail = sentence("connected, but no data came back through the connection")
            if self.marker is None:
                return self.set_answer("reply", sentence("connected"))
            self._socket.send(self.marker + REQUEST_SUFFIX)
        while data := self._socket.recv(256):
            self._received += data
            if self.marker is not None and self.marker in self._received:
                return self.set_answer(
                    "reply", sentence("connected, and labctl's own listener answered through the connection")
                )
        return self.set_answer(
            "broken", sentence("connected, but the other end closed the connection without an answer")
        )


class UdpClient(_Client):
    """One datagram with the marker. Any datagram back is a reply; with the marker, it is from labctl's own listener.

    It comes from the source port `sport`, or if that is None from an unused one. Raises OSError, with EADDRINUSE if
    another socket has the port.
    """

    def __init__(self, address: IP, port: int, marker: bytes, sport: int | None = None) -> None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6
        super().__init__(socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC))
        self.probe_id = PayloadMarker(marker)
        self._marker = marker
        self._bind(sport, port)
        try:
            self._socket.connect((str(address), port))
            self._socket.send(marker + REQUEST_SUFFIX)
        except OSError as error:
            self._fail_to_send(error.errno or 0)

    def _step(self) -> None:
        data = self._socket.recv(2048)
        is_labctl = self._marker + REPLY_SUFFIX in data
        own, other = sentence("labctl's own listener answered"), sentence("another listener than labctl's answered")
        self.set_answer("reply", own if is_labctl else other)

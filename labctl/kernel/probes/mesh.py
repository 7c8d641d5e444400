"""Pings between many pairs: one raw ICMP socket per namespace, one thread, a separate marker per pair.

The target's socket receives each request with its source address on arrival: this decides whether the target sees the
source "with its own address". The source's socket receives the reply. Probes go out in batches, and each batch is read
before the next one, so that no buffer overflows. After an overflow a missing packet proves nothing.

A pair that is proven is only counted. What was observed is kept for pairs that are not, at most `MAX_OPEN_PAIRS`.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from ipaddress import ip_address
from itertools import islice

from labctl.core.resources import IP
from labctl.core.results import MeshResult, Pair
from labctl.core.sentence import sentence
from labctl.dataclass import dataclass, replace
from labctl.kernel.host import paths
from labctl.kernel.host.receive_buffer import set_receive_buffer
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.clients import (
    EXHAUSTED_ERRNOS,
    EXHAUSTED_HINT,
    ICMP_FILTER,
    IP_RECVERR,
    IPV6_RECVERR,
    SOL_RAW,
)
from labctl.kernel.probes.unused_ids import ICMP_IDS
from labctl.packets.checksum import checksum
from labctl.packets.probe_id import MESH_MAGIC

BATCH = 64  # probes that are sent before replies are read
RETRY_INTERVAL_S = 0.2  # seconds between two rounds of the unanswered pairs
QUIET_S = 0.05  # seconds without any packet after which a round is over
MAX_OPEN_PAIRS = 40_000  # unproven pairs after which no further pairs are asked
REFUSALS = {errno.ENETUNREACH, errno.EPERM, errno.EACCES, errno.EADDRNOTAVAIL, errno.EMSGSIZE}
ICMP6_FILTER = 1
ECHO_REQUEST, ICMP6_ECHO_REQUEST = 8, 128  # types of ICMP messages
RCVBUF_BYTES = 4 << 20
SO_MEMINFO = 55
MEMINFO_DROPS = 8  # index in SO_MEMINFO of the number of packets that were dropped because the buffer was full
# more pairs than this keep their ICMP identifiers in later rounds, to save conntrack entries
MAX_PAIRS_WITH_NEW_IDS = 2048

PairRequest = tuple[str, str, IP]  # source, target, the target's address


@dataclass(slots=True)
class _State:
    """What was observed so far of one pair that is not proven."""

    request: PairRequest
    replied: bool = False
    seen_source: bytes = b""
    error: str = ""
    tool_problem: str = ""  # why this probe could not be sent, if the cause is labctl or the machine, not the lab
    refused: bool = False  # the source's own kernel refused it, for a reason of the lab: a route, a rule, a size


class Mesh:
    """The raw sockets of all members. A context manager: it closes them.

    `source_addresses` has the addresses that each source may be seen with. Call `ask` for each part of the pairs, then
    `retry`, then `result`. Deadlines are times of `time.monotonic`.
    """

    def __init__(
        self,
        lab: str,
        members: Iterable[tuple[str, int]],
        thread: NetnsThread,
        source_addresses: Mapping[str, frozenset[IP]],
    ) -> None:
        """`members` are distinct (namespace, IP version) pairs. One that cannot be used is recorded with the reason:
        in `missing_namespaces` if the namespace is gone, else in `inaccessible`."""
        self.missing_namespaces: dict[str, str] = {}
        self.inaccessible: dict[str, str] = {}
        self.asked = 0
        self._own = {name: frozenset(ip.packed for ip in addresses) for name, addresses in source_addresses.items()}
        self._open: dict[int, _State] = {}  # by the number of the pair, in the order of asking
        self._salt = int.from_bytes(secrets.token_bytes(4), "big")
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._members: dict[int, tuple[str, int]] = {}
        self._identifiers: dict[tuple[str, int], int] = {}
        self._epoll = select.epoll()
        for name, version in members:
            path = paths.netns_path(lab, name)
            try:
                sock = thread.run(path, _raw_socket, version)
            except FileNotFoundError:
                self.missing_namespaces[name] = sentence("there is no namespace {name}", name=path.name)
                continue
            except OSError as error:
                self.inaccessible[name] = sentence(
                    "cannot create a socket in {name}: {strerror}; see labctl doctor",
                    name=name,
                    strerror=error.strerror,
                )
                continue
            self._sockets[name, version] = sock
            self._members[sock.fileno()] = (name, version)
            self._epoll.register(sock, select.EPOLLIN)
        self._new_identifiers()

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self._epoll.close()
        for sock in self._sockets.values():
            sock.close()

    def ask(self, requests: Iterable[PairRequest], deadline: float) -> str:
        """Probe these pairs once. Returns why some were not asked, "" if all were. The first pairs of a mesh are asked
        in any case."""
        feed = iter(requests)
        first = self.asked
        while batch := tuple(islice(feed, BATCH)):
            if self.asked and time.monotonic() >= deadline:
                return sentence("the time was up")
            if len(self._open) >= MAX_OPEN_PAIRS:
                return sentence("too many of those that were asked have no proof")
            for request in batch:
                state = self._open[self.asked] = _State(request)
                self._send(self.asked, state)
                self.asked += 1
            self._read(0)
        waiting = {number for number, state in self._open.items() if number >= first and not state.error}
        self._drain(waiting, time.monotonic() + RETRY_INTERVAL_S, QUIET_S)
        return ""

    @property
    def unanswered(self) -> tuple[PairRequest, ...]:
        """The pairs without a reply so far."""
        return tuple(state.request for state in self._open.values() if not state.replied)

    def retry(self, deadline: float) -> None:
        """Repeat the probes of the pairs without a reply until all have one or the deadline comes. A pair with a wrong
        address is not repeated if it was answered, because that observation is certain."""
        while numbers := [number for number, state in self._open.items() if not state.replied]:
            started = time.monotonic()
            if started >= deadline or not any(self._can_send(self._open[number]) for number in numbers):
                return
            self._drain(set(numbers), min(started + RETRY_INTERVAL_S, deadline), RETRY_INTERVAL_S)
            self._round(self._still_waiting(numbers), deadline)

    def result(self, doubt: str = "") -> MeshResult:
        """The pairs that were asked. `doubt` is a problem of the machine that can explain why packets were lost."""
        lost = self._overflows()
        bad = (
            self._pair(state, self._tool_problem(state, lost) or ("" if state.refused else doubt))
            for state in self._open.values()
        )
        return MeshResult(self.asked, tuple(bad))

    def _can_send(self, state: _State) -> bool:
        source, _, address = state.request
        return (source, address.version) in self._sockets

    def _tool_problem(self, state: _State, lost: Mapping[str, str]) -> str:
        """The problem of labctl or the machine that can explain what a pair lacks; "" if there is none."""
        source, target, _ = state.request
        doubts = [state.tool_problem, self.inaccessible.get(source, ""), self.inaccessible.get(target, "")]
        doubts += [lost.get(source, "")] if not state.replied else []
        doubts += [lost.get(target, "")] if not state.seen_source else []
        return next(filter(None, doubts), "")

    def _pair(self, state: _State, doubt: str) -> Pair:
        source, target, address = state.request
        seen = ip_address(state.seen_source) if state.seen_source else None
        unchanged = seen is not None and self._is_own(state)
        pair = Pair(source, target, address, state.replied, seen, unchanged, state.error)
        return pair if seen is not None and not unchanged else replace(pair, tool_fault=doubt)

    def _is_own(self, state: _State) -> bool:
        return state.seen_source in self._own.get(state.request[0], ())

    def _overflows(self) -> dict[str, str]:
        """The namespaces with a socket that lost packets because its buffer was full, each with a sentence."""
        lost = {}
        for (name, _), sock in self._sockets.items():
            number = struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[MEMINFO_DROPS]
            if number:
                lost[name] = f"{number} packets were lost by the socket in {name}; see labctl doctor"
        return lost

    def _new_identifiers(self) -> None:
        self._identifiers = {key: ICMP_IDS.next_id() for key in self._sockets}

    def _still_waiting(self, numbers: Iterable[int]) -> Iterator[int]:
        return (number for number in numbers if (state := self._open.get(number)) is not None and not state.replied)

    def _round(self, numbers: Iterable[int], deadline: float) -> None:
        """Send one more probe for each of these pairs, and read replies until no more arrive."""
        numbers = tuple(numbers)
        if len(numbers) <= MAX_PAIRS_WITH_NEW_IDS:
            self._new_identifiers()
        for start in range(0, len(numbers), BATCH):
            if time.monotonic() >= deadline:
                return
            for number in self._still_waiting(numbers[start : start + BATCH]):
                self._send(number, self._open[number])
            self._read(0)
        waiting = {number for number in self._still_waiting(numbers) if not self._open[number].error}
        self._drain(waiting, min(time.monotonic() + RETRY_INTERVAL_S, deadline), QUIET_S)

    def _send(self, number: int, state: _State) -> None:
        source, _, address = state.request
        version = address.version
        sock = self._sockets.get((source, version))
        if sock is None:
            state.error = (
                self.missing_namespaces.get(source) or self.inaccessible.get(source) or f"{source} has no IPv{version}"
            )
            state.refused = source not in self.inaccessible
            return
        identifier = self._identifiers[source, version]
        marker = MESH_MAGIC + struct.pack("!I", number ^ self._salt)
        kind = ECHO_REQUEST if version == 4 else ICMP6_ECHO_REQUEST
        head = struct.pack("!BBHHH", kind, 0, 0, identifier, 0)
        if version == 4:
            head = struct.pack("!BBHHH", kind, 0, checksum(head + marker), identifier, 0)
        error = _send_packet(sock, head + marker, address)
        state.error = os.strerror(error) if error else ""
        state.refused = error in REFUSALS
        if error in EXHAUSTED_ERRNOS:
            state.tool_problem = EXHAUSTED_HINT
        else:
            state.tool_problem = "see labctl doctor" if error == errno.EAGAIN else ""

    def _drain(self, waiting: Collection[int], deadline: float, quiet_s: float) -> None:
        """Read until all waiting pairs are answered, no packet came for `quiet_s` seconds, or the deadline is
        reached."""
        while waiting := tuple(self._still_waiting(waiting)):
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(min(left, quiet_s)):
                return
        self._read(0)  # a reply may have been read before its request, which is on another socket

    def _read(self, timeout_s: float) -> bool:
        ready = self._epoll.poll(timeout_s)
        for fd, events in ready:
            name, version = self._members[fd]
            sock = self._sockets[name, version]
            if events & select.EPOLLERR:
                _forget_errors(sock)
            for _ in range(4 * BATCH):
                try:
                    data, sender = sock.recvfrom(256)
                except BlockingIOError:
                    break
                except OSError:
                    continue  # an error that was queued on the socket; the next read continues
                if version == 4:
                    self._record_packet(name, data[20:], data[12:16], ECHO_REQUEST)
                else:
                    address = socket.inet_pton(socket.AF_INET6, sender[0].split("%")[0])
                    self._record_packet(name, data, address, ICMP6_ECHO_REQUEST)
        return bool(ready)

    def _record_packet(self, name: str, icmp: bytes, sender: bytes, request: int) -> None:
        if icmp[8:12] != MESH_MAGIC or len(icmp) < 16:
            return
        number = struct.unpack_from("!I", icmp, 12)[0] ^ self._salt
        state = self._open.get(number)
        if state is None:
            return  # a packet of another mesh, or a late one of a proven pair
        source, target, address = state.request
        if icmp[0] == request:
            if name == target:
                state.seen_source = sender
        elif name == source and sender == address.packed:
            state.replied = True
        if state.replied and self._is_own(state):
            del self._open[number]


def _send_packet(sock: socket.socket, packet: bytes, address: IP) -> int:
    """Send a packet; returns the errno, 0 for success. The first attempt may only return a pending error of an earlier
    packet, so there is a second one."""
    for _ in range(2):
        try:
            sock.sendto(packet, (str(address), 0))
            return 0
        except OSError as error:
            number = error.errno or errno.EIO
            if number in EXHAUSTED_ERRNOS:
                break
    return number


def _forget_errors(sock: socket.socket) -> None:
    """Discard the errors that are queued on a socket: an unanswered pair shows by its missing reply."""
    for _ in range(16 * BATCH):
        try:
            sock.recvmsg(256, 256, socket.MSG_ERRQUEUE)
        except OSError:
            return


def _raw_socket(version: int) -> socket.socket:
    """A raw socket that receives only echo requests and echo replies.

    With IP_RECVERR the kernel reports a full neighbour table when a packet is sent; without it, it does not.
    """
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    if version == 4:
        sock = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP)
        sock.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << 0 | 1 << 8)))
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    else:
        sock = socket.socket(socket.AF_INET6, kind, socket.IPPROTO_ICMPV6)
        blocked = [0xFFFFFFFF] * 8
        blocked[128 >> 5] &= ~(1 << (128 & 31) | 1 << (129 & 31))
        sock.setsockopt(socket.IPPROTO_ICMPV6, ICMP6_FILTER, struct.pack("=8I", *blocked))
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    set_receive_buffer(sock, RCVBUF_BYTES)
    return sock

"""Pings from every source to every target: one raw ICMP socket per namespace, one thread, a separate marker per probe.

The target's socket receives each request with its source address on arrival: this decides whether the target sees the
source "with its own address". The source's socket receives the reply. Probes go out in batches, and each batch is read
before the next one, so that no buffer overflows. After an overflow a missing packet proves nothing.
"""

from __future__ import annotations

import errno
import os
import secrets
import select
import socket
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_address

from labctl.core.resources import IP
from labctl.core.results import Pair
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
    """What was observed of one pair so far."""

    request: PairRequest
    replied: bool = False
    seen_source: bytes = b""
    error: str = ""
    tool_problem: str = ""  # why this probe could not be sent, if the cause is labctl or the machine, not the lab


class Mesh:
    """The raw sockets of all members. A context manager: it closes them."""

    def __init__(self, lab: str, members: Iterable[tuple[str, int]], thread: NetnsThread) -> None:
        """`members` are distinct (namespace, IP version) pairs. One that cannot be used is recorded with the reason:
        in `missing_namespaces` if the namespace is gone, else in `inaccessible`."""
        self.missing_namespaces: dict[str, str] = {}
        self.inaccessible: dict[str, str] = {}
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._members: dict[int, tuple[str, int]] = {}
        self._identifiers: dict[tuple[str, int], int] = {}
        self._epoll = select.epoll()
        for name, version in members:
            path = paths.netns_path(lab, name)
            try:
                sock = thread.run(path, _raw_socket, version)
            except FileNotFoundError:
                self.missing_namespaces[name] = f"there is no namespace {path.name}"
                continue
            except OSError as error:
                self.inaccessible[name] = f"cannot create a socket in {name}: {error.strerror}; see labctl doctor"
                continue
            self._sockets[name, version] = sock
            self._members[sock.fileno()] = (name, version)
            self._epoll.register(sock, select.EPOLLIN)

    def __enter__(self) -> Mesh:
        return self

    def __exit__(self, *exc: object) -> None:
        self._epoll.close()
        for sock in self._sockets.values():
            sock.close()

    def run(
        self, requests: Sequence[PairRequest], source_addresses: Mapping[str, frozenset[IP]], timeout_s: float
    ) -> list[Pair]:
        """Probe every pair, and repeat those without a reply until `timeout_s` seconds after the first round.

        `source_addresses` has the addresses that each source may be seen with. A pair with a wrong address is not
        repeated if it was answered, because that observation is certain.
        """
        states = [_State(request) for request in requests]
        self._round(list(range(len(states))), states)
        deadline = time.monotonic() + timeout_s
        while open_pairs := [number for number, state in enumerate(states) if not state.replied]:
            started = time.monotonic()
            members = ((states[number].request[0], states[number].request[2].version) for number in open_pairs)
            if started >= deadline or not any(member in self._sockets for member in members):
                break
            self._drain(states, min(started + RETRY_INTERVAL_S, deadline), set(open_pairs))
            self._round([number for number in open_pairs if not states[number].replied], states)
        lost = self._overflows()
        return [_pair(state, source_addresses, self._tool_problem(state, lost)) for state in states]

    def _tool_problem(self, state: _State, lost: Mapping[str, str]) -> str:
        """The problem of labctl or the machine that can explain what a pair lacks; "" if there is none."""
        source, target, _ = state.request
        doubts = [state.tool_problem, self.inaccessible.get(source, ""), self.inaccessible.get(target, "")]
        doubts += [lost.get(source, "")] if not state.replied else []
        doubts += [lost.get(target, "")] if not state.seen_source else []
        return next(filter(None, doubts), "")

    def _overflows(self) -> dict[str, str]:
        """The namespaces with a socket that lost packets because its buffer was full, each with a sentence."""
        lost = {}
        for (name, _), sock in self._sockets.items():
            number = struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[MEMINFO_DROPS]
            if number:
                lost[name] = f"{number} packets were lost by the socket in {name}; see labctl doctor"
        return lost

    def _round(self, numbers: list[int], states: list[_State]) -> None:
        """Send one probe for each of these pairs, and read replies until no more arrive."""
        self._salt = int.from_bytes(secrets.token_bytes(4), "big")
        if len(numbers) <= MAX_PAIRS_WITH_NEW_IDS or not self._identifiers:
            self._identifiers = {key: ICMP_IDS.next_id() for key in self._sockets}
        for start in range(0, len(numbers), BATCH):
            for number in numbers[start : start + BATCH]:
                self._send(number, states[number])
            self._read(states, 0)
        waiting = {number for number in numbers if not states[number].error}
        self._drain(states, time.monotonic() + RETRY_INTERVAL_S, waiting, QUIET_S)

    def _send(self, number: int, state: _State) -> None:
        source, _, address = state.request
        sock = self._sockets.get((source, address.version))
        if sock is None:
            state.error = (
                self.missing_namespaces.get(source)
                or self.inaccessible.get(source)
                or f"{source} has no IPv{address.version}"
            )
            return
        identifier = self._identifiers[source, address.version]
        marker = MESH_MAGIC + struct.pack("!I", number ^ self._salt)
        kind = ECHO_REQUEST if address.version == 4 else ICMP6_ECHO_REQUEST
        head = struct.pack("!BBHHH", kind, 0, 0, identifier, 0)
        if address.version == 4:
            head = struct.pack("!BBHHH", kind, 0, checksum(head + marker), identifier, 0)
        error = _send_packet(sock, head + marker, address)
        state.error = os.strerror(error) if error else ""
        if error in EXHAUSTED_ERRNOS:
            state.tool_problem = EXHAUSTED_HINT
        else:
            state.tool_problem = "see labctl doctor" if error == errno.EAGAIN else ""

    def _drain(
        self, states: list[_State], deadline: float, waiting: set[int], quiet_s: float = RETRY_INTERVAL_S
    ) -> None:
        """Read until all waiting pairs are answered, no packet came for `quiet_s` seconds, or the deadline is
        reached."""
        while waiting := {number for number in waiting if not states[number].replied}:
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(states, min(left, quiet_s)):
                return
        self._read(states, 0)  # a reply may have been read before its request, which is on another socket

    def _read(self, states: list[_State], timeout_s: float) -> bool:
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
                    self._record_packet(states, name, data[20:], data[12:16], ECHO_REQUEST)
                else:
                    address = socket.inet_pton(socket.AF_INET6, sender[0].split("%")[0])
                    self._record_packet(states, name, data, address, ICMP6_ECHO_REQUEST)
        return bool(ready)

    def _record_packet(self, states: list[_State], name: str, icmp: bytes, sender: bytes, request: int) -> None:
        if icmp[8:12] != MESH_MAGIC or len(icmp) < 16:
            return
        number = struct.unpack_from("!I", icmp, 12)[0] ^ self._salt
        if number >= len(states):
            return  # a late packet of an earlier round
        state = states[number]
        source, target, address = state.request
        if icmp[0] == request:
            if name == target:
                state.seen_source = sender
        elif name == source and sender == address.packed:
            state.replied = True


def _pair(state: _State, source_addresses: Mapping[str, frozenset[IP]], doubt: str) -> Pair:
    source, target, address = state.request
    seen = ip_address(state.seen_source) if state.seen_source else None
    wrong = seen is not None and seen not in source_addresses.get(source, ())
    pair = Pair(source, target, address, state.replied, seen, not wrong and seen is not None, state.error)
    return pair if wrong or pair.ok else replace(pair, tool_fault=doubt)


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

"""Pings from every source to every target: one raw ICMP socket per namespace, one thread, a separate mark per probe.

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
from labctl.kernel.host.receive_buffer import hold
from labctl.kernel.namespaces.thread import Inside
from labctl.kernel.probes.clients import EXHAUSTED, EXHAUSTED_HINT, ICMP_FILTER, IP_RECVERR, IPV6_RECVERR, SOL_RAW
from labctl.kernel.probes.unused_ids import IDENTIFIERS
from labctl.packets.checksum import checksum
from labctl.packets.probe_id import MESH_MAGIC

BATCH = 64
EVERY = 0.2  # seconds between two rounds of the unanswered pairs
QUIET = 0.05  # seconds without any packet after which a round is over
ICMP6_FILTER = 1
BUFFER = 4 << 20
SO_MEMINFO = 55
DROPS = 8  # index in SO_MEMINFO of the number of packets that were dropped because the buffer was full
MASS = 2048  # pairs; more pairs than this keep their ICMP identifiers in later rounds, to save conntrack entries

Want = tuple[str, str, IP]  # source, target, the target's address


@dataclass(slots=True)
class _State:
    """What is known about one pair so far."""

    want: Want
    replied: bool = False
    seen_as: bytes = b""
    said: str = ""
    doubt: str = ""  # why this probe could not be sent, if the cause is labctl or the machine, not the lab


class Mesh:
    """The raw sockets of all members. A context manager: it closes them."""

    def __init__(self, lab: str, members: Iterable[tuple[str, int]], inside: Inside) -> None:
        """`members` are distinct (namespace, IP version) pairs. One that cannot be used is recorded with the reason:
        in `missing` if the namespace is gone, else in `shut`."""
        self.missing: dict[str, str] = {}
        self.shut: dict[str, str] = {}
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        self._members: dict[int, tuple[str, int]] = {}
        self._identifiers: dict[tuple[str, int], int] = {}
        self._epoll = select.epoll()
        for name, version in members:
            path = paths.netns_path(lab, name)
            try:
                sock = inside.run(path, _raw_socket, version)
            except FileNotFoundError:
                self.missing[name] = f"there is no namespace {path.name}"
                continue
            except OSError as error:
                self.shut[name] = f"cannot create a socket in {name}: {error.strerror}; see labctl doctor"
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

    def run(self, wants: Sequence[Want], own: Mapping[str, frozenset[IP]], within: float) -> list[Pair]:
        """Probe every pair, and repeat those without a reply until `within` seconds after the first round.

        `own` has the addresses that each source may be seen with. A pair with a wrong address is not repeated if it
        was answered, because that observation is certain.
        """
        states = [_State(want) for want in wants]
        self._round(list(range(len(states))), states)
        deadline = time.monotonic() + within
        while open_pairs := [number for number, state in enumerate(states) if not state.replied]:
            begun = time.monotonic()
            if begun >= deadline or not any(
                (states[number].want[0], states[number].want[2].version) in self._sockets for number in open_pairs
            ):
                break
            self._drain(states, min(begun + EVERY, deadline), set(open_pairs))
            self._round([number for number in open_pairs if not states[number].replied], states)
        lost = self._overflows()
        return [_pair(state, own, self._doubt(state, lost)) for state in states]

    def _doubt(self, state: _State, lost: Mapping[str, str]) -> str:
        """The problem of labctl or the machine that can explain what a pair lacks; "" if there is none."""
        source, target, _ = state.want
        doubts = [state.doubt, self.shut.get(source, ""), self.shut.get(target, "")]
        doubts += [lost.get(source, "")] if not state.replied else []
        doubts += [lost.get(target, "")] if not state.seen_as else []
        return next(filter(None, doubts), "")

    def _overflows(self) -> dict[str, str]:
        """The namespaces with a socket that lost packets because its buffer was full, each with a sentence."""
        lost = {}
        for (name, _), sock in self._sockets.items():
            number = struct.unpack("=9I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36))[DROPS]
            if number:
                lost[name] = f"{number} packets were lost by the socket in {name}; see labctl doctor"
        return lost

    def _round(self, numbers: list[int], states: list[_State]) -> None:
        """Send one probe for each of these pairs, and read replies until no more arrive."""
        self._salt = int.from_bytes(secrets.token_bytes(4), "big")
        if len(numbers) <= MASS or not self._identifiers:
            self._identifiers = {key: IDENTIFIERS.take() for key in self._sockets}
        for start in range(0, len(numbers), BATCH):
            for number in numbers[start : start + BATCH]:
                self._send(number, states[number])
            self._read(states, 0)
        waiting = {number for number in numbers if not states[number].said}
        self._drain(states, time.monotonic() + EVERY, waiting, QUIET)

    def _send(self, number: int, state: _State) -> None:
        source, _, address = state.want
        sock = self._sockets.get((source, address.version))
        if sock is None:
            state.said = self.missing.get(source) or self.shut.get(source) or f"{source} has no IPv{address.version}"
            return
        identifier = self._identifiers[source, address.version]
        marker = MESH_MAGIC + struct.pack("!I", number ^ self._salt)
        kind = 8 if address.version == 4 else 128
        head = struct.pack("!BBHHH", kind, 0, 0, identifier, 0)
        if address.version == 4:
            head = struct.pack("!BBHHH", kind, 0, checksum(head + marker), identifier, 0)
        error = _sent(sock, head + marker, address)
        state.said = os.strerror(error) if error else ""
        state.doubt = EXHAUSTED_HINT if error in EXHAUSTED else "see labctl doctor" if error == errno.EAGAIN else ""

    def _drain(self, states: list[_State], deadline: float, waiting: set[int], quiet: float = EVERY) -> None:
        """Read until all waiting pairs are answered, no packet came for `quiet` seconds, or the deadline is reached."""
        while waiting := {number for number in waiting if not states[number].replied}:
            left = deadline - time.monotonic()
            if left <= 0 or not self._read(states, min(left, quiet)):
                return
        self._read(states, 0)  # a reply may have been read before its request, which is on another socket

    def _read(self, states: list[_State], seconds: float) -> bool:
        ready = self._epoll.poll(seconds)
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
                    self._note(states, name, data[20:], data[12:16], 8)
                else:
                    self._note(states, name, data, socket.inet_pton(socket.AF_INET6, sender[0].split("%")[0]), 128)
        return bool(ready)

    def _note(self, states: list[_State], name: str, icmp: bytes, sender: bytes, request: int) -> None:
        if icmp[8:12] != MESH_MAGIC or len(icmp) < 16:
            return
        number = struct.unpack_from("!I", icmp, 12)[0] ^ self._salt
        if number >= len(states):
            return  # a late packet of an earlier round
        state = states[number]
        source, target, address = state.want
        if icmp[0] == request:
            if name == target:
                state.seen_as = sender
        elif name == source and sender == address.packed:
            state.replied = True


def _pair(state: _State, own: Mapping[str, frozenset[IP]], doubt: str) -> Pair:
    source, target, address = state.want
    seen = ip_address(state.seen_as) if state.seen_as else None
    wrong = seen is not None and seen not in own.get(source, ())
    pair = Pair(source, target, address, state.replied, seen, not wrong and seen is not None, state.said)
    return pair if wrong or pair.good else replace(pair, doubt=doubt)


def _sent(sock: socket.socket, packet: bytes, address: IP) -> int:
    """Send a packet; returns the errno, 0 for success. The first attempt may only return a pending error of an earlier
    packet, so there is a second one."""
    for _ in range(2):
        try:
            sock.sendto(packet, (str(address), 0))
            return 0
        except OSError as error:
            number = error.errno or errno.EIO
            if number in EXHAUSTED:
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
    hold(sock, BUFFER)
    return sock

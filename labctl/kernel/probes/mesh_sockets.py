"""The raw sockets of a mesh, one in each namespace and IP version that the present part needs, and never more than a
limit that does not grow with the lab.

A raw socket receives from the moment on in which it exists, so a part begins when all of its sockets are open.
"""

from __future__ import annotations

import os
import resource
import socket
import struct
from collections.abc import Iterable
from typing import TypeAlias

from labctl.core.sentence import sentence
from labctl.kernel.host import paths
from labctl.kernel.host.limits import SPARE_FILES
from labctl.kernel.host.receive_buffer import set_receive_buffer
from labctl.kernel.host.thread_pool import Call
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.clients import ICMP_FILTER, IP_RECVERR, IPV6_RECVERR, SOL_RAW

MAX_SOCKETS = 1024  # that are open together
FILES_PER_SOCKET = 3  # open files for each of them: itself, and two for the temporary neighbour entries
ICMP6_FILTER = 1
RCVBUF_BYTES = 4 << 20
SO_MEMINFO = 55
MEMINFO_DROPS = 8  # index in SO_MEMINFO of the number of packets that were dropped because the buffer was full
ERRORS = 1024  # queued errors of a socket that are discarded at once

Member: TypeAlias = tuple[str, int]  # a namespace and an IP version


class MeshSockets:
    """The open sockets of a lab's namespaces, at most `limit` of them.

    A namespace that cannot be used is recorded with the reason: in `missing_namespaces` if it is gone, else in
    `inaccessible`.
    """

    def __init__(self, lab: str, thread: NetnsThread, limit: int) -> None:
        self._lab, self._thread, self._limit = lab, thread, limit
        self._sockets: dict[Member, socket.socket] = {}
        self._unusable: set[Member] = set()
        self._losses: dict[str, int] = {}  # packets that closed sockets lost
        self.missing_namespaces: dict[str, str] = {}
        self.inaccessible: dict[str, str] = {}

    def get(self, member: Member) -> socket.socket | None:
        """The open socket of a member, if it has one."""
        return self._sockets.get(member)

    def is_usable(self, member: Member) -> bool:
        """Whether a member has a socket, or can have one."""
        return member not in self._unusable

    def open(self, members: Iterable[Member]) -> bool:
        """Open the sockets of these members, and close others if they would be too many. Returns whether others were
        closed. Raises LimitError."""
        wanted = dict.fromkeys(members)
        new = [one for one in wanted if one not in self._sockets and one not in self._unusable]
        others = [one for one in self._sockets if one not in wanted]
        too_many = len(self._sockets) + len(new) > self._limit
        for member in others if too_many else ():
            self._close(member)
        calls = [(one, self._thread.begin(paths.netns_path(self._lab, one[0]), raw_socket, one[1])) for one in new]
        for number, (member, call) in enumerate(calls):
            try:
                self._add(member, call)
            except BaseException:
                for _, later in calls[number + 1 :]:
                    if later.wait() is None:
                        later.result().close()
                raise
        return too_many

    def _add(self, member: Member, call: Call[socket.socket]) -> None:
        name = member[0]
        try:
            self._sockets[member] = call.result()
            return
        except FileNotFoundError:
            file_name = paths.netns_path(self._lab, name).name
            self.missing_namespaces[name] = sentence("there is no namespace {name}", name=file_name)
        except OSError as error:
            self.inaccessible[name] = sentence(
                "cannot create a socket in {name}: {strerror}; see labctl doctor",
                name=name,
                strerror=error.strerror,
            )
        self._unusable.add(member)

    def overflows(self) -> dict[str, str]:
        """The namespaces with a socket that lost packets because its buffer was full, each with a sentence."""
        lost = dict(self._losses)
        for (name, _), sock in self._sockets.items():
            lost[name] = lost.get(name, 0) + _drop_count(sock)
        return {
            name: f"{number} packets were lost by the socket in {name}; see labctl doctor"
            for name, number in lost.items()
            if number
        }

    def close(self) -> None:
        """Close all sockets."""
        for member in list(self._sockets):
            self._close(member)

    def _close(self, member: Member) -> None:
        with self._sockets.pop(member) as sock:
            number = _drop_count(sock)
        if number:
            self._losses[member[0]] = self._losses.get(member[0], 0) + number


def socket_limit() -> int:
    """How many sockets a mesh may have open: `MAX_SOCKETS`, or what the limit of open files leaves."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return MAX_SOCKETS
    free = limit - len(os.listdir("/proc/self/fd")) - 2 * SPARE_FILES
    return max(4, min(MAX_SOCKETS, free // FILES_PER_SOCKET))


def forget_errors(sock: socket.socket) -> None:
    """Discard the errors that are queued on a socket: an unanswered pair shows by its missing reply."""
    for _ in range(ERRORS):
        try:
            sock.recvmsg(256, 256, socket.MSG_ERRQUEUE)
        except OSError:
            return


def raw_socket(version: int) -> socket.socket:
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


def _drop_count(sock: socket.socket) -> int:
    (number,) = struct.unpack_from("=I", sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 36), 4 * MEMINFO_DROPS)
    return int(number)

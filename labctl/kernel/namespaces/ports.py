"""Ports of a namespace: whether one is free, and which process listens on it."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path

from labctl.core.scenario_types import Protocol
from labctl.kernel.host.counters import ADDRESS_COLUMN, LISTEN_STATES, STATE_COLUMN
from labctl.kernel.namespaces import occupants

INODE_COLUMN = 9  # of /proc/net/tcp and udp
TIME_WAIT_STATE = "06"  # in /proc/net/tcp


def try_listen(protocol: Protocol, port: int) -> int:
    """Try to listen on a port of this thread's namespace, and close it again. Returns the errno, 0 for success."""
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(socket.AF_INET, kind) as sock:
        if protocol == "tcp":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that linger do not count
        try:
            sock.bind(("", port))
            if protocol == "tcp":
                sock.listen(1)
        except OSError as error:
            return error.errno or 0
    return 0


def listening_processes(path: Path, protocol: Protocol, port: int) -> tuple[str, ...]:
    """The processes that listen on a port of this thread's namespace, bound to `path`: `web (process 4711)`."""
    return _processes(path, _sockets(protocol, port, LISTEN_STATES[protocol]))


def port_holders(path: Path, protocol: Protocol, port: int) -> tuple[str, ...]:
    """What holds a port of this thread's namespace, bound to `path`: processes that listen there or have a connection
    from there, and connections that are closed and still wait (TIME_WAIT)."""
    waiting = ("a closed connection (TIME_WAIT)",) if _sockets(protocol, port, TIME_WAIT_STATE) else ()
    return (*_processes(path, _sockets(protocol, port, None)), *waiting)


def _processes(path: Path, sockets: set[str]) -> tuple[str, ...]:
    return tuple(f"{_name(pid)} (process {pid})" for pid in occupants.find([path]) if sockets & _open_sockets(pid))


def _sockets(protocol: Protocol, port: int, state: str | None) -> set[str]:
    """The sockets at a port that are in this state, None for any."""
    found = set()
    for family in ("", "6"):
        with suppress(OSError), open(f"/proc/thread-self/net/{protocol}{family}") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if state in (None, fields[STATE_COLUMN]) and int(fields[ADDRESS_COLUMN].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{fields[INODE_COLUMN]}]")
    return found


def _open_sockets(pid: int) -> set[str]:
    found = set()
    with suppress(OSError):
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                found.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return found


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return "?"

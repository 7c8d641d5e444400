"""Ports of a namespace: whether one is free, and which process listens on it."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from labctl.core.node_state import ListeningSocket
from labctl.core.resources import IP
from labctl.core.scenario_types import Protocol
from labctl.kernel.host.counters import ADDRESS_COLUMN, LISTEN_STATES, STATE_COLUMN, address_of
from labctl.kernel.namespaces import occupants
from labctl.kernel.netlink import sock_diag

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


def listening_sockets(path: Path | None = None) -> tuple[ListeningSocket, ...]:
    """The sockets that wait for clients in this thread's namespace, by port. With `path`, which the namespace is bound
    to, each has the processes that hold it."""
    sockets_by_protocol: dict[Protocol, list[tuple[IP, int, str]]] = {
        "tcp": list(_listening_tcp()),
        "udp": list(_listening("udp")),
    }
    found = [(protocol, *one) for protocol, sockets in sockets_by_protocol.items() for one in sockets]
    holders: dict[str, list[str]] = {}
    for pid in occupants.find([path]) if found and path is not None else ():
        for name in _open_sockets(pid):
            holders.setdefault(name, []).append(f"{_name(pid)} (process {pid})")
    made = {ListeningSocket(protocol, ip, port, tuple(holders.get(name, ()))) for protocol, ip, port, name in found}
    return tuple(sorted(made, key=lambda one: (one.protocol, one.port, one.address.version, one.address.packed)))


def listeners_at(protocol: Protocol, wanted: Collection[int]) -> tuple[str, ...]:
    """The sockets that listen on one of these ports in this thread's namespace: `tcp 127.0.0.1:80`."""
    sockets = _listening_tcp() if protocol == "tcp" else _listening(protocol)
    found = {(port, ip.version, ip.packed, ip) for ip, port, _ in sockets if port in wanted}
    return tuple(f"{protocol} {f'[{ip}]' if ip.version == 6 else ip}:{port}" for port, _, _, ip in sorted(found))


def _listening_tcp() -> Iterable[tuple[IP, int, str]]:
    """As `_listening`, by the quickest means that this kernel has. Most namespaces have no TCP socket at all."""
    if not any(_tcp_sockets(name) for name in ("sockstat", "sockstat6")):
        return ()
    try:
        return [(ip, port, f"socket:[{inode}]") for ip, port, inode in sock_diag.listening_tcp_sockets()]
    except OSError:
        return _listening("tcp")


def _tcp_sockets(name: str) -> int:
    """The number of TCP sockets in this thread's namespace, from one of the files sockstat; 1 if it is unknown."""
    with suppress(OSError), open(f"/proc/thread-self/net/{name}") as file:
        for line in file:
            if line.startswith("TCP"):
                return int(line.split()[2])
    return 1


def _sockets(protocol: Protocol, port: int, state: str | None) -> set[str]:
    """The sockets at a port that are in this state, None for any."""
    return {name for _, number, name in _bound(protocol, state) if number == port}


def _listening(protocol: Protocol) -> Iterator[tuple[IP, int, str]]:
    return _bound(protocol, LISTEN_STATES[protocol])


def _bound(protocol: Protocol, state: str | None) -> Iterator[tuple[IP, int, str]]:
    """Each socket that is in this state, None for any: its address, its port, and its name in /proc/PID/fd."""
    for family in ("", "6"):
        with suppress(OSError), open(f"/proc/thread-self/net/{protocol}{family}") as file:
            for line in file.readlines()[1:]:
                fields = line.split()
                if state in (None, fields[STATE_COLUMN]):
                    address, _, port = fields[ADDRESS_COLUMN].partition(":")
                    yield address_of(address), int(port, 16), f"socket:[{fields[INODE_COLUMN]}]"


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

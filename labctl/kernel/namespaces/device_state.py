"""Small questions to a namespace through a socket of it: is a device up, what MAC has it, is an address its own.

They cost a system call each, where a netlink dump would cost milliseconds.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable

from labctl.core.resources import IP, Link, Resource
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import Inside

SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCETHTOOL = 0x8913, 0x8927, 0x8933, 0x8946
ETHTOOL_GLINK = 0xA
IFF_UP, IFF_RUNNING = 0x1, 0x40
NO_CARRIER = "has no carrier"


def trouble(sock: socket.socket, device: str) -> str | None:
    """What is wrong with a device: `is gone`, `is down`, `has no carrier`; None if it works."""
    try:
        answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("=16sH14x", device.encode(), 0))
    except OSError as error:
        return "is gone" if error.errno == errno.ENODEV else f"cannot be asked: {error.strerror}"
    flags = struct.unpack_from("=H", answer, 16)[0]
    if not flags & IFF_UP:
        return "is down"
    carrier = _carrier(sock, device)
    return None if (bool(flags & IFF_RUNNING) if carrier is None else carrier) else NO_CARRIER


def _carrier(sock: socket.socket, device: str) -> bool | None:
    """Whether a device has its carrier, None for a kind that cannot tell. The flags learn that it came, or went, up to
    a second late, and until it is known to have come the device drops what it is given: the work waits in a queue of
    the kernel's. To be asked this way makes the kernel do it first (linkwatch_sync_dev() in net/core/link_watch.c, by
    ethtool_op_get_link())."""
    answer = array.array("I", (ETHTOOL_GLINK, 0))
    request = struct.pack("@16sP16x", device.encode(), answer.buffer_info()[0])
    try:
        fcntl.ioctl(sock, SIOCETHTOOL, request)
    except OSError:
        return None
    return bool(answer[1])


def settle(names: Iterable[str]) -> None:
    """Let devices that are up know of their carriers, so that they drop nothing from now on. Runs inside."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for name in names:
            trouble(sock, name)


def plugged(item: Resource | None) -> bool:
    """Whether it is a cable's end that is to be up, and so must have a carrier; a bridge without ports has none."""
    return isinstance(item, Link) and item.kind == "veth" and item.up


def mac(sock: socket.socket, device: str) -> str | None:
    """A device's Ethernet address, or None if it is gone."""
    try:
        answer = fcntl.ioctl(sock, SIOCGIFHWADDR, struct.pack("=16s16x", device.encode()))
    except OSError:
        return None
    return answer[18:24].hex(":")


def index(sock: socket.socket, device: str) -> int:
    """A device's number in its namespace, or 0 if it is gone."""
    try:
        answer = fcntl.ioctl(sock, SIOCGIFINDEX, struct.pack("=16si12x", device.encode(), 0))
    except OSError:
        return 0
    return int(struct.unpack_from("=i", answer, 16)[0])


def owns(inside: Inside, lab: str, node: str, address: IP) -> bool:
    """Whether an address is the node's own: only then can a socket be bound to it."""
    try:
        return inside.run(paths.netns_path(lab, node), _bindable, address)
    except OSError:
        return False


def _bindable(address: IP) -> bool:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True

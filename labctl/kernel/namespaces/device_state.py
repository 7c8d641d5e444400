"""Small queries to a namespace through one of its sockets: is a device up, what is its MAC, is an address local.

Each costs one system call; a netlink dump would cost milliseconds.
"""

from __future__ import annotations

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable
from typing import Protocol

from labctl.core.resources import IP, Link, Resource
from labctl.core.sentence import sentence
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread

SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCETHTOOL = 0x8913, 0x8927, 0x8933, 0x8946
ETHTOOL_GLINK = 0xA
IFF_UP, IFF_RUNNING = 0x1, 0x40
FOLLOWER_KINDS = ("bridge", "vlan", "macvlan", "ipvlan")  # they have carrier when a device below them has it
NO_CARRIER = sentence("has no carrier")


class HasFileno(Protocol):
    """A socket of any kind: the kernel answers these queries through each."""

    def fileno(self) -> int:
        """Its file descriptor."""
        ...


def device_problem(sock: socket.socket, device: str) -> str | None:
    """The problem of a device: `is gone`, `is down`, `has no carrier`; None if it works."""
    try:
        answer = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("=16sH14x", device.encode(), 0))
    except OSError as error:
        return (
            sentence("is gone")
            if error.errno == errno.ENODEV
            else sentence("cannot be queried: {error}", error=error.strerror)
        )
    flags = struct.unpack_from("=H", answer, 16)[0]
    if not flags & IFF_UP:
        return sentence("is down")
    carrier = _carrier(sock, device)
    return None if (bool(flags & IFF_RUNNING) if carrier is None else carrier) else NO_CARRIER


def _carrier(sock: socket.socket, device: str) -> bool | None:
    """Whether a device has carrier; None for a kind of device that does not report it.

    The device flags follow a change of carrier up to a second late, because the kernel queues that work. Until the
    kernel has noted that the carrier is on, the device drops what it should send. This ioctl makes the kernel do the
    queued work first (linkwatch_sync_dev() in net/core/link_watch.c, called by ethtool_op_get_link()).
    """
    answer = array.array("I", (ETHTOOL_GLINK, 0))
    request = struct.pack("@16sP16x", device.encode(), answer.buffer_info()[0])
    try:
        fcntl.ioctl(sock, SIOCETHTOOL, request)
    except OSError:
        return None
    return bool(answer[1])


def update_carriers(names: Iterable[str]) -> None:
    """Make the kernel update the carrier of devices that are up, so that from now on they drop no packets for it.

    Runs inside the namespace.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        for name in names:
            device_problem(sock, name)


def devices_without_carrier(names: Iterable[str]) -> tuple[str, ...]:
    """Those of these devices of this thread's namespace that are up and have no carrier."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        return tuple(name for name in names if device_problem(sock, name) == NO_CARRIER)


def has_device(name: str) -> bool:
    """Whether this thread's namespace has a device of this name."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        return ifindex(sock, name) > 0


def needs_carrier(item: Resource | None) -> bool:
    """Whether it is one end of a veth pair that should be up, and so must have carrier. A bridge without ports, for
    example, has none."""
    return isinstance(item, Link) and item.kind == "veth" and item.up


def carrier_order(links: Iterable[Link]) -> list[str]:
    """The devices of a namespace that may get carrier, in the order in which the kernel notes it: the ends of
    cables, then what follows the carrier of another device. Such a device can follow another one, so it comes twice.
    """
    up = [link for link in links if link.up]
    masters = (link.master for link in up if link.master is not None)  # they may be older than their new port
    followers = dict.fromkeys([*masters, *(link.at.dev for link in up if link.kind in FOLLOWER_KINDS)])
    return [*(link.at.dev for link in up if needs_carrier(link)), *followers, *followers]


def mac(sock: HasFileno, device: str) -> str | None:
    """A device's Ethernet address, or None if the device is gone."""
    try:
        answer = fcntl.ioctl(sock, SIOCGIFHWADDR, struct.pack("=16s16x", device.encode()))
    except OSError:
        return None
    return answer[18:24].hex(":")


def ifindex(sock: HasFileno, device: str) -> int:
    """A device's index in its namespace, or 0 if the device is gone."""
    try:
        answer = fcntl.ioctl(sock, SIOCGIFINDEX, struct.pack("=16si12x", device.encode(), 0))
    except OSError:
        return 0
    return int(struct.unpack_from("=i", answer, 16)[0])


def has_address(thread: NetnsThread, lab: str, node: str, address: IP) -> bool:
    """Whether an address is a local address of the node: only then can a socket be bound to it."""
    try:
        return thread.run(paths.netns_path(lab, node), _bindable, address)
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

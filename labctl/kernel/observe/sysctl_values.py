"""Read sysctls as files below /proc/sys, in the namespace of the calling thread."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from labctl.core.resources import Sysctl
from labctl.kernel.host import ping_group_range
from labctl.kernel.netlink import dump


def path_of(name: str) -> Path:
    """The file of a sysctl. As in sysctl(8), a slash in the name stands for a dot in a device's name."""
    return Path(_file(name))


def _file(name: str) -> str:
    return f"/proc/sys/{'/'.join([part.replace('/', '.') for part in name.split('.')])}"


def read_sysctls(sysctls: Iterable[Sysctl]) -> Iterator[Sysctl]:
    """The current values of these sysctls; those that do not exist are left out. Call it inside their namespace."""
    for item in sysctls:
        try:
            fd = os.open(_file(item.name), os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            value = os.read(fd, 4096).decode()
        finally:
            os.close(fd)
        yield Sysctl(item.ns, item.name, ping_group_range.from_kernel(item.name, " ".join(value.split())))


def differing_forwarding(ns: str, links: Iterable[dump.RawLink], sysctls: Iterable[Sysctl]) -> Iterator[Sysctl]:
    """`conf.<dev>.forwarding` of each device, if it differs from the planned `net.ipv4.ip_forward`."""
    planned = next((item.value for item in sysctls if item.name == "net.ipv4.ip_forward"), None)
    for link in links:
        if planned is not None and link.forwarding is not None and str(link.forwarding) != planned:
            yield Sysctl(ns, f"net.ipv4.conf.{link.name.replace('.', '/')}.forwarding", str(link.forwarding))

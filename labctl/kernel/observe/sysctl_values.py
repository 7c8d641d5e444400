"""Read sysctls as files below /proc/sys, in the namespace of the calling thread."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from labctl.core.resources import Sysctl
from labctl.kernel.host import ping_group_range
from labctl.kernel.netlink import netconf
from labctl.kernel.netlink.rtnetlink import Channel
from labctl.kernel.observe.proc_sys import ProcSys

if TYPE_CHECKING:
    from labctl.kernel.netlink.dump import RawLink

GENERAL = {"all": netconf.NETCONF_ALL, "default": netconf.NETCONF_DEFAULT}
IPV4_NUMBERS = {name: number for number, name in enumerate(netconf.IPV4_CONF)}


def read_sysctls(sysctls: Iterable[Sysctl], files: ProcSys) -> Iterator[Sysctl]:
    """The current values of these sysctls; those that do not exist are left out. Call it inside their namespace."""
    for item in sysctls:
        try:
            fd = files.open(item.ns, item.name, os.O_RDONLY)
        except OSError:
            continue
        try:
            value = os.read(fd, 4096).decode()
        finally:
            os.close(fd)
        yield Sysctl(item.ns, item.name, ping_group_range.from_kernel(item.name, " ".join(value.split())))


def read_known(
    sysctls: Iterable[Sysctl], links: Collection[RawLink], channel: Channel, files: ProcSys
) -> Iterator[Sysctl]:
    """What `read_sysctls` yields. The settings of IPv4 come with the namespace's links and from its rtnetlink socket:
    opening a file below /proc/sys takes ten times as long. Call it inside the namespace."""
    of_device: dict[str, RawLink] | None = None
    general: dict[str, dict[str, int]] = {}
    for item in sysctls:
        device, name = ipv4_conf(item.name)
        value: int | None = None
        if device in GENERAL:
            if device not in general:
                general[device] = netconf.ipv4_conf(channel, GENERAL[device])
            value = general[device].get(name)
        elif device:
            if of_device is None:
                of_device = {link.name: link for link in links}
            found, number = of_device.get(device), IPV4_NUMBERS.get(name)
            if found is not None and number is not None:
                value = found.ipv4_setting(number)
        if value is None:
            yield from read_sysctls((item,), files)
        else:
            yield Sysctl(item.ns, item.name, str(value))


@cache
def ipv4_conf(sysctl: str) -> tuple[str, str]:
    """The device (or `all`, `default`) and the name of a setting below net.ipv4.conf; two empty texts for others."""
    if sysctl == "net.ipv4.ip_forward":
        return "all", "forwarding"
    parts = sysctl.split(".")
    if len(parts) != 5 or parts[:3] != ["net", "ipv4", "conf"]:
        return "", ""
    return parts[3].replace("/", "."), parts[4]


def differing_forwarding(ns: str, links: Iterable[RawLink], sysctls: Iterable[Sysctl]) -> Iterator[Sysctl]:
    """`conf.<dev>.forwarding` of each device, if it differs from the planned `net.ipv4.ip_forward`."""
    planned = next((item.value for item in sysctls if item.name == "net.ipv4.ip_forward"), None)
    for link in links:
        forwarding = link.ipv4_setting(0)
        if planned is not None and forwarding is not None and str(forwarding) != planned:
            yield Sysctl(ns, f"net.ipv4.conf.{link.name.replace('.', '/')}.forwarding", str(forwarding))

"""Settings of IPv4 devices: rtnetlink reads and writes the same values as files below /proc/sys."""

from __future__ import annotations

import os
from collections.abc import Callable
from ipaddress import IPv4Interface
from typing import Any

import pytest

from labctl.core.diff import diff
from labctl.core.resources import Address, Interface, Link, Netns, Plan, Sysctl
from labctl.kernel.host import paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.netlink import dump, netconf
from labctl.kernel.netlink.rtnetlink import Channel
from labctl.kernel.observe import sysctl_values
from labctl.kernel.observe.proc_sys import ProcSys

LAB = "settings"
A, B = Interface("a", "eth0"), Interface("b", "eth0")
CONF = "/proc/sys/net/ipv4/conf"


def settings(device: str) -> list[Sysctl]:
    names = (name for name in sorted(os.listdir(f"{CONF}/{device}")) if os.access(f"{CONF}/{device}/{name}", os.R_OK))
    return [Sysctl("a", f"net.ipv4.conf.{device}.{name}", "") for name in names]


def test_every_setting_is_read_as_its_file_has_it(fresh: Callable[..., Any]) -> None:
    def read() -> tuple[list[Sysctl], list[Sysctl]]:
        for device, name, value in (("lo", "rp_filter", 2), ("all", "proxy_arp", 1), ("default", "rp_filter", 1)):
            with open(f"{CONF}/{device}/{name}", "w") as file:
                file.write(str(value))
        for number, name in enumerate(sorted(os.listdir(f"{CONF}/lo"))):
            if os.access(f"{CONF}/lo/{name}", os.W_OK) and name not in ("mc_forwarding", "rp_filter"):
                with open(f"{CONF}/lo/{name}", "w") as file:
                    file.write(str(number % 2))
        asked = [
            Sysctl("a", "net.ipv4.ip_forward", ""),
            *(one for d in ("lo", "all", "default") for one in settings(d)),
        ]
        channel = Channel()
        try:
            links = tuple(dump.links(channel))
            with ProcSys() as files:
                known = list(sysctl_values.read_known(asked, links, channel, files))
                return known, list(sysctl_values.read_sysctls(asked, files))
        finally:
            channel.close()

    by_netlink, by_files = fresh(read)

    assert by_netlink == by_files
    assert len(by_files) > 90


def test_the_names_are_in_the_kernels_order() -> None:
    names = netconf.IPV4_CONF
    assert set(names) <= {*os.listdir(f"{CONF}/lo"), "shared_media"}
    assert (names[0], names[7], names[21]) == (
        "forwarding",
        "rp_filter",
        "arp_notify",
    )


@pytest.mark.parametrize("order", [1, -1])
def test_what_is_written_is_in_the_files(order: int) -> None:
    wanted = (
        Sysctl("a", "net.ipv4.conf.default.rp_filter", "1"),
        Sysctl("a", "net.ipv4.conf.eth0.rp_filter", "2"),
        Sysctl("a", "net.ipv4.conf.eth0.arp_notify", "1"),
        Sysctl("a", "net.ipv4.conf.eth0.send_redirects", "0"),
        Sysctl("a", "net.ipv4.ip_forward", "1"),
        Sysctl("b", "net.ipv4.ip_forward", "0"),
    )[::order]
    plan: Plan = (
        Netns("a"),
        Netns("b"),
        Link(A, "veth", peer=B),
        Link(B, "veth", peer=A),
        *wanted,
        Address(A, IPv4Interface("192.0.2.1/24")),
    )
    try:
        with KernelLab(LAB) as kernel:
            kernel.apply(diff(plan, ()))
            assert diff(plan, kernel.observe(plan)) == ()
            for item in wanted:
                path = paths.netns_path(LAB, item.ns)
                assert list(kernel.thread.run(path, _read_file, item)) == [item]
    finally:
        with KernelLab(LAB) as kernel:
            kernel.destroy()


def _read_file(item: Sysctl) -> list[Sysctl]:
    with ProcSys() as files:
        return list(sysctl_values.read_sysctls([item], files))

"""Files below /proc/sys of many namespaces: each is that of its namespace, whichever mount of proc is used."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator

import pytest

from labctl.core.diff import diff
from labctl.core.resources import Netns, Plan, Sysctl
from labctl.kernel.host import detached_mount, paths
from labctl.kernel.host.detached_mount import mount_detached
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces.entry import enter_netns
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.observe import proc_sys, sysctl_values
from labctl.kernel.observe.proc_sys import ProcSys

LAB = "procsys"
COUNT = 7
SETTINGS = tuple(
    Sysctl(f"n{number}", name, str(number + 1))
    for number in range(COUNT)
    for name in ("net.ipv4.ip_unprivileged_port_start", "net.ipv4.tcp_syn_retries")
)
PLAN: Plan = (*(Netns(f"n{number}") for number in range(COUNT)), *SETTINGS)


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was mounted. A mount is used for two folders."""
    mounted: list[str] = []

    def mount(kind: str) -> int:
        mounted.append(kind)
        return mount_detached(kind)

    monkeypatch.setattr(proc_sys, "FOLDERS", 2)
    monkeypatch.setattr(detached_mount, "mount_detached", mount)
    return mounted


@pytest.fixture
def built(mounts: list[str]) -> Iterator[None]:
    try:
        with KernelLab(LAB) as kernel:
            kernel.apply(diff(PLAN, ()))
        mounts.clear()
        yield
    finally:
        with KernelLab(LAB) as kernel:
            kernel.destroy()


def read_all() -> list[Sysctl]:
    """The settings of all namespaces, read by one thread that goes from one to the next."""

    def read() -> list[Sysctl]:
        opened = set(os.listdir("/proc/thread-self/fd"))
        with ProcSys() as files:
            found = []
            for item in SETTINGS:
                fd = os.open(paths.netns_path(LAB, item.ns), os.O_RDONLY)
                enter_netns(fd)
                os.close(fd)
                found += sysctl_values.read_sysctls([item], files)
        assert len(os.listdir("/proc/thread-self/fd")) == len(opened)
        return found

    with NetnsThread() as thread:
        return thread.run(None, read)


@pytest.mark.usefixtures("built")
def test_each_namespace_has_its_values_through_many_mounts(mounts: list[str]) -> None:
    assert read_all() == list(SETTINGS)
    assert mounts == ["proc"] * 3  # seven folders, of which the machine's mount has the first two


@pytest.mark.usefixtures("built")
def test_where_nothing_can_be_mounted_the_machines_mount_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def refuse(kind: str) -> int:
        asked.append(kind)
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(detached_mount, "mount_detached", refuse)
    assert read_all() == list(SETTINGS)
    assert asked == ["proc"]


@pytest.mark.usefixtures("built")
def test_a_lab_is_compared_through_many_mounts(mounts: list[str]) -> None:
    with KernelLab(LAB) as kernel:
        assert diff(PLAN, kernel.observe(PLAN)) == ()
    assert mounts

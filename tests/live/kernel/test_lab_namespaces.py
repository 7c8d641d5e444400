"""Making, finding and removing namespaces; and the processes that live in them."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.core.diff import diff
from labctl.core.resources import Interface, Link, Netns, Plan, Sysctl
from labctl.errors import KernelError, LimitError
from labctl.kernel.apply import links
from labctl.kernel.host import paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces import lab_namespaces, occupants
from labctl.kernel.namespaces.thread import MS_BIND, NetnsThread, mount, umount


@pytest.fixture
def kernel() -> Iterator[KernelLab]:
    with KernelLab("t") as one:
        one.apply(diff((Netns("a"), Netns("b")), ()))
        yield one
        one.destroy()


def test_a_namespace_is_made_under_its_name(kernel: KernelLab) -> None:
    assert paths.labs() == {"t": ("a", "b")}
    assert lab_namespaces.is_namespace(paths.netns_path("t", "a"))
    own = os.stat("/proc/self/ns/net").st_ino
    inodes = {os.stat(paths.netns_path("t", node)).st_ino for node in ("a", "b")}
    assert len(inodes | {own}) == 3


def test_a_name_that_is_taken_is_refused_with_its_place(kernel: KernelLab) -> None:
    with (
        KernelLab("t") as second,
        pytest.raises(KernelError, match=r"cannot create namespace labctl\.t\.a: File exists"),
    ):
        second.apply(diff((Netns("a"),), ()))


def test_a_stale_name_counts_as_absent_and_gives_way(kernel: KernelLab) -> None:
    stale = paths.netns_path("t", "stale")
    stale.touch()
    assert not lab_namespaces.is_namespace(stale)
    assert [item for item in kernel.observe() if isinstance(item, Netns)] == [Netns("a"), Netns("b")]
    assert stale.exists()  # to look is not to touch
    kernel.apply(diff((Netns("stale"),), ()))
    assert lab_namespaces.is_namespace(stale)


def test_the_machines_own_namespace_is_never_a_labs(kernel: KernelLab) -> None:
    own = paths.netns_path("t", "own")
    own.touch()
    mount("/proc/self/ns/net", str(own), None, MS_BIND)
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        assert lab_namespaces.is_namespace(own)
        assert occupants.find([own]) == ()
        with pytest.raises(KernelError, match="is the machine's own network namespace"):
            kernel.observe()
        kernel.destroy()
        assert not own.exists()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_name_that_is_bound_twice_is_removed(kernel: KernelLab) -> None:
    name = paths.netns_path("t", "a")
    mount(str(paths.netns_path("t", "b")), str(name), None, MS_BIND)

    assert lab_namespaces.unbind(name)
    assert not name.exists()
    assert lab_namespaces.is_namespace(paths.netns_path("t", "b"))


def test_links_and_folders_among_the_names_are_not_ours(kernel: KernelLab, tmp_path: Path) -> None:
    mounted = tmp_path / "mounted"
    mounted.mkdir()
    mount("none", str(mounted), "tmpfs")
    link, folder = paths.netns_path("t", "link"), paths.netns_path("t", "folder")
    link.symlink_to(mounted)
    folder.mkdir()
    try:
        assert paths.labs() == {"t": ("a", "b")}
        assert kernel.destroy() == ("a", "b")
        assert os.path.ismount(mounted)
        assert link.is_symlink()
        assert lab_namespaces.unbind(link)  # even asked to remove it, only the link goes
        assert os.path.ismount(mounted)
    finally:
        link.unlink(missing_ok=True)
        folder.rmdir()
        umount(str(mounted))


def test_down_ends_what_runs_inside_and_nothing_else(kernel: KernelLab) -> None:
    outside = subprocess.Popen(["sleep", "60"])
    with NetnsThread() as inside:
        stubborn = ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done"]
        lives = inside.run(paths.netns_path("t", "a"), subprocess.Popen, stubborn, stdout=subprocess.PIPE)
        assert lives.stdout is not None
        assert lives.stdout.readline() == b"ready\n"  # the trap is set
        found = occupants.find([paths.netns_path("t", "a")])
        assert lives.pid in found
        assert outside.pid not in found
        occupants.terminate(found, grace_s=0.2)
        assert lives.wait(5) == -9
        lives.stdout.close()
    assert outside.poll() is None
    outside.kill()
    outside.wait()


def test_we_are_never_among_those_to_be_ended() -> None:
    own = paths.netns_dir() / "own"
    assert os.getpid() not in occupants.find([own])
    found = occupants.find([own.parent / "..", own])
    assert os.getpid() not in found
    with open("/proc/self/ns/net") as here:
        assert os.getpid() not in occupants.find([type(own)(here.name)])


def test_a_lab_is_built_and_read_with_few_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the limit of open files allows no descriptor for each namespace, only the last ones stay open."""
    monkeypatch.setattr(lab_namespaces, "MAX_DESCRIPTORS", 3)
    monkeypatch.setattr(links, "MAX_DESCRIPTORS", 3)

    def refuse(lowest_free: int | None = None, spare: int = 0) -> None:
        if spare > 9 + 3 + lab_namespaces.SPARE_FILES:
            raise LimitError("too few open files")

    monkeypatch.setattr(lab_namespaces, "require_spare_files", refuse)
    ends = [(Interface(f"n{number}", "eth0"), Interface("hub", f"v{number}")) for number in range(1, 9)]
    names = ("hub", *(near.ns for near, _ in ends))
    plan: Plan = (
        *map(Netns, names),
        *(Link(one, "veth", peer=other) for pair in ends for one, other in (pair, pair[::-1])),
        *(Sysctl(name, "net.ipv4.conf.lo.arp_ignore", "1") for name in names),
    )
    try:
        with KernelLab("few") as kernel:
            kernel.apply(diff(plan, ()))
            assert len(kernel.namespaces.fds) <= 3
        with KernelLab("few") as kernel:
            assert diff(plan, kernel.observe(plan)) == ()
            assert len(kernel.namespaces.fds) <= 3
            assert set(kernel.namespaces.channels) == set(names)
    finally:
        with KernelLab("few") as kernel:
            kernel.destroy()


def test_many_namespaces_are_made_by_two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_namespaces, "MANY", 2)
    names = [f"n{number}" for number in range(20)]
    makers: set[str] = set()
    create = lab_namespaces.NamespaceSet.create

    def noted(self: lab_namespaces.NamespaceSet, node: str) -> None:
        makers.add(str(threading.get_ident()))
        create(self, node)

    monkeypatch.setattr(lab_namespaces.NamespaceSet, "create", noted)
    try:
        with KernelLab("two") as kernel:
            kernel.apply(diff(tuple(map(Netns, names)), ()))
            assert set(kernel.namespaces.channels) == set(kernel.namespaces.fds) == set(names)
        inodes = {os.stat(paths.netns_path("two", name)).st_ino for name in names}
        assert len(inodes) == len(names)
        assert len(makers) == min(2, len(os.sched_getaffinity(0)))
    finally:
        with KernelLab("two") as kernel:
            kernel.destroy()


def test_a_taken_name_ends_the_work_of_both_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_namespaces, "MANY", 2)
    try:
        with KernelLab("two") as first:
            first.apply(diff((Netns("n3"),), ()))
        with KernelLab("two") as second, pytest.raises(KernelError, match=r"labctl\.two\.n3: File exists"):
            second.apply(diff(tuple(Netns(f"n{number}") for number in range(200)), ()))
        assert len(paths.labs()["two"]) < 200
    finally:
        with KernelLab("two") as kernel:
            kernel.destroy()

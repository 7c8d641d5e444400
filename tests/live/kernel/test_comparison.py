"""A lab compared in two processes: the same differences as in one, and never a wrong answer if one of the two ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.core.diff import Change, diff
from labctl.core.resources import Plan
from labctl.errors import KernelError
from labctl.kernel import lab_kernel
from labctl.kernel.host import paths
from labctl.kernel.host.second_process import second_process
from labctl.kernel.host.syscalls import MNT_DETACH, MS_BIND, mount, umount
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.observe import comparison
from labctl.kernel.observe.lab_reader import LabReader
from labctl.lab import lifecycle

LAB = "compared"
DRIFT = {
    "a": ("ip link set eth0 mtu 1400", "sysctl -qw net.ipv4.conf.eth0.forwarding=1"),
    "b": ("ip addr add 192.0.2.1/24 dev eth0",),
    "c": ("ip route del default",),
    "node1": ("iptables -t nat -F", "ip rule add pref 100 lookup 100", "ip link add pair0 type veth peer name pair1"),
    "node2": ("nft add table inet other", "ip neigh add 10.244.1.99 lladdr 02:00:00:00:00:09 dev cbr0 nud permanent"),
    "vm": ("ip link set lo down", "ip link set eth0 down"),
}


def one_process(plan: Plan) -> tuple[Change, ...]:
    with KernelLab(LAB) as kernel:
        return diff(plan, kernel.observe(plan))


def two_processes(plan: Plan) -> tuple[Change, ...]:
    with KernelLab(LAB) as kernel:
        return kernel.differences(plan)


def children() -> str:
    return Path("/proc/thread-self/children").read_text()


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Small labs are compared in two processes, too, which take one namespace after the other. Has for each comparison
    whether it came to a result."""
    seen: list[bool] = []
    compare = comparison.compare

    def recorded(*words: Any) -> tuple[Plan, Plan]:
        seen.append(False)
        found = compare(*words)
        seen[-1] = True
        return found

    monkeypatch.setattr(lab_kernel, "MANY", 1)
    monkeypatch.setattr(comparison, "TAKEN", 1)
    monkeypatch.setattr(comparison, "compare", recorded)
    return seen


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process takes every second namespace, `a` first, and the second process the others."""

    @contextmanager
    def queue(nodes: Sequence[str]) -> Iterator[Callable[[], Sequence[str]]]:
        parent, left = os.getpid(), [nodes]
        yield lambda: left.pop()[os.getpid() != parent :: 2] if left else ()

    monkeypatch.setattr(comparison, "_queue", queue)


@pytest.fixture(scope="module")
def running() -> Iterator[labctl.RunningLab]:
    with labctl.up("kubenet", name=LAB) as lab:
        yield lab


@pytest.fixture
def plan(running: labctl.RunningLab) -> Iterator[Plan]:
    """The plan of a lab without drift, which is repaired afterwards."""
    before = children()
    yield lifecycle.load_compiled_lab(running.name).plan
    labctl.up("kubenet", name=LAB)
    assert running.status() == ()
    assert children() == before


def test_nothing_differs_after_up(plan: Plan, results: list[bool]) -> None:
    assert (two_processes(plan), results) == ((), [True])


def test_the_queue_gives_each_namespace_once(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [f"n{number}" for number in range(1000)]
    monkeypatch.setattr(comparison, "MAX_NUMBERS", 300)  # so each takes four

    def taken(take: Callable[[], Sequence[str]]) -> list[str]:
        return [node for part in iter(take, ()) for node in part]

    with (
        comparison._queue(nodes) as take,
        second_process(lambda pipe: pipe.send(" ".join(taken(take)).encode())) as pipe,
    ):
        mine = taken(take)
        assert sorted([*mine, *pipe.receive().decode().split()]) == sorted(nodes)


@pytest.mark.usefixtures("halves")
def test_two_processes_find_what_one_finds(running: labctl.RunningLab, plan: Plan, results: list[bool]) -> None:
    for node, commands in DRIFT.items():
        for command in commands:
            running[node].run(command)
    found = two_processes(plan)
    assert found == one_process(plan)
    assert {change.subject.ns for change in found} >= DRIFT.keys()
    assert results == [True]
    assert {change.kind for change in found} == {"missing", "extra", "changed"}


@pytest.mark.usefixtures("halves")
def test_lost_and_unplanned_namespaces_are_found(plan: Plan, results: list[bool]) -> None:
    lost, other = paths.netns_path(LAB, "b"), paths.netns_path(LAB, "other")
    with lost.open():  # so that it exists on, without a name
        umount(str(lost), MNT_DETACH)
        os.system(f"ip netns add {other.name}")
        found = two_processes(plan)
        assert found == one_process(plan)
    assert {change.kind for change in found if change.subject.key == ("netns", "b")} == {"missing"}
    assert [change.subject.key for change in found if change.kind == "extra"][-1] == ("netns", "other")
    assert results == [True]


def test_a_second_up_repairs_what_two_processes_have_found(
    running: labctl.RunningLab, plan: Plan, results: list[bool]
) -> None:
    for command in ("ip link set eth0 mtu 1400", "ip route del default", "ip link del eth0"):
        running["a"].run(command)
    found = lifecycle.up(lifecycle.define("kubenet", LAB)).changes
    assert {change.subject.ns for change in found} == {"a", "node1"}
    assert (one_process(plan), results) == ((), [True])  # what is repaired is compared in one


@pytest.mark.usefixtures("halves")
@pytest.mark.parametrize("moment", ["read", "resources"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_second_process_that_ends_is_never_no_drift(
    moment: str, number: int, running: labctl.RunningLab, plan: Plan, results: list[bool], monkeypatch: Any
) -> None:
    running["a"].run("ip route del default")
    parent, work = os.getpid(), getattr(LabReader, moment)

    def die(reader: LabReader, *words: Any) -> Any:
        if os.getpid() != parent:
            os.kill(os.getpid(), number)
        return work(reader, *words)

    monkeypatch.setattr(LabReader, moment, die)
    assert [change.kind for change in two_processes(plan)] == ["missing"]
    assert results == [False]


@pytest.mark.usefixtures("halves")
@pytest.mark.parametrize("node", ["a", "b"])  # of this process, and of the second one
def test_a_namespace_that_one_of_the_two_refuses_is_an_error(node: str, plan: Plan, results: list[bool]) -> None:
    name, twin = paths.netns_path(LAB, node), paths.netns_path(LAB, "ab".replace(node, ""))
    with name.open():
        umount(str(name), MNT_DETACH)
        for bound, problem in (("/proc/self/ns/net", "the machine's own"), (str(twin), "is the network namespace of")):
            mount(bound, str(name), None, MS_BIND)
            with pytest.raises(KernelError, match=problem):
                two_processes(plan)
            umount(str(name), MNT_DETACH)
    assert results == [False] * 2


def test_an_interrupt_ends_both(plan: Plan, results: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    parent, read = os.getpid(), LabReader.read

    def interrupt(reader: LabReader, nodes: Any) -> None:
        if os.getpid() == parent:
            os.kill(parent, signal.SIGINT)
        read(reader, nodes)

    with monkeypatch.context() as patch:
        patch.setattr(LabReader, "read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            two_processes(plan)
    assert two_processes(plan) == ()

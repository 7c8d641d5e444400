"""Firewalls of several namespaces are written and read at the same time: with one lock, few open files, one error."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.core.diff import Change, diff
from labctl.core.iptables import rule
from labctl.core.resources import Chain, Link, Netns, Plan
from labctl.errors import KernelError
from labctl.kernel.apply import firewall_changes
from labctl.kernel.apply.links import LinkBuilder
from labctl.kernel.firewall import chains, commands
from labctl.kernel.host import lab_state, paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces.lab_namespaces import FILES_PER_NAMESPACE, NamespaceSet
from labctl.kernel.netlink.rtnetlink import Refusal
from labctl.kernel.observe import lab_reader
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text

pytestmark = pytest.mark.firewall

LAB = "together"
NODES = tuple(f"n{number}" for number in range(1, 13))
MANY = tuple(rule(f"-s 10.0.0.{number} -j ACCEPT") for number in range(1, 30))  # more than python-iptables writes
PLAN: Plan = (
    *map(Netns, NODES),
    *(Chain(node, "filter", "MINE", MANY) for node in NODES),
    *(Chain(node, "filter", "FORWARD", (rule("-j MINE"),), "ACCEPT") for node in NODES),
)


@pytest.fixture
def gone() -> Iterator[None]:
    yield
    for name in (LAB, "bridges"):
        with KernelLab(name) as kernel:
            kernel.destroy()
        lab_state.remove_files(name)
    assert paths.labs() == {}


def build(plan: Plan) -> None:
    with KernelLab(LAB) as kernel:
        kernel.apply(diff(plan, ()))


def there() -> Plan:
    with KernelLab(LAB) as kernel:
        return tuple(item for item in kernel.observe(PLAN) if isinstance(item, (Netns, Chain)))


@pytest.mark.parametrize("at_once", [1, 4])
def test_every_namespace_gets_its_rules_and_gives_them_back(
    gone: None, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firewall_changes, "MAX_CHAIN_WRITERS", at_once)
    monkeypatch.setattr(lab_reader, "MAX_CHAIN_READERS", at_once)
    build(PLAN)
    assert [change for change in diff(PLAN, there()) if isinstance(change.subject, Chain)] == []


@pytest.mark.parametrize("shared", [True, False], ids=["two-processors", "one-processor"])
def test_rules_are_written_while_links_are_made_if_a_processor_is_free(
    gone: None, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, create, start = threading.Event(), LinkBuilder.create, chains.ChainWriter.start
    seen: list[bool] = []

    def create_after_rules(self: LinkBuilder, links: Sequence[Link]) -> list[Refusal]:
        seen.append(begun.wait(5 if shared else 0.3))
        return create(self, links)

    def noting(self: chains.ChainWriter, ns: str, changes: tuple[Change, ...]) -> None:
        begun.set()
        start(self, ns, changes)

    monkeypatch.setattr(LinkBuilder, "create", create_after_rules)
    monkeypatch.setattr(chains.ChainWriter, "start", noting)
    monkeypatch.setattr(NamespaceSet, "can_share_work", lambda _: shared)
    build(PLAN)
    assert seen == [shared]
    assert [change for change in diff(PLAN, there()) if isinstance(change.subject, Chain)] == []


def test_rules_are_written_no_longer_when_a_link_has_failed(gone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    written, failed, start = list[str](), threading.Event(), chains.ChainWriter.start

    def fail(self: LinkBuilder, links: Sequence[Link]) -> list[Refusal]:
        failed.wait(5)
        raise KernelError("no links")

    def first_one(self: chains.ChainWriter, ns: str, changes: tuple[Change, ...]) -> None:
        written.append(ns)
        failed.set()
        start(self, ns, changes)
        time.sleep(0.2)  # the other thread sees the error now

    monkeypatch.setattr(LinkBuilder, "create", fail)
    monkeypatch.setattr(chains.ChainWriter, "start", first_one)
    monkeypatch.setattr(NamespaceSet, "can_share_work", lambda _: True)
    threads = set(threading.enumerate())
    with pytest.raises(KernelError, match="no links"):
        build(PLAN)
    assert len(written) < len(NODES)
    assert set(threading.enumerate()) == threads


def test_the_error_names_the_namespace_whose_rule_was_refused(gone: None) -> None:
    bad = Chain("n7", "filter", "MINE", (*MANY, rule("-j MASQUERADE")))
    plan = tuple(bad if item.key == bad.key else item for item in PLAN)
    with pytest.raises(KernelError, match=r"rule '-A MINE -j MASQUERADE' in table filter of n7"):
        build(plan)


def test_a_writer_waits_for_the_lock_of_its_lab_and_gives_it_back(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock, order = commands.WriteLock(path), list[str]()

    def write() -> None:
        lock.acquire()
        order.append("written")

    with open(path, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        waiting = threading.Thread(target=write)
        waiting.start()
        time.sleep(0.2)
        order.append("released")
        fcntl.flock(held, fcntl.LOCK_UN)
        waiting.join(5)
        assert order == ["released", "written"]
        with pytest.raises(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        lock.release()
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_lock_that_is_never_free_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "TIMEOUT_S", 0.1)
    with open(tmp_path / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(KernelError, match=f"cannot lock {tmp_path}/lock within 0.1 s"):
            commands.WriteLock(tmp_path / "lock").acquire()


def test_many_namespaces_need_few_open_files(gone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "model: azure-cni-bridge\nmax_pods: 10\nnodes: {count: 20}\n"  # the tools of bridges need a file each
    built = lifecycle.up(define_text("bridges.yaml", text)).lab
    counts = []
    may_exist = chains.may_exist  # asked in every namespace

    def counting(*words: object) -> object:
        counts.append(len(os.listdir("/proc/self/fd")) - FILES_PER_NAMESPACE * len(counts))
        return may_exist(*words)  # type: ignore[arg-type]

    monkeypatch.setattr(chains, "may_exist", counting)
    assert lifecycle.status("bridges", built) == ()
    assert len(counts) == 23
    assert max(counts) - counts[0] <= 6 * (lab_reader.MAX_CHAIN_READERS + 1)


def test_only_chains_that_differ_are_asked_for_in_the_kernels_spelling(
    gone: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(PLAN)
    odd = Chain("n3", "filter", "MINE", (replace(MANY[0], args=("-s", "10.0.0.1/255.255.255.255", "-j", "ACCEPT")),))
    with KernelLab(LAB) as kernel:
        spelled = kernel.kernel_spelling((*PLAN[:-1], odd), {odd.key})
    assert {key: chain.rules for key, chain in spelled.items()} == {odd.key: MANY[:1]}
    written: list[str] = []
    start = chains.ChainWriter.start

    def noting(self: chains.ChainWriter, ns: str, changes: tuple[Change, ...]) -> None:
        written.extend(str(change.subject.key[-1]) for change in changes)
        start(self, ns, changes)

    changed = Chain("n5", "filter", "MINE", MANY[1:])
    plan = tuple(changed if item.key == changed.key else item for item in PLAN)
    monkeypatch.setattr(chains.ChainWriter, "start", noting)
    with KernelLab(LAB) as kernel:
        have = tuple(item for item in kernel.observe(plan) if isinstance(item, (Netns, Chain)))
        kernel.apply([change for change in diff(plan, have) if isinstance(change.subject, Chain)])
    assert written == ["MINE"]

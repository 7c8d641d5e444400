"""Meshes on a live lab: samples, parts, time limits, and the machine's neighbour table."""

from __future__ import annotations

import os
import resource
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from labctl.checks import attempt, mesh, mesh_neighbours, runner
from labctl.core.neighbour_presets import NeighbourPresets
from labctl.core.neighbour_tables import FullTable, NeighbourTable
from labctl.core.results import Outcome
from labctl.core.scenario_types import Check, Lab
from labctl.kernel.host import limits, paths
from labctl.kernel.namespaces import thread
from labctl.kernel.netlink import neighbour_tables
from labctl.kernel.probes import echo_batch, mesh_sockets
from labctl.kernel.probes import mesh as probes
from labctl.kernel.probes.mesh_evidence import REQUESTS, MeshEvidence
from labctl.lab import lifecycle

NAME = "meshlab"
PODS = ("pod1-1", "pod1-2", "pod1-3", "pod2-1", "pod2-2", "pod2-3")
MESH = Check("all", "mesh", groups=((PODS, PODS),))  # 30 pairs
VERSIONS = """
name: versions
model: raw
namespaces: {a: {role: pod}, b: {role: pod}, c: {role: pod}, sw: {role: machine}}
links:
  - bridge: sw/br0
  - veth: [{at: sw/a, master: br0}, a/eth0]
  - veth: [{at: sw/b, master: br0}, b/eth0]
  - veth: [{at: sw/c, master: br0}, c/eth0]
addresses:
  a/eth0: [10.0.0.1/24, "fd00::1/64"]
  b/eth0: [10.0.0.2/24, "fd00::2/64"]
  c/eth0: ["fd00::3/64", 10.0.0.3/24]
"""


@pytest.fixture(scope="module")
def definition(tmp_path_factory: pytest.TempPathFactory) -> Iterator[lifecycle.Definition]:
    file = tmp_path_factory.mktemp("lab") / "lab.yaml"
    file.write_text(f"{{model: kubenet, name: {NAME}, nodes: {{count: 2, pods: 3}}}}")
    made = lifecycle.define(str(file))
    lifecycle.up(made)
    yield made
    lifecycle.down(NAME)


@pytest.fixture(scope="module")
def lab(definition: lifecycle.Definition) -> Lab:
    return lifecycle.load_compiled_lab(NAME)


def ip(node: str, words: str) -> str:
    command = ["ip", "-n", paths.netns_name(NAME, node), *words.split()]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def dead_pod(definition: lifecycle.Definition) -> Iterator[str]:
    """A pod with its device down."""
    ip("pod2-3", "link set eth0 down")
    yield "pod2-3"
    lifecycle.up(definition)


def outcome(lab: Lab, check: Check, **more: Any) -> Outcome:
    return runner.run(replace(lab, checks=(check,)), **more).outcomes[0]


def text(found: Outcome) -> str:
    return "\n".join(found.evidence)


def fake_tables(monkeypatch: pytest.MonkeyPatch, room: int = 1024, full: bool = False) -> None:
    """Tables with so much room; with `full`, each reading finds that they were full once more."""
    readings = iter(range(1000))

    def read() -> tuple[NeighbourTable, ...]:
        number = next(readings) if full else 0
        return tuple(NeighbourTable(version, 1024, 1024 - room, number) for version in (4, 6))

    monkeypatch.setattr(neighbour_tables, "read", read)


def test_a_large_mesh_is_sampled_and_all_pairs_are_asked_on_request(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "MAX_PAIRS", 12)
    sampled, every = outcome(lab, MESH), outcome(lab, MESH, all_pairs=True)
    in_file = outcome(lab, replace(MESH, pairs="all"))

    assert sampled.verdict == every.verdict == in_file.verdict == "pass", text(sampled)
    assert sampled.pairs is not None
    assert (sampled.pairs.total, sampled.pairs.chosen, sampled.pairs.asked) == (30, 12, 12)
    assert sampled.evidence[:2] == (
        "a sample of 12 of 30 pairs: every pair of nodes, every pod as sender and as receiver",
        "12 of 12 pairs: replied, seen with own address",
    )
    for whole in (every, in_file):
        assert whole.pairs is not None
        assert (whole.pairs.asked, whole.pairs.sampled) == (30, False)
        assert whole.evidence[0] == "30 of 30 pairs: replied, seen with own address"


def test_a_sample_finds_a_dead_pod(lab: Lab, dead_pod: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mesh, "MAX_PAIRS", 6)
    found = outcome(lab, replace(MESH, within=0.6))

    assert found.verdict == "fail", text(found)
    assert found.pairs is not None
    assert found.pairs.sampled
    assert f"-> {dead_pod} " in text(found)


def test_a_mesh_that_cannot_be_asked_in_time_ends_in_time_and_is_inconclusive(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    send = echo_batch.send_messages

    def slowly(fd: int, address: int, count: int) -> int:
        time.sleep(0.05)
        return send(fd, address, 1)

    monkeypatch.setattr(echo_batch, "send_messages", slowly)
    monkeypatch.setattr(probes, "TILE", 4)
    found = outcome(lab, replace(MESH, within=0.8))

    assert found.verdict == "inconclusive", text(found)
    assert found.pairs is not None
    asked = found.pairs.asked
    assert 0 < asked < 30
    assert f"{asked} of {asked} pairs: replied, seen with own address" in found.evidence
    assert f"{30 - asked} of 30 pairs were not asked: the time was up" in found.evidence


@pytest.mark.parametrize("most", [0, 1000])
def test_the_entries_for_parts_of_a_mesh_are_bounded_and_none_is_left(
    lab: Lab, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tables(monkeypatch, room=0)
    monkeypatch.setattr(mesh, "PART", 7)
    monkeypatch.setattr(mesh_neighbours, "MAX_ENTRIES", most)
    ip("pod1-1", "neigh flush all")  # what exists already is not replaced
    before = {node: ip(node, "neigh show nud permanent") for node in (*PODS, "node1", "node2")}
    during: list[str] = []
    others: list[str] = []  # that the kernel made since
    ask = probes.Mesh.ask

    def look(self: probes.Mesh, pairs: Any, deadline: float) -> str:
        during.append(ip("pod1-1", "neigh show nud permanent"))
        others.append(ip("pod1-1", "neigh show nud reachable nud stale nud delay nud probe nud incomplete nud failed"))
        return ask(self, pairs, deadline)

    monkeypatch.setattr(probes.Mesh, "ask", look)
    found = outcome(lab, MESH)

    assert found.verdict == "pass", text(found)
    assert found.evidence[0] == "30 of 30 pairs: replied, seen with own address"
    assert len(during) == 6
    entries = [f"10.244.0.{number} dev eth0" for number in (3, 4)]
    assert [(one in during[0]) != (one in others[0]) for one in entries] == [True, True]
    if not most:
        assert not any(f"10.244.0.{number} dev eth0" in during[-1] for number in (3, 4)), "the last part needs neither"
    else:
        assert during[-1] == during[0], "the entries of earlier parts stay"
    assert {node: ip(node, "neigh show nud permanent") for node in before} == before
    assert "neighbour entries were preset for this check" in found.evidence[-1]


def test_a_mesh_that_does_not_fit_says_so_before_it_sends(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_tables(monkeypatch, room=3)
    monkeypatch.setattr(
        NeighbourPresets, "_answering_interface", lambda *_: None
    )  # a link layer that labctl cannot read
    found = outcome(lab, MESH)

    assert found.verdict == "inconclusive", text(found)
    assert found.pairs is not None
    assert found.pairs.asked == 0
    assert found.evidence[1].startswith("30 of 30 pairs were not asked: the pairs need ")
    assert found.evidence[1].endswith(
        "neighbour entries that labctl cannot preset, and the machine's table has room for 3: the sysctl"
        " net.ipv4.neigh.default.gc_thresh3=8192 gives it room"
    )


def test_pairs_without_proof_are_limited(lab: Lab, dead_pod: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "MAX_OPEN_PAIRS", 1)
    monkeypatch.setattr(probes, "TILE", 2)
    found = outcome(lab, MESH)

    assert found.verdict == "fail", text(found)
    assert found.pairs is not None
    assert found.pairs.asked < 30
    assert "pairs were not asked: too many of those that were asked have no proof" in text(found)


def test_a_full_table_of_the_machine_is_the_reason_and_never_a_failure_of_the_lab(
    lab: Lab, dead_pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = (
        replace(MESH, groups=((PODS[:-1], PODS),), within=0.6),
        Check("reply", "ping", "pod1-1", dead_pod, within=0.4),
        Check("tcp", "tcp", "pod1-1", dead_pod, 80, within=0.4),
    )
    failed = [outcome(lab, check).verdict for check in checks]
    fake_tables(monkeypatch, full=True)
    monkeypatch.setattr(attempt, "find_faults", lambda *_: {})  # the fault of this test, which is known otherwise
    found = [outcome(lab, check) for check in checks]

    assert failed == ["fail"] * 3
    for one in found:
        assert one.verdict == "inconclusive", text(one)
        assert str(FullTable(4)) in text(one)


def test_a_lab_above_the_limit_of_the_table_passes(tmp_path: Path) -> None:
    """40 containers on one Ethernet are 1560 entries, and the limit is 1024 for the whole machine."""
    file = tmp_path / "lab.yaml"
    file.write_text("{model: docker-overlay, name: abovelimit, hosts: {count: 4, containers: 10}}")
    lifecycle.up(lifecycle.define(str(file)))
    try:
        report = runner.run(lifecycle.load_compiled_lab("abovelimit"), "every container")
    finally:
        lifecycle.down("abovelimit")

    assert report.verdict == "pass", str(report)
    assert report.outcomes[0].evidence[0] == "1560 of 1560 pairs: replied, seen with own address"


def test_silence_is_tried_again_while_the_table_is_full(
    lab: Lab, dead_pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_tables(monkeypatch, full=True)
    monkeypatch.setattr(attempt, "find_faults", lambda *_: {})
    run, calls = attempt.CheckAttempt.run, []
    monkeypatch.setattr(attempt.CheckAttempt, "run", lambda self: calls.append(self) or run(self))
    found = outcome(lab, Check("no reply", "ping", "pod1-1", dead_pod, expect="fail", within=0.3))

    assert found.verdict == "inconclusive", text(found)
    assert len(calls) == 3


@pytest.mark.parametrize("threads", [1, 4])
def test_many_threads_and_few_sockets_find_the_same(
    lab: Lab, dead_pod: str, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tiles of a few pairs, asked by several threads, in parts of four machines."""
    monkeypatch.setattr(probes, "TILE", 3)
    monkeypatch.setattr(probes, "THREADED_PAIRS", 1)
    monkeypatch.setattr(probes, "MAX_THREADS", threads)
    monkeypatch.setattr(mesh_sockets, "MAX_SOCKETS", 4)
    open_sockets: list[int] = []
    opened = mesh_sockets.MeshSockets.open

    def count(self: mesh_sockets.MeshSockets, members: Any) -> bool:
        closed = opened(self, members)
        open_sockets.append(len(self._sockets))
        return closed

    monkeypatch.setattr(mesh_sockets.MeshSockets, "open", count)
    found = outcome(lab, replace(MESH, within=6))

    assert found.verdict == "fail", text(found)
    assert found.pairs is not None
    assert (found.pairs.asked, found.pairs.total) == (30, 30)
    assert found.evidence[0] == "20 of 30 pairs: replied, seen with own address"
    bad = [line for line in found.evidence if " (10.244." in line]
    assert all(dead_pod in line for line in bad)
    assert len(bad) == 10
    assert max(open_sockets) <= 4
    assert len(open_sockets) > 1


def test_a_request_that_comes_while_other_pairs_are_asked_makes_no_failure(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pod1-2 does not answer ARP at first, so the kernel holds the requests of pod1-1 back for a second. They arrive
    when the second part reads the socket of pod1-2; their replies are read later."""
    monkeypatch.setattr(mesh, "PART", 1)
    parts: list[Any] = []
    ask = probes.Mesh.ask

    def set_arp(answers: bool) -> None:
        done = ["ip", "netns", "exec", paths.netns_name(NAME, "pod1-2"), "sysctl", "-qw"]
        subprocess.run([*done, f"net.ipv4.conf.eth0.arp_ignore={0 if answers else 8}"], check=True)

    def ask_after_a_while(self: probes.Mesh, rows: Any, deadline: float) -> str:
        if parts:
            set_arp(answers=True)
            time.sleep(1.5)
        parts.append(rows)
        return ask(self, rows, deadline)

    monkeypatch.setattr(probes.Mesh, "ask", ask_after_a_while)
    for pod in PODS:
        ip(pod, "neigh flush all")
    set_arp(answers=False)
    try:
        groups = tuple(((source,), ("pod1-2",)) for source in ("pod1-1", "pod1-3"))
        found = outcome(lab, replace(MESH, groups=groups))
    finally:
        set_arp(answers=True)

    assert [rows[0][0] for rows in parts] == ["pod1-1", "pod1-3"]
    assert found.verdict == "pass", text(found)
    assert found.evidence[0] == "2 of 2 pairs: replied, seen with own address"


@pytest.mark.parametrize(("losses", "verdict"), [(1, "pass"), (9, "fail")])
def test_a_pair_with_a_reply_is_asked_again_if_its_request_was_not_seen(
    lab: Lab, losses: int, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evidence of its requests is lost once, or each time. If it is lost twice, that is the finding."""
    lost: list[Any] = []
    record = MeshEvidence.record

    def lose(self: MeshEvidence, number: int, echoes: list[Any]) -> None:
        requests = [echo for echo in echoes if echo[1] in REQUESTS and len(lost) < losses]
        lost.extend(requests)
        record(self, number, [echo for echo in echoes if echo not in requests])

    monkeypatch.setattr(MeshEvidence, "record", lose)
    found = outcome(lab, replace(MESH, groups=((("pod1-1",), ("pod2-1",)),)))

    assert found.verdict == verdict, text(found)
    assert len(lost) == min(losses, 2)
    assert verdict == "pass" or "pod1-1 -> pod2-1 (10.244.1.2): replied, never seen there" in text(found)


def test_a_mesh_needs_few_open_files(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the limit of open files allows no socket for each pod, the pods take turns, and so do their entries."""
    fake_tables(monkeypatch, room=0)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(limits, "raise_open_file_limit", lambda: None)
    monkeypatch.setattr(thread, "raise_open_file_limit", lambda: None)
    monkeypatch.setattr(runner, "namespaces_to_tap_for", lambda *_: ())
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 2 * limits.SPARE_FILES + 12, hard))
    try:
        found = outcome(lab, MESH)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert found.verdict == "pass", text(found)
    assert found.evidence[0] == "30 of 30 pairs: replied, seen with own address"


def test_a_mesh_asks_over_both_ip_versions(tmp_path: Path) -> None:
    """The first address of a machine decides over which version it is asked."""
    file = tmp_path / "lab.yaml"
    file.write_text(VERSIONS)
    lifecycle.up(lifecycle.define(str(file)))
    try:
        found = outcome(lifecycle.load_compiled_lab("versions"), replace(MESH, groups=(("abc", "abc"),), within=3))
        command = ["ip", "-n", paths.netns_name("versions", "c"), "link", "set", "eth0", "down"]
        subprocess.run(command, check=True)
        down = outcome(lifecycle.load_compiled_lab("versions"), replace(MESH, groups=(("abc", "abc"),), within=0.5))
    finally:
        lifecycle.down("versions")

    assert found.verdict == "pass", text(found)
    assert found.evidence[0] == "6 of 6 pairs: replied, seen with own address"
    assert down.verdict == "fail"
    assert down.evidence[0] == "2 of 6 pairs: replied, seen with own address"
    assert "a -> c (fd00::3): no reply, never seen there" in text(down)


def test_a_failed_pair_of_a_large_lab_is_probed_again_with_taps(
    lab: Lab, dead_pod: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mesh alone has no taps there; those of the second look show where the packet was last."""
    monkeypatch.setattr(runner, "namespaces_to_tap_for", lambda *_: ())
    found = outcome(lab, replace(MESH, groups=((PODS[:1], PODS),), within=0.6))

    assert found.verdict == "fail", text(found)
    assert f"pod1-1 -> {dead_pod}: last seen " in text(found)

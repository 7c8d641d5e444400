"""The benchmark's own arithmetic: its network is the one it says, and its ratios are what they are called."""

from __future__ import annotations

import importlib
import sys
from types import ModuleType, SimpleNamespace

import pytest

from labctl.scenario.definition import define_text
from tests.support.paths import ROOT

BENCH = ROOT / "scripts/bench.d"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        import main
    finally:
        sys.path.remove(str(BENCH))
    return main


def imported(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCH))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCH))


@pytest.mark.parametrize("size", ["10", "100", "1000", "kubenet"])
def test_the_lines_make_as_many_links_as_the_network_counts(bench: ModuleType, size: str) -> None:
    from topology import ip_lines

    net = bench.NETWORKS[size]
    lines = list(ip_lines(net, "x"))
    veths = sum(" type veth " in line for _, line in lines)
    bridges = sum(line.endswith("type bridge") for _, line in lines)

    assert 2 * veths + bridges == net.links
    assert len(set(net.names)) == len(net.names) == net.namespaces
    assert {at for at, _ in lines} == {f"x.{name}" for name in net.names}


def test_quiet_lines_say_so_before_a_device_comes_up(bench: ModuleType) -> None:
    from topology import ip_lines

    lines = list(ip_lines(bench.NETWORKS["10"], "x", quiet=True))
    for before, (at, line) in zip([("", ""), *lines], lines, strict=False):
        if line.startswith("link set") and line.endswith("up") and " lo " not in line:
            assert before == (at, line.replace(" up", " addrgenmode none"))


def test_medians_and_ratios(bench: ModuleType) -> None:
    def sample(wall: float) -> SimpleNamespace:
        cost = SimpleNamespace(wall=wall, cpu=wall / 2)
        return SimpleNamespace(up=cost, down=cost, status=None, proof=SimpleNamespace(ping=True))

    table = {"C floor": [sample(1.0), sample(3.0), sample(2.0)], "other": [sample(5.0)]}
    found = bench.summary({"net": table})["net"]

    assert found["C floor"]["up_ms"] == 2000
    assert found["other"]["up_ratio"] == 2.5
    assert found["other"]["down_cpu_ms"] == 2500


def test_a_lab_that_is_not_the_whole_network_is_named(bench: ModuleType) -> None:
    net = bench.NETWORKS["10"]
    whole = SimpleNamespace(ping=True, namespaces=net.namespaces, links=net.links)
    silent = SimpleNamespace(ping=False, namespaces=net.namespaces, links=net.links - 1)

    assert bench.faults("some way", net, whole) == []
    assert [fault.split(": ")[1] for fault in bench.faults("some way", net, silent)] == [
        "the last container did not answer the first one's ping",
        "12 namespaces and 22 links instead of 12 namespaces and 23 links",
    ]


def test_the_table_of_sizes_has_a_row_for_each_size() -> None:
    growth = imported("growth")
    rows = [
        {
            "pods": pods,
            "seconds": dict.fromkeys(growth.VERBS, pods / 1000) | {"status": pods / 4000},
            "memory": {"up": 10**7, "status": 2 * 10**7},
        }
        for pods in (10, 12_000)
    ]

    lines = growth.table(rows).splitlines()

    assert lines[0] == "| pods | up | status | check | down | status / up | memory |"
    assert lines[2:] == [
        "| 10 | 0.01 s | 0.00 s | 0.01 s | 0.01 s | 0.25 | 20 MB |",
        "| 12,000 | 12.00 s | 3.00 s | 12.00 s | 12.00 s | 0.25 | 20 MB |",
    ]


@pytest.mark.parametrize("pods", [10, 30, 1000, 12_000])
def test_a_size_is_a_lab_with_so_many_pods(pods: int) -> None:
    lab = define_text("growth.yaml", imported("growth").scenario(pods)).compiled

    found = sum(machine.role == "pod" for machine in lab.machines)
    assert pods - 30 <= found <= pods

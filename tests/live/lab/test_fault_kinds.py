"""Faults on objects that a plan does not have, or that are no part of the network: conntrack entries, listeners."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import labctl
from labctl.core.observations import Flow
from labctl.faults.catalogue import find_fault
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import conntrack
from labctl.lab import break_fix
from labctl.running_lab import RunningLab

pytestmark = pytest.mark.firewall


@pytest.fixture
def docker() -> Iterator[RunningLab]:
    with labctl.up("docker-host-none", name="fault-kinds") as lab:
        yield lab


def _entries(lab: RunningLab, ns: str) -> set[tuple[object, ...]]:
    with NetnsThread() as inside:
        found: tuple[Flow, ...] = inside.run(paths.netns_path(lab.name, ns), conntrack.flows, ns, 4)
    return {(one.src, one.dst, one.sport, one.dport, one.reply_src, one.reply_dst, one.state) for one in found}


def test_a_stale_connection_is_created_and_deleted() -> None:
    with labctl.up("docker-bridge", name="fault-kinds") as lab:
        fault = find_fault(lab.compiled, "conntrack-stale")
        (flow,) = fault.connections
        entry = (flow.src, flow.dst, flow.sport, flow.dport, flow.dst, flow.src, "replied")

        break_fix.break_lab(lab.compiled, fault)
        assert entry in _entries(lab, "host1")

        break_fix.fix(lab.compiled, break_fix.fault_records.load(lab.name))
        assert entry not in _entries(lab, "host1")
        assert not lab.status()


@pytest.mark.parametrize(
    ("kind", "listens"),
    [("listener-missing", ""), ("listener-loopback", "127.0.0.1:80"), ("listener-wrong-port", ":81")],
)
def test_a_program_listens_elsewhere_until_the_fix(docker: RunningLab, kind: str, listens: str) -> None:
    def sockets() -> str:
        return docker["host1"].run(["ss", "-Hltn"]).stdout

    assert "0.0.0.0:80 " in sockets()
    break_fix.break_lab(docker.compiled, find_fault(docker.compiled, kind, "host1"))
    assert "0.0.0.0:80 " not in sockets()
    assert listens in sockets()
    break_fix.fix(docker.compiled, break_fix.fault_records.load(docker.name))
    assert "0.0.0.0:80 " in sockets()

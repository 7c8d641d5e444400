"""`labctl graph` of a running lab: what a person breaks by hand is in the picture, and --plan does not look."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.kernel.host import paths
from tests.support import forked

LAB = "drawn"


@pytest.fixture
def lab() -> Iterator[str]:
    labctl.up("kubenet", name=LAB)
    yield LAB
    labctl.down(LAB)


def graph(*words: str) -> str:
    command = [forked.labctl_program(), "graph", "-l", LAB, *words]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def in_node(node: str, words: str) -> None:
    subprocess.run(["ip", "netns", "exec", paths.netns_name(LAB, node), *words.split()], check=True)


@pytest.mark.usefixtures("lab")
def test_drift_is_in_the_drawing_until_it_is_repaired() -> None:
    assert "compared with the kernel: no difference" in graph()
    in_node("a", "ip route del default")
    in_node("a", "ip addr add 10.9.9.9/24 dev eth0")
    in_node("node2", "ip link set eth0 down")
    in_node("node1", "ip link add x0 type bridge")

    text, svg = graph(), graph("--as", "svg")
    assert "default via 10.244.0.1 dev eth0 (missing)" in text
    assert "10.9.9.9/24 (extra)" in text
    assert "x0 (extra)" in text
    assert "── node2/eth0 (down)" in text
    assert "\033" not in text, "no colours in a pipe"
    assert 'data-cable="fabric/node2 node2/eth0"' in svg
    assert svg.count('data-state="extra"') == 1
    assert svg.count('class="cross"') == 1
    document = json.loads(graph("--json"))
    status = subprocess.run([forked.labctl_program(), "status", "-l", LAB, "--json"], capture_output=True, text=True)
    assert document["changes"] == json.loads(status.stdout)["changes"]
    assert len(document["changes"]) > 4

    plan = graph("--plan")
    assert "as planned; not compared with the kernel (--plan)" in plan
    assert "(missing)" not in plan
    assert "x0" not in plan
    labctl.up("kubenet", name=LAB)
    assert "compared with the kernel: no difference" in graph()


@pytest.mark.usefixtures("lab")
def test_a_hidden_fault_stays_hidden() -> None:
    subprocess.run(
        [forked.labctl_program(), "break", "route-missing", "a/0.0.0.0/0", "--hide", "-l", LAB],
        check=True,
        capture_output=True,
    )

    assert "compared with the kernel: no difference" in graph()
    assert "default via 10.244.0.1 dev eth0" in graph()


@pytest.mark.usefixtures("lab")
def test_a_trace_as_a_page(tmp_path: Path) -> None:
    in_node("node2", "sysctl -qw net.ipv4.ip_forward=0")
    page = tmp_path / "trace.html"
    done = subprocess.run(
        [forked.labctl_program(), "trace", "a", "c", "-l", LAB, "-o", str(page)], capture_output=True, text=True
    )

    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    text = page.read_text()
    assert "lost here: node2 does not have the address" in text
    assert "net.ipv4.ip_forward: value is 0, should be 1" in text
    assert 'class="p request' in text

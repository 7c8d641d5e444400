"""What Azure's network sees of a node in bridge mode, frame by frame, as the real tcpdump shows it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest

from labctl.core.resources import Link
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.models.lib.azure import FABRIC_MAC

pytestmark = pytest.mark.firewall

DEADLINE = 20.0
FRAME = re.compile(r"^(\S+) > (\S+?), ethertype IPv4 .*: ([\d.]+) > ([\d.]+): ICMP echo request")


def inside(name: str, node: str, *words: str) -> list[str]:
    return ["ip", "netns", "exec", paths.netns_name(name, node), *words]


def ping(name: str, source: str, target: str) -> None:
    """One answered echo request. A lab built just now loses its first packets while its links find their carrier."""
    words = ("ping", "-n", "-c", "1", "-i", "0.2", "-w", "10", target)
    subprocess.run(inside(name, source, *words), check=True, capture_output=True)


def frame(name: str, at: str, source: str, target: str) -> tuple[str, ...]:
    """The first echo request from `source` to `target` at a point: both MAC addresses, both IP addresses."""
    node, _, dev = at.partition("/")
    words = ("tcpdump", "-nn", "-e", "-t", "-l", "-c", "1", "-i", dev, f"icmp[0] == 8 and dst {target}")
    with subprocess.Popen(
        inside(name, node, *words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as dump:
        assert dump.stderr is not None
        assert next(line for line in dump.stderr if "listening on" in line)
        ping(name, source, target)
        told, _ = dump.communicate(timeout=DEADLINE)
    found = FRAME.match(told)
    assert found, told
    return found.groups()


@pytest.fixture(scope="module", params=["azure-cni-bridge", "azure-cni-bridge-tunnel"])
def built(request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """A lab in bridge and in tunnel mode: its name, and the MAC address of every point."""
    done = lifecycle.up(lifecycle.define(request.param))
    yield request.param, {str(item.at): item.mac for item in done.lab.plan if isinstance(item, Link) and item.mac}
    lifecycle.down(request.param)


def test_a_pod_leaves_its_node_with_the_nics_mac_and_its_own_address(built: tuple[str, dict[str, str]]) -> None:
    name, macs = built
    seen = frame(name, "fabric/node1", "a", "10.224.0.36")
    assert seen == (macs["node1/eth0"], FABRIC_MAC, "10.224.0.5", "10.224.0.36")


def test_a_frame_reaches_the_pod_by_its_own_mac(built: tuple[str, dict[str, str]]) -> None:
    name, macs = built
    assert frame(name, "c/eth0", "a", "10.224.0.36")[:2] == (FABRIC_MAC, macs["c/eth0"])


def test_the_fabric_never_learns_a_pods_mac(built: tuple[str, dict[str, str]]) -> None:
    name, macs = built
    for source, target in (("a", "10.224.0.36"), ("c", "10.225.0.4"), ("b", "203.0.113.1"), ("node1", "10.224.0.36")):
        ping(name, source, target)
    known = subprocess.run(inside(name, "fabric", "ip", "neigh"), check=True, capture_output=True, text=True).stdout
    learnt = {words[4] for words in map(str.split, known.splitlines()) if words[2] in ("node1", "node2")}
    assert learnt == {macs["node1/eth0"], macs["node2/eth0"]}


def test_pods_of_one_node_meet_on_the_bridge_or_beyond_it(built: tuple[str, dict[str, str]]) -> None:
    name, macs = built
    tunnel = name.endswith("tunnel")
    assert frame(name, "b/eth0", "a", "10.224.0.6")[0] == (FABRIC_MAC if tunnel else macs["a/eth0"])

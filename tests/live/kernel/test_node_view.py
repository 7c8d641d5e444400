"""What `show` reads of a namespace is what ip, bridge, ss and conntrack would say of it."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from labctl.core.node_state import NodeState
from labctl.kernel.host import paths
from labctl.kernel.namespaces import ports
from labctl.kernel.netlink import sock_diag
from labctl.kernel.observe.node_view import read_nodes
from labctl.lab import lifecycle
from tests.support.command_line import in_process

SWITCH = """
name: switch
model: raw
namespaces: [a, b, c, host]
links:
  - {veth: [a/eth0, {at: host/p1, master: br0, hairpin: true}]}
  - {veth: [b/eth0, {at: host/p2, master: br0, isolated: true}]}
  - {veth: [{at: c/eth0, up: false}, {at: host/p3, master: br0}]}
  - {bridge: host/br0}
  - {vxlan: host/vx0, id: 7, dstport: 4789, local: 192.0.2.1}
addresses:
  a/eth0: 192.0.2.10/24
  b/eth0: 192.0.2.11/24
  host/br0: [192.0.2.1/24, "2001:db8::1/64"]
fdb: {host: ["02:00:00:00:00:09 dev vx0 dst 192.0.2.99"]}
"""
PUBLISHED = """
name: published
model: docker-bridge
hosts:
  host1: {containers: {web: {publish: ["8080:80"], listen: [80, 53/udp]}}}
"""


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Any]:
    names = []

    def start(text: str) -> str:
        (tmp_path / "lab.yaml").write_text(text)
        lab = lifecycle.define(str(tmp_path / "lab.yaml"))
        names.append(lab.name)
        lifecycle.up(lab)
        return lab.name

    yield start
    for name in names:
        lifecycle.down(name)


def typed(lab: str, node: str, command: str) -> str:
    words = ["ip", "netns", "exec", paths.netns_name(lab, node), *command.split()]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def read(lab: str, node: str) -> NodeState:
    return read_nodes(lab, [node])[node]


def test_ports_and_forwarding_entries_are_those_of_bridge(up: Any) -> None:
    lab = up(SWITCH)
    typed(lab, "a", "ping -c 1 -W 1 192.0.2.1")
    state = read(lab, "host")
    wanted = {one["ifname"]: one for one in json.loads(typed(lab, "host", "bridge -j -d link show")) if "state" in one}

    assert {one.at.dev: (one.bridge, one.state, one.hairpin, one.isolated) for one in state.ports} == {
        name: (one["master"], one["state"], one["hairpin"], one["isolated"]) for name, one in wanted.items()
    }
    assert {one.at.dev: one.state for one in state.ports}["p3"] == "disabled"
    entries = {
        (one["mac"], one["ifname"], one["state"] or "dynamic", one.get("dst"))
        for one in json.loads(typed(lab, "host", "bridge -j fdb show"))
        if "self" not in one["flags"] or "dst" in one
    }
    assert {(one.mac, one.at.dev, one.state, str(one.dst) if one.dst else None) for one in state.fdb} == entries
    learned = {one.at.dev for one in state.fdb if one.state == "dynamic"}
    assert learned == {"p1"}, "the bridge learned the sender of a ping"
    assert state.no_carrier == ("p3",)


def test_connected_routes_are_those_of_the_kernel(up: Any) -> None:
    lab = up(SWITCH)
    wanted = {
        (one["dst"], one["dev"])
        for family in "46"
        for one in json.loads(typed(lab, "host", f"ip -{family} -j route show proto kernel"))
    }

    assert {(str(one.dst), one.dev) for one in read(lab, "host").connected_routes} == wanted
    assert ("192.0.2.0/24", "br0") in wanted


def test_connections_and_sockets_with_their_processes(up: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lab = up(PUBLISHED)
    typed(lab, "internet", "true")
    run = in_process(capsys)
    assert run("trace", "internet", "host1", "--tcp", "8080")[0] == 0
    host, web = read(lab, "host1"), read(lab, "web")
    flows = [one for one in host.flows if one.protocol == 6]

    assert [(one.dport, one.reply_sport, one.is_translated) for one in flows] == [(8080, 80, True)]
    assert host.connections >= len(flows)
    assert {(one.protocol, one.port) for one in web.sockets} == {("tcp", 80), ("udp", 53)}
    assert all("process" in " ".join(one.processes) for one in web.sockets)
    out = run("show", "host1")[1]
    assert "ESTABLISHED" in out or "SYN_RECV" in out or "TIME_WAIT" in out or "CLOSE" in out
    assert "listening sockets" in run("show", "web")[1]
    rows = {line.split()[0]: line for line in run("show")[1].splitlines() if line.strip()}
    assert "80/tcp" in rows["web"]
    assert " up " in rows["web"]


def test_sockets_are_found_without_sock_diag_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise OSError(2, "no sock_diag")

    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as two:
        quick = ports.listening_sockets()
        numbers = [made.getsockname()[1] for made in (one, two)]
        expected = {f"tcp 127.0.0.1:{numbers[0]}", f"tcp [::1]:{numbers[1]}"}
        assert set(ports.listeners_at("tcp", numbers)) == expected
        monkeypatch.setattr(sock_diag, "listening_tcp_sockets", refuse)
        assert ports.listening_sockets() == quick
        assert set(ports.listeners_at("tcp", numbers)) == expected
        held = {(str(found.address), found.port) for found in quick if found.protocol == "tcp"}
        assert {one.getsockname()[:2], two.getsockname()[:2]} <= held


def test_a_lab_of_many_machines_reads_little_of_each(up: Any) -> None:
    lab = up("{name: many, model: kubenet, nodes: {count: 2, pods: 5}}")
    light = read_nodes(lab, paths.labs()[lab], details=False)
    full = read_nodes(lab, paths.labs()[lab])

    assert {one.connected_routes for one in light.values()} == {one.connected_routes for one in full.values()}
    assert not any(one.chains or one.settings or one.flows for one in light.values())
    assert all(one.settings for one in full.values())

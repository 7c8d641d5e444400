"""A bridge with many ports is built in another order than a small one, and is the same bridge at the end."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

import labctl
from labctl.core.resources import Sysctl
from labctl.kernel.apply import links, sysctls
from labctl.kernel.apply.sysctls import SysctlWriter
from labctl.kernel.host import paths
from labctl.kernel.namespaces import lab_namespaces

LAB = "large"
PORTS = max(links.MANY_PORTS, lab_namespaces.MANY) + 1


def scenario(folder: Path, snooping: int, setting: str = "net.ipv4.ip_unprivileged_port_start") -> Path:
    """Many hosts on one bridge, each with a sysctl."""
    hosts = [f"h{number}" for number in range(PORTS)]
    lines = [
        "model: raw",
        "namespaces:",
        *(f"  {host}: {{role: host}}" for host in ("sw", *hosts)),
        "links:",
        f"  - bridge: sw/br0\n    mcast_snooping: {snooping}",
        *(f"  - {{veth: [{{at: sw/p{number}, master: br0}}, {host}/eth0]}}" for number, host in enumerate(hosts)),
        "sysctls:",
        *(f"  {host}: {{{setting}: {number + 1}}}" for number, host in enumerate(hosts)),
    ]
    file = folder / "large.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


def ip(node: str, *words: str) -> list[dict[str, Any]]:
    netns = paths.netns_path(LAB, node)
    done = subprocess.run(["nsenter", f"--net={netns}", "ip", "-j", "-d", *words], capture_output=True, check=True)
    return [one for one in json.loads(done.stdout) if one]


@pytest.mark.parametrize("snooping", [0, 1])
def test_a_bridge_with_many_ports_is_as_defined(tmp_path: Path, snooping: int) -> None:
    lab = labctl.up(scenario(tmp_path, snooping), name=LAB)
    try:
        drift = lab.status()
        (bridge,) = ip("sw", "link", "show", "br0")
        ports = ip("sw", "link", "show", "master", "br0")
        link_local = ip("sw", "-6", "addr", "show", "scope", "link") + ip("h1", "-6", "addr", "show", "scope", "link")
    finally:
        labctl.down(LAB)

    assert drift == ()
    assert bridge["linkinfo"]["info_data"]["mcast_snooping"] == snooping
    assert [port["linkinfo"]["info_slave_data"]["state"] for port in ports] == ["forwarding"] * PORTS
    assert {port["linkinfo"]["info_slave_data"]["no"] for port in ports} == {hex(n + 1) for n in range(PORTS)}
    assert link_local == []


def test_settings_of_many_namespaces_are_written_while_links_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    early: list[Sysctl] = []
    write_early = SysctlWriter._write_early

    def record(self: SysctlWriter, items: list[Sysctl]) -> None:
        early.extend(items)
        write_early(self, items)

    monkeypatch.setattr(SysctlWriter, "_write_early", record)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1})

    lab = labctl.up(scenario(tmp_path, 1), name=LAB)
    try:
        drift = lab.status()
    finally:
        labctl.down(LAB)

    assert len(early) == PORTS
    assert drift == ()


def test_a_setting_that_is_refused_there_ends_the_build_and_leaves_nothing(tmp_path: Path) -> None:
    file = scenario(tmp_path, 1, "net.ipv4.no_such_setting")

    with pytest.raises(labctl.LabError, match="no_such_setting"):
        labctl.up(file, name=LAB)

    assert LAB not in paths.labs()


@pytest.mark.parametrize(
    ("name", "independent"),
    [
        ("net.ipv4.ping_group_range", True),
        ("net.ipv6.bindv6only", True),
        ("net.ipv4.ip_forward", False),
        ("net.ipv4.conf.all.rp_filter", False),
        ("net.ipv6.conf.default.accept_ra", False),
        ("net.core.somaxconn", False),
        ("net.bridge.bridge-nf-call-iptables", False),
    ],
)
def test_only_settings_that_no_device_changes_are_written_early(name: str, independent: bool) -> None:
    assert sysctls._is_independent(Sysctl("n", name, "1")) is independent

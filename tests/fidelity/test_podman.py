"""podman against the program netavark: the networks of one host wired by the program, and by labctl."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labctl.core.scenario_types import Scenario
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.scenario.definition import parse_and_compile
from tests.fidelity import netavark, subjects
from tests.fidelity.alike import differences, observed
from tests.fidelity.differences import unexplained
from tests.fidelity.netavark import Netavark
from tests.fidelity.replay import at_last, settled
from tests.fidelity.subjects import add, cable, ip, write
from tests.support import kernels
from tests.support.golden import Golden
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.root

RECORDS = GOLDEN / "netavark"  # what the program wrote
WHOLE = RECORDS / "whole.yaml"
HOST, LAB = "host1", "real"
# a host before Podman: a distribution's settings, no br_netfilter, and no router
IMAGE = {
    "ipv4.ip_forward": 0, "bridge.bridge-nf-call-iptables": 0, "ipv6.conf.all.forwarding": 0,
    "ipv4.conf.all.rp_filter": 2, "ipv4.conf.default.rp_filter": 2,
    "ipv4.conf.all.send_redirects": 0, "ipv4.conf.default.send_redirects": 0,
}  # fmt: skip
CASES = {"1.17": "nftables", "1.17 iptables": "iptables", "2.0": "nftables"}


@contextmanager
def wired(scenario: Scenario, work: Path, driver: str) -> Iterator[Netavark]:
    """A host with a card and a way out, and the containers of a scenario, which the program connects."""
    release = scenario.options.release
    words = netavark.find(release)
    if words is None:
        pytest.skip(f"no netavark {release} here: scripts/test unpacks it where LABCTL_SUBJECTS says")
    if shutil.which("nft") is None or (problem := kernels.backend_problem("nft")):
        pytest.skip("no nft program here" if shutil.which("nft") is None else problem)
    containers = [name for node in scenario.nodes for name in node.pods]
    try:
        add(LAB, HOST, "internet", *containers)
        for container in containers:
            write(LAB, container, {"ipv4.ip_forward": 0})
        cable(LAB, HOST, "internet", "eth0")
        write(LAB, HOST, IMAGE | {"ipv6.conf.eth0.accept_dad": 0})
        name = paths.netns_name(LAB, HOST)
        ip(f"-n {name} link set lo up")
        ip(f"-n {name} addr add 192.168.50.11/24 broadcast + dev eth0")
        ip(f"-n {name} route add default via 192.168.50.1 dev eth0")
        ip(f"-n {name} addr add fd00:192:168:50::b/64 dev eth0 nodad")
        ip(f"-n {name} route add default via fd00:192:168:50::1 dev eth0")
        program = Netavark(LAB, HOST, work, words, driver)
        program.start(scenario)
        yield program
    finally:
        subjects.remove(LAB)


@pytest.mark.parametrize("case", CASES)
def test_what_netavark_makes(case: str, tmp_path: Path, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    # Debian 12's ip6tables-legacy -C does not compare ports, so netavark takes rules for written that are not
    monkeypatch.setenv("LABCTL_FIREWALL", "nft")
    release, driver = case.split()[0], CASES[case]
    overrides = (f"release={release}", f"firewall_driver={driver}")
    definition = lifecycle.define(str(WHOLE), overrides=overrides)
    scenario = parse_and_compile(WHOLE.read_text(), str(WHOLE), overrides=overrides)[0]
    nodes = (HOST, *(name for node in scenario.nodes for name in node.pods))
    with wired(scenario, tmp_path, driver):
        settled(LAB, nodes)
        words = ("ip", "-6", "-o", "addr", "show", "tentative")
        assert at_last(lambda: subjects.inside(LAB, HOST, *words).splitlines()) == []
        golden(f"netavark/whole-{case.replace(' ', '-')}.txt").check(written(driver))
        real = observed(LAB, nodes)
    lifecycle.up(definition)
    try:
        settled("whole", nodes)  # and link-local addresses may be tried for a second longer
        known = f"podman {case}"
        assert at_last(lambda: unexplained(known, differences(observed("whole", nodes), real))) == []
    finally:
        lifecycle.down("whole")


def written(driver: str) -> str:
    """The rules on the host, without counters. The priority of nft's chain OUTPUT is a number, as nft 1.0 prints it."""
    if driver == "nftables":
        text = subjects.inside(LAB, HOST, "nft", "-s", "list", "ruleset")
        return text.replace("hook output priority dstnat;", "hook output priority -100;")
    lines = []
    for program in ("iptables", "ip6tables"):
        lines += [f"# {program}", *subjects.inside(LAB, HOST, f"{program}-nft-save").splitlines()]
    kept = [line for line in lines if not line.startswith("# Gener") and not line.startswith("# Compl")]
    return "\n".join(re.sub(r"\[\d+:\d+\]", "[0:0]", line) for line in kept) + "\n"

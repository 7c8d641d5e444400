"""kube-proxy's tables in the kernel: drift by rule and element, repair, changes of Services, what packets add."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.checks import runner
from labctl.core.iptables import Backend
from labctl.core.scenario_types import Check
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support.drift import drift

pytestmark = pytest.mark.firewall

TEXT = """
name: tables
model: {model}
kube_proxy: {{mode: nftables, version: "{version}"}}
nodes:
  node1: {{pods: {{client: , a: {{labels: {{app: web}}}}}}}}
  node2: {{pods: {{b: {{labels: {{app: web}}}}}}}}
services:
  web:
    clusterIP: {ip}
    type: NodePort
    selector: {{app: web}}
    sessionAffinity: ClientIP
    ports: {{port: 80, targetPort: 8080, nodePort: 30080}}
{more}
checks: []
"""
OTHER = "  other: {selector: {app: web}, ports: ['81:8080']}"
ADDRESSES = {"kubenet": "10.0.0.82", "flannel": "10.96.0.82"}


def text(model: str = "kubenet", version: str = "1.36", more: str = "") -> str:
    return TEXT.format(model=model, version=version, ip=ADDRESSES[model], more=more)


def definition(model: str = "kubenet", version: str = "1.36", more: str = "") -> lifecycle.Definition:
    return define_text("tables.yaml", text(model, version, more))


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    lifecycle.down("tables")


def nft(words: str) -> str:
    command = ["ip", "netns", "exec", paths.netns_name("tables", "node1"), "nft", *words.split()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("model", "version"), [("kubenet", "1.36"), ("flannel", "1.33"), ("kubenet", "1.30")])
def test_a_rule_and_an_element_are_drift_and_come_back(model: str, version: str) -> None:
    wanted = definition(model, version)
    lifecycle.up(wanted)
    assert drift("tables") == []
    before = nft("-s list table ip kube-proxy")
    nft(f"delete element ip kube-proxy cluster-ips {{ {ADDRESSES[model]} }}")
    nft("add rule ip kube-proxy services counter accept")
    nft("flush chain ip kube-proxy reject-chain")

    assert sorted(drift("tables")) == [
        "extra nft rule ip kube-proxy services counter accept",
        f"missing nft element ip kube-proxy cluster-ips {{ {ADDRESSES[model]} }}",
        "missing nft rule ip kube-proxy reject-chain reject",
    ]
    lifecycle.up(wanted)
    assert drift("tables") == []
    assert nft("-s list table ip kube-proxy") == before


def test_another_table_is_a_stranger_and_goes() -> None:
    wanted = definition()
    lifecycle.up(wanted)
    nft("add table ip kube-proxy-2")

    assert any("kube-proxy-2" in line for line in drift("tables"))
    lifecycle.up(wanted)
    assert drift("tables") == []
    assert "kube-proxy-2" not in nft("list tables")


@pytest.mark.parametrize("version", ["1.33", "1.36"])
def test_a_change_of_services_writes_only_the_difference(version: str) -> None:
    lifecycle.up(definition(version=version))
    plain = nft("-s list table ip kube-proxy")
    added = lifecycle.up(definition(version=version, more=OTHER))
    names = {str(change.subject.key[-1]) for change in added.changes if change.subject.key[0] == "nft"}
    assert not any("default/web/" in name for name in names), "the chains of the other Service stay as they are"
    assert any(name.startswith("service-") and "/other/" in name for name in names)
    assert "service-ips" in names
    assert drift("tables") == []

    lifecycle.up(definition(version=version))
    assert drift("tables") == []
    assert sorted(nft("-s list table ip kube-proxy").split()) == sorted(plain.split())


def test_what_packets_add_for_affinity_does_not_count() -> None:
    wanted = definition()
    lab = lifecycle.up(wanted).lab
    check = Check("", "balance", "client", "web", 80, answered_by=(("a", 1), ("b", 1)), sticky=True)
    report = runner.run(replace(lab, checks=(check,)))

    assert report.verdict == "pass", str(report)
    listed = nft("list table ip kube-proxy")
    assert "expires" in listed
    assert drift("tables") == []
    assert lifecycle.up(wanted).changes == ()
    assert "expires" in nft("list table ip kube-proxy"), "the client keeps its endpoint"


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_both_firewalls_are_in_one_namespace(backend: Backend, tmp_path: Path) -> None:
    file = tmp_path / "tables.yaml"
    file.write_text(text())
    lifecycle.up(lifecycle.define(str(file), firewall=backend))
    tables = nft("list tables").splitlines()

    assert "table ip kube-proxy" in tables
    assert ("table ip nat" in tables) == (backend == "nft"), "the model's own rules are those of iptables"
    assert drift("tables") == []

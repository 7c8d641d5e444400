"""Texts in nft's language as people paste them are built with both firewall back ends, and the lab has no drift."""

from __future__ import annotations

import subprocess

import pytest

from labctl.core.features import UNKNOWN_TO_NFT, required_features
from labctl.core.iptables import BACKENDS, Backend
from labctl.core.nft_features import _SAMPLES
from labctl.core.nft_ruleset import parse_ruleset
from labctl.core.resources import NftObject
from labctl.errors import KernelError, MissingError, ScenarioError
from labctl.kernel.apply import features
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support import kernels
from tests.support.drift import drift
from tests.support.nft_dumps import NFT_DUMPS, scenario

pytestmark = pytest.mark.kernel
SPELLINGS = """
table inet filter {
  ct helper ftp { type "ftp" protocol tcp; }
  counter hits { comment "by name" }
  set ports { type inet_service; flags interval; auto-merge; elements = { 80-90, 91, 443 } }
  set brief { type ipv4_addr; timeout 1h; flags timeout; elements = { 192.0.2.7 timeout 30m, 192.0.2.8 } }
  map marks { typeof ip saddr : meta mark; elements = { 192.0.2.1 : 0x10, 192.0.2.2 : 17 } }
  chain input {
    type filter hook input priority 0; policy drop;
    iif { lo, "eth0" } oif != eth1 accept
    ct state {established,related} accept
    tcp dport @ports counter name hits meta mark set ip saddr map @marks jump user
    tcp dport 21 ct helper set "ftp"
    ip protocol icmp icmp type 8 limit rate 10/second accept
    ip6 nexthdr tcp tcp flags & (syn|ack) == syn counter packets 5 bytes 6 drop
  }
  chain user { fib daddr type local tcp dport {22,2222} log prefix "ssh" group 3 accept; return }
}
table netdev early {
  chain in { type filter hook ingress device eth0 priority -500; ip saddr 192.0.2.0-192.0.2.255 drop }
}
table bridge l2 { chain f { type filter hook forward priority 0; ether type ip ip daddr 192.0.2.1 accept } }
table arp a { chain in { type filter hook input priority 0; arp operation request accept } }
"""


def up(text: str, name: str, firewall: Backend = "legacy") -> lifecycle.Definition:
    if reason := kernels.backend_problem(firewall):
        pytest.skip(reason)
    definition = define_text(f"{name}.yaml", scenario(text), name, firewall=firewall)
    if reason := kernels.missing_text(tuple(required_features(definition.compiled.plan))):
        pytest.skip(reason)
    lifecycle.up(definition)
    return definition


def listed(lab: str) -> list[NftObject]:
    command = ["ip", "netns", "exec", paths.netns_name(lab, "node"), "nft", "-s", "list", "ruleset"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return list(parse_ruleset("node", done.stdout))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [*NFT_DUMPS, "spellings"])
def test_a_pasted_text_is_built_and_has_no_drift(name: str, backend: Backend) -> None:
    text = NFT_DUMPS.get(name, SPELLINGS)
    if backend == "nft" and "table ip nat" in text:
        pytest.skip("iptables-nft has a table of this name")
    definition = up(text, f"nft-{name.replace('.', '-')}", backend)
    try:
        assert drift(definition.name) == []
        wanted = [item for item in definition.compiled.plan if isinstance(item, NftObject)]
        assert {item.key for item in listed(definition.name)} == {item.key for item in wanted}
        rules = [len(item.entries) for item in wanted if item.kind == "chain"]
        assert sum(len(item.entries) for item in listed(definition.name) if item.kind == "chain") == sum(rules) > 0
        assert lifecycle.up(definition).changes == ()
    finally:
        lifecycle.down(definition.name)


def test_what_is_changed_by_hand_is_found_and_repaired() -> None:
    definition = up(SPELLINGS, "nft-by-hand")
    try:
        into = ["ip", "netns", "exec", paths.netns_name(definition.name, "node"), "nft"]
        for command in (
            "insert rule inet filter user drop", "delete element inet filter marks { 192.0.2.1 }", "add table ip mine",
            "flush chain bridge l2 f",
        ):  # fmt: skip
            subprocess.run([*into, *command.split()], check=True)
        before = listed(definition.name)
        assert len(drift(definition.name)) == 4
        assert len(lifecycle.up(definition).changes) == 4
        assert drift(definition.name) == []
        assert listed(definition.name) != before
    finally:
        lifecycle.down(definition.name)


REFUSED = """
table inet f {
  set days { type ipv4_addr; elements = { 1.2.3.4, fe80::1 } }
  chain c {
    type filter hook forward priority 0;
    ct state established acept
    tcp dport 99999 accept
    masquerade
  }
}
"""


def test_what_nft_refuses_is_told_with_its_line_before_anything_is_built() -> None:
    text = scenario(REFUSED)
    definition = define_text("refused.yaml", text, "nft-refused")
    with pytest.raises(ScenarioError) as caught:
        lifecycle.up(definition)
    lines = text.split("\n")
    places = [(lines[one.line - 1].strip(), one.what) for one in caught.value.problems]
    assert [line for line, _ in places] == [
        "set days { type ipv4_addr; elements = { 1.2.3.4, fe80::1 } }", "ct state established acept",
        "tcp dport 99999 accept", "masquerade",
    ]  # fmt: skip
    assert "nft refuses 'tcp dport 99999 accept': " in places[2][1]
    assert "nft-refused" not in paths.labs()


def test_a_build_that_nft_refuses_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labctl.lab.lifecycle.require_accepted", lambda definition, lab: None)
    definition = define_text("refused.yaml", scenario(REFUSED), "nft-refused")
    with pytest.raises(KernelError, match="cannot write rules of nft in node: 'ct state established acept': syntax"):
        lifecycle.up(definition)
    assert "nft-refused" not in paths.labs()


def test_a_missing_feature_is_told_before_anything_is_built() -> None:
    text = "table inet f { flowtable ft { hook ingress priority 0; devices = { eth0 }; }; }"
    if not features.missing_features(["nft flowtable"]):
        pytest.skip("this kernel has flow tables")
    with pytest.raises(MissingError, match=r"nft flowtable, needed for .* flowtable inet f ft in node"):
        lifecycle.up(define_text("flow.yaml", scenario(text), "nft-flow"))
    assert "nft-flow" not in paths.labs()


def test_every_sample_is_accepted_or_has_a_reason() -> None:
    names = [f"nft {name}" for name in _SAMPLES]
    missing = features.missing_features(names)
    assert len(missing) < len(names) / 2
    assert all(reason and "syntax" not in reason for reason in missing.values())
    old = [name for name, reason in missing.items() if reason == UNKNOWN_TO_NFT]
    assert set(old) <= {"nft last"}  # nft 1.0.6 does not know it


def test_a_table_of_iptables_nft_is_refused_with_that_back_end() -> None:
    text = scenario(
        "table ip filter { chain c { accept; }; }\ntable ip6 nat { }\ntable ip own { }\ntable inet filter { }"
    )
    definition = define_text("taken.yaml", text, "nft-taken", firewall="nft")
    with pytest.raises(ScenarioError) as caught:
        lifecycle.up(definition)
    assert [one.what.partition(", ")[2] for one in caught.value.problems] == [
        "the table ip filter of node is that of iptables-nft", "the table ip6 nat of node is that of ip6tables-nft",
    ]  # fmt: skip
    assert "write its rules under firewall6:" in caught.value.problems[1].hint
    assert "nft-taken" not in paths.labs()


def test_a_table_of_ebtables_is_refused_beside_its_rules() -> None:
    text = (
        scenario("table bridge filter { chain c { accept; }; }") + "ebtables:\n  node: {filter: {FORWARD: [-j DROP]}}\n"
    )
    with pytest.raises(ScenarioError, match="the table bridge filter of node is that of ebtables"):
        lifecycle.up(define_text("taken.yaml", text, "nft-taken"))

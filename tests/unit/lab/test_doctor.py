"""Doctor: its findings from given facts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labctl.core.fidelity import needs
from labctl.core.neighbour_tables import NeighbourTable
from labctl.kernel import host_facts
from labctl.kernel.host_facts import HostFacts
from labctl.lab.doctor import Finding, findings, needed_link_kinds
from tests.support import samples
from tests.support.doctor import find

ROOT_FIX = "sudo labctl doctor, or without root: labctl --rootless doctor"
SUBUIDS = "apt-get install uidmap, and add lines for you to /etc/subuid and /etc/subgid"
ARP, NDP = NeighbourTable(4, 1024, 10, 0), NeighbourTable(6, 1024, 20, 0)
RAISE_LIMIT = "sysctl -w net.ipv{}.neigh.default.gc_thresh3=8192"
FINE = HostFacts(
    root=True,
    features={"network namespace": "", "veth": "", "vxlan": "", "iptables legacy": "", "iptables nft": ""},
    tools={tool: f"/usr/sbin/{tool}" for tool in host_facts.TOOLS},
    libraries=dict.fromkeys(host_facts.LIBRARIES, True),
    cni_plugin_dir="/usr/lib/cni",
    iptables_variant="nft",
    neighbour_tables=(ARP, NDP),
    open_file_limits=(1024, 1048576),
)


def test_a_good_machine_has_nothing_but_ok() -> None:
    assert {finding.state for finding in findings(FINE)} == {"ok"}


@pytest.mark.parametrize(
    ("facts", "what", "state", "fix"),
    [
        (replace(FINE, root=False), "root", "missing", ROOT_FIX),
        (replace(FINE, features={"veth": "Operation not supported"}), "veth", "missing", "modprobe veth"),
        (replace(FINE, features={"vxlan": "Operation not supported"}), "vxlan", "warn", "modprobe vxlan"),
        (
            replace(FINE, features={"iptables legacy": "x", "iptables nft": "y"}),
            "iptables legacy",
            "missing",
            "modprobe ip_tables iptable_filter iptable_nat",
        ),
        (
            replace(FINE, features={"iptables legacy": "x", "iptables nft": ""}),
            "iptables legacy",
            "warn",
            "modprobe ip_tables iptable_filter iptable_nat",
        ),
        (
            replace(FINE, features={"iptables legacy": "", "iptables nft": "y"}),
            "iptables nft",
            "warn",
            "modprobe nf_tables nft_compat nft_chain_nat",
        ),
        (replace(FINE, tools={"ping": ""}), "ping", "missing", "apt-get install iputils-ping"),
        (replace(FINE, tools={"tcpdump": ""}), "tcpdump", "warn", "apt-get install tcpdump"),
        (replace(FINE, tools={"tcpdump": "/usr/bin/tcpdump"}, only_root_user=True), "tcpdump", "warn", SUBUIDS),
        (replace(FINE, features={"tun": "Permission denied"}), "tun", "warn", "sudo chmod 666 /dev/net/tun"),
        (
            replace(FINE, labs_without_record=("x",), command_prefix="labctl --rootless"),
            "lab x",
            "warn",
            "labctl --rootless down x",
        ),
        (replace(FINE, libraries={"iptc": False}), "Python libraries", "missing", "pip install python-iptables"),
        (replace(FINE, cni_plugin_dir=""), "CNI plugins", "warn", "apt-get install containernetworking-plugins"),
        (
            replace(FINE, neighbour_tables=(replace(ARP, full_count=7), NDP)),
            "neighbour table IPv4",
            "warn",
            RAISE_LIMIT.format(4),
        ),
        (
            replace(FINE, neighbour_tables=(ARP, replace(NDP, entry_count=1000))),
            "neighbour table IPv6",
            "warn",
            RAISE_LIMIT.format(6),
        ),
        (replace(FINE, open_file_limits=(256, 1024)), "open files", "warn", "ulimit -Hn 16384"),
        (replace(FINE, labs_without_record=("old",)), "lab old", "warn", "sudo labctl down old"),
        (replace(FINE, records_without_namespace=("old",)), "lab old", "warn", "sudo labctl down old"),
    ],
)
def test_what_is_wrong_comes_with_its_fix(facts: HostFacts, what: str, state: str, fix: str) -> None:
    finding = find(facts, what)

    assert (finding.state, finding.fix) == (state, fix)


def test_doctor_says_how_much_of_the_neighbour_tables_is_used_or_that_it_cannot_see_them() -> None:
    assert find(FINE, "neighbour table IPv4").detail.startswith("limit 1024 for all labs together, 10 entries")
    full = replace(FINE, neighbour_tables=(replace(ARP, full_count=7),))
    assert find(full, "neighbour table IPv4").detail.endswith("it was full 7 times since boot: packets were lost")
    assert find(replace(FINE, neighbour_tables=()), "neighbour table").state == "ok"


def test_doctor_says_which_firewall_labs_are_written_with() -> None:
    assert find(FINE, "firewall of this machine").detail.endswith(
        "labs use iptables-legacy in their namespaces (--firewall nft works too)"
    )
    modern = replace(FINE, features={"iptables legacy": "no such table", "iptables nft": ""})
    assert find(modern, "firewall of this machine").detail.endswith("use iptables-nft in their namespaces")
    assert find(modern, "iptables legacy").detail == "no such table; labs use iptables nft"
    one = replace(FINE, tools={"iptables-legacy": "", "iptables-nft": "/usr/sbin/iptables-nft"})
    assert find(one, "iptables-legacy").state == "warn"
    assert find(replace(one, tools={"iptables-legacy": "", "iptables-nft": ""}), "iptables-legacy").state == "missing"


def test_bridge_calls_are_explained_before_anyone_loads_the_module() -> None:
    finding = find(
        replace(FINE, features={"bridged packets to iptables": "No such file"}), "bridged packets to iptables"
    )

    assert finding.state == "warn"
    assert "machine's own bridges" in finding.fix


def test_records_of_dead_labs_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("dead", "alive", "empty"):
        (tmp_path / "state" / name).mkdir(parents=True)
    for name in ("dead", "alive"):
        (tmp_path / "state" / name / "definition.json").write_text("{}")
    (tmp_path / "netns").mkdir()
    for name in ("labctl.alive.a", "labctl.lost.a", "someone-elses"):
        (tmp_path / "netns" / name).touch()
    monkeypatch.setenv("LABCTL_NETNS_DIR", str(tmp_path / "netns"))
    monkeypatch.setenv("LABCTL_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setattr(host_facts, "_try_features", lambda asked: ({}, {}))
    facts = host_facts.examine()

    assert (facts.labs, facts.labs_without_record, facts.records_without_namespace) == (
        ("alive", "lost"),
        ("lost",),
        ("dead",),
    )


def test_a_feature_that_some_model_needs_says_which() -> None:
    parts = {"tenants": samples.PARTS, "tunnels": (needs("vlan", "tunnels"), needs("-m set", "sets"))}
    asked = needed_link_kinds(parts)
    assert asked == {"vlan": ("tenants (unless up --approximate)", "tunnels")}
    lacking = replace(FINE, features={"vlan": "Operation not supported"})
    (finding,) = (one for one in findings(lacking, asked) if one.subject == "vlan")
    assert (finding.state, finding.fix) == ("warn", "modprobe 8021q")
    assert finding.detail == "Operation not supported; needed by tenants (unless up --approximate), tunnels"
    assert find(replace(FINE, features={"vlan": ""}), "vlan") == Finding("vlan", "ok", "works")

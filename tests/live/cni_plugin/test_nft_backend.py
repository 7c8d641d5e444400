"""labctl's CNI plugin with `ipMasqBackend: nftables`: its rules in the table that the plugin bridge uses, too."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest

from labctl.cni.spec import VALID_ATTACHMENTS
from labctl.cni_plugin import nft_rules
from labctl.core.nft_ruleset import parse_ruleset
from labctl.kernel.firewall import commands
from tests.support import kernels
from tests.support.cni_node import ABSENT, Runtime, node_with_pods
from tests.support.paths import GOLDEN

pytestmark = pytest.mark.root

KEYS = {"isGateway": True, "ipMasq": True, "ipMasqBackend": "nftables"}
WRITTEN = GOLDEN / "cni-plugins-1.9.1" / "ipmasq.txt"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    if shutil.which("nft") is None:
        pytest.skip("no nft here: apt-get install nftables")
    with node_with_pods(tmp_path) as made:
        yield made


def nft(words: str, text: str | None = None) -> str:
    command = ["ip", "netns", "exec", "node", "nft", *words.split()]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout


def rules(*pods: str) -> list[str]:
    """The rules that these pods have, by their numbers in the network of `fake-ipam`."""
    addresses = {pod: IPv4Interface(f"10.9.0.{int(pod[-1]) + 1}/24") for pod in pods}
    return [str(rule) for pod in pods for rule in nft_rules.rules("net", "eth0", pod, [addresses[pod]])]


def there() -> list[str]:
    """The rules in the chain of masquerade rules."""
    listed = parse_ruleset("", nft("-s list ruleset"))
    return [entry for item in listed if item.name == nft_rules.CHECKS for entry in item.entries]


@pytest.mark.parametrize("shape", [{"isGateway": True}, {"shape": "routed"}], ids=["bridge", "routed"])
def test_rules_are_written_with_nft_and_nothing_with_iptables(runtime: Runtime, shape: dict[str, Any]) -> None:
    keys = {"ipMasq": True, "ipMasqBackend": "nftables", **shape}
    made = {pod: runtime.add(pod, **keys) for pod in ("pod1", "pod2")}

    assert runtime.pings("pod1", "10.9.0.3")
    assert there() == rules("pod1", "pod2")
    written = WRITTEN.read_text().splitlines()
    ours = nft("-s list ruleset").splitlines()
    assert [line for line in ours if "masquerade comment" not in line] == [
        line for line in written if "masquerade comment" not in line
    ]
    assert runtime("CHECK", "pod1", **keys, prevResult=made["pod1"]) == (0, None)
    assert runtime("DEL", "pod1", **keys, prevResult=made["pod1"]) == (0, None)
    assert there() == rules("pod2")
    assert runtime("DEL", "pod1", **keys) == (0, None)
    assert runtime("DEL", "pod2", **keys) == (0, None)
    assert there() == []
    assert runtime.save() == ""
    runtime.add("pod2", **keys)
    assert there() == rules("pod2")


def test_no_table_of_iptables_is_made(runtime: Runtime) -> None:
    """iptables-legacy makes a table that is only listed, and with it hooks of the kernel."""
    if problem := kernels.backend_problem("legacy"):
        pytest.skip(problem)
    path = {"PATH": f"{commands.make_tool_directory(runtime.work / 'bin', 'legacy')}:{os.environ['PATH']}"}
    made = runtime.add("pod1", path, **KEYS)
    assert runtime("CHECK", "pod1", path, **KEYS, prevResult=made) == (0, None)
    assert runtime("GC", "", path, **KEYS, **{VALID_ATTACHMENTS: []}) == (0, None)
    assert runtime("DEL", "pod1", path, **KEYS, prevResult=made) == (0, None)
    assert there() == []
    tables = ["ip", "netns", "exec", "node", "cat", "/proc/net/ip_tables_names"]
    assert subprocess.run(tables, capture_output=True, text=True, check=False).stdout == ""


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (
            "flush chain inet cni_plugins_masquerade masq_checks",
            "masq_checks ip saddr 10.9.0.2 ip daddr !=",
        ),
        ("flush chain inet cni_plugins_masquerade postrouting", "postrouting goto masq_checks"),
        ("delete table inet cni_plugins_masquerade", "missing nft add chain inet cni_plugins_masquerade postrouting"),
    ],
)
def test_check_names_what_is_missing(runtime: Runtime, broken: str, said: str) -> None:
    made = runtime.add("pod1", **KEYS)
    nft(broken)
    code, error = runtime("CHECK", "pod1", **KEYS, prevResult=made)

    assert (code, error["code"]) == (1, 100)
    assert said in error["details"]


def test_rules_of_others_stay(runtime: Runtime) -> None:
    theirs = 'ip saddr 192.0.2.9 ip daddr != 192.0.2.0/24 masquerade comment "0123456789abcdef-01234567, net: x"'
    runtime.add("pod1", **KEYS)
    nft("-f -", f"add rule {nft_rules.TABLE} masq_checks {theirs}\nadd table ip mine\n")
    runtime.add("pod2", **KEYS)
    assert runtime("DEL", "pod1", **KEYS) == (0, None)
    assert runtime("GC", **KEYS, **{VALID_ATTACHMENTS: []}) == (0, None)
    assert there() == [theirs]
    assert "table ip mine" in nft("list tables")


def test_gc_removes_the_rules_of_attachments_that_are_gone(runtime: Runtime) -> None:
    for pod in ("pod1", "pod2", "pod3"):
        runtime.add(pod, **KEYS)
    subprocess.run(["ip", "netns", "del", "pod3"], check=True)  # and with it the device
    valid = {VALID_ATTACHMENTS: [{"containerID": "pod2", "ifname": "eth0"}]}
    assert runtime("GC", **KEYS, **valid) == (0, None)
    assert there() == rules("pod2")
    assert sorted(runtime.released()) == ["pod1/eth0", "pod3/eth0"]


def test_an_attachment_that_was_made_with_the_other_backend_goes_as_well(runtime: Runtime) -> None:
    for before, after in (("iptables", "nftables"), ("nftables", "iptables")):
        runtime.add("pod1", **KEYS | {"ipMasqBackend": before})
        assert runtime("DEL", "pod1", **KEYS | {"ipMasqBackend": after}) == (0, None)
        assert there() == []
        assert "pod1" not in runtime.save()


@pytest.mark.parametrize("command", ["DEL", "GC"])
def test_accepted_addresses_are_known_from_the_rules_of_nft(runtime: Runtime, command: str) -> None:
    """The namespace is gone, and with it the device with the alias; nobody gives the result of the ADD."""
    keys = KEYS | {"firewall": True}
    for pod in ("pod1", "pod2"):
        runtime.add(pod, **keys)
    (reused,) = nft_rules.rules("net", "eth0", "pod9", [IPv4Interface("10.9.0.3/24")])
    nft("-f -", f"add rule {nft_rules.TABLE} masq_checks {reused}\n")  # a stale rule for the address of pod2
    subprocess.run(["ip", "netns", "del", "pod1"], check=True)
    if command == "DEL":
        assert runtime("DEL", "pod1", {"CNI_NETNS": ABSENT}, **keys) == (0, None)
    else:
        assert runtime("GC", **keys, **{VALID_ATTACHMENTS: [{"containerID": "pod2", "ifname": "eth0"}]}) == (0, None)
    assert runtime.rules("10.9.0.2/32") == []
    assert len(runtime.rules("10.9.0.3/32")) == 2
    assert there()[:1] == rules("pod2")


def test_a_failed_add_leaves_no_rule(runtime: Runtime) -> None:
    nft("-f -", f"add table {nft_rules.TABLE}\nadd chain {nft_rules.TABLE} postrouting\n")
    code, error = runtime("ADD", "pod1", **KEYS)

    assert (code, error["code"]) == (1, 5)
    assert "nft -f - failed" in error["msg"]
    assert there() == []
    assert runtime.calls() == ["ADD", "DEL"]
    assert "eth0" not in runtime.ip("pod1", "-br link")


def test_status_asks_for_nft(runtime: Runtime) -> None:
    without = runtime.work / "bin"
    without.mkdir()
    for tool in ("nsenter", "ip", "iptables-save", "iptables-restore"):
        found = shutil.which(tool)
        assert found is not None
        (without / tool).symlink_to(found)
    code, error = runtime("STATUS", "", {"PATH": str(without)}, **KEYS)
    assert (code, error["code"], error["msg"]) == (1, 50, "there is no nft on PATH")
    assert error["details"] == "apt-get install nftables"
    assert runtime("STATUS", **KEYS) == (0, None)


def test_where_only_nft_is_installed_it_is_used(runtime: Runtime) -> None:
    with_nft = runtime.work / "bin"
    with_nft.mkdir()
    for tool in ("nsenter", "ip", "nft"):
        found = shutil.which(tool)
        assert found is not None
        (with_nft / tool).symlink_to(found)
    keys, path = {"isGateway": True, "ipMasq": True}, {"PATH": str(with_nft)}
    assert runtime("STATUS", "", path, **keys) == (0, None)
    runtime.add("pod1", path, **keys)
    assert there() == rules("pod1")
    assert runtime("DEL", "pod1", path, **keys) == (0, None)
    assert there() == []

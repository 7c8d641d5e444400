"""Rules of nft that CNI plugins write, such as those of `ipMasqBackend: nftables`: drift by rule, and repair."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.errors import MissingError
from labctl.kernel.cni.plugins import DEFAULT_PATH
from labctl.kernel.firewall import commands
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support.drift import drift

PLUGIN = r"""#!/bin/sh
config=$(cat)
device='{"name":"eth0","sandbox":"'$CNI_NETNS'"}'
IP=192.0.2.$((${#CNI_CONTAINERID} + 6)) # of a: .7, of bb: .8
address='{"address":"192.0.2.7/24","interface":0}'
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["1.1.0"]}' ;;
ADD)
  ip link add eth0 netns "$CNI_NETNS" type bridge
  nft -f - <<END || exit
table inet pods_masq {
  chain checks {
    comment "some of them"
    ip saddr $IP ip daddr != { 192.0.2.0/24, 198.51.100.0/24 } masquerade comment "id: $CNI_CONTAINERID"
  }
  chain postrouting {
    type nat hook postrouting priority srcnat
    goto checks
  }
}
END
  echo '{"cniVersion":"1.1.0","interfaces":['$device'],"ips":['$address']}' ;;
esac
"""
DEFINITION = """
name: rules
model: cni
conflist: {cniVersion: 1.1.0, name: n, type: writer}
nodes: {node1: {pods: [a, bb]}}
"""
RULE = (
    "nft rule inet pods_masq checks ip saddr 192.0.2.7 ip daddr != { 192.0.2.0/24, 198.51.100.0/24 }"
    ' masquerade comment "id: a"'
)


@pytest.fixture
def definition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[lifecycle.Definition]:
    if shutil.which("nft", path=DEFAULT_PATH) is None:
        pytest.skip("plugins find no nft in the system's folders: apt-get install nftables")
    (tmp_path / "writer").write_text(PLUGIN)
    (tmp_path / "writer").chmod(0o755)
    monkeypatch.setenv("CNI_PATH", str(tmp_path))
    file = tmp_path / "rules.yaml"
    file.write_text(DEFINITION)
    defined = lifecycle.define(str(file))
    lifecycle.up(defined)
    yield defined
    lifecycle.down("rules")


def nft(words: str) -> str:
    command = ["ip", "netns", "exec", paths.netns_name("rules", "node1"), "nft", *words.split()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_each_rule_counts_and_is_restored(definition: lifecycle.Definition) -> None:
    assert drift("rules") == []
    before = nft("list ruleset")
    handle = next(line for line in nft("-a list ruleset").splitlines() if '"id: a"' in line).split()[-1]
    for words, lines in (
        (f"delete rule inet pods_masq checks handle {handle}", [f"missing {RULE}"]),
        ("add rule inet pods_masq checks drop", ["extra nft rule inet pods_masq checks drop"]),
        ("add chain inet pods_masq mine", ["extra nft chain inet pods_masq mine"]),
        (
            "delete table inet pods_masq",
            ["missing nft table inet pods_masq", "missing nft chain inet pods_masq checks"],
        ),
    ):
        nft(words)
        assert drift("rules")[: len(lines)] == lines
        lifecycle.up(definition)
        assert drift("rules") == []
        assert nft("list ruleset") == before


def test_a_hook_with_another_policy_is_drift(definition: lifecycle.Definition) -> None:
    nft("add chain inet pods_masq postrouting { type nat hook postrouting priority srcnat ; policy drop ; }")
    assert drift("rules") == [
        "changed nft chain inet pods_masq postrouting: it is type nat hook postrouting priority srcnat; policy drop;,"
        " should be type nat hook postrouting priority srcnat; policy accept;"
    ]
    lifecycle.up(definition)
    assert drift("rules") == []


def test_without_nft_the_rules_cannot_be_compared(
    definition: lifecycle.Definition, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(program: str) -> str:
        raise MissingError(f"cannot find {program}")

    monkeypatch.setattr(commands, "find", find)
    with pytest.raises(MissingError, match="node1 has rules of nft, and nft is not installed"):
        drift("rules")

"""A lab that this kernel cannot hold as it is, from end to end: refused, or built otherwise and said at every turn."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from labctl.core.iptables import rule
from labctl.core.resources import Chain, Link
from labctl.kernel.apply import features
from labctl.kernel.host import lab_state, modules, paths
from labctl.lab import lifecycle
from labctl.report.shell_script import plan_script
from tests.support import kernels
from tests.support.command_line import Run, in_process
from tests.support.machine import changed, fingerprint

pytestmark = pytest.mark.firewall

TENANTS = "azure-cni-transparent-vlan"
SAID = (
    "approximate, because the kernel lacks vlan: the tenants' VLANs on the nodes' NICs; instead: a separate veth pair"
)
BORN = """
name: born
model: raw
namespaces: [h1, h2, box]
links:
  - {veth: [h2/eth0, h1/eth0]}
  - {macvlan: box/m1, dev: eth0, born: h1, mode: bridge}
  - {macvlan: box/m2, dev: eth0, born: h2, mode: bridge}
"""


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    yield
    for name in paths.labs():
        lifecycle.down(name)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return in_process(capsys)


@pytest.fixture
def without_vlans() -> None:
    if not kernels.missing_text(("vlan",)):
        pytest.skip("this kernel has VLANs")


def test_a_kernel_tells_what_it_lacks_and_the_machine_is_as_before() -> None:
    modules.ensure((Chain("n", "filter", "FORWARD", (rule("-m comment --comment x -j ACCEPT"),)),), print)
    before, here = fingerprint(), os.readlink("/proc/self/ns/net")
    told = features.missing_features(("veth", "bridge", "teleport", "-m teleport", "-m comment"))
    assert told == {
        "teleport": "Operation not supported: Unknown device type",
        "-m teleport": "the kernel does not list it",
    }
    assert os.readlink("/proc/self/ns/net") == here
    assert changed(before, fingerprint()) == {}


def test_features_are_tried_in_a_namespace_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    here, tried = os.readlink("/proc/self/ns/net"), []
    monkeypatch.setattr(features, "try_link", lambda kind: tried.append(os.readlink("/proc/thread-self/ns/net")) or "")
    assert features.missing_features(("vlan", "ipip")) == {}
    assert len(tried) == 2
    assert here not in tried


def test_a_kind_that_wants_to_be_told_more_is_there() -> None:
    options = features._OPTIONS
    try:
        features._OPTIONS = {}
        assert features.missing_features(("vxlan", "macvlan")) == {}
    finally:
        features._OPTIONS = options


@pytest.mark.usefixtures("without_vlans")
def test_what_cannot_be_built_is_refused_before_anything_is_touched(run: Run) -> None:
    before = fingerprint()
    for words in ((), ("--dry-run",), ("--replace",), ("--keep",)):
        code, out, err = run("up", TENANTS, *words)
        assert (code, out) == (4, "")
        assert "this kernel lacks vlan, needed for the tenants' VLANs on the nodes' NICs" in err
        assert "--approximate" in err
    code, out, _ = run("up", TENANTS, "--json")
    assert (code, json.loads(out)["error"]["kind"]) == (4, "missing")
    assert paths.labs() == {}
    assert lab_state.labs_with_files() == {} or TENANTS not in lab_state.labs_with_files()
    assert changed(before, fingerprint()) == {}


@pytest.mark.usefixtures("without_vlans")
def test_what_is_built_otherwise_says_so_at_every_turn(run: Run) -> None:
    instead = [{"feature": "vlan", "what": "the tenants' VLANs on the nodes' NICs"}]

    def told(*words: str) -> object:
        found = json.loads(run(*words, "--json")[1])["approximate"]
        return [{key: part[key] for key in ("feature", "what")} for part in found]

    assert SAID in run("up", TENANTS, "--approximate", "--dry-run")[1]
    code, out, _ = run("up", TENANTS, "--approximate", "--check")
    assert (code, out.count(SAID)) == (0, 1)
    assert told("up", TENANTS, "--approximate") == told("status") == told("show", "a") == instead
    for verb in ("status", "check"):
        assert SAID in run(verb)[1]
    assert "needs vlan, approximated" in run("show", "-v")[1]
    assert "approximate, because the kernel lacks vlan: " in run("show")[1]
    assert "(approximate: vlan)" in run("list")[1]
    assert json.loads(run("list", "--json")[1])["labs"][0]["approximate"] == ["vlan"]


@pytest.mark.usefixtures("without_vlans")
def test_the_three_laws_hold_for_what_the_flag_builds() -> None:
    before, definition = fingerprint(), lifecycle.define(TENANTS, approximate=True)
    first = lifecycle.up(definition, approximate=True)
    assert first.lab.substitute_features == ("vlan",)
    assert lifecycle.status(TENANTS, lifecycle.load_compiled_lab(TENANTS)) == ()
    assert lifecycle.up(definition, approximate=True).changes == ()
    assert len(lifecycle.down(TENANTS)) == 13
    assert changed(before, fingerprint()) == {}


def test_the_flag_changes_nothing_where_nothing_is_missing() -> None:
    done = lifecycle.up(lifecycle.define("kubenet", approximate=True), approximate=True)
    assert done.lab.substitute_features == ()
    assert lifecycle.up(lifecycle.define("kubenet")).changes == ()


def test_a_lab_that_was_built_otherwise_is_not_taken_for_the_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    lifecycle.up(kernels.define(TENANTS, (), ("vlan",)))
    monkeypatch.setattr(
        features, "missing_features", lambda wanted, backend: {}
    )  # a kernel with VLANs, as after a reboot
    with pytest.raises(lifecycle.UsageError, match=r"of another definition runs \(.*, with --approximate for vlan\)"):
        lifecycle.up(lifecycle.define(TENANTS))


def test_a_link_that_was_born_elsewhere_lies_upon_a_device_there(tmp_path: Path) -> None:
    (tmp_path / "born.yaml").write_text(BORN)
    definition = lifecycle.define(str(tmp_path / "born.yaml"))
    made = lifecycle.up(definition).lab
    assert lifecycle.status("born", made) == ()
    assert lifecycle.up(definition).changes == ()
    assert lifecycle.down("born")
    by_hand = "\n".join(plan_script(made, lambda node: paths.netns_name("born", node), "/run/labctl"))
    subprocess.run(["sh", "-ec", by_hand], check=True)
    assert lifecycle.status("born", made) == ()
    wrong = tuple(
        replace(item, options=(("dev", "eth1"), ("mode", "bridge")))
        if isinstance(item, Link) and item.link_netns
        else item
        for item in made.plan
    )
    assert len(lifecycle.status("born", replace(made, plan=wrong))) == 2

"""Doctor on a live machine: it finds the facts, and changes nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from labctl.kernel import host_facts
from labctl.kernel.apply import features
from labctl.kernel.firewall import backend
from labctl.kernel.host import modules
from labctl.kernel.host_facts import HostFacts
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.lab.doctor import Finding
from tests.support import machine
from tests.support.doctor import find


def test_features_are_found_by_doing_and_leave_the_machine_alone() -> None:
    modules.load(backend.MODULES["legacy"], print)  # newer kernels load no legacy table by themselves
    before = machine.fingerprint()
    here = os.readlink("/proc/self/ns/net")
    facts = host_facts.examine()

    assert facts.features["network namespace"] == ""
    assert {facts.features.get(name, "") for name in ("veth", "bridge")} == {""}
    assert {"veth", "bridge"} <= {*facts.features, *facts.unloaded_modules}
    assert {facts.features.get(name, "") for name in ("iptables legacy", "iptables nft")} == {""}
    assert os.readlink("/proc/self/ns/net") == here
    assert machine.changed(before, machine.fingerprint()) == {}


def test_a_feature_that_does_not_work_says_why() -> None:
    assert host_facts._try_features(("teleport",))[0]["teleport"] == "Operation not supported: Unknown device type"


@pytest.mark.kernel
def test_no_module_is_loaded_to_find_out() -> None:
    listed = Path("/proc/modules")
    if not listed.exists():
        pytest.skip("this kernel has no modules")
    asked = ("vlan", "ipip", "geneve", "dummy", "sit", "vrf", "tun", "openvswitch")

    def loaded() -> set[str]:
        return {line.split()[0] for line in listed.read_text().splitlines()}

    before = loaded()
    tried, idle = host_facts._try_features(asked)

    assert loaded() == before
    assert set(asked) <= {*tried, *idle}
    assert all(name not in before for names in idle.values() for name in names)


def test_what_would_load_a_module_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a kernel that seems to have a module for two of the kinds, and to have loaded one of them."""
    monkeypatch.setattr(features, "is_known_link_kind", lambda kind: kind in ("veth", "bridge"))
    monkeypatch.setattr(
        modules,
        "loadable_modules",
        lambda names: tuple(name for name in names if name in ("bridge", "vxlan", "nft_compat")),
    )
    tried, idle = host_facts._try_features()

    assert idle == {"vxlan": ("vxlan",), "iptables nft": ("nft_compat",)}
    assert tried["bridge"] == tried["macvlan"] == ""
    finding = find(HostFacts(root=True, features=tried, unloaded_modules=idle), "vxlan")
    said = "not tried, because that might load vxlan; labctl loads it when a lab needs it"
    assert finding == Finding("vxlan", "ok", said)


def test_the_kernel_tells_which_kinds_it_knows() -> None:
    with NetnsThread() as inside:
        here = {kind: inside.run(None, _asked, kind) for kind in ("veth", "bridge", "loopback", "teleport")}

    assert here == {"veth": True, "bridge": True, "loopback": False, "teleport": False}


def _asked(kind: str) -> bool:
    unshare(CLONE_NEWNET)
    return features.is_known_link_kind(kind)

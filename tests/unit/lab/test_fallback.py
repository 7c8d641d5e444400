"""What a lab asks of the kernel, and what becomes of it where the kernel lacks that: on made-up kernels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labctl.core import features
from labctl.core.fidelity import substitutes
from labctl.core.iptables import rule
from labctl.core.resources import Chain, Interface, Link, Resource
from labctl.core.scenario_types import Lab
from labctl.errors import MissingError, ScenarioError
from labctl.lab.fallback import use_available_features
from labctl.scenario import catalog, definition
from labctl.scenario.definition import Definition, compile_definition
from tests.support.missing_features import Kernel

TENANTS = "azure-cni-transparent-vlan"
CONNMARK, SETS = {"-j CONNMARK"}, {"-m set", "-m limit", "-j NFLOG"}
FELIX = {"-m set", "-m rpfilter"}
ASKS: dict[str, set[str]] = {  # some scenarios, and all that each asks for
    "kubenet": set(), "docker-bridge": set(), "flannel-host-gw": set(),
    "docker-overlay": {"vxlan"}, "eks-vpc-cni": CONNMARK, "eks-external-snat": CONNMARK, "gke-intranode": CONNMARK,
    "flannel": {"vxlan"}, "flannel-udp": {"tun"}, "flannel-ipip": {"ipip"},
    "calico": {"vxlan", "-j CT", *FELIX}, "calico-bgp": FELIX, "calico-ipip": {"ipip", *FELIX},
    "weave": {"vxlan", "-m state", "-j NFLOG", "-m set"}, "kube-router": SETS,
    "cilium": {"vxlan"}, "cilium-native": {"-m set"}, "antrea": {"vxlan", "-j CT", "-m set"},
}  # fmt: skip
RAW = """
model: raw
namespaces: [h, r]
links: [{veth: [h/eth0, r/eth0]}, {vlan: h/eth0.5, dev: eth0, id: 5}]
"""


def test_a_device_file_that_is_for_others_only_is_not_the_kernels_lack() -> None:
    with pytest.raises(MissingError, match=r"this user lacks tun, needed for flannel0") as caught:
        use_available_features(
            definition.define("flannel-udp"), lambda lab, wanted: dict.fromkeys(wanted, "Permission denied")
        )
    assert caught.value.hint == "sudo chmod 666 /dev/net/tun"
    assert features.remedy("tun", "No such device") == "modprobe tun"


def kinds(lab: Lab) -> set[str]:
    return {item.kind for item in lab.plan if isinstance(item, Link)}


def written(tmp_path: Path, key: str, *, asked: bool) -> Definition:
    """The tenants' scenario with a line more."""
    path = tmp_path / "tenants.yaml"
    path.write_text(catalog.find(TENANTS)[1] + key)
    return definition.define(str(path), approximate=asked)


@pytest.mark.parametrize("name", catalog.names())
def test_a_kernel_is_asked_for_what_it_may_lack_and_for_nothing_else(name: str) -> None:
    made, kernel = definition.define(name), Kernel()
    assert use_available_features(made, kernel, approximate=True) == (made, made.lab)
    wanted = tuple(features.required_features(made.lab.plan))
    assert kernel.asked == ([wanted] if wanted else [])


@pytest.mark.parametrize(("name", "asks"), ASKS.items())
def test_what_some_labs_ask_for(name: str, asks: set[str]) -> None:
    assert set(features.required_features(definition.define(name).lab.plan)) == asks


@pytest.mark.parametrize("name", [name for name, asks in ASKS.items() if asks])
def test_what_nothing_stands_in_for_is_missed_by_name(name: str) -> None:
    made = definition.define(name)
    for feature in ASKS[name] - set(substitutes(made.lab.parts)):
        with pytest.raises(MissingError, match=f"lacks {feature}, needed for "):
            use_available_features(made, Kernel(feature), approximate=True)


@pytest.mark.parametrize("name", ["calico-ipip", "flannel-ipip", "kube-router-overlay"])
def test_ip_in_ip_can_be_spoken_by_a_program(name: str) -> None:
    lab = use_available_features(definition.define(name), Kernel("ipip"), approximate=True)[1]
    assert lab.substitute_features == ("ipip",)
    assert "tun" in kinds(lab)
    assert "ipip" not in kinds(lab)


def test_geneve_is_asked_for_and_vxlan_stands_in_for_it() -> None:
    made = definition.define("antrea", overrides=("tunnel=geneve",))
    with pytest.raises(MissingError, match="lacks geneve, needed for Geneve tunnels"):
        use_available_features(made, Kernel("geneve"), approximate=False)
    assert kinds(use_available_features(made, Kernel("geneve"), approximate=True)[1]) == {
        "loopback",
        "bridge",
        "veth",
        "vxlan",
    }


def test_flannels_ip_in_ip_can_be_spoken_by_a_program() -> None:
    lab = use_available_features(definition.define("flannel-ipip"), Kernel("ipip"), approximate=True)[1]
    assert lab.substitute_features == ("ipip",)
    assert "tun" in kinds(lab)
    assert "ipip" not in kinds(lab)


def test_features_are_kinds_of_links_and_matches_and_targets() -> None:
    rules = [
        rule(text) for text in ("-m set --match-set all src -j MINE", "-p tcp -m tcp --dport 1 -j NFLOG", "-j DROP")
    ]
    plan: tuple[Resource, ...] = (
        Link(Interface("h", "lo"), "loopback"),
        Link(Interface("h", "t0"), "ipip"),
        Link(Interface("h", "t1"), "ipip"),
        Chain("h", "filter", "FORWARD", tuple(rules)),
        Chain("h", "filter", "MINE"),
        Chain("h", "nat", "PREROUTING", (rule("-j snat --to-src 02:00:00:00:00:01", "bridge"),), family="bridge"),
    )
    assert features.required_features(plan) == {"ipip": plan[1], "-m set": plan[3], "-j NFLOG": plan[3]}
    names = ("ipip", "vlan", "-m set", "-m rpfilter")
    assert [features.kernel_module(name) for name in names] == ["ipip", "8021q", "xt_set", "ipt_rpfilter"]


def test_a_kernel_that_has_all_builds_the_real_thing_also_when_asked_otherwise() -> None:
    for asked in (False, True):
        made, lab = use_available_features(definition.define(TENANTS), Kernel("ipip"), approximate=asked)
        assert made.substitute_features == lab.substitute_features == ()
        assert "vlan" in kinds(lab)
        assert lab.approximations == ()


def test_what_is_missing_is_refused_with_all_that_helps() -> None:
    with pytest.raises(MissingError) as caught:
        use_available_features(definition.define(TENANTS), Kernel("vlan"))
    assert str(caught.value) == (
        "lab azure-cni-transparent-vlan cannot be built: this kernel lacks vlan, needed for the tenants' VLANs on the"
        " nodes' NICs\n"
        "    hint: modprobe 8021q, if this kernel has it as a module (see labctl doctor); or use --approximate to"
        " build a substitute: a separate veth pair from the fabric to each tenant's namespace, which bypasses the"
        " node's eth0"
    )
    assert caught.value.code == 4


def test_who_asks_gets_the_substitute_for_what_is_missing() -> None:
    made, lab = use_available_features(definition.define(TENANTS), Kernel("vlan"), approximate=True)
    assert made.substitute_features == lab.substitute_features == ("vlan",)
    assert "vlan" not in kinds(lab)
    assert [part.feature for part in lab.approximations] == ["vlan"]
    assert compile_definition(replace(made, lab=None)) == lab
    assert {item.ns for item in lab.plan} == {item.ns for item in compile_definition(definition.define(TENANTS)).plan}


def test_a_scenario_may_ask_by_itself(tmp_path: Path) -> None:
    made, lab = use_available_features(written(tmp_path, "approximate: true\n", asked=False), Kernel("vlan"))
    assert made.substitute_features == lab.substitute_features == ("vlan",)
    assert (
        use_available_features(written(tmp_path, "approximate: true\n", asked=False), Kernel())[0].substitute_features
        == ()
    )


def test_a_scenario_may_forbid_it(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as caught:
        written(tmp_path, "approximate: false\n", asked=True)
    (problem,) = caught.value.problems
    assert problem.what == "approximate: false forbids the option --approximate"
    assert problem.line == len(catalog.find(TENANTS)[1].splitlines()) + 1
    with pytest.raises(MissingError, match=r"the scenario forbids the substitute \(approximate: false\): a"):
        use_available_features(written(tmp_path, "approximate: false\n", asked=False), Kernel("vlan"), approximate=True)


def test_what_no_model_has_a_substitute_for_is_refused_whoever_asks(tmp_path: Path) -> None:
    (tmp_path / "raw.yaml").write_text(RAW)
    with pytest.raises(MissingError) as caught:
        use_available_features(definition.define(str(tmp_path / "raw.yaml")), Kernel("vlan"), approximate=True)
    assert str(caught.value) == (
        "lab raw cannot be built: this kernel lacks vlan, needed for link eth0.5 type vlan dev eth0 id 5 up in h\n"
        "    hint: modprobe 8021q, if this kernel has it as a module (see labctl doctor)"
    )

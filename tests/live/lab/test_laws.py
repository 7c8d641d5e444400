"""The three laws, for every scenario: after `up` nothing differs; a second `up` changes nothing; after
`down` nothing is left, and the machine's own namespace is as it was."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labctl.checks import runner
from labctl.core.diff import diff
from labctl.core.resources import Interface, Link, Netns
from labctl.errors import KernelError, LockError, UsageError
from labctl.kernel import lab_kernel
from labctl.kernel.host import lab_state, paths
from labctl.lab import lifecycle
from labctl.scenario import catalog
from tests.support import kernels, plugins
from tests.support.drift import drift
from tests.support.machine import changed, fingerprint
from tests.support.paths import ROOT

pytestmark = pytest.mark.firewall

PTP = "conflist.plugins.0={type: ptp, ipMasq: true, ipam: {type: host-local, subnet: {pod_cidr}}}"
VARIANTS = [
    ("kubenet", ("routing=host",)),
    ("kubenet", ("masquerade=kubelet",)),
    ("kubenet", ("ip_forwarding=false",)),
    ("docker-bridge", ("release=20.10",)),
    ("docker-publish", ("release=29",)),
    ("docker-networks", ("release=26", "networks.quiet.icc=false")),
    ("docker-overlay", ("release=20.10", "hosts.host3.containers=[c4]")),
    (
        "docker-overlay",
        ("networks.ov.mtu=1400", "networks.in.internal=true", "hosts.host2.containers={c2: {networks: [in]}}"),
    ),
    *((name, ("mtu=1200",)) for name in ("docker-bridge", "kubenet", "azure-cni-transparent")),  # below IPv6's least
    ("kubenet", ("nodes.node3.pods=2", "nodes.node2.pods=[c, d]")),
    ("azure-cni-pod-subnet", ("nodes.node1.pods=9", "subnet=10.224.0.0/28", "vm_cidr=10.224.0.0/28", "checks=[]")),
    ("azure-cni-static-block", ("max_pods=110", "pod_subnet=10.232.0.0/13", "checks=[]")),
    ("eks-vpc-cni", ("source_dest_check=false", "enis=3", "nodes.node2.pods=[c, d, e]", "vm_cidr=10.0.0.0/20")),
    ("eks-external-snat", ("node_port_support=false", "external_service_cidrs=[198.51.100.0/24]", "checks=[]")),
    ("gke-vpc-native", ("max_pods=8", "non_masquerade=rfc1918", "vm_cidr=10.128.0.0/20")),
    ("gke-routes-based", ("ip_forwarding=false", "checks=[]")),
    ("calico", ("encapsulation=vxlan", "nat_outgoing=false", "block_size=30", "nodes.node2.pods=9", "checks=[]")),
    ("calico-bgp", ("peer_with_router=false", "default_endpoint_to_host_action=reject", "checks=[]")),
    ("cilium", ("masquerade=false", "node_prefix=28", "checks=[]")),
    ("antrea-hybrid", ("traffic_mode=no-encap", "elsewhere=[]", "checks=[]")),
    (
        "services",
        (
            "kube_proxy.mode=nftables",
            "kube_proxy.version=1.31",
        ),
    ),
    (
        "load-balancer",
        (
            "kube_proxy.mode=nftables",
            "kube_proxy.version=1.36",
        ),
    ),
    ("cni", ("conflist.cniVersion=0.3.1",)),
    (
        "cni",
        ("conflist.plugins.0={type: ptp, ipMasq: true, ipam: {type: host-local, subnet: {pod_cidr}}}", "checks=[]"),
    ),
]


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """No lab before, none after, whatever happened in between."""
    assert paths.labs() == {}
    yield
    for name in paths.labs():
        lifecycle.down(name)


@pytest.mark.kernel
@pytest.mark.parametrize(
    ("scenario", "approximate", "sets"),
    [
        *(pytest.param(*row.values, (), id=row.id, marks=row.marks) for row in kernels.built_in()),
        *(pytest.param(name, (), sets, id=f"{name}-{','.join(sets)}") for name, sets in VARIANTS),
    ],
)
def test_the_three_laws(scenario: str, approximate: tuple[str, ...], sets: tuple[str, ...]) -> None:
    plugins.skip_without(scenario)
    before, state_before = fingerprint(), os.listdir(paths.state_dir())
    definition = kernels.define(scenario, sets, approximate)

    first = lifecycle.up(definition)
    assert first.created
    assert len(first.changes) == len(first.lab.plan)
    assert drift(definition.name) == []

    second = lifecycle.up(definition)
    assert not second.created
    assert second.changes == ()

    gone = lifecycle.down(definition.name)
    assert set(gone) == {item.name for item in first.lab.plan if isinstance(item, Netns)}
    assert paths.labs() == {}
    assert os.listdir(paths.netns_dir()) == []
    assert os.listdir(paths.state_dir()) == state_before
    assert changed(before, fingerprint()) == {}
    assert lifecycle.down(definition.name) == ()


def test_two_labs_and_one_scenario_twice_live_side_by_side() -> None:
    for name in ("one", "two"):
        lifecycle.up(lifecycle.define("kubenet", name))
    lifecycle.up(lifecycle.define("docker-bridge"))
    assert set(paths.labs()) == {"one", "two", "docker-bridge"}
    assert [drift(name) for name in paths.labs()] == [[], [], []]
    lifecycle.down("one")
    assert drift("two") == []
    assert set(paths.labs()) == {"two", "docker-bridge"}


def test_a_dry_run_changes_nothing_and_tells_everything() -> None:
    definition = lifecycle.define("kubenet")
    dry = lifecycle.up(definition, dry_run=True)
    assert dry.dry
    assert len(dry.changes) == len(dry.lab.plan)
    assert paths.labs() == {}
    lifecycle.up(definition)
    assert lifecycle.up(definition, dry_run=True).changes == ()


def test_another_definition_is_refused_unless_replaced() -> None:
    lifecycle.up(lifecycle.define("kubenet"))
    other = lifecycle.define("kubenet", overrides=("routing=host",))
    with pytest.raises(UsageError, match="another definition"):
        lifecycle.up(other)
    with pytest.raises(UsageError, match="another definition"):
        lifecycle.up(other, dry_run=True)
    assert drift("kubenet") == []
    assert lifecycle.up(other, replace=True).created
    assert drift("kubenet") == []


def test_what_runs_without_a_record_is_not_turned_into_something_else() -> None:
    lifecycle.up(lifecycle.define("kubenet"))
    lab_state.remove_files("kubenet")
    with pytest.raises(UsageError, match=r"with a, b, c, .* runs, and its definition is lost"):
        lifecycle.up(lifecycle.define("docker-bridge", "kubenet"))
    assert lifecycle.up(lifecycle.define("kubenet")).changes == ()
    assert drift("kubenet") == []


def test_a_failing_up_rolls_back_unless_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object, ns: str, *words: object) -> None:
        raise KernelError(f"cannot write rules in {ns}: no")

    monkeypatch.setattr(lab_kernel.chains.ChainWriter, "start", refuse)
    with pytest.raises(KernelError, match="cannot write rules"):
        lifecycle.up(lifecycle.define("kubenet"))
    assert paths.labs() == {}
    assert not lab_state.directory("kubenet").exists()
    with pytest.raises(KernelError):
        lifecycle.up(lifecycle.define("kubenet"), keep=True)
    assert len(paths.labs()["kubenet"]) > 3
    monkeypatch.undo()
    assert lifecycle.up(lifecycle.define("kubenet")).changes != ()
    assert drift("kubenet") == []


def test_down_needs_no_state(tmp_path: Path) -> None:
    text = catalog.find("kubenet")[1]
    own = tmp_path / "mine.yaml"
    own.write_text(text.replace("name: kubenet", "name: mine"))
    lifecycle.up(lifecycle.define(str(own)))
    own.unlink()
    lab_state.remove_files("mine")
    with pytest.raises(UsageError) as caught:
        lifecycle.load_compiled_lab("mine")
    assert "--scenario" in str(caught.value)
    assert len(lifecycle.down("mine")) > 3
    assert paths.labs() == {}


def test_a_port_may_stand_before_its_bridge() -> None:
    inner, outer = Interface("c1", "eth0"), Interface("host", "veth1")
    links = (Link(inner, "veth", outer), Link(outer, "veth", inner, "br0"), Link(Interface("host", "br0"), "bridge"))
    plan = (Netns("c1"), Netns("host"), *links)
    with lab_kernel.KernelLab("ports-first") as kernel:
        kernel.apply(diff(plan, ()))
    with lab_kernel.KernelLab("ports-first") as kernel:
        found = {item.key: item for item in kernel.observe()}
    port = found[links[1].key]
    assert isinstance(port, Link)
    assert port.master == "br0"


@pytest.mark.parametrize("place", ["all", "lo"])
def test_a_machine_without_ipv6_has_no_loopback_address_of_it(tmp_path: Path, place: str) -> None:
    own = tmp_path / "no-ipv6.yaml"
    setting = f"net.ipv6.conf.{place}.disable_ipv6"
    own.write_text(f"name: no-ipv6\nmodel: raw\nnamespaces: {{h: {{}}}}\nsysctls: {{h: {{{setting}: 1}}}}\n")
    definition = lifecycle.define(str(own))
    lifecycle.up(definition)
    assert drift("no-ipv6") == []
    assert lifecycle.up(definition).changes == ()


CRASH = """
import os, signal
from labctl.kernel.apply import builder
from labctl.lab import lifecycle
def crash(self, *words):
    os.kill(os.getpid(), signal.SIGKILL)
builder.Builder._configure = crash
lifecycle.up(lifecycle.define("kubenet"))
"""


def test_after_a_crash_down_removes_and_up_mends() -> None:
    for mend in (False, True):
        done = subprocess.run([sys.executable, "-c", CRASH], cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
        assert "kubenet" in paths.labs()
        if mend:
            lifecycle.up(lifecycle.define("kubenet"))
            assert drift("kubenet") == []
        assert len(lifecycle.down("kubenet")) > 3
        assert not lab_state.directory("kubenet").exists()


IMPATIENT = """
import signal, threading
from labctl.kernel import lab_kernel
from labctl.kernel.namespaces import lab_namespaces
from labctl.lab import lifecycle
made = lab_namespaces.NamespaceSet.create
def make(self, node):
    made(self, node)
    if node == "c20":
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
lab_namespaces.NamespaceSet.create = make
destroy = lab_kernel.KernelLab.destroy
def impatient(self):
    signal.raise_signal(signal.SIGINT)  # once more, now that it cleans up
    return destroy(self)
lab_kernel.KernelLab.destroy = impatient
try:
    lifecycle.up(lifecycle.define("docker-bridge", overrides=("hosts.host1.containers=300", "checks=[]")))
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_impatient_interrupt_leaves_nothing() -> None:
    root = ROOT
    done = subprocess.run([sys.executable, "-c", IMPATIENT], cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout == "interrupted\n", done.stderr
    assert paths.labs() == {}
    assert not lab_state.directory("docker-bridge").exists()


def test_a_lock_names_its_holder() -> None:
    with (
        lab_state.lock("kubenet"),
        pytest.raises(LockError, match=rf"held by .*pid {os.getpid()}"),
        lab_state.lock("kubenet", 0.1),
    ):
        pass
    with lab_state.lock("kubenet", 0.1):
        assert (paths.state_dir() / "kubenet.lock").exists()
    assert not (paths.state_dir() / "kubenet.lock").exists()


def test_other_namespaces_are_never_touched() -> None:
    for name in ("other", "labctl", "labctl.kubenet", "labctl.kubenet.node1.x", "lab.kubenet.node1"):
        subprocess.run(["ip", "netns", "add", name], check=True)
    lifecycle.up(lifecycle.define("kubenet"))
    lifecycle.down("kubenet")
    assert paths.labs() == {}
    left = sorted(os.listdir(paths.netns_dir()))
    for name in left:
        subprocess.run(["ip", "netns", "del", name], check=True)
    assert left == ["lab.kubenet.node1", "labctl", "labctl.kubenet", "labctl.kubenet.node1.x", "other"]


@pytest.mark.parametrize(
    ("scenario", "setting"),
    [
        ("docker-networks", "routed=false"), ("docker-networks", "release=20.10"), ("docker-networks", "release=29"),
        ("docker-publish", "routed=false"), ("docker-publish", "release=20.10"), ("docker-publish", "release=26"),
        ("docker-publish", "userland_proxy=true"), ("docker-proxy", "release=20.10"), ("docker-proxy", "release=29"),
        ("docker-proxy", "userland_proxy=false"), ("docker-networks", "userland_proxy=false"),
        ("docker-networks", "icc=false"), ("docker-bridge", "routed=true"), ("docker-icc", "release=26"),
    ],
)  # fmt: skip
def test_what_a_lab_claims_follows_from_its_options(scenario: str, setting: str) -> None:
    made = lifecycle.up(lifecycle.define(scenario, overrides=(setting,))).lab
    outcomes = runner.run(made).outcomes

    assert [(one.check.say, one.verdict, one.evidence) for one in outcomes if one.verdict != "pass"] == []
    assert len(outcomes) > 3

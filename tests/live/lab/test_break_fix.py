"""`break` and `fix` on live labs: a fault is drift, or is hidden; fix restores exactly what was broken."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import labctl
from labctl.cli import main
from labctl.core.diff import Change
from labctl.core.observations import Flow
from labctl.core.resources import Route, Sysctl
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, UsageError
from labctl.faults.catalogue import faults_of, find_fault, find_kind, random_fault
from labctl.kernel.host import lab_state, paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces import lab_namespaces
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import conntrack
from labctl.lab import break_fix, fault_records, lifecycle

NAME = "break-fix"
FORWARDING = "net.ipv4.ip_forward"
EXERCISE = """
model: kubenet
nodes: {node1: {pods: [a]}, node2: {pods: [c]}}
break: [forwarding-off: node2]
checks:
  - say: node2 does not forward
    ping: a -> c
    expect: fail
    within: 1s
"""


@pytest.fixture(scope="module")
def definition() -> Iterator[lifecycle.Definition]:
    definition = lifecycle.define("kubenet", NAME)
    lifecycle.up(definition)
    yield definition
    lifecycle.down(NAME)


@pytest.fixture
def lab(definition: lifecycle.Definition) -> Iterator[Lab]:
    yield definition.compiled
    lab = definition.compiled
    break_fix.fix(lab, fault_records.active(NAME))
    lifecycle.up(definition)
    assert fault_records.load(NAME) == ()


def drift(lab: Lab) -> set[object]:
    return {change.subject.key for change in lifecycle.status(lab.name, lab)}


def forwarding(machine: str) -> tuple[object, ...]:
    return ("sysctl", machine, FORWARDING)


def test_an_ordinary_fault_is_drift_and_fix_removes_it(lab: Lab) -> None:
    record = break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node1"))
    assert forwarding("node1") in drift(lab)
    assert fault_records.active(NAME) == (record,)
    ((fixed, changes),) = break_fix.fix(lab, [record])
    assert fixed == record
    assert forwarding("node1") in {change.subject.key for change in changes}
    assert not drift(lab)
    assert fault_records.load(NAME) == ()


def test_up_mends_an_ordinary_fault_and_forgets_it(lab: Lab, definition: lifecycle.Definition) -> None:
    break_fix.break_lab(lab, find_fault(lab, "route-missing", "node1/0.0.0.0/0"))
    assert any(isinstance(change.want, Route) for change in lifecycle.up(definition).changes)
    assert not drift(lab)
    assert fault_records.load(NAME) == ()


def test_a_hidden_fault_is_neither_drift_nor_mended(lab: Lab, definition: lifecycle.Definition) -> None:
    record = break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node1"), hidden=True)
    assert not drift(lab)
    assert not lifecycle.up(definition).changes
    with KernelLab(NAME) as kernel:
        assert Sysctl("node1", FORWARDING, "0") in kernel.observe(lab.plan)
    break_fix.fix(lab, [record])
    with KernelLab(NAME) as kernel:
        assert Sysctl("node1", FORWARDING, "1") in kernel.observe(lab.plan)


def test_a_check_takes_a_hidden_fault_as_defined_and_does_not_name_it(tmp_path: Path) -> None:
    file = tmp_path / "broken-file.yaml"
    file.write_text(EXERCISE)
    with labctl.up(str(file)) as running:
        (outcome,) = running.check("does not forward").outcomes
        assert outcome.verdict == "pass"
        assert not any("as planned" in line for line in outcome.evidence)
        assert running["node1"].run(f"sysctl -qw {FORWARDING}=0").ok  # drift that the definition does not have
        (outcome,) = running.check("does not forward").outcomes
        assert outcome.verdict == "inconclusive"
        assert not any("node2 is not as planned" in line for line in outcome.evidence)


def test_the_absence_of_a_hidden_fault_is_drift(lab: Lab, definition: lifecycle.Definition) -> None:
    break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node1"), hidden=True)
    with KernelLab(NAME) as kernel:
        kernel.observe(lab.plan)
        kernel.apply([Change(Sysctl("node1", FORWARDING, "1"), None)])
    assert forwarding("node1") in drift(lab)
    assert lifecycle.up(definition).changes
    assert not drift(lab)


def test_fix_leaves_other_drift_alone(lab: Lab) -> None:
    record = break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node1"))
    with KernelLab(NAME) as kernel:
        kernel.observe(lab.plan)
        kernel.apply([Change(Sysctl("node2", FORWARDING, "0"), None)])
    break_fix.fix(lab, [record])
    assert forwarding("node2") in drift(lab)
    assert forwarding("node1") not in drift(lab)


def test_a_fault_is_made_once_and_two_faults_do_not_share_an_object(lab: Lab) -> None:
    break_fix.break_lab(lab, find_fault(lab, "route-missing", "node1/0.0.0.0/0"))
    with pytest.raises(UsageError, match="already has the fault"):
        break_fix.break_lab(lab, find_fault(lab, "route-missing", "node1/0.0.0.0/0"))
    with pytest.raises(UsageError, match="has changed the same object"):
        break_fix.break_lab(lab, find_fault(lab, "route-blackhole", "node1/0.0.0.0/0"))
    break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node2"))
    assert [record.kind for record in fault_records.active(NAME)] == ["route-missing", "forwarding-off"]


def test_a_fault_that_is_there_already_is_refused(lab: Lab, definition: lifecycle.Definition) -> None:
    with KernelLab(NAME) as kernel:
        kernel.observe(lab.plan)
        kernel.apply([Change(Sysctl("node1", FORWARDING, "0"), None)])
    with pytest.raises(UsageError, match="already is as forwarding-off would make it"):
        break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node1"))
    assert fault_records.load(NAME) == ()


def test_a_change_that_the_kernel_refuses_leaves_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    apply = KernelLab.apply

    def apply_and_fail(kernel: KernelLab, changes: object) -> None:
        apply(kernel, changes)  # type: ignore[arg-type]
        monkeypatch.setattr(KernelLab, "apply", apply)
        raise KernelError("the kernel refused")

    monkeypatch.setattr(KernelLab, "apply", apply_and_fail)
    with pytest.raises(KernelError, match="the kernel refused"):
        break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node1"))
    assert not drift(lab)
    assert fault_records.load(NAME) == ()


KILLED = """
import os, sys
from labctl.faults.catalogue import faults_of, find_fault, find_kind, random_fault
from labctl.kernel.host import lab_state, paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.namespaces import lab_namespaces
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import conntrack
from labctl.lab import break_fix, lifecycle

def kill(kernel, *rest):
    if sys.argv[3] == "after":
        call(kernel, *rest)
    os.kill(os.getpid(), 9)

call = getattr(KernelLab, sys.argv[4])
setattr(KernelLab, sys.argv[4], kill)
lab = lifecycle.load_compiled_lab("break-fix")
break_fix.break_lab(lab, find_fault(lab, sys.argv[1], sys.argv[2]), hidden=True)
"""


@pytest.mark.parametrize("mend", ["fix", "up"])
@pytest.mark.parametrize(
    ("name", "on", "when", "call"),
    [
        ("interface-down", "node1/eth0", "before", "apply"),
        ("interface-down", "node1/eth0", "after", "apply"),  # the routes are gone, and nobody has observed it
        ("conntrack-stale", "node1/conntrack/a", "after", "create_connections"),
    ],
)
def test_a_break_that_was_killed_is_undone(
    lab: Lab, definition: lifecycle.Definition, name: str, on: str, when: str, call: str, mend: str
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, name, on, when, call], check=False)
    assert done.returncode == -signal.SIGKILL
    (record,) = fault_records.active(NAME)
    assert (record.kind, record.interrupted) == (name, True)
    with pytest.raises(UsageError, match="was interrupted"):
        break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node2"))
    if mend == "fix":
        break_fix.fix(lab, [record])
    else:
        lifecycle.up(definition)
    assert not drift(lab)
    assert not stale_entries()
    assert fault_records.active(NAME) == ()


def stale_entries() -> list[Flow]:
    with NetnsThread() as inside:
        found: tuple[Flow, ...] = inside.run(paths.netns_path(NAME, "node1"), conntrack.flows, "node1", 4)
    return [one for one in found if one.sport == 40000]


def test_up_deletes_the_connections_of_a_fault(lab: Lab, definition: lifecycle.Definition) -> None:
    break_fix.break_lab(lab, find_fault(lab, "conntrack-stale"))
    assert stale_entries()
    lifecycle.up(definition)
    assert not stale_entries()
    assert fault_records.load(NAME) == ()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (("route-missing", "node1/0.0.0.0/0"), ("interface-down", "node1/eth0")),
        (("address-missing", "a/eth0/10.244.0.2"), ("interface-down", "a/eth0")),
        (("neighbour-stale", "a/eth0/10.244.0.1"), ("interface-down", "a/eth0")),
        (("fdb-stale", "node1/cbr0"), ("bridge-down", "node1/cbr0")),
    ],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_faults_are_fixed_in_any_order(lab: Lab, first: tuple[str, str], second: tuple[str, str], hidden: bool) -> None:
    """The second fault takes objects of the first away, or makes it impossible to restore them."""
    one = break_fix.break_lab(lab, find_fault(lab, *_first_on(lab, *first)), hidden=hidden)
    two = break_fix.break_lab(lab, find_fault(lab, *second))
    ((fixed, _),) = break_fix.fix(lab, [one])
    assert fixed.kind == first[0]
    (left,) = fault_records.active(NAME)
    assert (left.kind, left.on, left.hidden) == (two.kind, two.on, False)
    assert find_fault(lab, *second).keys & drift(lab)
    break_fix.fix(lab, [left])
    assert not drift(lab)


def _first_on(lab: Lab, kind: str, on: str) -> tuple[str, str]:
    """The name of the first fault of a kind whose object begins so."""
    return kind, next(fault.on for fault in faults_of(lab, find_kind(kind)) if fault.on.startswith(on))


def test_a_fault_that_the_catalogue_has_no_more_is_fixed(lab: Lab) -> None:
    record = break_fix.break_lab(lab, find_fault(lab, "conntrack-stale"))
    renamed = replace(record, kind="of-an-older-labctl")
    fault_records.save(NAME, [renamed])
    break_fix.fix(lab, [renamed])
    assert not stale_entries()
    assert fault_records.load(NAME) == ()


def test_a_later_fault_that_cannot_be_applied_again_is_fixed_first(lab: Lab) -> None:
    one = break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node1"))
    two = break_fix.break_lab(lab, find_fault(lab, "forwarding-off", "node2"))
    renamed = replace(two, kind="of-an-older-labctl")
    fault_records.save(NAME, [one, renamed])
    with pytest.raises(UsageError, match="the later fault of-an-older-labctl on node2 cannot stay"):
        break_fix.fix(lab, [one])
    assert fault_records.active(NAME) == (one, renamed)
    assert {forwarding("node1"), forwarding("node2")} <= drift(lab)
    break_fix.fix(lab, [one, renamed])
    assert not drift(lab)


@pytest.mark.parametrize("name", ["forwarding-off", "conntrack-stale"])
def test_a_lab_that_was_removed_meanwhile_gets_no_fault(name: str) -> None:
    """`break` waits for the lock that `down` holds."""
    definition = lifecycle.define("kubenet", "break-removed")
    lab = definition.compiled
    fault = find_fault(lab, name)
    for work in (lambda: break_fix.break_lab(lab, fault), lambda: break_fix.fix(lab, [])):
        with pytest.raises(UsageError, match="no lab 'break-removed' runs"):
            work()
    assert not lab_state.directory("break-removed").exists()


@pytest.mark.parametrize("name", ["forwarding-off", "interface-down", "conntrack-stale"])
@pytest.mark.parametrize("hidden", [False, True])
def test_a_namespace_that_is_gone_is_made_by_up_only(
    lab: Lab, definition: lifecycle.Definition, name: str, hidden: bool
) -> None:
    fault = find_fault(lab, name)
    record = break_fix.break_lab(lab, fault, hidden=hidden)
    lab_namespaces.unbind(paths.netns_path(NAME, fault.machine))
    gone = f"there is no namespace of {fault.machine} any more"
    if fault.changes:
        with pytest.raises(UsageError, match=gone):
            break_fix.fix(lab, [record])
    else:
        break_fix.fix(lab, [record])  # its connection is gone with the namespace
    with pytest.raises(UsageError, match=gone):
        break_fix.break_lab(lab, find_fault(lab, "drop-output", f"{fault.machine}/filter/OUTPUT"))
    lifecycle.up(definition)
    assert not drift(lab)
    break_fix.fix(lab, fault_records.active(NAME))
    assert not drift(lab)
    assert fault_records.active(NAME) == ()


def test_faults_of_a_file_that_meet_in_one_object_are_named(tmp_path: Path) -> None:
    """The route goes with its device: only the kernel knows that the second fault changes nothing any more."""
    file = tmp_path / "broken-file.yaml"
    file.write_text("model: kubenet\nnodes: {node1: {pods: [a, b]}}\nbreak: [interface-down: a, route-missing: a]\n")
    with pytest.raises(UsageError, match=r"route-missing on a/0\.0\.0\.0/0 does not fit its other faults"):
        lifecycle.up(lifecycle.define(str(file)))
    assert "broken-file" not in paths.labs()


def test_a_refusal_does_not_name_a_hidden_fault(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["break", "--random", "--seed", "3", "--lab", NAME]
    assert main(command) == 0
    assert main(command) == 2
    (record,) = fault_records.active(NAME)
    printed = capsys.readouterr()
    assert "the fault of --seed 3 does not fit beside what is broken" in printed.err
    assert record.kind not in printed.out + printed.err
    with pytest.raises(UsageError, match="a hidden fault has changed the same object"):
        break_fix.break_lab(lab, find_fault(lab, record.kind, record.on))


def test_a_random_fault_without_a_seed_fits_beside_others(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = iter([2, 2, 3])  # seed 3 twice, then seed 4
    monkeypatch.setattr("secrets.randbelow", lambda _: next(numbers))
    for _ in range(2):
        assert main(["break", "--random", "--lab", NAME]) == 0
    found = {(record.kind, record.on) for record in fault_records.active(NAME)}
    assert found == {(fault.kind, fault.on) for fault in (random_fault(lab, 3), random_fault(lab, 4))}


def test_a_fault_of_a_file_is_there_from_the_start(tmp_path: Path) -> None:
    file = tmp_path / "broken-file.yaml"
    file.write_text("model: kubenet\nnodes: {node1: {pods: [a]}, node2: {pods: [b]}}\nbreak: [forwarding-off: node1]\n")
    definition = lifecycle.define(str(file))
    lifecycle.up(definition)
    try:
        lab = definition.compiled
        (record,) = fault_records.active(lab.name)
        assert (record.kind, record.on, record.hidden) == ("forwarding-off", "node1", True)
        with KernelLab(lab.name) as kernel:
            assert Sysctl("node1", FORWARDING, "0") in kernel.observe(lab.plan)
        assert not lifecycle.status(lab.name, lab)
        assert not lifecycle.up(definition).changes
        break_fix.fix(lab, [record])
        assert not lifecycle.status(lab.name, lab)
        assert not lifecycle.up(definition).changes, "up does not repeat a fault that was fixed"
        with KernelLab(lab.name) as kernel:
            assert Sysctl("node1", FORWARDING, "1") in kernel.observe(lab.plan)
    finally:
        lifecycle.down("broken-file")
    assert fault_records.load("broken-file") == ()


def test_a_lab_with_other_faults_is_another_definition(tmp_path: Path) -> None:
    text = "name: broken-file\nmodel: kubenet\nnodes: {node1: {pods: [a]}, node2: {pods: [b]}}\n"
    sound, broken = tmp_path / "sound.yaml", tmp_path / "broken.yaml"
    sound.write_text(text)
    broken.write_text(text + "break: forwarding-off\n")
    lifecycle.up(lifecycle.define(str(sound)))
    try:
        with pytest.raises(UsageError, match="another definition"):
            lifecycle.up(lifecycle.define(str(broken)))
    finally:
        lifecycle.down("broken-file")


@pytest.fixture(scope="module")
def tunnels() -> Iterator[Lab]:
    definition = lifecycle.define("flannel", "break-tunnels")
    lifecycle.up(definition)
    yield definition.compiled
    lifecycle.down("break-tunnels")


@pytest.mark.parametrize(
    "name", ["vxlan-wrong-id", "prefix-too-short", "interface-down", "neighbour-stale", "mtu-far-end", "bridge-down"]
)
def test_a_fault_breaks_only_what_it_names_and_the_fix_restores_all(tunnels: Lab, name: str) -> None:
    fault = find_fault(tunnels, name)
    record = break_fix.break_lab(tunnels, fault)
    broken = drift(tunnels)
    assert broken & {change.subject.key for change in fault.changes}
    if name == "vxlan-wrong-id":  # the kernel lost what the device had, and got it back
        assert broken == {fault.changes[0].subject.key}
    break_fix.fix(tunnels, [record])
    assert not drift(tunnels)


def test_what_a_machine_learned_does_not_hide_a_fault(tunnels: Lab) -> None:
    labctl.trace("a", "b", lab=tunnels)
    record = break_fix.break_lab(tunnels, find_fault(tunnels, "arp-ignore", "b/eth0"))
    assert labctl.trace("a", "b", lab=tunnels).verdict == "lost"
    break_fix.fix(tunnels, [record])
    assert labctl.trace("a", "b", lab=tunnels).answered


def test_a_forwarding_entry_that_the_kernel_has_moved_is_removed() -> None:
    """A static entry goes to the port by which its machine sends, and stays static there."""
    definition = lifecycle.define("docker-bridge", "moved-fdb")
    lab = lifecycle.up(definition).lab
    try:
        record = break_fix.break_lab(lab, find_fault(lab, "fdb-stale"), hidden=True)
        machine = record.on.rpartition("/")[2]
        running = labctl.RunningLab("moved-fdb")
        running["c1"].run("ping -c 1 -W 1 c2; ping -c 1 -W 1 host1")
        assert f"{machine} dev" in running["host1"].run("bridge fdb show").stdout
        break_fix.fix(lab, [record])
        assert lifecycle.status("moved-fdb", lab) == ()
    finally:
        lifecycle.down("moved-fdb")


SILENT = """
model: raw
namespaces: {h1: {role: host}, r: {role: machine}, h2: {role: host}}
links: [{veth: [h1/eth0, r/left]}, {veth: [h2/eth0, r/right]}]
addresses: {h1/eth0: 10.1.0.2/24, r/left: 10.1.0.1/24, r/right: 10.2.0.1/24, h2/eth0: 10.2.0.2/24}
routes: {h1: default via 10.1.0.1, h2: default via 10.2.0.1}
sysctls: {r: {net.ipv4.ip_forward: 1}}
firewall: {r: {filter: {FORWARD: [-p icmp -j DROP]}}}
break: [FAULT]
checks:
  - {say: the router drops pings, ping: h1 -> h2, expect: fail, see: {at: r/left}, not see: {at: h2/eth0}}
"""


@pytest.mark.parametrize(
    ("fault", "machine", "repair"),
    [
        ("arp-ignore: r/left", "r", "sysctl -w net.ipv4.conf.left.arp_ignore=0"),
        ("forwarding-off: r", "r", "sysctl -w net.ipv4.ip_forward=1"),
        ("route-missing: h2", "h2", "ip route add default via 10.2.0.1"),
    ],
)
def test_a_missing_reply_is_a_proof_again_after_a_hidden_fault_was_repaired_manually(
    fault: str, machine: str, repair: str
) -> None:
    """What a hidden fault changed is wanted. A lab without it is as its author planned it, and not drifted."""
    with labctl.up(SILENT.replace("FAULT", fault), name="repaired") as lab:
        assert lab[machine].run(repair).ok
        (outcome,) = (one for one in lab.check("drops pings").outcomes)
        assert outcome.verdict == "pass", outcome.evidence
        assert lab["r"].run("ip addr add 10.9.0.1/24 dev left").ok
        (outcome,) = (one for one in lab.check("drops pings").outcomes)
        assert outcome.verdict == "inconclusive", "something else differs now"

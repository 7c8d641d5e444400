"""`break` and `fix` on live labs: a fault is drift, or is hidden; fix restores exactly what was broken."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import labctl
from labctl.core.diff import Change
from labctl.core.resources import Route, Sysctl
from labctl.core.scenario_types import Lab
from labctl.errors import KernelError, UsageError
from labctl.faults.catalogue import find_fault
from labctl.kernel.lab_kernel import KernelLab
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

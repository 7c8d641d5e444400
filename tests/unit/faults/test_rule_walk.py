"""Which rule translates a probe's source, how a probe passes a machine, and where a fault's rule stands."""

from __future__ import annotations

import pytest

from labctl.core.resources import Chain
from labctl.faults.catalogue import find_fault
from labctl.faults.chain_changes import reaches_policy
from labctl.faults.claimed_paths import ClaimedPath, claimed_paths, passing
from labctl.faults.lab_objects import LabObjects
from labctl.faults.rule_walk import source_nat_rule
from labctl.scenario.definition import define


def _objects(scenario: str) -> LabObjects:
    return LabObjects(define(scenario).compiled)


def _path(objects: LabObjects, source: str, target: str) -> ClaimedPath:
    return next(
        one for one in claimed_paths(objects) if (one.source, one.target, one.probe) == (source, target, "ping")
    )


@pytest.mark.parametrize(
    ("scenario", "ns", "source", "target", "rule"),
    [
        ("kubenet", "node1", "a", "internet", ("IP-MASQ-AGENT", 1)),
        ("kubenet", "node1", "a", "c", None),  # exempted: RETURN
        ("docker-bridge", "host1", "c1", "internet", ("POSTROUTING", 0)),
        ("kube-router", "node1", "a", "vm", ("POSTROUTING", 0)),
        ("kube-router", "node1", "a", "node2", None),  # a member of the set of nodes
        ("calico", "node1", "a", "node2", ("cali-nat-outgoing", 0)),
        ("cilium", "node1", "a", "internet", ("CILIUM_POST_nat", 0)),  # `! -o cilium_+`, and a pair of cilium_ devices
        ("eks-vpc-cni", "node1", "b", "internet", ("AWS-SNAT-CHAIN-0", 1)),
    ],
)
def test_the_rule_that_translates_is_found_in_the_plan(
    scenario: str, ns: str, source: str, target: str, rule: tuple[str, int] | None
) -> None:
    objects = _objects(scenario)
    found = source_nat_rule(objects, ns, _path(objects, source, target))
    assert (None if found is None else (found[0].name, found[1])) == rule


@pytest.mark.parametrize(
    ("scenario", "ns", "source", "target", "way"),
    [
        ("kubenet", "node1", "a", "c", "routed"),
        ("kubenet", "node1", "a", "b", "filtered"),  # bridge-nf-call-iptables is 1
        ("docker-bridge", "host1", "c1", "c2", "bridged"),
        ("docker-bridge", "host1", "c1", "host1", "received"),
        ("weave", "node1", "a", "c", "filtered"),  # one network over all nodes
        ("kubenet", "node2", "a", "b", None),
    ],
)
def test_a_probe_passes_a_machine_routed_or_bridged(
    scenario: str, ns: str, source: str, target: str, way: str | None
) -> None:
    objects = _objects(scenario)
    assert passing(objects, ns, _path(objects, source, target)) == way


def test_a_policy_counts_only_where_no_rule_ends_the_way() -> None:
    assert reaches_policy(_objects("kubenet"), "node1", "FORWARD")
    assert not reaches_policy(_objects("flannel"), "node1", "FORWARD")  # FLANNEL-FWD accepts


def test_a_rule_stands_before_those_that_accept() -> None:
    fault = find_fault(define("flannel").compiled, "drop-forward", "node1/filter/FORWARD")
    broken = fault.changes[0].want
    assert isinstance(broken, Chain)
    assert str(broken.rules[0]) == "-j DROP"
    assert len(broken.rules) > 1


def test_a_dead_target_passes_the_filter() -> None:
    """Docker accepts only packets to the published container, so its rule has to name the dead address as well."""
    fault = find_fault(define("docker-publish").compiled, "dnat-dead-target")
    chains = [(getattr(one.want, "table", ""), getattr(one.want, "name", "")) for one in fault.changes]
    assert chains == [("nat", "DOCKER"), ("filter", "DOCKER")]

"""The way of a packet through a plan, by which the catalogue finds the probes that a fault hits."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.resources import Route
from labctl.faults.lab_objects import LabObjects
from labctl.scenario.definition import define


def _path(scenario: str, source: str, target: str) -> tuple[str, ...]:
    objects = LabObjects(define(scenario).compiled)
    trip = next(one for one in objects.trips if (one.source, one.target) == (source, target))
    return trip.there.namespaces


@pytest.mark.parametrize(
    ("scenario", "source", "target", "machines"),
    [
        ("kubenet", "a", "b", ("a", "b")),  # bridged
        ("kubenet", "a", "c", ("a", "node1", "fabric", "node2", "c")),  # by a rule and table 100 of the fabric
        ("calico", "a", "d", ("a", "node1", "node3", "d")),  # proxy ARP, then a tunnel
        ("docker-overlay", "c1", "c2", ("c1", "c2")),  # a bridge, a VXLAN, a bridge
        ("eks-vpc-cni", "b", "c", ("b", "node1", "fabric", "node2", "c")),  # policy routing by source
        ("raw-dual-stack", "h1", "2001:db8:2::2", ("h1", "r1", "h2")),
    ],
)
def test_the_machines_on_the_way(scenario: str, source: str, target: str, machines: tuple[str, ...]) -> None:
    assert _path(scenario, source, target) == machines


def test_a_tunnel_has_hops_below_it() -> None:
    objects = LabObjects(define("flannel").compiled)
    trip = next(one for one in objects.trips if (one.source, one.target) == ("a", "d"))
    (hop,) = [hop for hop in trip.there.hops if hop.tunnel]
    assert [below.ns for below in hop.tunnel] == ["node1", "fabric"]
    assert {"fabric/lan1", "fabric/lan2"} <= {str(at) for at in hop.interfaces}


def test_the_source_is_the_address_of_the_device() -> None:
    objects = LabObjects(define("flannel").compiled)
    trip = next(one for one in objects.trips if (one.source, one.target) == ("node1", "c"))
    assert trip.there.src == ip_address("10.244.1.0")  # of flannel.1, not of eth0


def test_a_machine_that_nobody_leads_to_is_not_reached() -> None:
    paths = LabObjects(define("kubenet").compiled).paths
    path = paths.path("a", ip_address("10.99.0.1"), ip_address("10.244.0.2"))
    assert (path.arrives, path.end) == (False, "fabric")


def test_a_probe_of_a_fault_does_not_arrive_any_more() -> None:
    """Every route fault names probes that the broken plan does not deliver."""
    objects = LabObjects(define("calico").compiled)
    from labctl.core.plan_paths import PlanPaths
    from labctl.faults.catalogue import faults_of, find_kind

    for fault in faults_of(objects, find_kind("route-missing")):
        broken = PlanPaths(fault.applied_to(objects.lab.plan))
        trip = next(
            one
            for one in objects.trips
            if one.source == fault.traffic[0].source and one.target == fault.traffic[0].target
        )
        ways = [(way.start, way.dst, way.src) for way in trip.ways]
        assert not all(broken.path(*way).arrives for way in ways), fault.on


@pytest.mark.parametrize("scenario", ["kubenet", "calico", "aks-snat-ports", "docker-overlay", "raw-dual-stack"])
def test_the_index_of_routes_has_the_trips_that_use_each(scenario: str) -> None:
    objects = LabObjects(define(scenario).compiled)

    used = [route for route in objects.all(Route) if route.key in objects.trips_by_route]
    assert used
    for route in objects.all(Route):
        found = objects.hit_trips(lambda path, key=route.key: key in path.route_keys)  # type: ignore[misc]
        assert objects.trips_by_route.get(route.key, []) == found, route

"""Names of headless Services: the addresses of all pods, and a name for each pod of a StatefulSet."""

from __future__ import annotations

from ipaddress import ip_address

from labctl.kubernetes.api.api_objects import Cluster, Endpoint, EndpointSlice, Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.services.cluster_dns import headless_names, search_namespaces


def state(*, headless: bool = True) -> ClusterState:
    ips = [ip_address(f"10.244.0.{number}") for number in (2, 3)]
    service = Service("shop", "db", ports=(ServicePort(80),), selector={"app": "db"}, headless=headless)
    pods = tuple(Pod("shop", f"db-{number}", (ip,), machine=f"shop-db-{number}") for number, ip in enumerate(ips))
    found = EndpointSlice("shop", "db-1", "db", 4, tuple(Endpoint(ip) for ip in ips))
    other = EndpointSlice("default", "db-1", "db", 4, (Endpoint(ip_address("10.244.0.9")),))
    cluster = Cluster((), (service,), (found, other))
    return ClusterState(cluster, pods, subdomains={"shop-db-0": "db", "shop-db-1": "other"})


def test_a_headless_service_has_the_addresses_of_its_pods_and_names_those_of_its_set() -> None:
    found = [one for one in headless_names(state()) if one[0].endswith(".svc.cluster.local")]

    assert found == [
        ("db.shop.svc.cluster.local", "10.244.0.2"),
        ("db-0.db.shop.svc.cluster.local", "10.244.0.2"),
        ("db.shop.svc.cluster.local", "10.244.0.3"),
    ]
    assert {name.count(".") for name, _ in headless_names(state())} == {1, 2, 3, 4, 5}


def test_a_service_with_an_address_has_no_names_here() -> None:
    assert list(headless_names(state(headless=False))) == []


def test_a_pod_may_leave_out_its_namespace() -> None:
    assert search_namespaces(state()) == {"shop-db-0": "shop", "shop-db-1": "shop"}

"""Whether the addresses of a Service outside of its cluster are those of machines. Pure.

A load balancer is a machine of the cloud and has an address that no other machine has: two machines with one address
take each other's packets. labctl gives `externalIPs` to no machine: kube-proxy leads packets to them to the Service, on
each node that gets one. The address of a node is usual there. With the address of another machine, nodes and pods do
not reach that machine any more at these ports (CVE-2020-8554); the API server accepts it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.core.resources import IP, Address, Plan
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.api_objects import Service
from labctl.kubernetes.api.problems import ObjectProblem


def address_problems(services: Iterable[Service], lab: Lab) -> Iterator[ObjectProblem]:
    """An error for each address of a load balancer that a machine has, a warning for such an external IP of a machine
    that is no node. `services` are as their author wrote them."""
    owners = _owners(lab.plan)
    nodes = {one.name for one in lab.machines if one.role == "node"}
    for service in services:
        for path, ip in _balancer_addresses(service):
            owner = owners.get(ip)
            if owner is not None:
                what = f"the load balancer would have {ip}, the address of {owner}"
                hint = "choose an address that no machine has, or none: then labctl chooses one"
                if owner in nodes:
                    hint += "; externalIPs can have the address of a node"
                yield ObjectProblem("Service", service.namespace, service.name, path, what, hint)
        for number, ip in enumerate(service.external_ips):
            owner = owners.get(ip)
            if owner is not None and owner not in nodes:
                what = f"{ip} is the address of {owner}: from nodes and pods, its ports lead to this Service instead"
                path = ("spec", "externalIPs", number)
                hint = "an external IP is usually an address of a node, or of no machine"
                yield ObjectProblem("Service", service.namespace, service.name, path, what, hint, warning=True)


def _balancer_addresses(service: Service) -> Iterator[tuple[tuple[str | int, ...], IP]]:
    """The addresses that the author gives the load balancer, each with its field."""
    if service.type != "LoadBalancer":
        return
    if service.wanted_ip is not None:
        yield ("spec", "loadBalancerIP"), service.wanted_ip
    for ip in (*service.load_balancer_ips, *service.proxied_ips):
        yield ("status", "loadBalancer"), ip


def _owners(plan: Plan) -> dict[IP, str]:
    """The machine of each address in the plan."""
    found: dict[IP, str] = {}
    for item in plan:
        if isinstance(item, Address) and not item.addr.ip.is_loopback:
            found.setdefault(item.addr.ip, item.ns)
    return found

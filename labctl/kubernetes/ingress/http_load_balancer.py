"""The machine of the HTTP load balancers, beside the cluster: one proxy for each Ingress and each Gateway. Pure.

    client -> fabric -> lb: the proxy ends the connection -> fabric -> node:nodePort -> ... -> pod     (mode instance)
                                                          -> fabric -> pod:targetPort                  (mode ip)

The machine has an address in a subnet of its own, from which it opens connections, and the addresses of the load
balancers. Its subnet has the route table of the nodes' subnet, if that has one: without it, a fabric that knows pods
only by that table has no route to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

from labctl.core.resources import IP, Interface, Net, Process, Resource, Route
from labctl.core.scenario_types import Lab, Machine
from labctl.core.why import Component, Source, explained
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.http_routes import HttpLoadBalancer, to_json
from labctl.kubernetes.api.problems import ObjectProblem
from labctl.kubernetes.ingress.ingress_rules import with_address
from labctl.kubernetes.services import address_choice
from labctl.kubernetes.services.fabric import BALANCER_POOL, FABRIC, Fabric
from labctl.kubernetes.services.load_balancer import unused_name
from labctl.models.lib import primitives

_BALANCER = Component(
    "the ingress controller (an HTTP load balancer)",
    Source("kubernetes/api", "networking/v1 Ingress; Gateway API", "1.35"),
)
_NETNS = _BALANCER.why(
    "It is the machine of the HTTP load balancers, beside the cluster: it ends the connections of clients."
)
_FABRIC_END = _BALANCER.why("It is the fabric's end of the cable of the HTTP load balancers.")
_CARD = _BALANCER.why("It is the network card of the HTTP load balancers.")
_GATEWAY = _BALANCER.why("It is the gateway of the subnet of the HTTP load balancers.")
_ADDRESSES = _BALANCER.why(
    "{ip} is an address of {ns}: its own, for connections to nodes and pods, or that of one load balancer."
)
_DEFAULT = _BALANCER.why("{ns} opens its connections to nodes and pods with the source {src}, by the fabric.")
_TO_BALANCER = _BALANCER.why("{dst} is the address of a load balancer on {via_machine}: packets of clients go there.")
_SUBNET_RULE = _BALANCER.why(
    "The subnet of the load balancers uses the route table of the nodes' subnet (table {table}): it has the routes to"
    " pods."
)
_PROXY = _BALANCER.why(
    "It is the HTTP proxy of one Ingress or Gateway: it reads host and path of each request, and opens a connection"
    " to a node or a pod."
)
PROGRAM = "http-proxy"
MACHINE = "lb"
SUBNET_PREFIX = 24
OWN_OFFSET = 4  # of the machine's own address in its subnet, in which the fabric has the first address


def with_addresses(
    balancers: Iterable[HttpLoadBalancer], ranges: tuple[Net, ...], taken: Iterable[IP]
) -> tuple[HttpLoadBalancer, ...]:
    """The load balancers, each with an address: the one that its author wrote, or one of the first range."""
    used, found = set(taken), []
    for one in balancers:
        if not one.address and ranges:
            ip = address_choice.free_address(str(one), ranges[0], used)
            one = with_address(one, "" if ip is None else str(ip))
        found.append(one)
    return tuple(found)


def http_load_balancers(state: ClusterState, lab: Lab) -> Iterator[Resource | Machine]:
    """The machine, its proxies, and the routes to it. Nothing in a lab without a fabric or a free range."""
    balancers = tuple(one for one in state.http_balancers if one.address)
    fabric = Fabric.of(lab.plan, [node.name for node in state.cluster.nodes]) if balancers else None
    subnet = None if fabric is None else fabric.free_network(SUBNET_PREFIX)
    if fabric is None or subnet is None:
        return
    name = machine_name(lab)
    own, gateway = subnet.network_address + OWN_OFFSET, subnet.network_address + 1
    eth0 = Interface(name, "eth0")
    device = Interface(FABRIC, unused_name(primitives.device_name(name), fabric.devices))
    addresses = tuple(dict.fromkeys(IPv4Address(one.address) for one in balancers))
    yield Machine(name, "machine", (own, *addresses))
    yield from primitives.netns(name, why=_NETNS)
    macs, whys = (primitives.mac(str(device)), primitives.mac(str(eth0))), (_FABRIC_END, _CARD)
    yield from primitives.veth_pair(device, eth0, mtu=fabric.mtu or 1500, macs=macs, whys=whys)
    yield from primitives.forwarding_sysctls(name, False, rp_filter=0)
    yield from primitives.forwarding_sysctls(FABRIC, True, rp_filter=0, devices=(device.dev,))
    gateway_address = primitives.with_prefix_length(gateway, SUBNET_PREFIX)
    yield from explained(_GATEWAY, primitives.addresses(device, gateway_address))
    own_address = primitives.with_prefix_length(own, SUBNET_PREFIX)
    balancer_addresses = (primitives.with_prefix_length(ip, 32) for ip in addresses)
    yield from explained(_ADDRESSES, primitives.addresses(eth0, own_address, *balancer_addresses))
    yield Route(name, primitives.ANYWHERE, gateway, "eth0", src=own, why=_DEFAULT)
    for ip in addresses:
        yield Route(FABRIC, primitives.host_prefix(ip), own, device.dev, why=_TO_BALANCER)
        yield from fabric.announce(ip)
    yield from dict.fromkeys(replace(one, iif=device.dev, why=_SUBNET_RULE) for one in fabric.subnet_rules)
    for one in balancers:
        tables = (word for port, table in one.tables for word in (str(port), to_json(table)))
        command = (PROGRAM, one.address, *tables)
        yield Process(name, f"{PROGRAM}-{one.namespace}-{one.name}", command, why=_PROXY)


def machine_name(lab: Lab) -> str:
    """The name of the machine: `lb`, unless the scenario has a machine of this name."""
    return unused_name(MACHINE, frozenset(one.name for one in lab.machines))


def problems(state: ClusterState, lab: Lab) -> Iterator[ObjectProblem]:
    """Why load balancers cannot be built on this lab: no fabric, or in mode ip no route to the pods."""
    fabric = Fabric.of(lab.plan, [node.name for node in state.cluster.nodes])
    for one in state.http_balancers:
        about = (one.kind, one.namespace, one.name)
        if fabric is None or not one.address:
            what = f"the model {lab.model} has no fabric in which a load balancer could be"
            yield ObjectProblem(*about, (), what, "use another model")
            continue
        if fabric.free_network(SUBNET_PREFIX) is None:
            what = f"no range of {BALANCER_POOL} is free for the load balancers"
            yield ObjectProblem(*about, (), what, "give the lab other ranges")
            continue
        if one.mode != "ip":
            continue
        for backend in one.backends:
            unreachable = [target for target in backend.targets if not is_routable(fabric, target)]
            if unreachable:
                pod = unreachable[0].rpartition(":")[0]
                what = (
                    f"mode ip: the fabric has no route to the pod {pod} of {backend.name}."
                    " Its address is known only inside the cluster: in a tunnel, or by routes on the nodes"
                )
                yield ObjectProblem(*about, (), what, "use mode: instance, or a model in which pods are routable")
                break


def is_routable(fabric: Fabric, target: str) -> bool:
    """Whether the fabric has a route for packets of the load balancers to `address:port`."""
    return fabric.next_hop(ip_address(target.rpartition(":")[0]), from_subnet=True) is not None

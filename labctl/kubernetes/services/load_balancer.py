"""The load balancer of Services of type LoadBalancer, in the fabric. Pure.

It works on packets, not on connections: a packet to the Service's address goes to one of the nodes. A node that fails
the health check gets no new flows. The program `load-balancer` chooses the node; the kernel routes:

    client -> fabric: route ADDRESS dev l4lb -> the program marks the packet -> rule fwmark N -> table N: via node N

Where the API says ipMode VIP, the node receives the packet unchanged, and the rules of its kube-proxy for the address
do the rest. With ipMode Proxy, as in AWS, its destination becomes the node's address and nodePort.

Sources: the Kubernetes API, `LoadBalancerIngress.ipMode`; health checks as cloud-provider-azure, -aws and -gcp set them
up: the healthCheckNodePort if externalTrafficPolicy is Local, else kube-proxy's own `/healthz`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from labctl.core.resources import IP, Interface, Link, Process, Resource, Route, Rule
from labctl.core.scenario_types import Lab
from labctl.core.why import LABCTL, Component, Source
from labctl.kubernetes.api.api_objects import Node, Service, ServicePort
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.services.backends import HEALTHZ_PORT
from labctl.kubernetes.services.fabric import FABRIC, Fabric, NextHop
from labctl.models.lib import primitives

_API = Component("the cloud's load balancer", Source("kubernetes/api", "core/v1 LoadBalancerIngress.ipMode", "1.35"))
_DEVICE = LABCTL.why(
    "It is where the load balancer of the cloud gets its packets: the program load-balancer reads them."
)
_TO_BALANCER = _API.why(
    "{dst} is the address of {dst_machines}: packets to it go to the load balancer, and no machine has it."
)
_MARK_RULE = _API.why(
    "The load balancer has chosen a node for this packet: the mark {mark} leads to it by table {table}."
)
_MARK_ROUTE = _API.why("Table {table} has one way: to the node {via_machine}, with the packet as it is.")
_GUARD = LABCTL.why(
    "A packet for a node that cannot be reached ends here: else it would come to the load balancer again."
)
_PROGRAM = _API.why(
    "It chooses a node for each new flow to a Service of type LoadBalancer, by a hash of its addresses and ports,"
    " among the nodes that pass the health check."
)
_NO_TRACK = _API.why("The load balancer shall choose the node first: conntrack would fix the translation before.")
_NODE_PORT = _API.why(
    "The load balancer (ipMode Proxy) sends to the nodePort of the node: the destination becomes {to}."
)
PROGRAM = "load-balancer"
DEVICE = "l4lb"  # the fabric's TUN device, from which the program reads
FIRST_MARK = 0x4C0001  # the mark of packets for the first node; the table of the node has the same number
MARKS_MASK = 0xFF0000  # the part that all marks of nodes have in common
RULE_PREF = 50  # before every rule of the models' fabrics
PROTOCOLS = {"TCP": "tcp", "UDP": "udp"}


@dataclass(frozen=True, slots=True)
class Target:
    """A node that gets packets: its address, the mark that leads there, and the fabric's way to it."""

    node: Node
    ip: IPv4Address
    mark: int
    hop: NextHop


@dataclass(frozen=True, slots=True)
class Frontend:
    """One address and port of a Service."""

    service: Service
    port: ServicePort
    ip: IPv4Address
    proxied: bool

    @property
    def health_port(self) -> int:
        """The port of nodes at which the load balancer checks them."""
        local = self.service.external_policy == "Local" and self.service.health_check_node_port
        return self.service.health_check_node_port if local else HEALTHZ_PORT

    @property
    def word(self) -> str:
        """It as an argument of the program: `tcp:203.0.113.9:80@30999`, with `/client` if all flows of one client go to
        one node."""
        affinity = "/client" if self.service.affinity_timeout_s is not None else ""
        return f"{PROTOCOLS[self.port.protocol]}:{self.ip}:{self.port.port}@{self.health_port}{affinity}"


def load_balancer(state: ClusterState, lab: Lab) -> Iterator[Resource]:
    """The program in the fabric, with the routes and rules that it needs. Nothing without a Service of this type, or in
    a lab without a fabric."""
    frontends = tuple(_frontends(state))
    fabric = Fabric.of(lab.plan, [node.name for node in state.cluster.nodes]) if frontends else None
    if fabric is None:
        return
    targets = tuple(_targets(state, fabric))
    device = Interface(FABRIC, unused_name(DEVICE, fabric.devices))
    yield Link(device, "tun", mtu=fabric.mtu, why=_DEVICE)
    yield from primitives.forwarding_sysctls(FABRIC, True, rp_filter=0, devices=(device.dev,))
    for ip in dict.fromkeys(one.ip for one in frontends):
        yield Route(FABRIC, primitives.host_prefix(ip), dev=device.dev, why=_TO_BALANCER)
        yield from fabric.announce(ip)
    for ip in dict.fromkeys(one.ip for one in frontends if not one.proxied):
        yield from fabric.accept_source(ip, dict.fromkeys(one.hop.dev for one in targets))
    for target in targets:
        yield Rule(FABRIC, RULE_PREF, target.mark, mark=target.mark, why=_MARK_RULE)
        via, dev = target.hop.via or target.ip, target.hop.dev
        yield Route(FABRIC, primitives.ANYWHERE, via, dev, target.mark, onlink=True, why=_MARK_ROUTE)
    # a marked packet that finds no way to its node must not come to the program again, by the route to the address
    guard = FIRST_MARK & MARKS_MASK
    yield Rule(FABRIC, RULE_PREF + 1, mark=guard, mask=MARKS_MASK, kind="blackhole", why=_GUARD)
    yield from _node_port_rules(frontends, targets)
    nodes = (f"{target.mark}={target.ip}" for target in targets)
    command = (PROGRAM, device.dev, *nodes, *(one.word for one in frontends))
    yield Process(FABRIC, PROGRAM, command, why=_PROGRAM)


def health_port(state: ClusterState, ip: IP, protocol: str, port: int | None) -> int | None:
    """Where the load balancer of an address checks its nodes for this port: 0 if it does not serve the port, None if no
    load balancer has the address."""
    mine = [one for one in _frontends(state) if one.ip == ip]
    served = (one for one in mine if (PROTOCOLS[one.port.protocol], one.port.port) == (protocol, port))
    return next((one.health_port for one in served), 0 if mine else None)


def unused_name(name: str, taken: frozenset[str]) -> str:
    """The name, or with a number if something else has it."""
    return next(one for one in (name, *(f"{name}-{number}" for number in range(2, 1000))) if one not in taken)


def _frontends(state: ClusterState) -> Iterator[Frontend]:
    seen = set()
    for service in state.cluster.services:
        if service.type != "LoadBalancer":
            continue
        for ip in (*service.load_balancer_ips, *service.proxied_ips):
            for port in service.ports:
                if (
                    isinstance(ip, IPv4Address)
                    and port.protocol in PROTOCOLS
                    and (ip, port.protocol, port.port) not in seen
                ):
                    seen.add((ip, port.protocol, port.port))
                    yield Frontend(service, port, ip, ip in service.proxied_ips)


def _targets(state: ClusterState, fabric: Fabric) -> Iterator[Target]:
    """The nodes that the fabric has a route to."""
    for number, node in enumerate(state.cluster.nodes):
        ip = next((one for one in node.internal_ips if isinstance(one, IPv4Address)), None)
        hop = None if ip is None else fabric.next_hop(ip)
        if ip is not None and hop is not None:
            yield Target(node, ip, FIRST_MARK + number, hop)


def _node_port_rules(frontends: tuple[Frontend, ...], targets: tuple[Target, ...]) -> Iterator[Resource]:
    """For ipMode Proxy: the destination becomes the node's address and nodePort.

    The kernel must not track a packet before the program has chosen its node: a connection gets its translation with
    the first packet that is tracked.
    """
    for ip in dict.fromkeys(one.ip for one in frontends if one.proxied):
        yield primitives.chain(FABRIC, "raw", "PREROUTING", (f"-d {ip}/32 -j CT --notrack", _NO_TRACK))
    for one in frontends:
        if not one.proxied or not one.port.node_port:
            continue
        protocol = PROTOCOLS[one.port.protocol]
        for target in targets:
            match = (
                f"-d {one.ip}/32 -p {protocol} -m {protocol} --dport {one.port.port} -m mark --mark {target.mark:#x}"
            )
            to = f"-j DNAT --to-destination {target.ip}:{one.port.node_port}"
            yield primitives.chain(FABRIC, "nat", "OUTPUT", (f"{match} {to}", _NODE_PORT))

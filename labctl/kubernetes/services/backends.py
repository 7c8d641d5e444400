"""The servers behind Services: what listens in the pods, and what kube-proxy answers to health checks. Pure.

A lab has no images of containers. So each pod that is an endpoint of a Service gets a small server of labctl at the
ports that the Service leads to, which answers who it is and which client it saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.core.resources import IP, Address, Process, Resource
from labctl.core.scenario_types import Lab
from labctl.kubernetes.api.api_objects import Cluster, Protocol, Service
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.services import kube_proxy_reasons
from labctl.kubernetes.services.kube_proxy_config import ProxyConfig
from labctl.kubernetes.services.kube_proxy_nft_table import node_port_addresses
from labctl.kubernetes.services.kube_proxy_nodes import proxy_config
from labctl.models.lib.pods import SANDBOX_PROCESS

SERVE = "serve"  # labctl's own server
BACKEND = "backend"  # the process that a Service gives to a pod
KUBE_PROXY = "kube-proxy"
HEALTHZ_PORT = 10256  # where kube-proxy answers about itself
PROGRAM_PROTOCOLS: dict[Protocol, str] = {"TCP": "tcp", "UDP": "udp"}  # SCTP: the machine may lack it, so no server


def backend_processes(state: ClusterState, lab: Lab) -> Iterator[Resource]:
    """A server in each pod that is an endpoint of a Service, at the target ports where no container of the pod listens.

    It does not matter whether the endpoint is ready: a pod that is not ready has processes too, and only the packets
    show whether it gets connections. A pod on its node's network listens there. SCTP has no server.
    """
    wanted: dict[str, dict[tuple[str, int], None]] = {}
    pods = {ip: pod for pod in state.pods for ip in pod.ips}
    for ip, protocol, port in _endpoints(state.cluster):
        if ip in pods and protocol in PROGRAM_PROTOCOLS:
            wanted.setdefault(pods[ip].machine, {})[PROGRAM_PROTOCOLS[protocol], port] = None
    processes: dict[str, list[Process]] = {}
    for item in lab.plan:
        if isinstance(item, Process):
            processes.setdefault(item.ns, []).append(item)
    netns_of = {one.name: one.netns_of for one in lab.machines if one.netns_of is not None}
    for machine, ports in wanted.items():
        ns = netns_of.get(machine, machine)
        there = processes.setdefault(ns, [])
        served = _served_ports(there)
        words = tuple(f"{protocol}:{port}" for protocol, port in sorted(ports) if (protocol, port) not in served)
        if words:
            there.append(_server(there, ns, machine, words))
            yield there[-1]


def _served_ports(processes: Iterable[Process]) -> frozenset[tuple[str, int]]:
    """The ports at which labctl's own servers listen on all addresses."""
    words = (item.command[2:] for item in processes if item.command[:1] == (SERVE,))
    parts = (word.split(":") for ports in words for word in ports)
    return frozenset((one[0], int(one[1])) for one in parts if len(one) == 2)


def health_checks(state: ClusterState, lab: Lab) -> Iterator[Resource]:
    """kube-proxy's HTTP servers on each node: its own health, and one for each healthCheckNodePort.

    The number of local endpoints is part of the command, so a change of the endpoints restarts the process.
    """
    services = [one for one in state.cluster.services if _has_health_check(one)]
    counts = _ready_endpoints(state.cluster) if services else {}
    machines = {one.name for one in lab.machines}
    addresses: dict[str, list[IP]] = {}
    for item in lab.plan if services else ():
        if isinstance(item, Address):
            addresses.setdefault(item.ns, []).append(item.addr.ip)
    for node in state.cluster.nodes:
        if node.name in machines:
            config = proxy_config(state, node, addresses.get(node.name, ()))
            words = []
            for one in services:
                number = len(counts.get((str(one), node.name), ()))
                where = _served_at(config, one)
                words += [] if where is None else [f"{one}:{one.health_check_node_port}:{number}{where}"]
            command = ("healthcheck", str(HEALTHZ_PORT), *words)
            yield Process(node.name, KUBE_PROXY, command, why=kube_proxy_reasons.HEALTH)


def _served_at(config: ProxyConfig, service: Service) -> str | None:
    """The addresses at which a node answers health checks of a Service, as the program takes them: "" for all, None for
    nowhere. In mode nftables these are the addresses of nodePorts, by default only the main one."""
    if config.nft is None:
        return ""
    found: list[str] = []
    for version in sorted({ip.version for ip in service.cluster_ips}):
        addresses = node_port_addresses(config, version)
        if addresses is None:
            return ""
        found += map(str, addresses)
    return f"@{','.join(found)}" if found else None


def _ready_endpoints(cluster: Cluster) -> dict[tuple[str, str], set[IP]]:
    """The ready endpoints of each Service on each node, in the Service's first address family: in each family, a
    separate kube-proxy counts. An address with several ports counts once.

    Source: `LocalReadyEndpoints` in kubernetes pkg/proxy/endpoints.go, 1.28 to 1.36.
    """
    versions = {str(one): one.cluster_ips[0].version if one.cluster_ips else 4 for one in cluster.services}
    found: dict[tuple[str, str], set[IP]] = {}
    for one in cluster.slices:
        name = f"{one.namespace}/{one.service}"
        if one.ports and versions.get(name) == one.version:
            for at in one.endpoints:
                if at.ready:
                    found.setdefault((name, at.node), set()).add(at.address)
    return found


def _endpoints(cluster: Cluster) -> Iterator[tuple[IP, Protocol, int]]:
    """Each endpoint of a Service with the protocol and the port at which it is reached."""
    services = {(one.namespace, one.name) for one in cluster.services}
    for one in cluster.slices:
        if (one.namespace, one.service) in services:
            for at in one.ports:
                yield from ((endpoint.address, at.protocol, at.port) for endpoint in one.endpoints)


def _has_health_check(service: Service) -> bool:
    """Whether kube-proxy serves the Service's healthCheckNodePort."""
    is_local = service.type == "LoadBalancer" and service.external_policy == "Local"
    return is_local and bool(service.health_check_node_port)


def _server(there: Iterable[Process], ns: str, machine: str, words: tuple[str, ...]) -> Process:
    """The process of a pod's server, beside those that are there; inside the pod's sandbox if it has one."""
    names = {item.name for item in there}
    inside = SANDBOX_PROCESS if SANDBOX_PROCESS in names and ns == machine else None
    name = BACKEND if ns == machine else f"{machine}-{BACKEND}"
    while name in names:
        name += "-2"
    return Process(ns, name, (SERVE, machine, *words), inside=inside, why=kube_proxy_reasons.BACKEND)

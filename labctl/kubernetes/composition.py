"""Kubernetes on top of a model's lab: the cluster that its machines make, and what the components add. Pure.

```text
 Declared (the scenario, manifests) --+
                                      +--> ClusterState --> kube-proxy, backends, policies, ... --> Resources --+
 Lab of the model (nodes, pods) ------+                                                                        +--> Lab
                                      +------------------------------------------------------------------------+
```

The model knows nothing of it. So every component works on every model, and a lab without these keys is unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

from labctl.core.iptables import FirewallRule
from labctl.core.resources import (
    IP,
    Address,
    Chain,
    Interface,
    Link,
    Net,
    Plan,
    Resource,
    in_creation_order,
    joined_reasons,
)
from labctl.core.scenario_types import Check, Lab, Machine, Scenario, VirtualAddress
from labctl.kubernetes.api.api_objects import Cluster, Node, Service
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.declared import Declared
from labctl.kubernetes.api.policy_objects import ContainerPort, Namespace, Pod
from labctl.kubernetes.ingress import http_load_balancer
from labctl.kubernetes.ingress.http_load_balancer import http_load_balancers
from labctl.kubernetes.ingress.ingress_rules import load_balancers
from labctl.kubernetes.policies.model_checks import checks_with_policies
from labctl.kubernetes.policies.policy_engine import policy_chains, policy_problems, without_replaced
from labctl.kubernetes.services import address_choice
from labctl.kubernetes.services.backends import backend_processes, health_checks
from labctl.kubernetes.services.endpoint_slices import endpoint_slices
from labctl.kubernetes.services.kube_proxy_nodes import kube_proxy, kube_proxy_problems
from labctl.kubernetes.services.load_balancer import load_balancer
from labctl.kubernetes.validation.attached_pods import attached_pod_problems
from labctl.models.lib.kubernetes import ClusterDefaults

BUILT_IN = frozenset(("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"))
FIRST_JUMPS = ("cali-", "KUBE-ROUTER-")  # policy engines keep the jumps to these chains before those of kube-proxy


def compose(lab: Lab, scenario: Scenario, defaults: ClusterDefaults | None = None) -> Lab:
    """The lab with its Services, policies and so on. Without any, the lab as it is.

    Raises ValueError for a configuration of kube-proxy that kube-proxy refuses.
    """
    declared: Declared | None = scenario.kubernetes
    if declared is None:
        return lab
    state = cluster_state(lab, scenario, declared, defaults or ClusterDefaults())
    state = with_http_balancers(state, declared, lab)
    state = replace(
        state,
        problems=(
            *state.problems,
            *attached_pod_problems(state, lab),
            *kube_proxy_problems(state, lab),
            *policy_problems(state, lab),
        ),
    )
    added: list[Resource] = []
    machines: list[Machine] = []
    checks: list[Check] = []
    for item in _components(state, lab):
        if isinstance(item, Machine):
            machines.append(item)
        elif isinstance(item, Check):
            checks.append(item)
        else:
            added.append(item)
    return replace(
        lab,
        plan=merge(without_replaced(lab.plan, state, lab), added),
        machines=(*lab.machines, *machines),
        checks=(*checks_with_policies(lab.checks, state), *checks),
        kubernetes=state,
        warnings=(*lab.warnings, *declared.warnings),
        virtual_addresses=(*lab.virtual_addresses, *virtual_addresses(state)),
    )


def _components(state: ClusterState, lab: Lab) -> Iterator[Resource | Machine | Check]:
    """What the components of the cluster add to the lab, each in its own module."""
    if state.cluster.services:
        yield from kube_proxy(state, lab.plan)
        yield from backend_processes(state, lab)
        yield from health_checks(state, lab)
        yield from load_balancer(state, lab)
    if state.http_balancers:
        yield from http_load_balancers(state, lab)
    yield from policy_chains(state, lab)


def merge(plan: Plan, added: Iterable[Resource]) -> Plan:
    """The plan with more objects. In a built-in chain the added rules come first, as a component inserts them, but for
    the jumps that a policy engine keeps at the top. Another object with the same key is replaced."""
    new: dict[tuple[Any, ...], Resource] = {}
    for item in added:
        key = item.key
        if isinstance(item, Chain) and isinstance(earlier := new.get(key), Chain):
            item = replace(item, rules=earlier.rules + item.rules, **joined_reasons(earlier, item))
        new[key] = item
    kept = []
    for item in plan:
        other = new.get(item.key)
        if other is None:
            kept.append(item)
        elif isinstance(item, Chain) and isinstance(other, Chain) and item.name in BUILT_IN:
            ours = tuple(one for one in other.rules if one not in item.rules)
            new[item.key] = replace(item, rules=ours + item.rules, **joined_reasons(other, item))
    return in_creation_order((*kept, *map(_in_order, new.values())))


def _in_order(item: Resource) -> Resource:
    """A built-in chain with the rules of policy engines at their places: jumps first, Felix's other rules last."""
    if not isinstance(item, Chain) or item.name not in BUILT_IN:
        return item

    def place(one: FirewallRule) -> int:
        if one.target is not None and one.target.startswith(FIRST_JUMPS):
            return 0
        return 2 if any(word.startswith("cali:") for word in one.args) else 1

    return replace(item, rules=tuple(sorted(item.rules, key=place)))


def cluster_state(lab: Lab, scenario: Scenario, declared: Declared, defaults: ClusterDefaults) -> ClusterState:
    """The state of the cluster: the lab's nodes and pods, and the declared objects with all their addresses."""
    nodes = tuple(
        Node(one.name, internal_ips=one.addresses[:1], zone=declared.zones.get(one.name, ""))
        for one in lab.machines
        if one.role == "node"
    )
    pods = tuple(_pods(lab, scenario))
    own = getattr(scenario.options, "service_cidr", None)  # an option of the model
    cidrs = declared.service_cidrs or (() if own is None else (own,))
    if not cidrs:
        found = address_choice.service_cidr(defaults.service_cidrs, _networks(lab))
        cidrs = () if found is None else (found,)
    services = address_choice.with_addresses(
        declared.services,
        cidrs,
        load_balancer_ranges(lab),
        (ip for one in lab.machines for ip in one.addresses),
        proxied=defaults.load_balancer == "Proxy",
    )
    slices = (*declared.slices, *endpoint_slices(services, pods, declared.zones))
    namespaces = {one.namespace: Namespace(one.namespace) for one in pods}
    namespaces |= {one.name: one for one in declared.namespaces}
    option = defaults.cidr_option
    cluster_cidr = getattr(scenario.options, option, None) if option else None
    return ClusterState(
        Cluster(nodes, services, slices),
        pods,
        namespaces,
        declared.policies,
        cluster_policies=declared.cluster_policies,
        service_cidrs=cidrs,
        cluster_cidrs=() if cluster_cidr is None else (cluster_cidr,),
        kube_proxy=declared.kube_proxy,
        problems=tuple(address_choice.problems(services, cidrs)),
        policy_engine=declared.policy_engine,
        subdomains=dict(declared.subdomains),
    )


def with_http_balancers(state: ClusterState, declared: Declared, lab: Lab) -> ClusterState:
    """The state with the load balancers of Ingresses and Gateways, and what is wrong with these."""
    found, problems = load_balancers(state.cluster, declared.ingresses, declared.gateways, declared.http_routes)
    if not found and not problems:
        return state
    taken = {ip for one in lab.machines for ip in one.addresses}
    taken |= {ip for one in state.cluster.services for ip in (*one.load_balancer_ips, *one.proxied_ips)}
    found = http_load_balancer.with_addresses(found, load_balancer_ranges(lab), taken)
    state = replace(state, http_balancers=found)
    return replace(state, problems=(*state.problems, *problems, *http_load_balancer.problems(state, lab)))


def _pods(lab: Lab, scenario: Scenario) -> Iterator[Pod]:
    machines = {one.name: one for one in lab.machines}
    names = dict(scenario.kubernetes.pod_names)
    for node in scenario.nodes:
        settings_of = dict(node.settings)
        for machine in node.pods:
            settings = settings_of.get(machine)
            containers = getattr(settings, "containers", ())
            ports = tuple(
                ContainerPort(one.name, one.port, "UDP" if one.protocol == "udp" else "TCP")
                for container in containers
                for one in container.ports
            )
            yield Pod(
                getattr(settings, "namespace", "default"),
                names.get(machine, machine),
                machines[machine].addresses if machine in machines else (),
                dict(getattr(settings, "labels", ())),
                ports,
                node.name,
                machine=machine,
            )


def load_balancer_ranges(lab: Lab) -> tuple[Net, ...]:
    """Where addresses of load balancers come from: the range of the machine `internet`. None in a lab without one."""
    found = (item.addr.network for item in lab.plan if isinstance(item, Address) and item.ns == "internet")
    return tuple(one for one in found if not one.is_loopback)[:1]


def _networks(lab: Lab) -> set[Net]:
    """Every network of the lab in which a machine has an address, and the addresses themselves."""
    machines = {ip_network(ip) for one in lab.machines for ip in one.addresses}
    return machines | {item.addr.network for item in lab.plan if isinstance(item, Address)}


def virtual_addresses(state: ClusterState) -> Iterator[VirtualAddress]:
    """The addresses of the Services, with the pods that a packet to them may reach; and the host names of Ingresses and
    HTTPRoutes, with the addresses of their load balancers."""
    machine_of: dict[IP, str] = {ip: pod.machine for pod in state.pods for ip in pod.ips}
    reached: dict[tuple[str, str], list[str]] = {}
    elsewhere: dict[tuple[str, str], list[IP]] = {}
    split: dict[int, tuple[list[str], list[IP]]] = {}  # the slices of many Services often have the same endpoints
    for one in state.cluster.slices:
        if id(one.endpoints) not in split:
            addresses = [each.address for each in one.endpoints]
            machines_there = [machine_of[ip] for ip in addresses if ip in machine_of]
            split[id(one.endpoints)] = machines_there, [ip for ip in addresses if ip not in machine_of]
        names, others = split[id(one.endpoints)]
        reached.setdefault((one.namespace, one.service), []).extend(names)
        elsewhere.setdefault((one.namespace, one.service), []).extend(others)
    for service in state.cluster.services:
        ips = (*service.cluster_ips, *service.load_balancer_ips, *service.proxied_ips, *service.external_ips)
        if ips:
            machines = tuple(dict.fromkeys(reached.get((service.namespace, service.name), ())))
            ports = tuple(
                f"{one.port}{f':{one.node_port}' if one.node_port else ''}/{one.protocol}" for one in service.ports
            )
            no_pods = tuple(dict.fromkeys(elsewhere.get((service.namespace, service.name), ())))
            yield VirtualAddress(service_names(service), ips, machines, service.type, ports, no_pods)
    hosts: set[str] = set()
    for balancer in state.http_balancers:
        new = tuple(host for host in balancer.hosts if host not in hosts)
        hosts |= {*new}
        if new and balancer.address:
            ports = tuple(f"{port}/TCP" for port, _ in balancer.tables)
            services = (one.service for one in balancer.backends)
            machines = tuple(dict.fromkeys(name for key in services for name in reached.get(key, ())))
            yield VirtualAddress(new, (ip_address(balancer.address),), machines, balancer.kind, ports)


def service_names(service: Service) -> tuple[str, ...]:
    """The names of a Service for people and for /etc/hosts, as cluster DNS has them; the short one in `default`."""
    full = f"{service.name}.{service.namespace}"
    short = (service.name,) if service.namespace == "default" else ()
    return (*short, full, f"{full}.svc", f"{full}.svc.cluster.local")


def pod_devices(lab: Lab) -> dict[str, Interface]:
    """The node's end of each pod's cable, by the pod's name in the lab; a pod without one is left out."""
    pods = {one.name: one.on for one in lab.machines if one.role == "pod"}
    found: dict[str, Interface] = {}
    for item in lab.plan:
        if isinstance(item, Link) and item.peer is not None and item.peer.ns == pods.get(item.at.ns):
            found.setdefault(item.at.ns, item.peer)
    return found

r"""Pods connected by real CNI plugins: labctl is the container runtime and calls the plugins of a network list.

`labctl plan cni --as shell` shows every command that builds it.

      a           b                                        c
      | eth0      | eth0     made by plugins               | eth0
    +-|---- node1 |---------+                     +--------|-- node2 --+
    |  veth..    veth..     |   a list, such as   |      veth..        |
    |   +--- cni0 ---+      |   [bridge, portmap] |      cni0          |
    |   10.244.0.1/24       |   runs in the node  |  10.244.1.1/24     |
    |  eth0 192.168.1.11    |                     |  eth0 192.168.1.12 |
    +---------|-------------+                     +---------|----------+
              |                                             |
       +----- fabric: a wire, its gateway 192.168.1.1 ------+
              | eth0 192.168.1.254       |
             vm                       internet 203.0.113.1

labctl plans only what is outside the nodes: a plain Ethernet, nodes with routes to each other's ranges, and
namespaces for the pods. The executables of the network list make the rest, and labctl calls them as a kubelet's
runtime does. So a list is tested as it is, with the same plugins as in a cluster. labctl then observes and stores
what the plugins made, and expects it like everything planned, so that `labctl status` reports drift in it. Only a
plugin knows which address a pod gets, so a plan shows none: `labctl show`, /etc/hosts and the checks take the
addresses from the plugins' results.

Each node has a separate range of pod addresses. In a text of the list, `{pod_cidr}` is the node's range, `{node}`
its name and `{node_ip}` its address. A plugin that declares the capability `ipRanges` gets the range as well.

What is claimed about pods follows the list: not every list makes a network that Kubernetes would accept. If the text of
the list says that a node masquerades (`ipMasq`), has no address in the pods' network, or gives its pods the same
addresses as another node, no check claims more than that list can do.

Follows SPEC.md 1.1.0 of containernetworking/cni (versions 0.1.0 to 1.1.0), and its libcni where the text leaves a
choice; CNI_ARGS and the burst of bandwidth are as containerd sets them, ipRanges is offered as CRI-O does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

from labctl.cni.conflist import Conflist, parse_config_list
from labctl.cni.list_effects import ListEffects, list_effects
from labctl.core.address_use import OverlapRefusal
from labctl.core.fidelity import approximation, faithful, skipped
from labctl.core.options import address, cidr, option
from labctl.core.resources import Attachment, Interface, Resource, Route, Sysctl
from labctl.core.scenario_types import Check, Machine, PublishedPort, Scenario, ScenarioNode, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, explained
from labctl.models.lib import azure, kubernetes, masq_agent, pods, primitives
from labctl.models.lib.masq_agent import MasqAgent

FOLLOWS = "CNI 1.1.0 (versions 0.1.0 to 1.1.0), with the plugins of this machine"
MACHINES = ("nodes", "pods")
PARTS = (
    faithful("the order of plugins, their environment, input and prevResult; ADD, CHECK, DEL, GC, STATUS, VERSION"),
    faithful("links, addresses, routes, settings, rules of iptables and nft in nodes and pods: real plugins make them"),
    faithful("ip-masq-agent of June 2026: every key of its configuration and every flag that shapes its chains"),
    approximation(
        "the plugins' files",
        "dataDir of host-local and tuning is a folder of the lab for each node, whatever the list sets",
    ),
    approximation("a pod's id", "is its name, so that the names of chains are always the same"),
    approximation("loopback", "is set up by labctl; older runtimes ran a plugin for it"),
    *pods.PARTS,
    skipped("DNS of the results, IPv6 between nodes"),
    skipped("capabilities other than portMappings, bandwidth, ips, mac and ipRanges"),
)
_KUBELET = Component(
    "the set-up of a Kubernetes node",
    Source("kubernetes/website", "content/en/docs/setup/production-environment/container-runtimes.md"),
)
_HOST = Component("the node's own set-up (DHCP)", Source("labctl", "labctl/models/cni.py"))
_ROUTE_CONTROLLER = Component(
    "the route controller",
    Source("kubernetes/kubernetes", "staging/src/k8s.io/cloud-provider/controllers/route/route_controller.go"),
)
_CALLS_IPTABLES = _KUBELET.why(
    "Frames between two pods on a bridge of {ns} pass its iptables too: Kubernetes requires it, for Services and"
    " policies."
)
_NODE_ROUTE = _ROUTE_CONTROLLER.why(
    "It leads packets for {dst}, the range of the pods of {via_machine}, to that node: the network below knows no pods."
)
_ADDRESS = _HOST.why("It is the address of {ns} in the network of the nodes.")
_DEFAULT = _HOST.why("{ns} sends everything that it has no other route for to the gateway {via}.")
_ATTACHMENT = Component("the container runtime (CNI)", Source("containernetworking/cni", "SPEC.md", "1.1.0")).why(
    "The plugins of the network list {network} connect the pod {pod} to {node}: they make {dev}, its addresses and"
    " routes, and what the node needs for it. labctl calls them, as a kubelet's runtime does."
)
DEFAULT_BURST_BITS = 2**32 - 1  # bits, the value of containerd if only a rate is given
FIRST_NODE_OFFSET = 11  # node1 has the eleventh address of its subnet
MAX_PODS = 1000  # on one node


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a cni scenario."""

    conflist: Conflist | None = option(None, "the CNI network list that connects the pods")
    cni_path: str = option("", "folders of the plugins, separated by colons (default: CNI_PATH, or the usual ones)")
    pod_cidr: IPv4Network = option(cidr("10.244.0.0/16"), "addresses of all pods; each node gets a part of it")
    node_prefix: int = option(24, "prefix length of each node's part of pod_cidr", minimum=16, maximum=29)
    node_cidr: IPv4Network = option(cidr("192.168.1.0/24"), "the subnet of the nodes; node1 has the 11th address")
    internet_cidr: IPv4Network = option(cidr("203.0.113.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("203.0.113.50"), "public source address of outgoing traffic (SNAT by the fabric)"
    )
    masquerade: bool | None = option(
        None, "ip-masq-agent on each node masquerades what leaves the pods' ranges (default: unless the list does)"
    )
    ip_masq_agent: MasqAgent | None = option(
        None, "ip-masq-agent with a separate configuration: true, or a section of options", form="section"
    )
    mtu: int = option(1500, "MTU of the links between machines", minimum=576, maximum=9000)


@dataclass(frozen=True, slots=True)
class Container(pods.PodSettings):
    """The settings of a pod in a scenario. The plugins that declare the capability of a setting get it."""

    host_ports: tuple[PublishedPort, ...] = option(
        (), "host ports: NODE_PORT:POD_PORT (capability portMappings)", old=("ports",)
    )
    ips: tuple[IPv4Address | IPv6Address, ...] = option((), "addresses to request (capability ips)")
    mac: str | None = option(None, "the MAC address to request (capability mac)", form="mac")
    ingress: int | None = option(
        None, "limit of traffic to the pod, in bits per second (capability bandwidth)", form="rate"
    )
    egress: int | None = option(
        None, "limit of traffic from the pod, in bits per second (capability bandwidth)", form="rate"
    )


def compile(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The Ethernet, the internet, `vm`, and nodes with pods for the plugins to attach."""
    options: Options = scenario.options
    yield from _ethernet(scenario)
    yield from azure.internet_uplink(options.internet_cidr, options.public_ip, options.mtu)
    agent = _agent(scenario)
    for number, (node, range_) in enumerate(zip(scenario.nodes, _ranges(scenario), strict=True)):
        node_address = _node_address(options, number)
        yield Machine(node.name, "node", (node_address,))
        yield from primitives.node_netns(node.name)
        yield from _attach_nic(node.name, node_address, options)
        # the kernel's own values, as on a node without other settings
        yield from primitives.forwarding_sysctls(node.name, True, rp_filter=0, send_redirects=True)
        yield Sysctl(node.name, "net.bridge.bridge-nf-call-iptables", "1", why=_CALLS_IPTABLES)
        if agent is not None:
            yield from agent.chains(node.name)
        yield from _pod_attachments(node, range_, node_address, options)
        yield from pods.pause_and_containers(node)
    yield Machine("vm", "vm", (_vm_address(options),))
    yield from primitives.netns("vm")
    yield from _attach_nic("vm", _vm_address(options), options)
    yield from primitives.forwarding_sysctls("vm", False, rp_filter=0)


def _agent(scenario: Scenario) -> MasqAgent | None:
    """The ip-masq-agent of every node: with its own configuration, or one that exempts the pods' ranges and nothing
    else, unless the list masquerades itself."""
    options: Options = scenario.options
    if options.ip_masq_agent is not None:
        return options.ip_masq_agent if options.ip_masq_agent.enabled else None
    if options.masquerade if options.masquerade is not None else not _masquerades(scenario):
        return MasqAgent(non_masquerade_cidrs=_exempt_ranges(scenario), masq_link_local=True, random_fully=False)
    return None


def checks(scenario: Scenario) -> Iterator[Check]:
    """CHECK of the plugins, and Kubernetes' own rules, which the list must fulfil."""
    if scenario.pods:
        yield Check(sentence("CHECK of the plugins succeeds for every pod"), "cni", origin="model")
    yield from _network_checks(scenario)
    yield from pods.checks(scenario)


def _network_checks(scenario: Scenario) -> Iterator[Check]:
    """Kubernetes' own rules, as far as the list can fulfil them."""
    effects = _effects(scenario)
    with_pods = [node for node in scenario.nodes if node.pods]
    meeting = [node for node in with_pods if effects[node.name].pods_meet]
    routed = _is_routed(scenario, effects)
    if len(with_pods) < 2 or (routed and not _masquerades(scenario)):
        say = sentence("every pod reaches every pod and is seen with its own address")
        meshes = [tuple(pod for node in meeting for pod in node.pods)]
    else:
        say = sentence("pods of one node reach each other and are seen with their own addresses")
        meshes = [node.pods for node in meeting]
    groups = tuple((members, members) for members in meshes if len(members) > 1)
    if groups:
        yield Check(say, "mesh", groups=groups, origin="model")
    if routed and _masquerades(scenario) and len(with_pods) > 1:
        source, target = with_pods[0], with_pods[1].pods[0]
        see = See(Interface(target, "eth0"), src=source.name, dst=target)
        say = sentence("pods of another node are seen with their node's address, because the list masquerades")
        yield Check(say, "ping", source.pods[0], target, sees=(see,), origin="model")
    reached = tuple(((node.name,), node.pods) for node in with_pods if effects[node.name].node_reaches)
    if reached:
        yield Check(sentence("each node reaches its own pods"), "mesh", groups=reached, origin="model")


def _is_routed(scenario: Scenario, effects: dict[str, ListEffects]) -> bool:
    """Whether packets between pods of different nodes find their way: the nodes have routes to each other's ranges."""
    ranges = zip(scenario.nodes, _ranges(scenario), strict=True)
    return all(effects[node.name].routed and effects[node.name].is_within(range_) for node, range_ in ranges)


def refuse(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    """Errors for a missing list, small or overlapping ranges, and settings that no plugin of the list supports."""
    options: Options = scenario.options
    nodes = len(scenario.nodes)
    if options.conflist is None:
        yield "conflist", "scenario: 'conflist' is missing", "the network list: a mapping, or the name of its file"
    else:
        yield from _refuse_undeclared_capabilities(scenario, options.conflist)
        config_list = options.conflist.config_list
        name = f"the list {config_list.name} ({', '.join(config_list.types)})"
        if not list_effects(config_list, options.pod_cidr).creates_device:
            hint = "a plugin such as bridge or ptp creates it; labctl sets lo up without a plugin"
            yield "conflist", f"{name} gives a pod no eth0", hint
        for range_ in list_effects(config_list, options.pod_cidr).node_ranges:
            for key in ("node_cidr", "internet_cidr"):
                if isinstance(range_, IPv4Network) and range_.overlaps(getattr(options, key)):
                    overlap = OverlapRefusal(
                        f"{name} gives its bridge an address of {range_}, which overlaps {key} {getattr(options, key)}"
                    )
                    yield "conflist", overlap, f"give each a separate range, such as {key}: 172.30.0.0/24"
        if "sbr" in config_list.types:
            hint = "it is made for a second device; labctl attaches one to each pod"
            yield "conflist", f"{name} leaves a pod without a route: sbr moves those of its only device", hint
    yield from masq_agent.refuse(options.ip_masq_agent, "ip_masq_agent")
    if options.ip_masq_agent is not None and options.masquerade is not None:
        what = "masquerade and ip_masq_agent both say whether ip-masq-agent runs"
        yield "masquerade", what, "remove masquerade: the section has `enabled`"
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, options.node_prefix, nodes)
    capacity = options.node_cidr.num_addresses - FIRST_NODE_OFFSET - 2
    if nodes > capacity:
        what = f"node_cidr {options.node_cidr} has addresses for {max(capacity, 0)} nodes, but there are {nodes}"
        yield "node_cidr", what, f"a /{primitives.prefix_length_for(nodes + FIRST_NODE_OFFSET + 2)} is large enough"
    yield from kubernetes.refuse_pod_counts(scenario, MAX_PODS)
    yield from pods.refuse(scenario)
    if options.public_ip not in options.internet_cidr:
        yield "public_ip", f"public_ip {options.public_ip} is not in internet_cidr {options.internet_cidr}", ""
    range_keys = ("node_cidr", "pod_cidr", "internet_cidr")
    yield from primitives.refuse_overlaps({name: getattr(options, name) for name in range_keys})


def _refuse_undeclared_capabilities(scenario: Scenario, conflist: Conflist) -> Iterator[tuple[str, str, str]]:
    capabilities = conflist.capabilities
    for node in scenario.nodes:
        for name, pod in node.settings:
            for key, capability in _CAPABILITY_OF_KEY.items():
                if getattr(pod, key) not in (None, ()) and capability not in capabilities:
                    what = f"{name}: no plugin of the list declares the capability {capability}, so {key} has no effect"
                    hint = f"capabilities: {{{capability}: true}} in the plugin that supports it"
                    yield f"nodes/{node.name}/pods/{name}/{key}", what, hint


_CAPABILITY_OF_KEY = {
    "host_ports": "portMappings",
    "ips": "ips",
    "mac": "mac",
    "ingress": "bandwidth",
    "egress": "bandwidth",
}


def _node_address(options: Options, number: int) -> IPv4Address:
    return primitives.address_at(options.node_cidr, FIRST_NODE_OFFSET + number)


def _vm_address(options: Options) -> IPv4Address:
    return primitives.address_at(options.node_cidr, -2)


def _ranges(scenario: Scenario) -> list[IPv4Network]:
    options: Options = scenario.options
    return kubernetes.node_pod_ranges(options.pod_cidr, options.node_prefix, len(scenario.nodes))


def _node_values(node: ScenarioNode, range_: IPv4Network, node_address: IPv4Address) -> dict[str, str]:
    """The values of the list's placeholders."""
    return {"pod_cidr": str(range_), "node": node.name, "node_ip": str(node_address)}


def _effects(scenario: Scenario) -> dict[str, ListEffects]:
    """What the list does, by node."""
    options: Options = scenario.options
    assert options.conflist is not None
    found = {}
    for number, (node, range_) in enumerate(zip(scenario.nodes, _ranges(scenario), strict=True)):
        text = options.conflist.for_node(_node_values(node, range_, _node_address(options, number)))
        found[node.name] = list_effects(parse_config_list(text), range_)
    return found


def _masquerades(scenario: Scenario) -> bool:
    """Whether the list masquerades; it is the same on all nodes, except for addresses."""
    options: Options = scenario.options
    assert options.conflist is not None
    return list_effects(options.conflist.config_list, options.pod_cidr).masquerades


def _exempt_ranges(scenario: Scenario) -> tuple[IPv4Network, ...]:
    """The ranges of pods, to which packets keep their source address: pod_cidr, and those that the list has besides."""
    options: Options = scenario.options
    named = [
        item for effects in _effects(scenario).values() for item in effects.ranges if isinstance(item, IPv4Network)
    ]
    return tuple(dict.fromkeys((options.pod_cidr, *(item for item in named if not item.subnet_of(options.pod_cidr)))))


def _ethernet(scenario: Scenario) -> Iterator[Resource | Machine]:
    """A plain Ethernet with a gateway. Every node has routes to the other nodes' ranges, unless the list uses them."""
    options: Options = scenario.options
    gateway = primitives.with_prefix_length(options.node_cidr.network_address + 1, options.node_cidr.prefixlen)
    names = [node.name for node in scenario.nodes]
    yield Machine("fabric", "fabric", (gateway.ip, options.public_ip))
    yield from primitives.ethernet_segment("fabric", [*names, "vm"], mtu=options.mtu, gateway=gateway)
    ranges = _ranges(scenario)
    effects = _effects(scenario)
    if any(effects[name].overlaps(options.pod_cidr, range_) for name, range_ in zip(names, ranges, strict=True)):
        return  # the list gives a node addresses of another node's range: a route to that would hide its own pods
    for node in names:
        for number, (other, range_) in enumerate(zip(names, ranges, strict=True)):
            if other != node:
                yield Route(node, range_, _node_address(options, number), "eth0", why=_NODE_ROUTE)


def _attach_nic(name: str, machine_address: IPv4Address, options: Options) -> Iterator[Resource]:
    address = primitives.with_prefix_length(machine_address, options.node_cidr.prefixlen)
    yield from explained(_ADDRESS, primitives.addresses(Interface(name, "eth0"), address))
    yield primitives.default_route(name, options.node_cidr.network_address + 1, why=_DEFAULT)


def _pod_attachments(
    node: ScenarioNode, range_: IPv4Network, node_address: IPv4Address, options: Options
) -> Iterator[Resource | Machine]:
    """The namespaces of pods, each with the network list with which the node's plugins attach it."""
    assert options.conflist is not None
    settings = dict(node.settings)
    text = options.conflist.for_node(_node_values(node, range_, node_address))
    capabilities = options.conflist.capabilities
    for name in node.pods:
        yield Machine(name, "pod", (), node.name)
        yield from primitives.container_netns(name)
        args = {key: value for key, value in _capability_args(settings.get(name), range_) if key in capabilities}
        yield Attachment(name, node.name, text, json.dumps(args), path=options.cni_path, why=_ATTACHMENT)


def _capability_args(pod: Container | None, range_: IPv4Network) -> Iterator[tuple[str, Any]]:
    """The value for each capability."""
    yield "ipRanges", [[{"subnet": str(range_)}]]
    if pod is None:
        return
    if pod.host_ports:
        yield "portMappings", [_port_mapping(port) for port in pod.host_ports]
    if pod.ips:
        yield "ips", [f"{ip}/{range_.prefixlen if ip in range_ else ip.max_prefixlen}" for ip in pod.ips]
    if pod.mac is not None:
        yield "mac", pod.mac
    limits: dict[str, int] = {}
    for direction in ("ingress", "egress"):
        if (rate := getattr(pod, direction)) is not None:
            limits |= {f"{direction}Rate": rate, f"{direction}Burst": DEFAULT_BURST_BITS}
    if limits:
        yield "bandwidth", limits


def _port_mapping(port: PublishedPort) -> dict[str, Any]:
    host_ip = {"hostIP": str(port.address)} if port.address is not None else {}
    return {"hostPort": port.host_port, "containerPort": port.port, "protocol": port.protocol, **host_ip}

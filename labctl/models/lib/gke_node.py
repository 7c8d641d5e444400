"""A node of GKE as the plugin ptp, netd and ip-masq-agent set it up, for both kinds of clusters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.options import address, cidr, option
from labctl.core.resources import Address, Port, Resource, Route, Rule, Sysctl
from labctl.core.scenario_types import Check, Machine, Node, Scenario
from labctl.models.lib import cloud_vpc, gcp, kubernetes, primitives
from labctl.models.lib import pods as pods_

LINK_LOCAL = IPv4Network("169.254.0.0/16")
RFC1918 = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
RESERVED = (
    "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "240.0.0.0/4",
)  # fmt: skip
KEEPS = {"rfc1918": RFC1918, "reserved": (*RFC1918, *map(IPv4Network, RESERVED))}
HAIRPIN = 0x4000  # the mark of packets that kube-proxy masquerades
LOCAL_RULES, HAIRPIN_RULE, OWN_RULE, POLICY_RULE = 70, 74, 75, 76  # priorities of netd's rules
LOCAL_TABLE, CUSTOM_TABLE = 255, 1


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """Options of both kinds of clusters."""

    pod_cidr: IPv4Network = option(cidr("10.4.0.0/14"), "addresses of all pods; each node gets a part of it")
    node_cidr: IPv4Network = option(cidr("10.128.0.0/20"), "the subnet of the nodes; node1 has the second address")
    vm_cidr: IPv4Network = option(cidr("10.132.0.0/20"), "the subnet of `vm`; it may be the same as node_cidr")
    peer_cidr: IPv4Network = option(cidr("10.200.0.0/20"), "the subnet of `peer`, in a peered VPC")
    internet_cidr: IPv4Network = option(cidr("8.8.8.0/24"), "the internet's range; its first address is `internet`")
    public_ip: IPv4Address = option(
        address("8.8.8.50"), "public source address of outgoing traffic (SNAT by Cloud NAT)"
    )
    non_masquerade: str = option(
        "reserved",
        "destinations for which pods keep their addresses: private or all reserved ranges",
        choices=tuple(KEEPS),
    )
    mtu: int = option(1460, "MTU of the VPC and of pods", minimum=1300, maximum=8896)


def nics(scenario: Scenario) -> list[gcp.Nic]:
    """The nodes' network interfaces, with the first free addresses of their subnet."""
    subnet: IPv4Network = scenario.options.node_cidr
    first = subnet.network_address + gcp.FIRST
    return [gcp.Nic(node.name, first + number, subnet) for number, node in enumerate(scenario.nodes)]


def vm(options: ClusterOptions) -> gcp.Nic:
    """The network interface of `vm`: in a separate subnet, or at the end of the nodes' subnet."""
    own = primitives.within(options.vm_cidr, -3 if options.vm_cidr == options.node_cidr else gcp.FIRST)
    return gcp.Nic("vm", own, options.vm_cidr)


def peer(options: ClusterOptions) -> gcp.Nic:
    """The network interface of `peer`, a machine of another VPC."""
    return gcp.Nic("peer", options.peer_cidr.network_address + gcp.FIRST, options.peer_cidr)


def surroundings(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC, `vm`, `peer` and the internet."""
    options: ClusterOptions = scenario.options
    others = (vm(options), peer(options))
    yield Machine("fabric", "fabric", (options.node_cidr.network_address + 1, options.public_ip))
    yield from gcp.fabric([*nics(scenario), *others], options.mtu)
    yield from cloud_vpc.outside(options.internet_cidr, (options.public_ip,), options.mtu)
    yield from gcp.cloud_nat(options.public_ip)
    for nic in others:
        yield from cloud_vpc.beside(nic.name, nic.address)
        yield from gcp.plug(nic)
        yield from gcp.no_spoofing(nic)


def node(
    nic: gcp.Nic, node: Node, pods: IPv4Network, options: ClusterOptions, *, visible: bool = False
) -> Iterator[Resource | Machine]:
    """A node with its pods. With `visible`, even packets between two of them pass the VPC."""
    yield Machine(nic.name, "node", (nic.address, pods.network_address + 1))
    yield from primitives.netns(nic.name)
    yield from gcp.plug(nic)
    yield from primitives.forwarding(nic.name, True, rp_filter=1, devices=())
    yield Sysctl(nic.name, "net.ipv4.conf.eth0.rp_filter", "2" if visible else "1")
    yield Sysctl(nic.name, "net.ipv4.conf.eth0.send_redirects", "0")
    if visible:
        yield from _policy_routing(nic, pods)
    exempt = (LINK_LOCAL, *KEEPS[options.non_masquerade])
    yield from kubernetes.masq_agent(nic.name, exempt, random_fully=True)
    yield from _ptp(node, pods, options.mtu)
    yield from pods_.processes(node)


def _ptp(node: Node, pods: IPv4Network, mtu: int) -> Iterator[Resource | Machine]:
    """Pods in host-local's order, each with a veth pair. The node's ends all have the address of the gateway."""
    gateway, first = pods.network_address + 1, int(pods.network_address) + 2
    for number, (name, device) in enumerate(zip(node.pods, primitives.hashed("veth", 8, node.pods), strict=True)):
        own, inner, outer = IPv4Address(first + number), Port(name, "eth0"), Port(node.name, device)
        yield Machine(name, "pod", (own,), node.name)
        yield from primitives.endpoint(name)
        yield from primitives.veth(outer, inner, mtu=mtu, macs=(None, primitives.mac(name)))
        yield Address(inner, primitives.iface(own, pods.prefixlen), connected=False)
        yield Route(name, IPv4Network((int(gateway), 32)), dev="eth0", src=own)
        yield Route(name, pods, gateway, "eth0", src=own)
        yield Route(name, primitives.ANYWHERE, gateway, "eth0")
        yield from primitives.addresses(outer, primitives.iface(gateway, 32))
        yield Route(node.name, IPv4Network((int(own), 32)), dev=device, scope="host")


def _policy_routing(nic: gcp.Nic, pods: IPv4Network) -> Iterator[Resource]:
    """netd's policy routing, for intranode visibility: packets that did not come from the VPC go to it.

    So do packets between two pods of one node, which then come back. Exceptions are packets of the node itself and
    packets that kube-proxy marked; a mark on the connection identifies the answers to those.
    """
    node, veths = nic.name, IPv4Network((int(pods.network_address) + 1, 32))
    yield Route(node, primitives.ANYWHERE, nic.gateway, "eth0", CUSTOM_TABLE)
    for network in (IPv4Network("127.0.0.0/8"), LINK_LOCAL, veths, nic.only):
        yield Rule(node, LOCAL_RULES, LOCAL_TABLE, dst=network)
    yield Rule(node, HAIRPIN_RULE, mark=HAIRPIN, mask=HAIRPIN)
    yield Rule(node, OWN_RULE, iif="lo")
    yield Rule(node, POLICY_RULE, CUSTOM_TABLE, iif="eth0", invert=True)
    masks = "--nfmask 0x4000 --ctmask 0x4000"
    about = '-m comment --comment "redirect all traffic to {0} chain" -j {0}'
    before, after = "GCP-PREROUTING", "GCP-POSTROUTING"
    restore = f'-m comment --comment "restore the conn mark if applicable" -j CONNMARK --restore-mark {masks}'
    why = "save the conn mark only if hairpin bit (0x4000/0x4000) is set"
    save = f'-m mark --mark 0x4000/0x4000 -m comment --comment "{why}" -j CONNMARK --save-mark {masks}'
    yield primitives.chain(node, "mangle", before, restore)
    yield primitives.chain(node, "mangle", "PREROUTING", about.format(before))
    yield primitives.chain(node, "mangle", after, save)
    yield primitives.chain(node, "mangle", "POSTROUTING", about.format(after))


def checks(scenario: Scenario, *, visible: bool) -> Iterator[Check]:
    """Checks of the routers between pods of one node, Kubernetes' own rules, and what containers of a pod share."""
    ways = "three routers apart, because their packets pass the VPC" if visible else "one router apart"
    yield from kubernetes.one_node(scenario, f"pods of one node are {ways}", 61 if visible else 63)
    yield from kubernetes.kubernetes_rules(scenario)
    yield from pods_.checks(scenario)


def refuse(scenario: Scenario, length: int, most: int, *, fixed: bool) -> Iterator[tuple[str, str, str]]:
    """Errors for ranges that are too small or overlap, and for the reserved name `peer`.

    `length` is the prefix length of each node's range. `most` is the limit of pods on a node, `fixed` or an option.
    """
    options: ClusterOptions = scenario.options
    nodes = len(scenario.nodes)
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, length, nodes)
    yield from kubernetes.refuse_pods(scenario, most, fixed=fixed)
    more = options.vm_cidr == options.node_cidr
    need, held = nodes + more, options.node_cidr.num_addresses - gcp.KEPT
    if need > held:
        what = f"node_cidr {options.node_cidr} has {max(held, 0)} addresses, but {nodes} nodes need {need}"
        sum_ = f"{nodes}{' + 1 for vm' if more else ''}, and Google Cloud reserves {gcp.KEPT}"
        yield "node_cidr", what, f"{sum_}: a /{primitives.prefix_for(need + gcp.KEPT)} is large enough"
    yield from cloud_vpc.refuse_apart(options, "node_cidr", gcp.KEPT, "pod_cidr", "peer_cidr", "internet_cidr")
    yield from primitives.refuse_internet(options.internet_cidr, options.public_ip)
    yield from _refuse_names(scenario)
    for network in (LINK_LOCAL, *KEEPS[options.non_masquerade]):
        if options.internet_cidr.overlaps(network):
            what = f"internet_cidr {options.internet_cidr} overlaps {network}, where pods keep their addresses"
            yield "internet_cidr", what, "use a public range, such as 8.8.8.0/24"


def _refuse_names(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    names: Iterable[tuple[str, str]] = ((node.name, "nodes") for node in scenario.nodes)
    taken = [*names, *((pod, f"nodes/{node.name}") for node, pod in scenario.pods)]
    yield from ((at, "the name 'peer' is reserved for the machine in the peered VPC", "rename it") for name, at in taken
                if name == "peer")  # fmt: skip

"""A node of GKE as the plugin ptp, netd and ip-masq-agent set it up, for both kinds of clusters. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.core.address_use import OverlapRefusal
from labctl.core.options import address, cidr, option
from labctl.core.resources import Address, Interface, Resource, Route, Rule, Sysctl
from labctl.core.scenario_types import Check, Machine, Scenario, ScenarioNode
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, explained
from labctl.models.lib import cloud_vpc, cni_bridge, common_reasons, gcp, kubernetes, pods, primitives

_PTP = Component("the CNI plugin ptp", Source("containernetworking/plugins", "plugins/main/ptp/ptp.go", "1.1.1"))
_NETD = Component("netd", Source("GoogleCloudPlatform/netd", "pkg/config/config_policy_routing.go"))
_STRICT = _NETD.why("With 1, the default of a node: a packet must come by the device that leads back to its source.")
_LOOSE = _NETD.why(
    "Packets between two pods of {ns} come back by eth0 (intranode visibility): with 1, the kernel would drop them,"
    " because the route back to the pod is its cable."
)
_HOST_END = _PTP.why("It is the node's end of the cable of {peer_ns}: {ns} routes to each pod, and has no bridge.")
_POD_END = _PTP.why("It is the network card of the pod: its cable leads to {peer_ns}.")
_POD_ADDRESS = Component(
    "the CNI plugin host-local", Source("containernetworking/plugins", "plugins/ipam/host-local", "1.1.1")
).why(
    "It is the pod's address, the next free one of the range of its node. The kernel's route to the range is deleted:"
    " on the pod's cable is only the node."
)
_POD_GATEWAY = _PTP.why("The gateway {dst}, the first address of the node's range, is on the pod's cable.")
_POD_RANGE = _PTP.why("Packets to the pods of the same node ({dst}) go to the gateway too: the node routes them.")
_POD_DEFAULT = _PTP.why("The pod sends everything else to {via}, its node.")
_GATEWAY_ADDRESS = _PTP.why("{ns} has the address of the pods' gateway on each cable: here for {dev_machine}.")
_TO_POD = _PTP.why("It leads packets for {dst_machines} into the cable of this pod.")
_TABLE_ROUTE = _NETD.why("Table {table} has one way: to the VPC, {via}. Packets of pods take it even to a pod beside.")
_LOCAL_RULE = _NETD.why("Packets to {dst} are for {ns} itself: the kernel's table {table} comes first.")
_HAIRPIN_RULE = _NETD.why("Packets that kube-proxy has marked ({mark}) use the main table: they must not pass the VPC.")
_NODE_RULE = _NETD.why("Packets of {ns} itself use the main table.")
_POLICY_RULE = _NETD.why(
    "All packets that did not come from the VPC by eth0 use table {table}: so the VPC sees even packets between two"
    " pods of one node (intranode visibility)."
)
_RESTORE_CHAIN = _NETD.why("It gives a packet the mark of its connection back, before its route is chosen.")
_RESTORE = _NETD.why(
    "An answer of a connection that kube-proxy marked gets the mark too, so it takes the same way back."
)
_SAVE_CHAIN = _NETD.why("It keeps the mark of kube-proxy in the connection.")
_SAVE = _NETD.why("The connection keeps the mark {mark}, so that its answers can have it.")
_JUMP = _NETD.why("All packets pass netd's own chain {target}.")
LINK_LOCAL = IPv4Network("169.254.0.0/16")
RFC1918 = tuple(IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"))
RESERVED = (
    "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "240.0.0.0/4",
)  # fmt: skip
NON_MASQUERADE_RANGES = {"rfc1918": RFC1918, "reserved": (*RFC1918, *map(IPv4Network, RESERVED))}
HAIRPIN_FWMARK = 0x4000  # the mark of packets that kube-proxy masquerades
LOCAL_RULES_PREF, HAIRPIN_RULE_PREF, NODE_RULE_PREF, POLICY_RULE_PREF = 70, 74, 75, 76  # priorities of netd's rules
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
        choices=tuple(NON_MASQUERADE_RANGES),
    )
    mtu: int = option(1460, "MTU of the VPC and of pods", minimum=1300, maximum=8896)


def node_nics(scenario: Scenario) -> list[gcp.Nic]:
    """The nodes' network interfaces, with the first free addresses of their subnet."""
    subnet: IPv4Network = scenario.options.node_cidr
    first = subnet.network_address + gcp.FIRST_USABLE_OFFSET
    return [gcp.Nic(node.name, first + number, subnet) for number, node in enumerate(scenario.nodes)]


def vm_nic(options: ClusterOptions) -> gcp.Nic:
    """The network interface of `vm`: in a separate subnet, or at the end of the nodes' subnet."""
    ip = primitives.address_at(options.vm_cidr, -3 if options.vm_cidr == options.node_cidr else gcp.FIRST_USABLE_OFFSET)
    return gcp.Nic("vm", ip, options.vm_cidr)


def peer_nic(options: ClusterOptions) -> gcp.Nic:
    """The network interface of `peer`, a machine of another VPC."""
    return gcp.Nic("peer", options.peer_cidr.network_address + gcp.FIRST_USABLE_OFFSET, options.peer_cidr)


def infrastructure(scenario: Scenario) -> Iterator[Resource | Machine]:
    """The VPC, `vm`, `peer` and the internet."""
    options: ClusterOptions = scenario.options
    others = (vm_nic(options), peer_nic(options))
    yield Machine("fabric", "fabric", (options.node_cidr.network_address + 1, options.public_ip))
    yield from gcp.fabric([*node_nics(scenario), *others], options.mtu)
    yield from cloud_vpc.internet_uplink(options.internet_cidr, (options.public_ip,), options.mtu)
    yield from gcp.cloud_nat(options.public_ip)
    for nic in others:
        yield from cloud_vpc.vm_without_nic(nic.machine, nic.address)
        yield from gcp.attach_nic(nic)
        yield from gcp.anti_spoofing(nic)


def node_resources(
    nic: gcp.Nic,
    node: ScenarioNode,
    pod_range: IPv4Network,
    options: ClusterOptions,
    *,
    intranode_visibility: bool = False,
) -> Iterator[Resource | Machine]:
    """A node with its pods. With `intranode_visibility`, even packets between two of them pass the VPC."""
    yield Machine(nic.machine, "node", (nic.address, pod_range.network_address + 1))
    yield from primitives.node_netns(nic.machine)
    yield from gcp.attach_nic(nic)
    yield from primitives.forwarding_sysctls(nic.machine, True, rp_filter=1, devices=())
    name, why = "net.ipv4.conf.eth0.rp_filter", _LOOSE if intranode_visibility else _STRICT
    yield Sysctl(nic.machine, name, "2" if intranode_visibility else "1", why=why)
    yield Sysctl(nic.machine, "net.ipv4.conf.eth0.send_redirects", "0", why=common_reasons.sysctl_reason)
    if intranode_visibility:
        yield from _policy_routing(nic, pod_range)
    yield from kubernetes.ip_masq_agent(nic.machine, exempt_ranges(options), random_fully=True)
    yield from _ptp(node, pod_range, options.mtu)
    yield from pods.pause_and_containers(node)


def _ptp(node: ScenarioNode, pod_range: IPv4Network, mtu: int) -> Iterator[Resource | Machine]:
    """Pods in host-local's order, each with a veth pair. The node's ends all have the address of the gateway."""
    gateway = pod_range.network_address + 1
    devices = primitives.device_names("veth", 8, node.pods)
    for (name, pod_address), device in zip(cni_bridge.pod_addresses(node, pod_range), devices, strict=True):
        inner, outer = Interface(name, "eth0"), Interface(node.name, device)
        yield Machine(name, "pod", (pod_address,), node.name)
        yield from primitives.container_netns(name)
        macs, whys = (None, primitives.mac(name)), (_HOST_END, _POD_END)
        yield from primitives.veth_pair(outer, inner, mtu=mtu, macs=macs, txqueuelen=primitives.NO_QUEUE, whys=whys)
        interface_address = primitives.with_prefix_length(pod_address, pod_range.prefixlen)
        yield Address(inner, interface_address, connected=False, why=_POD_ADDRESS)
        yield Route(name, primitives.host_prefix(gateway), dev="eth0", src=pod_address, why=_POD_GATEWAY)
        yield Route(name, pod_range, gateway, "eth0", src=pod_address, why=_POD_RANGE)
        yield Route(name, primitives.ANYWHERE, gateway, "eth0", why=_POD_DEFAULT)
        gateway_address = primitives.with_prefix_length(gateway, 32)
        yield from explained(_GATEWAY_ADDRESS, primitives.addresses(outer, gateway_address))
        yield Route(node.name, primitives.host_prefix(pod_address), dev=device, scope="host", why=_TO_POD)


def _policy_routing(nic: gcp.Nic, pod_range: IPv4Network) -> Iterator[Resource]:
    """netd's policy routing, for intranode visibility: packets that did not come from the VPC go to it.

    So do packets between two pods of one node, which then come back. Exceptions are packets of the node itself and
    packets that kube-proxy marked; a mark on the connection identifies the answers to those.
    """
    node, gateway_prefix = nic.machine, primitives.host_prefix(pod_range.network_address + 1)
    yield Route(node, primitives.ANYWHERE, nic.gateway, "eth0", CUSTOM_TABLE, why=_TABLE_ROUTE)
    for network in (IPv4Network("127.0.0.0/8"), LINK_LOCAL, gateway_prefix, nic.host_prefix):
        yield Rule(node, LOCAL_RULES_PREF, LOCAL_TABLE, dst=network, why=_LOCAL_RULE)
    yield Rule(node, HAIRPIN_RULE_PREF, mark=HAIRPIN_FWMARK, mask=HAIRPIN_FWMARK, why=_HAIRPIN_RULE)
    yield Rule(node, NODE_RULE_PREF, iif="lo", why=_NODE_RULE)
    yield Rule(node, POLICY_RULE_PREF, CUSTOM_TABLE, iif="eth0", invert=True, why=_POLICY_RULE)
    masks = "--nfmask 0x4000 --ctmask 0x4000"
    jump = '-m comment --comment "redirect all traffic to {0} chain" -j {0}'
    before, after = "GCP-PREROUTING", "GCP-POSTROUTING"
    restore = f'-m comment --comment "restore the conn mark if applicable" -j CONNMARK --restore-mark {masks}'
    comment = "save the conn mark only if hairpin bit (0x4000/0x4000) is set"
    save = f'-m mark --mark 0x4000/0x4000 -m comment --comment "{comment}" -j CONNMARK --save-mark {masks}'
    yield primitives.chain(node, "mangle", before, (restore, _RESTORE), why=_RESTORE_CHAIN)
    yield primitives.chain(node, "mangle", "PREROUTING", (jump.format(before), _JUMP))
    yield primitives.chain(node, "mangle", after, (save, _SAVE), why=_SAVE_CHAIN)
    yield primitives.chain(node, "mangle", "POSTROUTING", (jump.format(after), _JUMP))


def checks(scenario: Scenario, ranges: Iterable[IPv4Network], *, intranode_visibility: bool) -> Iterator[Check]:
    """Checks of the routers between pods of one node, Kubernetes' own rules, and what containers of a pod share.

    `ranges` are the nodes' parts of the pod CIDR.
    """
    masqueraded = cni_bridge.masqueraded_pods(scenario.nodes, ranges, exempt_ranges(scenario.options))
    say = sentence("pods of one node are one router apart")
    if intranode_visibility:
        say = sentence("pods of one node are three routers apart, because their packets pass the VPC")
    yield from kubernetes.same_node_check(scenario, say, 61 if intranode_visibility else 63, masqueraded)
    yield from kubernetes.network_model_checks(scenario, masqueraded=masqueraded)
    yield from pods.checks(scenario)


def exempt_ranges(options: ClusterOptions) -> tuple[IPv4Network, ...]:
    """The destinations for which pods keep their addresses."""
    return (LINK_LOCAL, *NON_MASQUERADE_RANGES[options.non_masquerade])


def refuse(
    scenario: Scenario, prefix_length: int, max_pods: int, *, max_pods_fixed: bool
) -> Iterator[tuple[str, str, str]]:
    """Errors for ranges that are too small or overlap, and for the reserved name `peer`.

    `prefix_length` is that of each node's range. `max_pods` is the limit of pods on a node; with `max_pods_fixed` it is
    not an option.
    """
    options: ClusterOptions = scenario.options
    nodes = len(scenario.nodes)
    yield from kubernetes.refuse_pod_cidr(options.pod_cidr, prefix_length, nodes)
    yield from kubernetes.refuse_pod_counts(scenario, max_pods, max_pods_fixed=max_pods_fixed)
    more = options.vm_cidr == options.node_cidr
    needed, available = nodes + more, options.node_cidr.num_addresses - gcp.RESERVED_ADDRESSES
    if needed > available:
        what = f"node_cidr {options.node_cidr} has {max(available, 0)} addresses, but {nodes} nodes need {needed}"
        sum_text = f"{nodes}{' + 1 for vm' if more else ''}, and Google Cloud reserves {gcp.RESERVED_ADDRESSES}"
        hint = f"{sum_text}: a /{primitives.prefix_length_for(needed + gcp.RESERVED_ADDRESSES)} is large enough"
        yield "node_cidr", what, hint
    yield from cloud_vpc.refuse_overlapping_ranges(
        options, "node_cidr", gcp.RESERVED_ADDRESSES, "pod_cidr", "peer_cidr", "internet_cidr"
    )
    yield from primitives.refuse_public_ip(options.internet_cidr, options.public_ip)
    yield from _refuse_peer_name(scenario)
    for network in exempt_ranges(options):
        if options.internet_cidr.overlaps(network):
            what = OverlapRefusal(
                f"internet_cidr {options.internet_cidr} overlaps {network}, where pods keep their addresses"
            )
            yield "internet_cidr", what, "use a public range, such as 8.8.8.0/24"


def _refuse_peer_name(scenario: Scenario) -> Iterator[tuple[str, str, str]]:
    names: Iterable[tuple[str, str]] = ((node.name, "nodes") for node in scenario.nodes)
    names_of_machines = [*names, *((pod, f"nodes/{node.name}") for node, pod in scenario.pods)]
    for name, at in names_of_machines:
        if name == "peer":
            yield at, "the name 'peer' is reserved for the machine in the peered VPC", "rename it"

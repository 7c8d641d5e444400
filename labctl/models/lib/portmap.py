"""Host ports of pods (`hostPort`), as the CNI plugin portmap sets them up, for every Kubernetes model. Pure.

A packet to such a port of the node is translated to the pod (DNAT) and keeps its source address. In two cases the
source must be translated too, because the answer would not come back through the node: if the client is a pod of the
same range, which the pod would answer directly, and if it is the node at 127.0.0.1, an address that has another
meaning in the pod. Packets of these clients get a mark, and POSTROUTING masquerades packets with the mark. The
node's devices to the pods route loopback addresses (route_localnet), so that packets from 127.0.0.1 may leave.

Follows containernetworking/plugins 1.1, plugins/meta/portmap/portmap.go: with `externalSetMarkChain` as kubenet's
template has it (Azure/AgentBaker, kubenetCniTemplate), and for the chains behind that pkg/kubelet of Kubernetes 1.23
(kubelet_network_linux.go: KUBE-MARK-MASQ, KUBE-POSTROUTING); or with the plugin's own chains and mark, `snat` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.cni_runtime import plugin_reasons
from labctl.core.resources import Interface, Resource, Sysctl
from labctl.core.scenario_types import Check, ListeningPort, PublishedPort, ScenarioNode, See
from labctl.core.sentence import sentence
from labctl.core.why import Component, Source, Why
from labctl.models.lib import primitives

DNAT_CHAIN, KUBELET_MARK_CHAIN = "CNI-HOSTPORT-DNAT", "KUBE-MARK-MASQ"
_LOCAL = f"-m addrtype --dst-type LOCAL -j {DNAT_CHAIN}"
PLUGIN_MARK_CHAIN = "CNI-HOSTPORT-SETMARK"
_SNAT = '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully'

KUBELET = Component("the kubelet", Source("kubernetes/kubernetes", "pkg/kubelet/kubelet_network_linux.go", "1.23"))
WHY_ROUTE_LOCALNET = plugin_reasons.PORTMAP.why(
    "With 0, the kernel drops packets from 127.0.0.1 that leave {ns} by a device: a client on {ns} could not use a host"
    " port at 127.0.0.1."
)
_WHY_MARK = KUBELET.why("It marks packets that must be masqueraded with the bit 0x4000.")
_WHY_MARK_CHAIN = KUBELET.why("Other programs jump here to have a packet masqueraded later.")
_WHY_POST_JUMP = KUBELET.why("Every packet that leaves {ns} passes the chain that masquerades marked packets.")
_WHY_POST_CHAIN = KUBELET.why("It masquerades the packets that have the mark, and no others.")
_WHY_UNMARKED = KUBELET.why("Packets without the mark are none of this chain's: they keep their source.")
_WHY_UNMARK = KUBELET.why("It takes the mark away, so that a packet that passes this chain twice is translated once.")
_WHY_KUBELET_SNAT = KUBELET.why("The packet has the mark: its source becomes the address of {ns}.")


@dataclass(frozen=True, slots=True)
class HostPortPod:
    """A pod with host ports: its name, address, the range of the address, the ports, and the node's device to it.

    `listening` are the ports that its containers listen on.
    """

    pod: str
    address: IPv4Address
    subnet: IPv4Network
    host_ports: tuple[PublishedPort, ...]
    device: str
    listening: tuple[ListeningPort, ...] = ()


def host_port_chains(
    ns: str, network_name: str, pods: Iterable[HostPortPod], mark_chain: str = KUBELET_MARK_CHAIN
) -> Iterator[Resource]:
    """The chains of a node with host ports, and the sysctls of its devices. Without host ports it yields nothing.

    `mark_chain` is the chain that marks packets for masquerading: the kubelet's, or `PLUGIN_MARK_CHAIN`.
    """
    pods = tuple(pod for pod in pods if pod.host_ports)
    if not pods:
        return
    yield primitives.chain(ns, "nat", "PREROUTING", (_LOCAL, plugin_reasons.LOCAL))
    yield primitives.chain(ns, "nat", "OUTPUT", (_LOCAL, plugin_reasons.LOCAL))
    jumps = ((rule, plugin_reasons.JUMP) for pod in pods for rule in _jumps(network_name, pod))
    yield primitives.chain(ns, "nat", DNAT_CHAIN, *jumps, why=plugin_reasons.DNAT_CHAIN)
    for pod in pods:
        rules = _dnat_rules(pod, mark_chain)
        yield primitives.chain(ns, "nat", _name(network_name, pod.pod), *rules, why=plugin_reasons.POD_CHAIN)
    yield from _kubelet_mark_chains(ns) if mark_chain == KUBELET_MARK_CHAIN else _plugin_mark_chains(ns)
    for device in dict.fromkeys(pod.device for pod in pods):
        yield Sysctl(ns, f"net.ipv4.conf.{device}.route_localnet", "1", why=WHY_ROUTE_LOCALNET)


def _kubelet_mark_chains(ns: str) -> Iterator[Resource]:
    mark = ("-j MARK --set-xmark 0x4000/0x4000", _WHY_MARK)
    yield primitives.chain(ns, "nat", KUBELET_MARK_CHAIN, mark, why=_WHY_MARK_CHAIN)
    jump = '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'
    yield primitives.chain(ns, "nat", "POSTROUTING", (jump, _WHY_POST_JUMP))
    yield primitives.chain(
        ns,
        "nat",
        "KUBE-POSTROUTING",
        ("-m mark ! --mark 0x4000/0x4000 -j RETURN", _WHY_UNMARKED),
        ("-j MARK --set-xmark 0x4000/0x0", _WHY_UNMARK),
        (_SNAT, _WHY_KUBELET_SNAT),
        why=_WHY_POST_CHAIN,
    )


def _plugin_mark_chains(ns: str) -> Iterator[Resource]:
    about = '-m comment --comment "CNI portfwd {}"'
    mark = (f"{about.format('masquerade mark')} -j MARK --set-xmark 0x2000/0x2000", plugin_reasons.MARK)
    yield primitives.chain(ns, "nat", PLUGIN_MARK_CHAIN, mark, why=plugin_reasons.MARK_CHAIN)
    jump = f"{about.format('requiring masquerade')} -j CNI-HOSTPORT-MASQ"
    yield primitives.chain(ns, "nat", "POSTROUTING", (jump, plugin_reasons.POSTROUTING))
    masquerade = ("-m mark --mark 0x2000/0x2000 -j MASQUERADE", plugin_reasons.MASQUERADE)
    yield primitives.chain(ns, "nat", "CNI-HOSTPORT-MASQ", masquerade, why=plugin_reasons.MASQUERADE_CHAIN)


def _jumps(network: str, pod: HostPortPod) -> Iterator[str]:
    """One rule for each protocol, in alphabetical order."""
    about = f'-m comment --comment "dnat name: \\"{network}\\" id: \\"{pod.pod}\\""'
    for protocol in sorted({port.protocol for port in pod.host_ports}):
        numbers = ",".join(str(port.host_port) for port in pod.host_ports if port.protocol == protocol)
        yield f"-p {protocol} {about} -m multiport --dports {numbers} -j {_name(network, pod.pod)}"


def _dnat_rules(pod: HostPortPod, mark_chain: str) -> Iterator[tuple[str, Why]]:
    """For each port: the packets to mark, and the DNAT; each rule with its reason."""
    for port in pod.host_ports:
        at = f"-d {port.address}/32 " if port.address is not None else ""
        match = f"{at}-p {port.protocol} -m {port.protocol} --dport {port.host_port}"
        yield f"-s {pod.subnet} {match} -j {mark_chain}", plugin_reasons.MARK_POD
        yield f"-s 127.0.0.1/32 {match} -j {mark_chain}", plugin_reasons.MARK_LOOPBACK
        yield f"{match} -j DNAT --to-destination {pod.address}:{port.port}", plugin_reasons.DNAT


def _name(network: str, pod: str) -> str:
    """The chain of a pod: `CNI-DN-` and a digest of network and container, 28 characters in all."""
    from hashlib import sha512  # loads OpenSSL, which most labs do without

    return f"CNI-DN-{sha512((network + pod).encode()).hexdigest()}"[:28]


def checks(
    node: str, node_address: IPv4Address, pods: Iterable[HostPortPod], outside_machine: str, node_source: str
) -> Iterator[Check]:
    """Checks of the source address that a pod sees: `outside_machine` keeps its address, and the node at a loopback
    address is seen with `node_source`. `node_address` is the address at which `outside_machine` reaches the node."""
    for pod in pods:
        for port in pod.host_ports:
            if port.protocol != "tcp":
                continue
            inner = Interface(pod.pod, "eth0")
            served = ListeningPort(port.port) in pod.listening  # by the pod; else labctl listens there for the check
            server = (pod.pod, port.port)
            if port.address in (None, node_address):
                say = sentence(
                    "port {port} of {node} leads to {pod}, which sees the address of {machine}",
                    port=port.host_port,
                    node=node,
                    pod=pod.pod,
                    machine=outside_machine,
                )
                sees = (See(inner, src=outside_machine, dst=pod.pod),)
                yield Check(
                    say, "tcp", outside_machine, node, port.host_port, listen=not served, server=server, sees=sees,
                    origin="model",
                )  # fmt: skip
            # masquerading may change the source port: without labctl's listener nothing identifies the packets
            if not served and (port.address is None or port.address.is_loopback):
                target = str(port.address or "127.0.0.1")
                say = sentence(
                    "port {port} at {target} of {node} leads to {pod}, which sees the address of {machine}",
                    port=port.host_port,
                    target=target,
                    node=node,
                    pod=pod.pod,
                    machine=node_source,
                )
                sees = (See(inner, src=node_source, dst=pod.pod),)
                yield Check(
                    say, "tcp", node, target, port.host_port, server=server, sees=sees,
                    origin="model",
                )  # fmt: skip
            return


def refuse_host_ports(
    node: ScenarioNode,
    node_addresses: Iterable[IPv4Address],
    host_ports: Iterable[tuple[str, tuple[PublishedPort, ...]]],
) -> Iterator[tuple[str, str, str]]:
    """Errors for host ports that are used twice on the node, or at an address that the node does not have."""
    node_addresses, taken = tuple(node_addresses), dict[tuple[int, str], tuple[str, PublishedPort]]()
    for pod, ports in host_ports:
        for number, port in enumerate(ports):
            at = f"nodes/{node.name}/pods/{pod}/host_ports/{number}"
            key = (port.host_port, port.protocol)
            other = taken.get(key)
            if other is not None and (None in (other[1].address, port.address) or other[1].address == port.address):
                what = f"host_ports: {port.protocol} port {port.host_port} of {node.name} is already used by {other[0]}"
                yield at, what, "all pods of a node share its ports: choose another port"
            if port.address is not None and not port.address.is_loopback and port.address not in node_addresses:
                what = f"host_ports: {node.name} does not have the address {port.address}"
                yield at, what, f"it has {', '.join(map(str, node_addresses))} and 127.0.0.0/8"
            taken.setdefault(key, (pod, port))

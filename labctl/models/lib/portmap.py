"""Ports of pods on their node (`hostPort`), as the CNI plugin portmap wires them, for every Kubernetes model. Pure.

Who asks the node for such a port is translated to the pod (DNAT) and keeps the own address. Only two askers must
not keep theirs, for the answer would not come back the way it has to: a pod of the same range, whom the pod would
answer directly, and the node itself at 127.0.0.1, an address that means nothing on the pod's side. Their packets
are marked, and masqueraded at the end; and for 127.0.0.1 to be let out, the bridge routes loopback addresses.

Follows containernetworking/plugins 1.1, plugins/meta/portmap/portmap.go: with `externalSetMarkChain` as kubenet's
template has it (Azure/AgentBaker, kubenetCniTemplate), and for the chains behind that pkg/kubelet of Kubernetes 1.23
(kubelet_network_linux.go: KUBE-MARK-MASQ, KUBE-POSTROUTING); or with the plugin's own chains and mark, `snat` alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha512
from ipaddress import IPv4Address, IPv4Network

from labctl.core.resources import Port, Resource, Sysctl
from labctl.core.scenario_types import Check, Node, Publish, See
from labctl.models.lib import primitives

DNAT, MARK = "CNI-HOSTPORT-DNAT", "KUBE-MARK-MASQ"
_LOCAL = f"-m addrtype --dst-type LOCAL -j {DNAT}"
OWN_MARK = "CNI-HOSTPORT-SETMARK"
_SNAT = '-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully'


@dataclass(frozen=True, slots=True)
class Mapped:
    """A pod with ports on its node: its name, address, the range it is of, the ports, and the node's device to it."""

    pod: str
    address: IPv4Address
    subnet: IPv4Network
    ports: tuple[Publish, ...]
    device: str


def portmap(ns: str, network: str, pods: Iterable[Mapped], mark: str = MARK) -> Iterator[Resource]:
    """The chains of a node whose pods have ports on it, and what its devices need for them; nothing without any.

    `mark` is the chain that marks what is to be masqueraded: the kubelet's, or `OWN_MARK`, the plugin's own.
    """
    pods = tuple(one for one in pods if one.ports)
    if not pods:
        return
    yield primitives.chain(ns, "nat", "PREROUTING", _LOCAL)
    yield primitives.chain(ns, "nat", "OUTPUT", _LOCAL)
    yield primitives.chain(ns, "nat", DNAT, *(rule for one in pods for rule in _jumps(network, one)))
    for one in pods:
        yield primitives.chain(ns, "nat", _name(network, one.pod), *_translations(one, mark))
    yield from _kubelets(ns) if mark == MARK else _own(ns)
    for device in dict.fromkeys(one.device for one in pods):
        yield Sysctl(ns, f"net.ipv4.conf.{device}.route_localnet", "1")


def _kubelets(ns: str) -> Iterator[Resource]:
    yield primitives.chain(ns, "nat", MARK, "-j MARK --set-xmark 0x4000/0x4000")
    yield primitives.chain(
        ns, "nat", "POSTROUTING", '-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING'
    )
    unmark = ("-m mark ! --mark 0x4000/0x4000 -j RETURN", "-j MARK --set-xmark 0x4000/0x0")
    yield primitives.chain(ns, "nat", "KUBE-POSTROUTING", *unmark, _SNAT)


def _own(ns: str) -> Iterator[Resource]:
    about = '-m comment --comment "CNI portfwd {}"'
    yield primitives.chain(ns, "nat", OWN_MARK, f"{about.format('masquerade mark')} -j MARK --set-xmark 0x2000/0x2000")
    yield primitives.chain(ns, "nat", "POSTROUTING", f"{about.format('requiring masquerade')} -j CNI-HOSTPORT-MASQ")
    yield primitives.chain(ns, "nat", "CNI-HOSTPORT-MASQ", "-m mark --mark 0x2000/0x2000 -j MASQUERADE")


def _jumps(network: str, one: Mapped) -> Iterator[str]:
    """One rule for each protocol, in the alphabet's order."""
    about = f'-m comment --comment "dnat name: \\"{network}\\" id: \\"{one.pod}\\""'
    for protocol in sorted({port.protocol for port in one.ports}):
        numbers = ",".join(str(port.host_port) for port in one.ports if port.protocol == protocol)
        yield f"-p {protocol} {about} -m multiport --dports {numbers} -j {_name(network, one.pod)}"


def _translations(one: Mapped, mark: str) -> Iterator[str]:
    """For each port: whom to mark, and where it leads."""
    for port in one.ports:
        at = f"-d {port.address}/32 " if port.address is not None else ""
        match = f"{at}-p {port.protocol} -m {port.protocol} --dport {port.host_port}"
        yield f"-s {one.subnet} {match} -j {mark}"
        yield f"-s 127.0.0.1/32 {match} -j {mark}"
        yield f"{match} -j DNAT --to-destination {one.address}:{port.port}"


def _name(network: str, pod: str) -> str:
    """The chain of a pod: `CNI-DN-` and a digest of network and container, 28 characters in all."""
    return f"CNI-DN-{sha512((network + pod).encode()).hexdigest()}"[:28]


def checks(node: str, pods: Iterable[Mapped], stranger: str, own: str) -> Iterator[Check]:
    """Who is seen as whom at a node's port: a machine beside as itself, the node at 127.0.0.1 as `own`."""
    for one in pods:
        for port in one.ports:
            if port.protocol != "tcp":
                continue
            inner, server = Port(one.pod, "eth0"), (one.pod, port.port)
            if port.address is None or not port.address.is_loopback:
                say = f"port {port.host_port} of {node} leads to {one.pod}, and a machine beside keeps its own address"
                sees = (See(inner, src=stranger, dst=one.pod),)
                yield Check(say, "tcp", stranger, node, port.host_port, server=server, sees=sees, origin="model")
            if port.address is None or port.address.is_loopback:
                say = f"so does the node's own 127.0.0.1, and {one.pod} sees {own}"
                sees = (See(inner, src=own, dst=one.pod),)
                target, number = "127.0.0.1", port.host_port
                yield Check(say, "tcp", node, target, number, server=server, sees=sees, origin="model")
            return


def refuse(
    node: Node, own: Iterable[IPv4Address], ports: Iterable[tuple[str, tuple[Publish, ...]]]
) -> Iterator[tuple[str, str, str]]:
    """Ports that are taken on the node, or at an address that it does not have."""
    own, taken = tuple(own), dict[tuple[int, str], tuple[str, Publish]]()
    for pod, some in ports:
        for number, port in enumerate(some):
            at = f"nodes/{node.name}/pods/{pod}/host_ports/{number}"
            key = (port.host_port, port.protocol)
            other = taken.get(key)
            if other is not None and (None in (other[1].address, port.address) or other[1].address == port.address):
                what = f"host_ports: {port.protocol} port {port.host_port} of {node.name} is {other[0]}'s already"
                yield at, what, "a node's ports are all its pods': choose another"
            if port.address is not None and not port.address.is_loopback and port.address not in own:
                what = f"host_ports: {node.name} does not have {port.address}"
                yield at, what, f"it has {', '.join(map(str, own))} and 127.0.0.0/8"
            taken.setdefault(key, (pod, port))

"""Which pods, addresses and ports the parts of a NetworkPolicy mean: what policy engines put in IP sets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import IPBlock, Namespace, NetworkPolicy, Peer, Pod
from labctl.kubernetes.api.selectors import EVERYTHING


@dataclass(frozen=True, slots=True)
class BlockNets:
    """An `ipBlock`, as far as it has IPv4 addresses: a network, and the networks in it that are excepted."""

    net: IPv4Network
    exceptions: tuple[IPv4Network, ...] = ()


def filtered_pods(state: ClusterState) -> tuple[Pod, ...]:
    """The pods that policies can select, and that peers can mean: those that do not use their node's network."""
    return tuple(one for one in state.pods if not one.host_network)


def is_selected(policy: NetworkPolicy, pod: Pod) -> bool:
    """Whether a policy selects a pod."""
    return pod.namespace == policy.namespace and not pod.host_network and policy.pods.matches(pod.labels)


def peer_pods(state: ClusterState, namespace: str, peer: Peer) -> tuple[Pod, ...]:
    """The pods that a peer of a policy in this namespace means; none for an `ipBlock`."""
    if peer.block is not None:
        return ()
    if peer.namespaces is None:
        namespaces = {namespace}
    else:
        names = {one.namespace for one in state.pods}
        labels_of = {one: (state.namespaces.get(one) or Namespace(one)).labels for one in names}
        namespaces = {one for one in names if peer.namespaces.matches(labels_of[one])}
    selector = peer.pods or EVERYTHING
    return tuple(one for one in filtered_pods(state) if one.namespace in namespaces and selector.matches(one.labels))


def block_nets(block: IPBlock) -> BlockNets | None:
    """The IPv4 networks of an `ipBlock`; None without any, or if an exception leaves nothing of it."""
    if not isinstance(block.cidr, IPv4Network):
        return None
    exceptions = tuple(one for one in block.exceptions if isinstance(one, IPv4Network) and one.overlaps(block.cidr))
    if any(block.cidr.subnet_of(one) for one in exceptions):
        return None
    return BlockNets(block.cidr, exceptions)


def addresses(pods: Iterable[Pod]) -> tuple[str, ...]:
    """The IPv4 addresses of pods as members of a set: sorted texts, each once."""
    return tuple(sorted({str(ip) for pod in pods for ip in ipv4(pod)}))


def ipv4(pod: Pod) -> Iterator[IPv4Address]:
    """The IPv4 addresses of a pod."""
    return (ip for ip in pod.ips if isinstance(ip, IPv4Address))


def named_ports(pods: Iterable[Pod], protocol: str, name: str) -> Iterator[tuple[Pod, int]]:
    """The pods that have a port of this name and protocol, each with its number. A pod may have several."""
    for pod in pods:
        for one in pod.ports:
            if (one.name, one.protocol) == (name, protocol):
                yield pod, one.port

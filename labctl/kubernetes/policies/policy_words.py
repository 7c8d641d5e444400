"""Policies in words: rules, peers and ports as a reader says them, and why a rule does not fit a connection. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from labctl.core.resources import IP
from labctl.core.sentence import Sentence, in_a_row, one_of, sentence
from labctl.kubernetes.api.cluster_policy_objects import ClusterRule
from labctl.kubernetes.api.policy_objects import Direction, IPBlock, Peer, Pod, PolicyPort, PolicyRule
from labctl.kubernetes.api.selectors import EVERYTHING, Requirement, Selector
from labctl.kubernetes.policies.policy_oracle import Endpoint, PolicyOracle, Traffic, fits_ports

NAME_LABEL = "kubernetes.io/metadata.name"
ACTION_VERBS = {"Accept": sentence("accepts"), "Deny": sentence("denies"), "Pass": sentence("passes on")}


def endpoint_name(endpoint: Endpoint) -> str:
    """An end of a connection: a pod by its name in the lab, if that is its own name, else as `namespace/name`."""
    if not isinstance(endpoint, Pod):
        return str(endpoint)
    return endpoint.machine if endpoint.machine == endpoint.name else str(endpoint)


def rule_words(rule: PolicyRule | ClusterRule, namespace: str, direction: Direction) -> Sentence:
    """What a rule does: `allows TCP 80 from namespace y`. `namespace` is that of its policy, "" if it has none."""
    verb = ACTION_VERBS[rule.action] if isinstance(rule, ClusterRule) else sentence("allows")
    peers = _either([peer_words(one, namespace) for one in rule.peers]) if rule.peers else sentence("everywhere")
    words = {"verb": verb, "ports": ports_words(rule.ports), "peers": peers}
    if direction == "Ingress":
        return sentence("{verb} {ports} from {peers}", **words)
    return sentence("{verb} {ports} to {peers}", **words)


def peer_words(peer: Peer, namespace: str) -> str:
    """Who is meant by a peer of a policy in this namespace: `pods with app=web in namespace y`."""
    if peer.block is not None:
        return block_words(peer.block)
    pods = peer.pods or EVERYTHING
    where = sentence("namespace {namespace}", namespace=namespace)
    if peer.namespaces is not None:
        where = namespaces_words(peer.namespaces)
    if pods == EVERYTHING:
        return sentence("all pods") if peer.namespaces == EVERYTHING else where
    return sentence("pods with {labels} in {where}", labels=pods, where=where)


def namespaces_words(selector: Selector) -> Sentence:
    """The namespaces that a selector selects: `namespace y`, `all namespaces`, `namespaces with team=a`."""
    if selector == EVERYTHING:
        return sentence("all namespaces")
    if len(selector.labels) == 1 and not selector.requirements and selector.labels[0][0] == NAME_LABEL:
        return sentence("namespace {namespace}", namespace=selector.labels[0][1])
    return sentence("namespaces with {labels}", labels=selector)


def block_words(block: IPBlock) -> str:
    """A range of addresses: `10.0.0.0/8 except 10.1.0.0/16`."""
    if not block.exceptions:
        return str(block.cidr)
    return sentence("{cidr} except {exceptions}", cidr=block.cidr, exceptions=_either(block.exceptions))


def ports_words(ports: Sequence[PolicyPort]) -> Sentence:
    """The ports of a rule: `TCP 80`, `TCP 80-90 or UDP port dns`, `all ports`."""
    return _either([port_words(one) for one in ports]) if ports else sentence("all ports")


def port_words(port: PolicyPort) -> str:
    """An item of `ports`: `TCP 80`, `TCP 80-90`, `TCP port http`, `all TCP ports`."""
    if port.port is None:
        return sentence("all {protocol} ports", protocol=port.protocol)
    if isinstance(port.port, str):
        return sentence("{protocol} port {port}", protocol=port.protocol, port=port.port)
    last = f"-{port.end_port}" if port.end_port not in (None, port.port) else ""
    return f"{port.protocol} {port.port}{last}"


def misses(
    oracle: PolicyOracle,
    rule: PolicyRule | ClusterRule,
    namespace: str,
    other: Endpoint,
    target: Endpoint,
    protocol: Traffic,
    port: int,
) -> tuple[str, ...]:
    """Why a rule does not fit a connection with the `other` end, one text for each part that does not fit; of several
    peers, those of the one that fits best."""
    found: list[str] = []
    if not oracle.fits_peers(rule, namespace, other):
        found += _nearest([_peer_misses(oracle, one, namespace, other) for one in rule.peers])
    if not fits_ports(rule, target, protocol, port):
        found.append(_port_miss(rule.ports, target, protocol, port))
    return tuple(found)


def _nearest(of_peers: list[list[tuple[int, str]]]) -> list[str]:
    """The texts of the peer that fits best: its parts weigh least."""
    best = min(of_peers, key=lambda one: sum(weight for weight, _ in one))
    return [text for _, text in best]


def _peer_misses(oracle: PolicyOracle, peer: Peer, namespace: str, other: Endpoint) -> list[tuple[int, str]]:
    """Why a peer is not the other end, with the weight of each part: a wrong namespace weighs more than a label."""
    return [(2 if " namespace " in f" {text}" else 1, text) for text in _peer_texts(oracle, peer, namespace, other)]


def _peer_texts(oracle: PolicyOracle, peer: Peer, namespace: str, other: Endpoint) -> Iterator[str]:
    name = endpoint_name(other)
    if peer.block is not None:
        ips = other.ips if isinstance(other, Pod) else (other,)
        yield _block_miss(peer.block, name, ips)
        return
    if not isinstance(other, Pod):
        yield f"{name} is not a pod"
        return
    if other.host_network:
        yield f"{name} uses the network of its node, so no selector means it"
        return
    if peer.namespaces is None:
        if other.namespace != namespace:
            alone = "podSelector alone means pods of the policy's own namespace"
            yield f"{name} is in namespace {other.namespace} ({alone})"
    elif not peer.namespaces.matches(oracle.namespace(other.namespace).labels):
        labels = oracle.namespace(other.namespace).labels
        if "namespace " in namespaces_words(peer.namespaces):
            yield f"{name} is in namespace {other.namespace}"
        else:
            yield f"namespace {other.namespace} {_label_miss(peer.namespaces, labels)}"
    if not (peer.pods or EVERYTHING).matches(other.labels):
        yield f"{name} {_label_miss(peer.pods or EVERYTHING, other.labels)}"


def _block_miss(block: IPBlock, name: str, ips: Sequence[IP]) -> str:
    excepted = next((one for one in block.exceptions if any(ip in one for ip in ips)), None)
    address = f"{name} ({', '.join(map(str, ips))})" if ips and name != str(ips[0]) else name
    return f"{address} is in the exception {excepted}" if excepted is not None else f"{address} is not in {block.cidr}"


def _label_miss(selector: Selector, labels: Mapping[str, str]) -> str:
    """What is wrong with labels: `has no label app`, `has app=b`, for the first part of the selector that is wrong."""
    for key, value in selector.labels:
        if labels.get(key) != value:
            return f"has {key}={labels[key]}" if key in labels else f"has no label {key}"
    wrong = next(one for one in selector.requirements if not one.matches(labels))
    return _requirement_miss(wrong, labels)


def _requirement_miss(requirement: Requirement, labels: Mapping[str, str]) -> str:
    key = requirement.key
    return f"has {key}={labels[key]}" if key in labels else f"has no label {key}"


def _port_miss(ports: Sequence[PolicyPort], target: Endpoint, protocol: Traffic, port: int) -> str:
    """Why none of the ports is this one. A name that the target gives to another port, or to none, is explained."""
    named = [one for one in ports if isinstance(one.port, str) and one.protocol == protocol]
    for one in named:
        own = target.ports if isinstance(target, Pod) else ()
        same = next((it for it in own if it.name == one.port), None)
        if same is None:
            return f"{endpoint_name(target)} has no port named {one.port}"
        return f"port {one.port} of {endpoint_name(target)} is {same.protocol} {same.port}, not {protocol} {port}"
    return f"{traffic_words(protocol, port)} is not {ports_words(ports)}"


def traffic_words(protocol: Traffic, port: int) -> str:
    """A protocol with its port, if it has ports: `TCP 80`, `ICMP`."""
    return protocol if protocol == "ICMP" else f"{protocol} {port}"


def _either(words: Sequence[object]) -> Sentence:
    if len(words) > 4:
        return sentence("{names} and {number} more", names=in_a_row(words[:3]), number=len(words) - 3)
    return one_of(words)

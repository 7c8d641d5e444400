"""Selectors of the Kubernetes API in Calico's language, and the names of the IP sets that Felix makes of them. Pure.

The name of a set is a digest of the selector in its normal form. So every node, and every policy with the same
selector, uses the same name.

Follows projectcalico/calico 3.31: libcalico-go/lib/backend/k8s/conversion, syncersv1/updateprocessors/rules.go,
selector/parser/ast.go, hash/id.go; felix/calc/rule_scanner.go.
"""

from __future__ import annotations

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha3_224, sha224

from labctl.kubernetes.api.policy_objects import NetworkPolicy, Peer
from labctl.kubernetes.api.selectors import EVERYTHING, Selector

ALL = "all()"
MAX_SET_NAME = 31
GROUP_CHAIN_PREFIXES = {"Ingress": "cali-gi-", "Egress": "cali-go-"}
_NAMESPACE_LABELS = "pcns."  # before the labels that a pod has from its namespace
_IS_POD = 'projectcalico.org/orchestrator == "k8s"'
_IN_A_NAMESPACE = "has(projectcalico.org/namespace)"


def peer_selector(namespace: str, peer: Peer) -> str:
    """The selector of a peer of a policy in this namespace, "" for a ClusterNetworkPolicy."""
    if peer.namespaces is None:
        place = f'projectcalico.org/namespace == "{namespace}"'
    elif peer.namespaces == EVERYTHING:
        place = _IN_A_NAMESPACE
    else:
        place = _all_of(_terms(peer.namespaces, _NAMESPACE_LABELS))
    if peer.pods is None and not namespace:  # `namespaces` of a ClusterNetworkPolicy
        return place
    return _all_of((place, _all_of((_IS_POD, *_terms(peer.pods or EVERYTHING)))))


def policy_selector(policy: NetworkPolicy) -> str:
    """The selector of the pods that a policy selects."""
    pods = _all_of((_IS_POD, *_terms(policy.pods)))
    return _all_of((pods, f'projectcalico.org/namespace == "{policy.namespace}"'))


def cluster_policy_selector(namespaces: Selector, pods: Selector) -> str:
    """The selector of the pods that a ClusterNetworkPolicy selects."""
    place = _IN_A_NAMESPACE if namespaces == EVERYTHING else _all_of(_terms(namespaces, _NAMESPACE_LABELS))
    return _all_of((_all_of((_IS_POD, *_terms(pods))), place))


def selector_set(selector: str) -> str:
    """The name of the set of the addresses of the pods with this selector."""
    return _set_name(_unique_id("s", selector))


def named_port_set(selector: str, protocol: str, name: str) -> str:
    """The name of the set of the addresses and ports of these pods that have a port of this name."""
    return _set_name(_unique_id("n", f"{_unique_id('s', selector)},{protocol.lower()},{name}"))


def group_chain(tier: str, direction: str, selector: str, names: Iterable[str]) -> str:
    """The name of the chain of several policies of a tier with the same selector that follow one another."""
    names = tuple(names)
    kind = {"Ingress": "inbound", "Egress": "outbound"}[direction]
    text = "".join(f"{one}\n" for one in (tier, selector, kind, str(len(names)), *names))
    prefix = GROUP_CHAIN_PREFIXES[direction]
    return (prefix + _base64(sha3_224(text.encode()).digest()))[:28]


def _terms(selector: Selector, prefix: str = "") -> Iterator[str]:
    for key, value in sorted(selector.labels):
        yield f'{prefix}{key} == "{value}"'
    for one in selector.requirements:
        key = prefix + one.key
        if one.operator in ("Exists", "DoesNotExist"):
            yield f"has({key})" if one.operator == "Exists" else f"!has({key})"
        else:
            values = ", ".join(f'"{value}"' for value in sorted(set(one.values)))
            yield f"{key} {'in' if one.operator == 'In' else 'not in'} {{{values}}}"


def _all_of(terms: Iterable[str]) -> str:
    terms = tuple(terms)
    return terms[0] if len(terms) == 1 else f"({' && '.join(terms)})"


def _unique_id(prefix: str, text: str) -> str:
    return f"{prefix}:{_base64(sha224(f'{prefix}:{text}'.encode()).digest())}"


def _base64(digest: bytes) -> str:
    return urlsafe_b64encode(digest).decode().rstrip("=")


def _set_name(unique_id: str) -> str:
    return f"cali40{unique_id}"[:MAX_SET_NAME]

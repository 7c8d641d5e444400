"""Find the pods that a selector selects, without a look at each pod of the cluster. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from labctl.core.names import did_you_mean, summarize_names
from labctl.kubernetes.api.policy_objects import Namespace, Peer, Pod
from labctl.kubernetes.api.selectors import EVERYTHING, Selector

MOST_LABELS = 200  # of a namespace, for hints


class PodIndex:
    """The pods of a cluster by namespace and label."""

    def __init__(self, pods: Iterable[Pod], namespaces: Mapping[str, Namespace]) -> None:
        self.namespaces = dict(namespaces)
        self._pods: dict[str, list[Pod]] = {}
        self._labels: dict[str, list[tuple[str, str]]] = {}
        self._by_label: dict[tuple[str, str, str], list[Pod]] = {}
        for pod in pods:
            self._pods.setdefault(pod.namespace, []).append(pod)
            self.namespaces.setdefault(pod.namespace, Namespace(pod.namespace))
            for key, value in pod.labels.items():
                self._by_label.setdefault((pod.namespace, key, value), []).append(pod)

    def in_namespace(self, namespace: str) -> list[Pod]:
        """All pods of a namespace."""
        return self._pods.get(namespace, [])

    def select(self, namespace: str, selector: Selector) -> list[Pod]:
        """The pods of a namespace that a selector selects, in their order."""
        candidates = self.in_namespace(namespace)
        for key, value in selector.labels:
            candidates = min(candidates, self._by_label.get((namespace, key, value), []), key=len)
        return [pod for pod in candidates if selector.matches(pod.labels)]

    def select_namespaces(self, selector: Selector) -> Iterator[str]:
        """The namespaces that a selector selects."""
        return (name for name, one in self.namespaces.items() if selector.matches(one.labels))

    def selected_by(self, peer: Peer, namespace: str) -> Iterator[Pod]:
        """The pods that a peer of a policy means. `namespace` is that of the policy."""
        names = (namespace,) if peer.namespaces is None else self.select_namespaces(peer.namespaces)
        for name in names:
            yield from self.select(name, peer.pods or EVERYTHING)

    def all_pods(self) -> Iterator[Pod]:
        """Every pod, by namespace."""
        return (pod for pods in self._pods.values() for pod in pods)

    def explain_nothing(self, selector: Selector, namespace: str) -> str:
        """A hint for a selector that selects no pod of a namespace: where such pods are, or a similar label."""
        elsewhere = [name for name in self._pods if name != namespace and self.select(name, selector)]
        if elsewhere:
            return f"pods of the namespace {elsewhere[0]} have these labels, but only those of {namespace} are meant"
        pods = self.in_namespace(namespace)
        if not pods:
            return f"the namespace {namespace} has no pods"
        known = self._known_labels(namespace)
        if not known:
            return f"the pods of the namespace {namespace} have no labels"
        return label_hint(selector.labels, known) or f"pods there have {_some_labels(known)}"

    def _known_labels(self, namespace: str) -> list[tuple[str, str]]:
        """The labels of the pods of a namespace, sorted; the first MOST_LABELS of very many."""
        if namespace not in self._labels:
            found = {label for pod in self.in_namespace(namespace) for label in pod.labels.items()}
            self._labels[namespace] = sorted(found)[:MOST_LABELS]
        return self._labels[namespace]


def label_hint(wanted: Iterable[tuple[str, str]], known: Iterable[tuple[str, str]]) -> str:
    """A hint for labels that are not all known: a similar value of the same label, or a similar key. "" if there is
    neither."""
    values: dict[str, set[str]] = {}
    for key, value in known:
        values.setdefault(key, set()).add(value)
    for key, value in wanted:
        if key not in values:
            hint = did_you_mean(key, sorted(values))
        else:
            hint = "" if value in values[key] else did_you_mean(value, sorted(values[key]), 0.6, f"{key}={{}}".format)
        if hint:
            return hint
    return ""


def _some_labels(labels: Iterable[tuple[str, str]]) -> str:
    return summarize_names([f"{key}={value}" for key, value in labels], 5)

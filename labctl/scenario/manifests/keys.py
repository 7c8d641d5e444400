"""The keys for API objects and for the cluster in scenarios of Kubernetes models.

The types of the large ones are imported when a file has such a key: most scenarios do without them.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from labctl.scenario.field_types import InvalidValue, Key, LaterField, ListOf, MapOf, Scalar
from labctl.scenario.labels_field import label_value
from labctl.scenario.values import LABEL, choice, network

MACHINES = ("nodes", "pods")  # the words of the models that have these keys


def _file_name(text: str) -> str:
    if not text.strip() or not text.isprintable():
        raise InvalidValue("this is not the name of a file", "such as shop.yaml")
    return text


FILE = Scalar("a file, relative to the scenario", _file_name, {"type": "string", "minLength": 1})
ZONE = Scalar("the name of a zone", label_value, {"type": ["string", "number"]})
OBJECT_KEYS = (
    Key(
        "services",
        LaterField("labctl.scenario.manifests.inline", "SERVICES"),
        "Services: a name, or NAMESPACE/NAME, and the spec in the words of Kubernetes, such as `{web: {selector: {app:"
        " web}, ports: [80:8080]}}`; `labels` and `annotations` may stand beside it",
    ),
    Key(
        "policies",
        LaterField("labctl.scenario.manifests.inline", "POLICIES"),
        "NetworkPolicies: a name, or NAMESPACE/NAME, and the spec in the words of Kubernetes, such as `{deny-all:"
        " {podSelector: {}}}`",
    ),
    Key(
        "ingress",
        LaterField("labctl.scenario.manifests.ingress_key", "INGRESSES"),
        "Ingresses: a name, or NAMESPACE/NAME, and the spec in the words of Kubernetes, with `mode: instance` (requests"
        " go to nodes) or `mode: ip` (to pods) beside it, and `address`; in short `{shop: {mode: ip, rules:"
        " {shop.example/cart: web:80}}}`",
    ),
    Key(
        "namespaces",
        LaterField("labctl.scenario.manifests.inline", "NAMESPACES"),
        "the labels of namespaces, such as `{shop: {team: a}}`",
    ),
    Key("zones", MapOf(LABEL, ZONE), "the zones of nodes, such as `{node1: a}`"),
    Key(
        "manifests",
        ListOf(FILE, allow_single=True),
        "manifests of Kubernetes, YAML or JSON, as people have them; `--manifest FILE` adds further ones",
    ),
)
CLUSTER_KEYS = (
    Key(
        "service_cidr",
        ListOf(network(), allow_single=True),
        "the range of cluster IPs; one of each family for a dual-stack cluster",
        "a range that the model's clusters have",
    ),
    Key(
        "policy_engine",
        choice("calico", "calico-nftables", "kube-router", "kube-router-nftables"),
        "the engine that enforces policies, and its firewall if that is not iptables: Calico's rules need a device for"
        " each pod, kube-router's match addresses",
        "calico if each pod has a separate routed device, else kube-router",
    ),
    Key(
        "kube_proxy",
        LaterField("labctl.scenario.manifests.kube_proxy_key", "KUBE_PROXY"),
        "the settings of kube-proxy, in the words of KubeProxyConfiguration, and its `version`",
    ),
)
NAMES = tuple(key.name for key in (*OBJECT_KEYS, *CLUSTER_KEYS))


def object_keys(model: Any) -> tuple[Key, ...]:
    """The keys for API objects of a scenario of this model: none if it does not imitate Kubernetes."""
    return (*OBJECT_KEYS, *cluster_keys(model)) if has_objects(model) else ()


def has_objects(model: Any) -> bool:
    """Whether the scenarios of a model can have API objects."""
    return bool(model.MACHINES == MACHINES)


def cluster_keys(model: Any) -> tuple[Key, ...]:
    """The keys that a model has not itself, as one of its options."""
    own = {field.name for field in dataclasses.fields(model.Options)}
    return tuple(key for key in CLUSTER_KEYS if key.name not in own)

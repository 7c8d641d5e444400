"""The kinds of API objects that labctl reads: the versions of their API, their fields, and what they become.

A further kind needs one entry in `KINDS`: a table of fields, and the function that makes an object of its JSON form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from labctl.kubernetes.api.api_reader import read_node, read_service, read_slice
from labctl.kubernetes.api.cluster_policy_reader import read_cluster_policy
from labctl.kubernetes.api.ingress_objects import read_gateway, read_http_route, read_ingress
from labctl.kubernetes.api.policy_reader import read_namespace, read_policy
from labctl.scenario.manifests.api_types import ApiFields, ApiText
from labctl.scenario.manifests.cluster_policy_fields import CLUSTER_POLICY
from labctl.scenario.manifests.common_fields import DNS_NAME, dns_label, metadata
from labctl.scenario.manifests.pod_fields import DAEMON_SET, DEPLOYMENT, POD, REPLICA_SET, STATEFUL_SET
from labctl.scenario.manifests.pod_sources import read_pod, read_template
from labctl.scenario.manifests.policy_fields import NETWORK_POLICY
from labctl.scenario.manifests.route_fields import GATEWAY, HTTP_ROUTE, INGRESS
from labctl.scenario.manifests.service_fields import ENDPOINT_SLICE, SERVICE, SLICE_RULES

NODES = "nodes"  # nodes with their zones
PODS = "pods"  # what makes pods: they become part of the scenario's nodes
Read: TypeAlias = Callable[[Mapping[str, Any]], Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects. `versions` are the values of `apiVersion` that it has; objects of a foreign project may have
    the same kind with another group, and are not used.

    `into` is the field of `Declared` that gets what `read` makes of the JSON form, or PODS, or NODES. Objects without
    `read` are checked, and named as not used.
    """

    name: str
    versions: tuple[str, ...]
    fields: ApiFields
    into: str = ""
    read: Read | None = None
    namespaced: bool = True
    without_use: str = ""  # the reason if `read` returns None


def _kind(
    name: str,
    versions: tuple[str, ...],
    fields: Mapping[str, Any],
    into: str = "",
    read: Read | None = None,
    *,
    required: tuple[str, ...] = ("metadata", "spec"),
    rules: tuple[Any, ...] = (),
    namespaced: bool = True,
    elsewhere: Mapping[str, str] | None = None,
    without_use: str = "",
) -> Kind:
    silent = frozenset({"apiVersion", "kind", *(() if "status" in fields else ("status",))})
    table = ApiFields(fields, required, silent=silent, rules=rules, elsewhere=elsewhere or {})
    return Kind(name, versions, table, into, read, namespaced, without_use)


_GATEWAY_API = ("gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1")
_SPEC, _METADATA = "it is a field of `spec`", "it is a field of `metadata`"
NODE_SPEC = frozenset({"podCIDR", "podCIDRs", "providerID", "taints", "unschedulable", "configSource", "externalID"})
_TEMPLATE = {"replicas": _SPEC, "selector": _SPEC, "template": _SPEC, "labels": _METADATA}

KINDS = {
    kind.name: kind
    for kind in (
        _kind(
            "Namespace",
            ("v1",),
            {"metadata": metadata(ApiText("a DNS label", dns_label), namespaced=False)},
            "namespaces",
            read_namespace,
            required=("metadata",),
            namespaced=False,
        ),
        _kind(
            "Node",
            ("v1",),
            {"metadata": metadata(DNS_NAME, namespaced=False), "spec": ApiFields({}, unused=NODE_SPEC)},
            NODES,
            lambda item: (item["metadata"]["name"], read_node(item).zone),
            required=("metadata",),
            namespaced=False,
        ),
        _kind(
            "Pod",
            ("v1",),
            POD,
            PODS,
            read_pod,
            elsewhere={"containers": _SPEC, "labels": _METADATA},
            without_use="the pod has ended",
        ),
        _kind("Deployment", ("apps/v1",), DEPLOYMENT, PODS, read_template("Deployment"), elsewhere=_TEMPLATE),
        _kind("ReplicaSet", ("apps/v1",), REPLICA_SET, PODS, read_template("ReplicaSet"), elsewhere=_TEMPLATE),
        _kind("StatefulSet", ("apps/v1",), STATEFUL_SET, PODS, read_template("StatefulSet"), elsewhere=_TEMPLATE),
        _kind("DaemonSet", ("apps/v1",), DAEMON_SET, PODS, read_template("DaemonSet"), elsewhere=_TEMPLATE),
        _kind(
            "Service",
            ("v1",),
            SERVICE,
            "services",
            read_service,
            elsewhere={"ports": _SPEC, "selector": _SPEC, "type": _SPEC},
        ),
        _kind(
            "EndpointSlice",
            ("discovery.k8s.io/v1",),
            ENDPOINT_SLICE,
            "slices",
            read_slice,
            required=("metadata", "addressType"),
            rules=SLICE_RULES,
            without_use="kube-proxy uses slices that have the label kubernetes.io/service-name and IP addresses, and do"
            " not belong to a headless Service",
        ),
        _kind(
            "NetworkPolicy",
            ("networking.k8s.io/v1",),
            NETWORK_POLICY,
            "policies",
            read_policy,
            elsewhere={name: _SPEC for name in ("podSelector", "policyTypes", "ingress", "egress")},
        ),
        _kind(
            "ClusterNetworkPolicy",
            ("policy.networking.k8s.io/v1alpha2",),
            CLUSTER_POLICY,
            "cluster_policies",
            read_cluster_policy,
            namespaced=False,
        ),
        _kind("Ingress", ("networking.k8s.io/v1",), INGRESS, "ingresses", read_ingress),
        _kind("Gateway", _GATEWAY_API, GATEWAY, "gateways", read_gateway),
        _kind("HTTPRoute", _GATEWAY_API, HTTP_ROUTE, "http_routes", read_http_route),
    )
}

# kinds that decide about no packet in a lab: no warning names them
SILENT = frozenset({"IngressClass", "GatewayClass", "ReferenceGrant"})
# kinds of the API whose names are similar to one of the above
OTHERS = frozenset({"Endpoints", "ServiceAccount", "PodTemplate", "ReplicationController", "ServiceCIDR", "NodeList"})

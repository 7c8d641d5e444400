"""The fields of ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2). Its mappings are closed, as those of a
NetworkPolicy are."""

from __future__ import annotations

from typing import Any

from labctl.kubernetes.api.cluster_policy_objects import ACTIONS, MAX_PRIORITY, TIERS
from labctl.kubernetes.api.cluster_policy_reader import NOT_SUPPORTED, PROTOCOLS
from labctl.scenario.manifests.api_types import ApiChoice, ApiFields, ApiList, ApiNumber, ApiText, port_name
from labctl.scenario.manifests.common_fields import DNS_NAME, RANGE, SELECTOR, metadata
from labctl.scenario.manifests.service_fields import PORT

_PODS = ApiFields({"namespaceSelector": SELECTOR, "podSelector": SELECTOR}, ("podSelector",), closed=True)
_SELECTED: dict[str, Any] = {"namespaces": SELECTOR, "pods": _PODS}
_ELSEWHERE = {
    "podSelector": "write pods: {podSelector: ...}",
    "namespaceSelector": "write namespaces, or pods: {namespaceSelector: ...}",
}
_SUBJECT = ApiFields(_SELECTED, closed=True, elsewhere=_ELSEWHERE)
_SOURCE = ApiFields(
    _SELECTED, closed=True, elsewhere={**_ELSEWHERE, "networks": "only an egress rule has networks as peers"}
)
_TARGET = ApiFields(
    {**_SELECTED, "networks": ApiList(RANGE, 1)}, closed=True, elsewhere=_ELSEWHERE, not_supported=NOT_SUPPORTED
)
_DESTINATION = ApiFields(
    {"number": PORT, "range": ApiFields({"start": PORT, "end": PORT}, ("start", "end"), closed=True)}, closed=True
)
_PROTOCOL = ApiFields({"destinationPort": _DESTINATION}, ("destinationPort",), closed=True)
_PROTOCOLS = ApiFields(
    {
        **{name: _PROTOCOL for name in PROTOCOLS},
        "destinationNamedPort": ApiText("the name of a port", port_name),
    },
    closed=True,
)


def _rule(side: str, peer: ApiFields) -> ApiFields:
    fields: dict[str, Any] = {"name": ApiText(), "action": ApiChoice(ACTIONS), side: ApiList(peer, 1)}
    fields["protocols"] = ApiList(_PROTOCOLS, 1)
    elsewhere = {"ports": "v1alpha2 has `protocols`, such as - tcp: {destinationPort: {number: 80}}"}
    return ApiFields(fields, ("action", side), closed=True, elsewhere=elsewhere)


CLUSTER_POLICY_SPEC = ApiFields(
    {
        "tier": ApiChoice(TIERS),
        "priority": ApiNumber(0, MAX_PRIORITY),
        "subject": _SUBJECT,
        "ingress": ApiList(_rule("from", _SOURCE)),
        "egress": ApiList(_rule("to", _TARGET)),
    },
    ("tier", "priority", "subject"),
    closed=True,
)
CLUSTER_POLICY = {"metadata": metadata(DNS_NAME, namespaced=False), "spec": CLUSTER_POLICY_SPEC}

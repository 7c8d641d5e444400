"""The fields of Service, EndpointSlice and their parts (v1, discovery.k8s.io/v1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labctl.scenario.document import quote_text
from labctl.scenario.field_types import InvalidValue
from labctl.scenario.labels_field import label_key
from labctl.scenario.manifests.api_types import (
    ApiChoice,
    ApiFields,
    ApiFlag,
    ApiList,
    ApiMap,
    ApiNumber,
    ApiPort,
    ApiText,
    Path,
)
from labctl.scenario.manifests.common_fields import (
    ADDRESS,
    DNS_LABEL,
    DNS_NAME,
    LABEL_TEXT,
    PROTOCOL,
    RANGE,
    metadata,
    service_name,
)

PORT = ApiNumber(1, 65535)
_POLICY = ApiChoice(("Cluster", "Local"))
SERVICE_PORT = ApiFields(
    {"name": DNS_LABEL, "protocol": PROTOCOL, "port": PORT, "targetPort": ApiPort(), "nodePort": ApiNumber(0, 65535)},
    ("port",),
    unused=frozenset({"appProtocol"}),
    short_forms="80, 80:8080, 80:http, 53:5353/udp, web=80:8080",
)
_AFFINITY = ApiFields({"clientIP": ApiFields({"timeoutSeconds": ApiNumber(1, 86400)})})


def _cluster_ip(text: str) -> None:
    """An address, `None` for a headless Service, or nothing. Raises InvalidValue."""
    if text not in ("", "None"):
        assert ADDRESS.check is not None
        ADDRESS.check(text)


_CLUSTER_IP = ApiText("an IP address, or None", _cluster_ip)


def _service_rules(spec: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    first, ips = spec.get("clusterIP"), spec.get("clusterIPs")
    if first and ips and ips[0] != first:
        yield ("clusterIPs",), f"the first of clusterIPs is not clusterIP, {quote_text(first)}", "remove one of the two"
    if ips and "None" in ips and len(ips) > 1:
        yield ("clusterIPs",), "None stands for a headless Service: it cannot be beside an address", ""
    if ips and len(ips) > 2:
        yield ("clusterIPs",), f"{len(ips)} addresses", "a Service has at most one for each address family"
    is_external = spec.get("type") == "ExternalName"
    if not spec.get("ports") and not is_external and "None" not in (first, *(ips or ())):
        yield (), "'ports' is missing", "only a headless Service can be without ports"
    if is_external and not spec.get("externalName"):
        yield ("type",), "a Service of the type ExternalName needs externalName", ""
    if spec.get("sessionAffinityConfig") and spec.get("sessionAffinity", "None") != "ClientIP":
        yield ("sessionAffinityConfig",), "it needs sessionAffinity: ClientIP", ""


SERVICE_SPEC = ApiFields(
    {
        "type": ApiChoice(("ClusterIP", "NodePort", "LoadBalancer", "ExternalName")),
        "ports": ApiList(SERVICE_PORT),
        "selector": ApiMap(
            "a mapping of labels, such as {app: web}",
            label_key,
            LABEL_TEXT,
            "the selector of a Service has labels only, such as {app: web}",
        ),
        "clusterIP": _CLUSTER_IP,
        "clusterIPs": ApiList(_CLUSTER_IP),
        "externalIPs": ApiList(ADDRESS),
        "externalName": DNS_NAME,
        "loadBalancerSourceRanges": ApiList(RANGE),
        "internalTrafficPolicy": _POLICY,
        "externalTrafficPolicy": _POLICY,
        "sessionAffinity": ApiChoice(("None", "ClientIP")),
        "sessionAffinityConfig": _AFFINITY,
        "healthCheckNodePort": ApiNumber(0, 65535),
        "loadBalancerIP": ADDRESS,
    },
    unused=frozenset({
        "loadBalancerClass", "publishNotReadyAddresses", "ipFamilies", "ipFamilyPolicy",
        "allocateLoadBalancerNodePorts", "trafficDistribution",
    }),
    elsewhere={
        "targetPort": "it is a field of an entry of `ports`",
        "nodePort": "it is a field of an entry of `ports`",
        "protocol": "it is a field of an entry of `ports`",
        "matchLabels": "the selector of a Service has labels only, such as selector: {app: web}",
        "podSelector": "a Service has `selector`",
    },
    rules=(_service_rules,),
)  # fmt: skip
_INGRESS = ApiFields({"ip": ADDRESS, "ipMode": ApiChoice(("VIP", "Proxy"))}, silent=frozenset({"hostname", "ports"}))
_STATUS = ApiFields({"loadBalancer": ApiFields({"ingress": ApiList(_INGRESS)})}, silent=frozenset({"conditions"}))
SERVICE = {
    "metadata": metadata(ApiText("a name", service_name)),
    "spec": SERVICE_SPEC,
    "status": _STATUS,
}

_HINT = ApiFields({"name": ApiText("a name")}, ("name",))
_ENDPOINT = ApiFields(
    {
        "addresses": ApiList(ApiText("an address"), 1),
        "conditions": ApiFields({name: ApiFlag() for name in ("ready", "serving", "terminating")}),
        "nodeName": DNS_NAME,
        "hints": ApiFields({"forZones": ApiList(_HINT), "forNodes": ApiList(_HINT)}),
    },
    ("addresses",),
    unused=frozenset({"hostname", "zone", "deprecatedTopology"}),
    silent=frozenset({"targetRef"}),
)
_ENDPOINT_PORT = ApiFields(
    {"name": ApiText("the name of a port"), "protocol": PROTOCOL, "port": PORT}, unused=frozenset({"appProtocol"})
)


def _slice_addresses(item: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    if item["addressType"] == "FQDN":
        return
    colon = item["addressType"] == "IPv6"
    for number, endpoint in enumerate(item.get("endpoints") or ()):
        for position, text in enumerate(endpoint["addresses"]):
            path: Path = ("endpoints", number, "addresses", position)
            try:
                assert ADDRESS.check is not None
                ADDRESS.check(text)
            except InvalidValue as bad:
                yield path, bad.message, bad.hint
                continue
            if (":" in text) != colon:
                yield path, f"{text} is not an {item['addressType']} address", "addressType decides for all endpoints"


ENDPOINT_SLICE = {
    "metadata": metadata(DNS_NAME),
    "addressType": ApiChoice(("IPv4", "IPv6", "FQDN")),
    "endpoints": ApiList(_ENDPOINT),
    "ports": ApiList(_ENDPOINT_PORT),
}
SLICE_RULES = (_slice_addresses,)

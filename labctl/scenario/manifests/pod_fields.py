"""The fields of pods, and of the objects that make pods from a template (v1, apps/v1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from labctl.kubernetes.api.policy_reader import read_selector
from labctl.scenario.manifests.api_types import ApiFields, ApiFlag, ApiList, ApiNumber, ApiText, Path, port_name
from labctl.scenario.manifests.common_fields import (
    ANNOTATIONS,
    DNS_LABEL,
    DNS_NAME,
    LABELS,
    PROTOCOL,
    SELECTOR,
    WRITTEN_BY_SERVER,
    metadata,
)
from labctl.scenario.manifests.service_fields import PORT

MAX_REPLICAS = 5000
SANDBOX = "pause"  # the name of the process that keeps a pod's network
_CONTAINER_PORT = ApiFields(
    {
        "name": ApiText("the name of a port", port_name),
        "containerPort": PORT,
        "protocol": PROTOCOL,
        "hostPort": ApiNumber(0, 65535),
    },
    ("containerPort",),
    unused=frozenset({"hostIP"}),
    elsewhere={"port": "write containerPort", "targetPort": "a Service has targetPort; write containerPort"},
)
_CONTAINER = ApiFields(
    {"name": DNS_LABEL, "ports": ApiList(_CONTAINER_PORT)},
    ("name",),
    unused=frozenset({
        "image", "command", "args", "workingDir", "env", "envFrom", "resources", "resizePolicy", "restartPolicy",
        "restartPolicyRules", "volumeMounts", "volumeDevices", "livenessProbe", "readinessProbe", "startupProbe",
        "lifecycle", "terminationMessagePath", "terminationMessagePolicy", "imagePullPolicy", "securityContext",
        "stdin", "stdinOnce", "tty",
    }),
)  # fmt: skip


def _container_rules(spec: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """The containers of a pod share its ports, and have different names."""
    names: dict[str, int] = {}
    ports: dict[tuple[int, str], str] = {}
    port_names: dict[str, str] = {}
    for number, container in enumerate(spec["containers"]):
        name = container["name"]
        path: Path = ("containers", number, "name")
        if name in names:
            yield path, f"two containers have the name {name!r}", "choose another name"
        elif name == SANDBOX:
            yield path, f"in labctl, {SANDBOX!r} is the process that keeps a pod's network", "choose another name"
        names[name] = number
        for index, port in enumerate(container.get("ports") or ()):
            at: Path = ("containers", number, "ports", index)
            key = (port["containerPort"], port.get("protocol", "TCP"))
            if key in ports:
                what = f"port {key[0]} ({key[1]}) is already used by the container {ports[key]!r}"
                yield (*at, "containerPort"), what, "the containers of a pod share its ports"
            ports.setdefault(key, name)
            if port.get("name") in port_names:
                yield (*at, "name"), f"two ports have the name {port['name']!r}", "choose another name"
            if "name" in port:
                port_names[port["name"]] = name


POD_SPEC = ApiFields(
    {"containers": ApiList(_CONTAINER, 1), "nodeName": DNS_NAME, "hostNetwork": ApiFlag()},
    ("containers",),
    unused=frozenset({
        "volumes", "initContainers", "ephemeralContainers", "restartPolicy", "terminationGracePeriodSeconds",
        "activeDeadlineSeconds", "dnsPolicy", "dnsConfig", "nodeSelector", "serviceAccountName", "serviceAccount",
        "automountServiceAccountToken", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace", "securityContext",
        "imagePullSecrets", "hostname", "subdomain", "setHostnameAsFQDN", "affinity", "schedulerName", "tolerations",
        "hostAliases", "priorityClassName", "priority", "preemptionPolicy", "readinessGates", "runtimeClassName",
        "enableServiceLinks", "overhead", "topologySpreadConstraints", "os", "schedulingGates", "resourceClaims",
        "resources",
    }),
    elsewhere={"ports": "it is a field of an entry of `containers`", "labels": "it is a field of `metadata`"},
    rules=(_container_rules,),
)  # fmt: skip
_POD_STATUS = ApiFields(
    {"phase": ApiText()},
    silent=frozenset({
        "conditions", "hostIP", "hostIPs", "podIP", "podIPs", "startTime", "containerStatuses", "initContainerStatuses",
        "ephemeralContainerStatuses", "qosClass", "message", "reason", "nominatedNodeName", "resize", "resources",
        "allocatedResources", "resourceClaimStatuses", "extendedResourceClaimStatus", "observedGeneration",
    }),
)  # fmt: skip
POD = {"metadata": metadata(DNS_NAME), "spec": POD_SPEC, "status": _POD_STATUS}

_TEMPLATE = ApiFields(
    {
        "metadata": ApiFields(
            {"labels": LABELS, "annotations": ANNOTATIONS}, silent=frozenset({"name", "namespace", *WRITTEN_BY_SERVER})
        ),
        "spec": POD_SPEC,
    },
    ("spec",),
    elsewhere={"labels": "it is a field of `metadata`"},
)


def _selector_matches(spec: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    labels = (spec["template"].get("metadata") or {}).get("labels") or {}
    if not spec["selector"]:
        yield ("selector",), "the selector is empty", "write the labels of the template in selector.matchLabels"
    elif not read_selector(spec["selector"]).matches(labels):
        yield ("selector",), "the selector does not select the labels of the template", "the two must fit"


def template_fields(*unused: str, replicas: bool = True, **more: ApiText) -> dict[str, ApiFields]:
    """The fields of a kind that makes pods from a template."""
    fields: dict[str, Any] = {"selector": SELECTOR, "template": _TEMPLATE, **more}
    if replicas:
        fields["replicas"] = ApiNumber(0, MAX_REPLICAS)
    spec = ApiFields(
        fields,
        ("selector", "template"),
        unused=frozenset({"minReadySeconds", "revisionHistoryLimit", *unused}),
        elsewhere={"containers": "it is a field of `template.spec`"},
        rules=(_selector_matches,),
    )
    return {"metadata": metadata(DNS_NAME), "spec": spec}


DEPLOYMENT = template_fields("strategy", "paused", "progressDeadlineSeconds")
REPLICA_SET = template_fields()
STATEFUL_SET = template_fields(
    "podManagementPolicy", "updateStrategy", "volumeClaimTemplates", "ordinals", "persistentVolumeClaimRetentionPolicy",
    serviceName=ApiText("a name"),
)  # fmt: skip
DAEMON_SET = template_fields("updateStrategy", replicas=False)

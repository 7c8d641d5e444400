"""What API objects of all kinds have: metadata, names, labels, selectors, addresses and ranges."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from labctl.kubernetes.api.selectors import OPERATORS
from labctl.scenario.document import quote_text
from labctl.scenario.field_types import InvalidValue
from labctl.scenario.labels_field import label_key, label_value
from labctl.scenario.manifests.api_types import ApiChoice, ApiFields, ApiList, ApiMap, ApiText, Path

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
NAME_HINT = "a-z, 0-9 and '-'; the first and the last are letters or digits"


def dns_label(text: str) -> None:
    """A DNS label of at most 63 characters (RFC 1123). Raises InvalidValue."""
    if not re.fullmatch(_LABEL, text) or len(text) > 63:
        raise InvalidValue(f"{quote_text(text)} is not a DNS label", f"at most 63 of {NAME_HINT}")


def service_name(text: str) -> None:
    """The name of a Service: a DNS label that begins with a letter (RFC 1035). Raises InvalidValue."""
    dns_label(text)
    if not text[0].isalpha():
        raise InvalidValue(f"{quote_text(text)} is not the name of a Service", "it begins with a letter")


def dns_name(text: str) -> None:
    """A DNS name of at most 253 characters, as most objects have it (RFC 1123). Raises InvalidValue."""
    if not re.fullmatch(rf"{_LABEL}([.]{_LABEL})*", text) or len(text) > 253:
        raise InvalidValue(f"{quote_text(text)} is not the name of an object", f"labels with dots between: {NAME_HINT}")


def _address(text: str) -> None:
    try:
        ip_address(text)
    except ValueError:
        hint = "write it without a prefix length" if "/" in text else ""
        raise InvalidValue(f"{quote_text(text)} is not an IP address", hint) from None


def _range(text: str) -> None:
    if "/" not in text:
        raise InvalidValue(f"{quote_text(text)} is not a range: it has no prefix length", "such as 10.0.0.0/16")
    try:
        ip_network(text.strip(), strict=False)
    except ValueError:
        raise InvalidValue(f"{quote_text(text)} is not a range in CIDR notation", "such as 10.0.0.0/16") from None


def annotation_key(text: str) -> None:
    """The key of an annotation has the form of that of a label. Raises InvalidValue."""
    try:
        label_key(text.lower())
    except InvalidValue:
        raise InvalidValue(f"{quote_text(text)} is not the key of an annotation", "such as example.com/name") from None


DNS_LABEL = ApiText("a DNS label", dns_label)
DNS_NAME = ApiText("a name", dns_name)
ADDRESS = ApiText("an IP address", _address)
RANGE = ApiText("a range such as 10.0.0.0/16", _range)
LABEL_TEXT = ApiText("the value of a label", label_value)
LABELS = ApiMap("a mapping of labels, such as {app: web}", label_key, LABEL_TEXT)
ANNOTATIONS = ApiMap("a mapping of annotations", annotation_key)
PROTOCOL = ApiChoice(("TCP", "UDP", "SCTP"))

OWNER = ApiFields(
    {"kind": ApiText(), "name": ApiText()},
    silent=frozenset({"apiVersion", "uid", "controller", "blockOwnerDeletion"}),
)
WRITTEN_BY_SERVER = frozenset({
    "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation",
    "managedFields", "finalizers", "selfLink", "generateName",
})  # fmt: skip


def metadata(name: ApiText, *, namespaced: bool = True, **more: ApiText) -> ApiFields:
    """The metadata of a kind of objects, with the rules for their names, and `more` fields. What the API server adds is
    ignored otherwise."""
    fields: dict[str, Any] = {"name": name, "labels": LABELS, "annotations": ANNOTATIONS, **more}
    elsewhere = {} if namespaced else {"namespace": "objects of this kind are in no namespace"}
    if namespaced:
        fields["namespace"] = DNS_LABEL
    fields["ownerReferences"] = ApiList(OWNER)
    return ApiFields(fields, ("name",), silent=WRITTEN_BY_SERVER, elsewhere=elsewhere)


def _expression_values(item: Mapping[str, Any]) -> Iterator[tuple[Path, str, str]]:
    needs_values = item["operator"] in ("In", "NotIn")
    if needs_values and not item.get("values"):
        yield (), f"the operator {item['operator']} needs values", "such as values: [web]"
    if not needs_values and item.get("values"):
        yield ("values",), f"the operator {item['operator']} has no values", "remove them, or write In or NotIn"


_EXPRESSION = ApiFields(
    {"key": ApiText("the key of a label", label_key), "operator": ApiChoice(OPERATORS), "values": ApiList(LABEL_TEXT)},
    ("key", "operator"),
    closed=True,
    rules=(_expression_values,),
)


SELECTOR = ApiFields(
    {"matchLabels": LABELS, "matchExpressions": ApiList(_EXPRESSION)},
    closed=True,
    closed_hint="labels stand below matchLabels, such as {matchLabels: {app: web}}",
)

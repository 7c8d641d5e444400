"""The key `ingress` of a scenario: Ingresses, with the mode of their load balancers, and rules in a short form."""

from __future__ import annotations

import re

from labctl.kubernetes.api.ingress_objects import MODES
from labctl.scenario.document import Map, Position, Seq, Text, TreeNode
from labctl.scenario.field_types import Json
from labctl.scenario.manifests.api_types import ApiChoice, ApiFields
from labctl.scenario.manifests.common_fields import ADDRESS
from labctl.scenario.manifests.inline import ObjectsField, spec_and_metadata, with_metadata
from labctl.scenario.manifests.kinds import KINDS, Kind
from labctl.scenario.manifests.route_fields import INGRESS, INGRESS_SPEC

_SHORT_BACKEND = re.compile(r"(?P<service>[a-z0-9](?:[-a-z0-9]*[a-z0-9])?):(?P<port>[0-9]{1,5}|[a-z][-a-z0-9]*)")
SHORT_RULES = "a mapping from HOST/PATH to SERVICE:PORT, such as {shop.example/cart: web:80}"
# two fields more than a manifest has
_SPEC = ApiFields(
    {"mode": ApiChoice(MODES), "address": ADDRESS, **INGRESS_SPEC.fields},
    unused=INGRESS_SPEC.unused,
    silent=INGRESS_SPEC.silent,
    short_forms=SHORT_RULES,
)
_INGRESS = KINDS["Ingress"]
_KIND = Kind(
    "Ingress", _INGRESS.versions, ApiFields({**INGRESS, "spec": _SPEC}, ("metadata", "spec")), _INGRESS.into,
    _INGRESS.read,
)  # fmt: skip


def _ingress(key: Text, value: TreeNode) -> tuple[tuple[str, TreeNode], ...]:
    return tuple((name, _with_rules(part) if name == "spec" else part) for name, part in spec_and_metadata(key, value))


def _with_rules(spec: TreeNode) -> TreeNode:
    """The spec with its rules and its default backend in the form of the API."""
    if not isinstance(spec, Map):
        return spec
    long_forms = {"rules": _rules, "defaultBackend": _backend}
    items = ((name, long_forms[name.value](one) if name.value in long_forms else one) for name, one in spec.items)
    return Map(spec.position, tuple(items))


def _rules(node: TreeNode) -> TreeNode:
    """Rules in short form: one entry for each path. Entries for the same host become one rule, as the API has them."""
    if not isinstance(node, Map):
        return node
    by_host: dict[str, list[tuple[Text, Text, TreeNode]]] = {}
    for key, value in node.items:
        host, slash, path = key.value.partition("/")
        by_host.setdefault(host, []).append((key, _text(key.position, slash + path or "/"), value))
    rules: list[TreeNode] = []
    for host, entries in by_host.items():
        at = entries[0][0].position
        http = _map(at, ("paths", Seq(at, tuple(_path(*entry) for entry in entries))))
        rules.append(_map(at, *((("host", _text(at, host)),) if host else ()), ("http", http)))
    return Seq(node.position, tuple(rules))


def _path(key: Text, path: Text, backend: TreeNode) -> Map:
    kind = _text(key.position, "Prefix")
    return _map(key.position, ("path", path), ("pathType", kind), ("backend", _backend(backend)))


def _backend(node: TreeNode) -> TreeNode:
    """A backend in short form: SERVICE:PORT. A text of another form stays as it is, and is refused later."""
    found = _SHORT_BACKEND.fullmatch(node.value) if isinstance(node, Text) else None
    if found is None:
        return node
    at, port = node.position, found["port"]
    field = ("number", Text(at, str(int(port)))) if port.isdecimal() else ("name", _text(at, port))
    return _map(at, ("service", _map(at, ("name", _text(at, found["service"])), ("port", _map(at, field)))))


def _map(at: Position, *items: tuple[str, TreeNode]) -> Map:
    return Map(at, tuple((_text(at, name), value) for name, value in items))


def _text(at: Position, value: str) -> Text:
    return Text(at, value, False)


def _schema() -> Json:
    schema = with_metadata(_SPEC.schema())
    fields = schema["properties"]
    short_rules: Json = {"type": "object", "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "object"}]}}
    fields["rules"] = {"anyOf": [fields["rules"], short_rules]}
    fields["defaultBackend"] = {"anyOf": [fields["defaultBackend"], {"type": "string"}]}
    return schema


INGRESSES = ObjectsField(_KIND, "a mapping from names to specs of Ingresses, such as {shop: {...}}", _ingress, _schema)

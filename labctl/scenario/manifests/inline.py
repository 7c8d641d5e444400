"""The keys of a scenario for API objects: `services`, `policies`, `namespaces`. Each entry becomes the tree that a
manifest of the object has, so that one table reads both, and every value keeps its place."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from labctl.scenario.document import Map, Position, Reader, Seq, Text, TreeNode
from labctl.scenario.field_types import Json
from labctl.scenario.manifests.common_fields import ANNOTATIONS, LABELS
from labctl.scenario.manifests.kinds import KINDS, Kind
from labctl.scenario.manifests.policy_fields import POLICY_SPEC
from labctl.scenario.manifests.service_fields import SERVICE_PORT, SERVICE_SPEC

METADATA = ("labels", "annotations")  # what may stand beside the fields of a spec


@dataclass(frozen=True, slots=True)
class ObjectsField:
    """The value of a key for objects: a mapping from names, or NAMESPACE/NAME, to what `make` turns into their trees.

    Reads as the tree itself: the objects are read when the whole scenario is known.
    """

    kind: Kind
    what: str
    make: Callable[[Text, TreeNode], tuple[tuple[str, TreeNode], ...]]
    value_schema: Callable[[], Json]

    def read(self, node: TreeNode, label: str, reader: Reader) -> Map | None:
        if isinstance(node, Text) and node.is_null:
            return Map(node.position)
        if not isinstance(node, Map):
            reader.add_problem(node, f"{label}: expected {self.what}")
            return None
        return node

    def objects(self, node: Map) -> tuple[Map, ...]:
        """The trees of the objects of a value that was read."""
        return tuple(self._object(key, value) for key, value in node.items)

    def _object(self, key: Text, value: TreeNode) -> Map:
        parts = dict(self.make(key, value))
        metadata = [*_names(key), *((_text(key.position, name), parts.pop(name)) for name in METADATA if name in parts)]
        rest = ((_text(key.position, name), part) for name, part in parts.items())
        return Map(key.position, ((_text(key.position, "metadata"), Map(key.position, tuple(metadata))), *rest))

    def schema(self) -> Json:
        return {"type": ["object", "null"], "additionalProperties": self.value_schema()}


def _names(key: Text) -> tuple[tuple[Text, TreeNode], ...]:
    """The name, and the namespace of NAMESPACE/NAME."""
    namespace, slash, name = key.value.partition("/")
    if not slash:
        return ((_text(key.position, "name"), _text(key.position, key.value)),)
    at = Position(key.position.file, key.position.line, key.position.column + len(namespace) + 1)
    return (
        (_text(key.position, "name"), _text(at, name)),
        (_text(key.position, "namespace"), _text(key.position, namespace)),
    )


def _text(at: Position, value: str) -> Text:
    return Text(at, value, False)


def spec_and_metadata(key: Text, value: TreeNode) -> tuple[tuple[str, TreeNode], ...]:
    """The fields of a spec, with those of METADATA beside them."""
    if isinstance(value, Text) and value.is_null:
        return (("spec", Map(key.position)),)
    if not isinstance(value, Map):
        return (("spec", value),)
    beside = tuple((name.value, one) for name, one in value.items if name.value in METADATA)
    spec = tuple((name, one) for name, one in value.items if name.value not in METADATA)
    return (*beside, ("spec", Map(value.position, spec)))


def _service(key: Text, value: TreeNode) -> tuple[tuple[str, TreeNode], ...]:
    return tuple((name, _with_ports(part) if name == "spec" else part) for name, part in spec_and_metadata(key, value))


def _namespace(key: Text, value: TreeNode) -> tuple[tuple[str, TreeNode], ...]:
    return (("labels", value),)


def _with_ports(spec: TreeNode) -> TreeNode:
    """The spec of a Service with its ports in the form of the API. A single port needs no list."""
    if not isinstance(spec, Map):
        return spec
    items = ((name, _ports(one) if name.value == "ports" else one) for name, one in spec.items)
    return Map(spec.position, tuple(items))


def _ports(node: TreeNode) -> TreeNode:
    nodes = node.items if isinstance(node, Seq) else (node,)
    if isinstance(node, Text) and node.is_null:
        return node
    several = len(nodes) > 1
    return Seq(node.position, tuple(_port(one, several) if isinstance(one, Text) else one for one in nodes))


_SHORT_PORT = re.compile(
    r"(?:(?P<name>[a-z0-9][-a-z0-9]*)=)?(?P<port>[0-9]{1,5})(?::(?P<target>[0-9a-z][-0-9a-z]*))?"
    r"(?:/(?P<protocol>[A-Za-z]{3,4}))?"
)


def _port(node: Text, several: bool) -> TreeNode:
    """A port in short form: `[NAME=]PORT[:TARGET][/PROTOCOL]`. Where a Service has several ports, one without a name is
    named as `kubectl create service` does: 80-8080. A text of another form stays as it is, and is refused later."""
    found = _SHORT_PORT.fullmatch(node.value)
    if found is None:
        return node
    port, target, protocol = found["port"], found["target"], (found["protocol"] or "TCP").upper()
    fields: list[tuple[str, Text]] = [("port", Text(node.position, str(int(port))))]
    if target:
        number = target.isdecimal()
        fields.append(("targetPort", Text(node.position, str(int(target)) if number else target, number)))
    if protocol != "TCP":
        fields.append(("protocol", _text(node.position, protocol)))
    name = found["name"] or ""
    if not name and several:
        name = "-".join((port, target or port, *(() if protocol == "TCP" else (protocol.lower(),))))
    if name:
        fields.append(("name", _text(node.position, name)))
    return Map(node.position, tuple((_text(node.position, key), value) for key, value in fields))


def with_metadata(schema: Json) -> Json:
    """The schema of a spec, with METADATA beside its fields."""
    both = {"labels": LABELS.schema(), "annotations": ANNOTATIONS.schema()}
    return {**schema, "properties": {**schema["properties"], **both}, "type": ["object", "null"]}


def _service_schema() -> Json:
    schema = with_metadata(SERVICE_SPEC.schema())
    port: Json = {"anyOf": [SERVICE_PORT.schema(), {"type": ["integer", "string"]}]}
    schema["properties"]["ports"] = {"anyOf": [{"type": ["array", "null"], "items": port}, *port["anyOf"]]}
    return schema


SERVICES = ObjectsField(
    KINDS["Service"], "a mapping from names to specs of Services, such as {web: {...}}", _service, _service_schema
)
POLICIES = ObjectsField(
    KINDS["NetworkPolicy"],
    "a mapping from names to specs of NetworkPolicies",
    spec_and_metadata,
    lambda: with_metadata(POLICY_SPEC.schema()),
)
NAMESPACES = ObjectsField(
    KINDS["Namespace"],
    "a mapping from namespaces to their labels, such as {shop: {team: a}}",
    _namespace,
    LABELS.schema,
)

"""Read API objects from trees: find the kind of each, read its fields, and keep its place."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from labctl.core.names import did_you_mean, summarize_names
from labctl.kubernetes.api.api_objects import EndpointSlice
from labctl.kubernetes.api.declared import Declared
from labctl.scenario.document import Map, Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import shorten
from labctl.scenario.manifests.api_types import INVALID, ObjectContext, Path, descend, field_path, similar
from labctl.scenario.manifests.kinds import KINDS, NODES, OTHERS, PODS, SILENT, Kind
from labctl.scenario.manifests.places import ObjectPlaces, object_title
from labctl.scenario.manifests.pod_sources import PodSource

MANAGED_BY_LABEL = "endpointslice.kubernetes.io/managed-by"
CONTROLLER = "endpointslice-controller.k8s.io"
MAX_NAMED = 12  # fields and kinds that the warning names


class ObjectReader:
    """Reads API objects one after the other, and collects what they declare."""

    def __init__(self, reader: Reader, root: TreeNode) -> None:
        self.reader = reader
        self.places = ObjectPlaces(root)
        self.objects: dict[str, list[Any]] = {}  # by the field of `Declared`
        self.left_out: list[str] = []  # sentences on objects that no part of labctl reads
        self.unused_fields: Counter[str] = Counter()
        self.unused_kinds: Counter[str] = Counter()

    def read_documents(self, documents: Iterable[TreeNode]) -> int:
        """Read the documents of a manifest file: an object, or a List of them, in each. Returns the number of objects,
        also of those that are left out or have a mistake."""
        return sum(self._read_document(node, None) for node in documents)

    def read_object(self, node: Map, kind: Kind, *, plain_texts: bool = False) -> None:
        """Read one object of a known kind. `plain_texts` is whether its texts need no quotes."""
        context = ObjectContext(self.reader, _title(kind, node), plain_texts)
        item = kind.fields.read(node, (), context)
        self.unused_fields.update(tuple(context.unused))
        if item is INVALID or not self._add_place(kind, item, node):
            return
        self._add(kind, item, node)

    def declared(self) -> Declared:
        """Everything that was read, but nodes, what makes pods, and slices that a controller made: labctl makes them of
        the pods of the lab."""
        others = (PODS, NODES)
        selecting = {(one.namespace, one.name) for one in self.objects.get("services", ()) if one.selector}
        slices = self.objects.get("slices", ())
        copies = [one for one in slices if self._is_copy(one) and (one.namespace, one.service) in selecting]
        if copies:
            more = f" (and {len(copies) - 1} more)" if len(copies) > 1 else ""
            reason = f"a controller made it{more} for pods of another cluster; labctl takes the pods of the lab"
            self._warn_left_out("EndpointSlice", copies[0].namespace, copies[0].name, reason)
            left_out = {id(one) for one in copies}
            self.objects["slices"] = [one for one in slices if id(one) not in left_out]
        objects: dict[str, Any] = {name: tuple(found) for name, found in self.objects.items() if name not in others}
        return Declared(**objects, warnings=self._warnings())

    @property
    def pod_sources(self) -> tuple[PodSource, ...]:
        """What makes pods, in the order of the text."""
        return tuple(self.objects.get(PODS, ()))

    def _is_copy(self, one: EndpointSlice) -> bool:
        """Whether the controller of EndpointSlices made a slice, as its label says."""
        tree = self.places.trees["EndpointSlice", one.namespace, one.name]
        return _word(descend(tree, ("metadata", "labels", MANAGED_BY_LABEL))) == CONTROLLER

    def zones(self, nodes: Collection[str]) -> dict[str, str]:
        """The zones of the nodes that manifests describe. Those that are not among `nodes` are left out with a
        warning."""
        zones = {}
        for name, zone in self.objects.get(NODES, ()):
            if name in nodes:
                zones[name] = zone
            else:
                self._warn_left_out("Node", "", name, did_you_mean(name, nodes) or "the lab has no such node")
        return zones

    def _warnings(self) -> tuple[str, ...]:
        """The sentences on what labctl does not use, if there is anything."""
        kinds = [f"{name} ({count})" for name, count in self.unused_kinds.items()]
        fields = [f"{name} ({count} object{'s' if count > 1 else ''})" for name, count in self.unused_fields.items()]
        named = [*kinds, *fields]
        not_used = [f"not used: {summarize_names(named, MAX_NAMED)}"] if named else []
        return (*self.left_out, *not_used)

    def _read_document(self, node: TreeNode, default_kind: str | None) -> int:
        if not isinstance(node, Map):
            hint = "a manifest has apiVersion, kind, metadata and spec"
            self.reader.add_problem(node, "an object is a mapping with apiVersion and kind", hint)
            return 1
        fields = {key.value: value for key, value in node.items}
        name = _word(fields.get("kind")) or default_kind
        if name is None:
            hint = "a manifest has apiVersion, kind, metadata and spec"
            if "model" in fields:
                hint = "this is a scenario: name it as the SCENARIO, not as a manifest"
            self.reader.add_problem(fields.get("kind", node), "an object without a kind", hint)
            return 1
        if name.endswith("List") and "items" in fields:
            return self._read_list(fields["items"], None if name == "List" else name.removesuffix("List"))
        kind = self._find_kind(name, node, fields)
        if kind is not None:
            self.read_object(node, kind)
        return 1

    def _read_list(self, items: TreeNode, default_kind: str | None) -> int:
        if isinstance(items, Text) and items.is_null:
            return 0
        if not isinstance(items, Seq):
            self.reader.add_problem(items, "items: expected a list of objects")
            return 1
        return sum(self._read_document(item, default_kind) for item in items.items)

    def _find_kind(self, name: str, node: Map, fields: Mapping[str, TreeNode]) -> Kind | None:
        """The kind of an object; None if labctl does not use it, or with a problem recorded."""
        version = _word(fields.get("apiVersion"))
        kind = KINDS.get(name)
        if kind is None:
            hint = "" if name in OTHERS else similar(name, tuple(KINDS))
            if name in SILENT:
                pass
            elif hint and (version is None or any(version in one.versions for one in KINDS.values())):
                self.reader.add_problem(fields.get("kind", node), f"there is no kind {quote_text(name)}", hint)
            else:
                self.unused_kinds[name] += 1
            return None
        if "kind" not in fields or version in kind.versions:  # an entry of a ServiceList has no kind of its own
            return kind
        what = f"{name}: apiVersion is missing"
        if version is not None:
            what = f"there is no {name} in {quote_text(version)}"
        if version is not None and _is_foreign(version, kind):
            self.unused_kinds[f"{name} of {version.partition('/')[0]}"] += 1
        else:
            self.reader.add_problem(fields.get("apiVersion", node), what, f"write apiVersion: {kind.versions[0]}")
        return None

    def _add_place(self, kind: Kind, item: Mapping[str, Any], node: Map) -> bool:
        """Record the place of an object; False, with a problem recorded, if it is declared a second time."""
        namespace, name = _identity(kind, item)
        key = (kind.name, namespace, name)
        if key not in self.places.trees:
            self.places.trees[key] = node
            return True
        first = self.places.position(*key)
        what = f"{object_title(*key)} is declared twice (first in {first.file}:{first.line})"
        self.reader.add_problem(descend(node, ("metadata", "name")), what, "remove one of the two, or rename it")
        return False

    def _add(self, kind: Kind, item: Mapping[str, Any], node: Map) -> None:
        if kind.read is None:
            self.unused_kinds[kind.name] += 1
            return
        try:
            found = kind.read(item)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            self._add_refusal(kind, item, node, str(error))
            return
        if found is not None:
            self.objects.setdefault(kind.into, []).append(found)
        elif kind.without_use:
            self._warn_left_out(kind.name, *_identity(kind, item), kind.without_use)

    def _warn_left_out(self, kind: str, namespace: str, name: str, reason: str) -> None:
        at = self.places.position(kind, namespace, name)
        title = object_title(kind, namespace, name)
        self.left_out.append(f"{at.file}:{at.line}:{at.column}: {title}: left out: {reason}")

    def _add_refusal(self, kind: Kind, item: Mapping[str, Any], node: Map, text: str) -> None:
        """Record the error of a function that reads a JSON form. It begins with the path in the spec, if it has one:
        `rules[0].filters: ...`."""
        found = re.fullmatch(r"(?:spec\.)?([A-Za-z]+(?:\[[0-9]+\]|\.[A-Za-z]+)*): (.+)", text, re.DOTALL)
        path: Path = ("metadata", "name")
        if found is not None:
            steps = re.findall(r"[A-Za-z]+|[0-9]+", found[1])
            path = ("spec", *(int(step) if step.isdecimal() else step for step in steps if step != "spec"))
        what = text if found is None else f"{field_path(path)}: {found[2]}"
        title = object_title(kind.name, *_identity(kind, item))
        self.reader.add_problem(descend(node, path), f"{title}: {what}")


def _identity(kind: Kind, item: Mapping[str, Any]) -> tuple[str, str]:
    """The namespace and the name of an object."""
    meta = item["metadata"]
    return (meta.get("namespace", "default") if kind.namespaced else "", meta["name"])


def _word(node: TreeNode | None) -> str | None:
    """The text of a node; None if it is none."""
    return node.value if isinstance(node, Text) and not node.is_null else None


def _title(kind: Kind, node: Map) -> str:
    """An object in messages, before its fields are read."""
    meta = next((value for key, value in node.items if key.value == "metadata"), None)
    fields = {key.value: _word(value) for key, value in meta.items} if isinstance(meta, Map) else {}
    name, namespace = fields.get("name"), fields.get("namespace")
    if not name:
        return kind.name
    return object_title(kind.name, shorten(namespace) if namespace and kind.namespaced else "", shorten(name))


def _is_foreign(version: str, kind: Kind) -> bool:
    """Whether a group of the API is that of another project, which may have a kind of the same name."""
    group, slash, _ = version.rpartition("/")
    if not slash or "." not in group or group.endswith(".k8s.io"):
        return False
    return not similar(group, tuple(one.rpartition("/")[0] for one in kind.versions))

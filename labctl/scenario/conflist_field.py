"""The value of a scenario's key `conflist`: a mapping, JSON text, or the name of a file; validated, as one JSON text.

What the CNI specification defines is validated here, with positions. A plugin validates its own keys.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from labctl.cni.conflist import PLACEHOLDERS, SUPPORTED_CAPABILITIES, SUPPORTED_VERSIONS, Conflist, placeholders_in
from labctl.cni.spec import VERSIONS, is_network_name
from labctl.errors import UsageError
from labctl.scenario.document import Map, Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import Json, suggest
from labctl.scenario.json_reader import parse_json
from labctl.scenario.values import BOOLEAN
from labctl.scenario.yaml_reader import parse_yaml

KEYS = {
    "cniVersion": "the version of the specification that is used with the plugins",
    "cniVersions": "more versions that the list supports; the latest of all is used",
    "name": "the network's name; plugins derive the names of chains and files from it",
    "disableCheck": "whether CHECK is not called for the plugins",
    "disableGC": "whether GC is not called for the plugins",
    "loadOnlyInlinedPlugins": "whether only plugins of this list are loaded; labctl never loads others",
    "plugins": "the plugins in the order of an ADD, each with its type and its keys",
}
_BOOLEAN_KEYS = ("disableCheck", "disableGC", "loadOnlyInlinedPlugins")
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_EXAMPLE = "such as {cniVersion: 0.4.0, name: pods, plugins: [{type: bridge, ...}]}"


@dataclass(frozen=True, slots=True)
class ConflistType:
    """A network list of CNI, inline or in a separate file."""

    what: str = "a CNI network list: a mapping, JSON text, or the name of a file (relative to this one)"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Conflist | None:
        tree = self._tree(node, label, reader)
        if tree is None:
            return None
        if not isinstance(tree, Map):
            reader.add_problem(tree, f"{label}: a network list is a mapping", _EXAMPLE)
            return None
        before = len(reader.problems)
        _ListValidator(reader, label).validate(tree)
        value = _json_value(tree, label, reader)
        return Conflist(json.dumps(value)) if len(reader.problems) == before else None

    def schema(self) -> Json:
        plugins = {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["type"]}}
        kinds: Json = {"cniVersion": {"enum": [*SUPPORTED_VERSIONS]}, "plugins": plugins} | dict.fromkeys(
            _BOOLEAN_KEYS, BOOLEAN.json
        )
        keys = {key: {"description": text, **kinds.get(key, {})} for key, text in KEYS.items()}
        inline: Json = {"type": "object", "properties": keys, "required": ["cniVersion", "name", "plugins"]}
        return {"anyOf": [{**inline, "additionalProperties": False}, {"type": "string"}]}

    def _tree(self, node: TreeNode, label: str, reader: Reader) -> TreeNode | None:
        """The tree of the list, inline or from a file; None, with a problem recorded, if it cannot be read."""
        if not isinstance(node, Text):
            return node
        if node.is_null or not node.value.strip():
            reader.add_problem(node, f"{label}: expected {self.what}, but the value is empty", _EXAMPLE)
            return None
        if node.value.lstrip().startswith("{"):
            return parse_json(node.value, node.position.file, reader, node.position)
        try:
            path, text = reader.open(node.value)
        except UsageError as error:
            reader.add_problem(
                node, f"{label}: {error.message}", error.hint or "the path is relative to the scenario's file"
            )
            return None
        if path.endswith((".yaml", ".yml")):
            return parse_yaml(text, path, reader)
        return parse_json(text, path, reader)


CONFLIST = ConflistType()


class _ListValidator:
    """Validates a list against the specification and reports every problem with its position."""

    def __init__(self, reader: Reader, label: str) -> None:
        self.reader, self.label = reader, label

    def validate(self, tree: Map) -> None:
        found = {key.value: value for key, value in tree.items}
        for key, _ in tree.items:
            if key.value not in KEYS and not (key.value == "type" and "plugins" not in found):
                hint = suggest(key.value, KEYS) or f"known keys: {', '.join(KEYS)}"
                self._problem(key, f"unknown key {quote_text(key.value)}", hint)
        if "type" in found and "plugins" not in found:
            self._problem(tree, "this is one plugin's configuration, not a list", "put it into plugins: [...]")
            return
        for missing in ("cniVersion", "name", "plugins"):
            if missing not in found:
                self._problem(tree, f"{missing!r} is missing", _EXAMPLE)
        self._versions(found)
        name = found.get("name")
        if name is not None and not (isinstance(name, Text) and is_network_name(name.value)):
            self._problem(name, "the name of a network consists of letters, digits, '_', '.' and '-'")
        for truth in _BOOLEAN_KEYS:
            if truth in found and not _is_boolean(found[truth]):
                self._problem(found[truth], f"{truth} is true or false")
        if "plugins" in found:
            self._plugins(found["plugins"])

    def _versions(self, found: dict[str, TreeNode]) -> None:
        more = found.get("cniVersions")
        nodes = [found["cniVersion"]] if "cniVersion" in found else []
        if more is not None and not isinstance(more, Seq):
            self._problem(more, "cniVersions is a list of versions")
        for node in (*nodes, *(more.items if isinstance(more, Seq) else ())):
            version = node.value if isinstance(node, Text) else ""
            if version in VERSIONS and version not in SUPPORTED_VERSIONS:
                self._problem(node, f"{version} is older than labctl supports", f"from {SUPPORTED_VERSIONS[0]} on")
            elif version not in SUPPORTED_VERSIONS:
                hint = suggest(version, SUPPORTED_VERSIONS) or f"known versions: {', '.join(SUPPORTED_VERSIONS)}"
                self._problem(node, f"{version!r} is not a CNI version", hint)

    def _plugins(self, node: TreeNode) -> None:
        if not isinstance(node, Seq) or not node.items:
            self._problem(node, "plugins is a list of at least one plugin", _EXAMPLE)
            return
        for item in node.items:
            if isinstance(item, Map):
                self._plugin(item)
            else:
                self._problem(item, "a plugin is a mapping with its type", "such as {type: bridge}")

    def _plugin(self, node: Map) -> None:
        found = {key.value: (key, value) for key, value in node.items}
        if "type" not in found:
            close = next((key for key in found if suggest(key, ("type",))), None)
            hint = f"did you mean 'type' instead of {close!r}?" if close else "it names the plugin's executable"
            self._problem(node, "a plugin: 'type' is missing", hint)
        else:
            self._executable(found["type"][1])
        if "ipam" in found and isinstance(ipam := found["ipam"][1], Map):
            kind = next((value for key, value in ipam.items if key.value == "type"), None)
            if kind is not None:
                self._executable(kind)
        if "capabilities" in found:
            self._capabilities(found["capabilities"][1])

    def _executable(self, node: TreeNode) -> None:
        if not isinstance(node, Text) or not node.value or "/" in node.value or node.value in (".", ".."):
            self._problem(node, "type is the name of an executable, without a path", "the folders are in cni_path")

    def _capabilities(self, node: TreeNode) -> None:
        if not isinstance(node, Map):
            self._problem(node, "capabilities is a mapping from names to true", "such as {portMappings: true}")
            return
        for key, value in node.items:
            if not _is_boolean(value):
                self._problem(value, f"capabilities: {quote_text(key.value)} is true or false")
            elif hint := suggest(key.value, SUPPORTED_CAPABILITIES) if key.value not in SUPPORTED_CAPABILITIES else "":
                self._problem(key, f"capabilities: unknown capability {quote_text(key.value)}", hint)

    def _problem(self, at: TreeNode, what: str, hint: str = "") -> None:
        self.reader.add_problem(at, f"{self.label}: {what}", hint)


def _is_boolean(node: TreeNode) -> bool:
    return isinstance(node, Text) and node.plain and node.value in ("true", "false")


def _json_value(node: TreeNode, label: str, reader: Reader) -> Any:
    """A tree as a JSON value. A text without quotes is a number, true, false or null only if JSON writes it so.

    `{pod_cidr}` without quotes is a mapping in YAML; here it becomes the placeholder that is meant.
    """
    if isinstance(node, Seq):
        return [_json_value(item, label, reader) for item in node.items]
    if isinstance(node, Map):
        if len(node.items) == 1 and node.items[0][0].value in PLACEHOLDERS and _is_null(node.items[0][1]):
            return "{" + node.items[0][0].value + "}"
        return {key.value: _json_value(item, label, reader) for key, item in node.items}
    for word in placeholders_in(node.value):
        if word not in PLACEHOLDERS and (hint := suggest(word, PLACEHOLDERS)):
            reader.add_problem(node, f"{label}: unknown placeholder {{{word}}}", hint)
    if node.is_null:
        return None
    if node.plain and node.value in ("true", "false"):
        return node.value == "true"
    if node.plain and _NUMBER.fullmatch(node.value):
        return json.loads(node.value)
    return node.value


def _is_null(node: TreeNode) -> bool:
    return isinstance(node, Text) and node.is_null

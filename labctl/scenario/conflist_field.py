"""The value of a scenario's key `conflist`: a mapping, JSON text, or the name of a file; validated, as one JSON text.

What the CNI specification defines is validated here, with positions. A plugin validates its own keys. A list can have
three forms, and becomes the first one:

    a list                        {cniVersion, name, plugins: [...]}, a `.conflist` file
    one plugin's configuration    {cniVersion, name, type, ...}, a `.conf` file, of which libcni makes a list of one
    a NetworkAttachmentDefinition of Multus, with either of these as the text in spec.config
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

from labctl.cni.conflist import PLACEHOLDERS, SUPPORTED_CAPABILITIES, SUPPORTED_VERSIONS, Conflist, placeholders_in
from labctl.cni.spec import is_executable_name, is_network_name
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
_NAD_KIND = "NetworkAttachmentDefinition"
_VERSION_BEFORE_VERSIONS = "0.1.0"  # of a plugin's configuration without cniVersion, as libcni reads it


@dataclass(frozen=True, slots=True)
class ConflistType:
    """A network list of CNI, inline or in a separate file."""

    what: str = "a CNI network list: a mapping, JSON text, or the name of a file (relative to this one)"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Conflist | None:
        tree = self._tree(node, label, reader)
        if isinstance(tree, Map) and _text_of(tree, "kind") == _NAD_KIND:
            tree = _attachment_definition(tree, label, reader)
        if tree is None:
            return None
        if not isinstance(tree, Map):
            reader.add_problem(tree, f"{label}: a network list is a mapping", _EXAMPLE)
            return None
        before = len(reader.problems)
        _ListValidator(reader, label).validate(tree)
        value = _json_value(tree, label, reader)
        if len(reader.problems) != before:
            return None
        return Conflist(json.dumps(_list_of_one(value) if _is_one_plugin(tree) else value))

    def schema(self) -> Json:
        plugins = {"type": "array", "minItems": 1, "items": {"type": "object", "required": ["type"]}}
        kinds: Json = {"cniVersion": {"enum": [*SUPPORTED_VERSIONS]}, "plugins": plugins} | dict.fromkeys(
            _BOOLEAN_KEYS, BOOLEAN.json
        )
        keys = {key: {"description": text, **kinds.get(key, {})} for key, text in KEYS.items()}
        inline: Json = {"type": "object", "properties": keys, "required": ["cniVersion", "name", "plugins"]}
        one_plugin: Json = {"type": "object", "required": ["name", "type"], "not": {"required": ["plugins"]}}
        definition: Json = {
            "type": "object",
            "required": ["kind", "spec"],
            "properties": {"kind": {"const": _NAD_KIND}},
        }
        return {"anyOf": [inline, one_plugin, definition, {"type": "string"}]}

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


def _text_of(tree: Map, *keys: str) -> str | None:
    """The text at a path of keys, None if there is none."""
    node = _node_at(tree, *keys)
    return node.value if isinstance(node, Text) and not node.is_null else None


def _node_at(tree: Map, *keys: str) -> TreeNode | None:
    node: TreeNode | None = tree
    for key in keys:
        node = next((value for name, value in node.items if name.value == key), None) if isinstance(node, Map) else None
    return node


def _attachment_definition(tree: Map, label: str, reader: Reader) -> TreeNode | None:
    """The list in a NetworkAttachmentDefinition; its name, if it has none, is that of the definition, as in Multus."""
    config = _node_at(tree, "spec", "config")
    if not isinstance(config, Text) or config.is_null or not config.value.strip():
        what = f"{label}: this {_NAD_KIND} has no spec.config"
        reader.add_problem(config if config is not None else tree, what, "the list as JSON text; labctl reads no other")
        return None
    found = parse_json(config.value, config.position.file, reader, config.position)
    name = _node_at(tree, "metadata", "name")
    if isinstance(found, Map) and isinstance(name, Text) and _text_of(found, "name") in (None, ""):
        others = tuple((key, value) for key, value in found.items if key.value != "name")
        return replace(found, items=(*others, (replace(name, value="name"), name)))
    return found


def _is_one_plugin(tree: Map) -> bool:
    """Whether a mapping is the configuration of one plugin, a `.conf` file, and not a list."""
    return _node_at(tree, "type") is not None and _node_at(tree, "plugins") is None


def _list_of_one(configuration: Json) -> Json:
    """The list of one plugin that libcni makes of its configuration."""
    version = configuration.get("cniVersion") or _VERSION_BEFORE_VERSIONS
    plugin = {key: value for key, value in configuration.items() if key not in ("cniVersion", "cniVersions", "name")}
    versions = {key: configuration[key] for key in ("cniVersions",) if key in configuration}
    return {"cniVersion": version, **versions, "name": configuration["name"], "plugins": [plugin]}


class _ListValidator:
    """Validates a list against the specification and reports every problem with its position."""

    def __init__(self, reader: Reader, label: str) -> None:
        self.reader, self.label = reader, label

    def validate(self, tree: Map) -> None:
        found = {key.value: value for key, value in tree.items}
        one_plugin = _is_one_plugin(tree)
        for missing in ("name",) if one_plugin else ("cniVersion", "name", "plugins"):
            if missing not in found:
                self._problem(tree, f"{missing!r} is missing", _EXAMPLE)
        self._versions(found)
        name = found.get("name")
        if name is not None and not (isinstance(name, Text) and is_network_name(name.value)):
            self._problem(name, "the name of a network consists of letters, digits, '_', '.' and '-'")
        if one_plugin:
            self._plugin(tree)
            return
        for key, _ in tree.items:  # runtimes ignore a key that they do not know; a mistyped one must not be lost
            if key.value not in KEYS and (hint := suggest(key.value, KEYS)):
                self._problem(key, f"unknown key {quote_text(key.value)}", hint)
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
            if version not in SUPPORTED_VERSIONS:
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
        if not isinstance(node, Text) or not is_executable_name(node.value):
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

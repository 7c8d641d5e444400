"""A valid CNI network list: its text, what it needs from a runtime, and its copy for each node.

One list serves all nodes, but nodes differ in their pod range. The placeholders `{pod_cidr}`, `{node}` and `{node_ip}`
in its texts are replaced by each node's values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.cni.spec import VERSIONS, Json, supports, version_tuple

PLACEHOLDERS = ("pod_cidr", "node", "node_ip")
SUPPORTED_VERSIONS = VERSIONS  # the versions for which labctl can be the runtime
# the capabilities for which labctl has arguments
SUPPORTED_CAPABILITIES = ("portMappings", "bandwidth", "ips", "mac", "ipRanges")
_PLACEHOLDER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Conflist:
    """A network list as compact JSON text."""

    text: str

    @property
    def config_list(self) -> NetworkConfigList:
        """Its contents, with the placeholders."""
        return parse_config_list(self.text)

    @property
    def capabilities(self) -> frozenset[str]:
        """The capabilities that its plugins declare."""
        return capabilities(self.config_list.plugins)

    @property
    def bridges(self) -> tuple[str, ...]:
        """The bridges on the node that its plugins share, as far as the list names them."""
        named = (plugin.get("bridge", "cni0") for plugin in self.config_list.plugins if plugin["type"] == "bridge")
        return tuple(name for name in named if isinstance(name, str))

    def for_node(self, values: Mapping[str, str]) -> str:
        """The list for one node, as JSON text, with the values of its placeholders."""
        return json.dumps(_fill(json.loads(self.text), values))


def placeholders_in(text: str) -> tuple[str, ...]:
    """The words in braces in a text."""
    return tuple(_PLACEHOLDER.findall(text))


def _fill(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, values) for item in value]
    if isinstance(value, str):
        return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), value)
    return value


@dataclass(frozen=True, slots=True)
class NetworkConfigList:
    """A network list, read from JSON text: the version to use, its name, its plugins, the commands it disables."""

    version: str
    name: str
    plugins: tuple[Json, ...] = field(hash=False)
    disable_check: bool = False
    disable_gc: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """Every executable that the list needs, each once: its plugins and their IPAM plugins."""
        found: dict[str, None] = {}
        for plugin in self.plugins:
            found[plugin["type"]] = None
            ipam = plugin.get("ipam")
            if isinstance(ipam, dict) and isinstance(ipam.get("type"), str) and ipam["type"]:
                found[ipam["type"]] = None
        return tuple(found)

    @property
    def no_check_reason(self) -> str:
        """Why this network has no CHECK; "" if it has."""
        if not supports(self.version, "CHECK"):
            return f"cniVersion {self.version} has no CHECK (0.4.0 and later have it)"
        return "the list has disableCheck: true" if self.disable_check else ""

    @property
    def supports_gc(self) -> bool:
        """Whether its plugins can be called with GC."""
        return supports(self.version, "GC") and not self.disable_gc


def parse_config_list(text: str) -> NetworkConfigList:
    """The network of a list's JSON text, which the scenario's reader has validated."""
    data = json.loads(text)
    versions = [data["cniVersion"], *data.get("cniVersions", ())]
    return NetworkConfigList(
        max(versions, key=version_tuple),
        data["name"],
        tuple(data["plugins"]),
        data.get("disableCheck") is True,
        data.get("disableGC") is True,
    )


def capabilities(plugins: tuple[Mapping[str, Any], ...]) -> frozenset[str]:
    """The capabilities that the plugins of a list declare."""
    declared = (item for plugin in plugins for item in (plugin.get("capabilities") or {}).items())
    return frozenset(name for name, supported in declared if supported)

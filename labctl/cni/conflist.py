"""A CNI network list that was read and is right: its text, what it asks of a runtime, and how it is made a node's.

Nodes differ in their range of pod addresses, and a list is one for all of them. Where a text in it says
`{pod_cidr}`, `{node}` or `{node_ip}`, each node's own stands in its list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from labctl.cni.spec import Json, has, order

WORDS = ("pod_cidr", "node", "node_ip")  # what a list may leave to the node
SPOKEN = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")  # the versions whose runtime labctl can play
OFFERED = ("portMappings", "bandwidth", "ips", "mac", "ipRanges")  # the capabilities that labctl has something for
_WORD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Conflist:
    """A network list as compact JSON text."""

    text: str

    @property
    def network(self) -> Network:
        """What it says, with the words that each node fills in."""
        return network(self.text)

    @property
    def capabilities(self) -> frozenset[str]:
        """What its plugins declare that they can be told."""
        return capabilities(self.network.plugins)

    @property
    def bridges(self) -> tuple[str, ...]:
        """The devices on the node that its plugins share, as far as the list names them."""
        named = (plugin.get("bridge", "cni0") for plugin in self.network.plugins if plugin["type"] == "bridge")
        return tuple(name for name in named if isinstance(name, str))

    def of(self, values: Mapping[str, str]) -> str:
        """The list as one node has it."""
        return json.dumps(_filled(json.loads(self.text), values))


def words_in(text: str) -> tuple[str, ...]:
    """The words in braces of a text."""
    return tuple(_WORD.findall(text))


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, values) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values) for item in value]
    if isinstance(value, str):
        return _WORD.sub(lambda found: values.get(found[1], found[0]), value)
    return value


@dataclass(frozen=True, slots=True)
class Network:
    """A network list, as JSON text made it: the version to speak, its name, its plugins, what it forbids."""

    version: str
    name: str
    plugins: tuple[Json, ...] = field(hash=False)
    no_check: bool = False
    no_gc: bool = False

    @property
    def types(self) -> tuple[str, ...]:
        """Every executable that the list needs, each once: its plugins, and those that they call for addresses."""
        found: dict[str, None] = {}
        for plugin in self.plugins:
            found[plugin["type"]] = None
            ipam = plugin.get("ipam")
            if isinstance(ipam, dict) and isinstance(ipam.get("type"), str) and ipam["type"]:
                found[ipam["type"]] = None
        return tuple(found)

    @property
    def no_check_because(self) -> str:
        """Why this network has no CHECK; "" if it has."""
        if not has(self.version, "CHECK"):
            return f"cniVersion {self.version} has no CHECK (0.4.0 has)"
        return "the list says disableCheck" if self.no_check else ""

    @property
    def collects(self) -> bool:
        """Whether its plugins can be asked to collect garbage."""
        return has(self.version, "GC") and not self.no_gc


def network(text: str) -> Network:
    """The network of a list's JSON text, which the scenario's reader has judged."""
    data = json.loads(text)
    spoken = [data["cniVersion"], *data.get("cniVersions", ())]
    return Network(
        max(spoken, key=order),
        data["name"],
        tuple(data["plugins"]),
        data.get("disableCheck") is True,
        data.get("disableGC") is True,
    )


def capabilities(plugins: tuple[Mapping[str, Any], ...]) -> frozenset[str]:
    """What the plugins of a list declare that they can be told."""
    return frozenset(name for plugin in plugins for name, can in (plugin.get("capabilities") or {}).items() if can)

"""An option that is a section: `outbound: natGateway`, or `outbound: {type: natGateway, outbound_ips: 2}`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.scenario.document import Map, Reader, Text, TreeNode
from labctl.scenario.field_types import Json, Section, SettingsClass


@dataclass(frozen=True, slots=True)
class SettingsField:
    """A mapping that becomes an object of a model's class. One word stands for the first key of the class."""

    settings: SettingsClass

    @property
    def what(self) -> str:
        first, *others = self.settings.keys
        return f"{first.field_type.what}; or a mapping with {first.name}, {', '.join(key.name for key in others)}"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Text) and not node.is_null:
            node = Map(node.position, ((Text(node.position, self.settings.keys[0].name), node),))
        before = len(reader.problems)
        found = Section(label, self.settings.keys).read(node, label, reader)
        return None if found is None or len(reader.problems) > before else self.settings.make(found)

    def schema(self) -> Json:
        word = self.settings.keys[0].field_type.schema()
        return {"anyOf": [word, Section("", self.settings.keys).schema()]}

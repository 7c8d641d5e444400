"""The documents of a manifest file: YAML, several of them behind each other, or JSON."""

from __future__ import annotations

from labctl.scenario.document import Reader, TextLimits, TreeNode
from labctl.scenario.json_reader import parse_json
from labctl.scenario.yaml_reader import parse_yaml_documents

LIMITS = TextLimits(
    "manifest",
    max_bytes=16 * 1024 * 1024,
    max_nodes=2_000_000,
    size_hint="a cluster of some thousand objects has less",
    nodes_hint="are all of these objects needed for the network?",
    several_documents=True,
)


def parse_documents(text: str, file: str, reader: Reader) -> tuple[TreeNode, ...]:
    """The trees of a file's documents; empty documents are left out. A text that begins with { is JSON.

    Raises ScenarioError if the text is neither YAML nor JSON.
    """
    if text.lstrip().startswith("{") and (file.endswith(".json") or _is_json(text)):
        return (parse_json(text, file, reader),)
    return parse_yaml_documents(text, file, reader, LIMITS)


def _is_json(text: str) -> bool:
    """Whether a text that begins with { is written as JSON writes it: the first key in double quotes."""
    return text.lstrip()[1:].lstrip().startswith(('"', "}"))

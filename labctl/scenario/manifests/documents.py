"""The documents of a manifest file: YAML, several of them behind each other, or JSON."""

from __future__ import annotations

import sys
from functools import lru_cache
from typing import BinaryIO

from labctl.errors import UsageError
from labctl.scenario.document import Reader, TextLimits, TreeNode
from labctl.scenario.json_reader import parse_json
from labctl.scenario.yaml_reader import decode_utf8, parse_yaml_documents, read_file

LIMITS = TextLimits(
    "manifest",
    max_bytes=16 * 1024 * 1024,
    max_nodes=2_000_000,
    size_hint="a cluster of some thousand objects has less",
    nodes_hint="are all of these objects needed for the network?",
    several_documents=True,
)


STANDARD_INPUT = "-"


def read_manifest(name: str) -> str:
    """The text of a manifest; `-` is the standard input. Raises UsageError, ScenarioError."""
    if name != STANDARD_INPUT:
        return read_file(name, LIMITS)
    if sys.stdin is None:
        raise UsageError("cannot read the manifest '-': there is no standard input")
    return _read_stream(sys.stdin.buffer)


@lru_cache(1)  # a verb with several scenarios reads them all with the same manifest
def _read_stream(stream: BinaryIO) -> str:
    data = stream.read(LIMITS.max_bytes + 1)
    if len(data) > LIMITS.max_bytes:
        raise UsageError(f"the manifest is larger than {LIMITS.max_bytes // 1024**2} MiB", LIMITS.size_hint)
    return decode_utf8(data, STANDARD_INPUT)


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

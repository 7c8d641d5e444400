"""Read YAML into a tree of texts, lists and mappings. Every node has its line and column.

YAML's implicit types are not used: `2222:22` and `no` stay texts, and the key that a text belongs to decides
its type. The tree is built from the parser's events in one loop without recursion, so that depth, size and
the expansion of aliases are limited before anything is stored.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from typing import Any, NoReturn

from labctl.errors import UsageError
from labctl.scenario.document import Map, Position, Reader, Seq, Text, TextLimits, TreeNode, fail, quote_text

MAX_BYTES = 4 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 100_000  # texts, lists and mappings, with aliases expanded
SCENARIO = TextLimits(
    "scenario",
    MAX_BYTES,
    MAX_NODES,
    size_hint="a scenario has a few dozen lines",
    nodes_hint="'count' makes many machines in one line",
)
_SECOND_DOCUMENT_HINT = "a file holds one scenario; manifests of Kubernetes are for --manifest FILE"
_INVALID_ASCII = "[^\t\n\r\x20-\x7e]"
_INVALID_CHARACTER = "[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]"  # takes long to compile


def read_file(path: str, limits: TextLimits = SCENARIO) -> str:
    """Return the text of a file.

    Raises UsageError if the file cannot be opened or is not a regular file, ScenarioError if it is not UTF-8
    text or is larger than its kind may be.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            kind = "a directory" if os.path.isdir(path) else "not a regular file"
            raise UsageError(f"cannot read {path!r}: it is {kind}")
        with open(path, "rb") as file:
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot read {path!r}: {reason}") from None
    if len(data) > limits.max_bytes:
        _refuse_size(path, limits)
    return decode_utf8(data, path)


def _refuse_size(file: str, limits: TextLimits) -> NoReturn:
    fail(Position(file), f"the file is larger than {limits.max_bytes // 1024**2} MiB", limits.size_hint)


def decode_utf8(data: bytes, file: str) -> str:
    """Decode UTF-8 text. Raises ScenarioError at the first byte that is not valid UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8", "replace")
        position = _position(file, before, len(before))
        fail(position, f"byte 0x{error.object[error.start]:02x} is not valid UTF-8", "save the file as UTF-8 text")


def parse_yaml(text: str, file: str, reader: Reader) -> TreeNode | None:
    """Return the tree of a YAML text; None if the text is empty. Duplicate keys are reported to `reader`.

    Raises ScenarioError if the text is not valid YAML or exceeds the limits above.
    """
    roots = _compose(text, file, reader, SCENARIO)
    return roots[0] if roots else None


def parse_yaml_documents(text: str, file: str, reader: Reader, limits: TextLimits) -> tuple[TreeNode, ...]:
    """Return the trees of all documents of a YAML text, without those that are empty. Problems as with `parse_yaml`."""
    roots = _compose(text, file, reader, limits)
    return tuple(root for root in roots if not (isinstance(root, Text) and root.is_null))


def _compose(text: str, file: str, reader: Reader, limits: TextLimits) -> list[TreeNode]:
    if len(text) > limits.max_bytes:
        _refuse_size(file, limits)
    if (odd := re.search(_INVALID_ASCII if text.isascii() else _INVALID_CHARACTER, text)) is not None:
        fail(
            _position(file, text, odd.start()),
            f"character U+{ord(odd[0]):04X} is not allowed",
            "is this a binary file?",
        )
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    composer = _Composer(file, reader, text, limits)
    try:
        for event in yaml.parse(text, Loader=loader):
            composer.handle_event(event)
    except yaml.MarkedYAMLError as error:
        _raise_syntax_error(error, text, file)
    except yaml.YAMLError as error:
        fail(Position(file), f"this is not valid YAML: {' '.join(str(error).split())[:120]}")
    return composer.roots


@dataclass(slots=True)
class _Frame:
    """A list or mapping that is still open. For a mapping, keys and values alternate in `nodes`."""

    position: Position
    mapping: bool
    anchor: str | None
    nodes: list[TreeNode] = field(default_factory=list)
    size: int = 1
    depth: int = 1


class _Composer:
    """Builds the tree from the parser's events, one by one."""

    def __init__(self, file: str, reader: Reader, text: str, limits: TextLimits) -> None:
        self.file, self.reader, self.text, self.limits = file, reader, text, limits
        self.lines: list[str] | None = None  # of the text; made for the first block
        self.roots: list[TreeNode] = []  # of all documents
        self.open_frames: list[_Frame] = []
        self.anchors: dict[str, tuple[TreeNode, int, int]] = {}
        self.total = self.documents = 0

    def handle_event(self, event: Any) -> None:
        kind = type(event).__name__
        if kind in ("StreamStartEvent", "StreamEndEvent", "DocumentEndEvent"):
            return
        position = Position(self.file, event.start_mark.line + 1, event.start_mark.column + 1)
        if kind == "DocumentStartEvent":
            self.documents += 1
            self.anchors = {}
            if self.documents > 1 and not self.limits.several_documents:
                fail(position, "a second document ('---') begins here", _SECOND_DOCUMENT_HINT)
        elif kind == "AliasEvent":
            self._alias(event.anchor, position)
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            self._close()
        else:
            self._begin(kind, event, position)

    def _begin(self, kind: str, event: Any, position: Position) -> None:
        if event.tag is not None:
            fail(
                position,
                f"tags ({quote_text(event.tag)}) are not allowed in a {self.limits.noun}",
                "remove it: the key sets the type",
            )
        self._count(1, position)
        if kind == "ScalarEvent":
            plain = event.style in (None, "")
            self._attach_node(Text(position, event.value, plain, self._start(event, position)), 1, 1, event.anchor)
            return
        frame = _Frame(position, kind == "MappingStartEvent", event.anchor)
        self._require_scalar_key(position)
        self.open_frames.append(frame)
        if len(self.open_frames) > MAX_DEPTH:
            fail(position, f"nested more than {MAX_DEPTH} levels deep", f"a {self.limits.noun} needs only a few levels")

    def _start(self, event: Any, position: Position) -> Position | None:
        """Where the first character of a scalar stands, if the file has its characters as they are in the value."""
        if event.style == "|":
            if self.lines is None:
                self.lines = self.text.splitlines()
            indented = next((line for line in self.lines[position.line :] if line.strip()), "")
            first = next((line for line in event.value.split("\n") if line.strip()), "")
            return Position(self.file, position.line + 1, len(indented) - len(first) + 1)
        quotes = event.style in ("'", '"')
        size = event.end_mark.column - event.start_mark.column
        if event.end_mark.line != event.start_mark.line or size != len(event.value) + 2 * quotes:
            return None
        return Position(self.file, position.line, position.column + quotes)

    def _alias(self, anchor: str, position: Position) -> None:
        if anchor not in self.anchors:
            inside = any(frame.anchor == anchor for frame in self.open_frames)
            what = "is inside the value that it names" if inside else "has no anchor above it"
            fail(position, f"the alias *{quote_text(anchor)[1:-1]} {what}")
        node, size, depth = self.anchors[anchor]
        if len(self.open_frames) + depth > MAX_DEPTH:
            fail(position, f"nested more than {MAX_DEPTH} levels deep", f"a {self.limits.noun} needs only a few levels")
        self._count(size, position)
        self._attach_node(node, size, depth, None)

    def _count(self, size: int, position: Position) -> None:
        self.total += size
        if self.total > self.limits.max_nodes:
            fail(position, f"more than {self.limits.max_nodes} values (aliases expanded)", self.limits.nodes_hint)

    def _close(self) -> None:
        frame = self.open_frames.pop()
        node = Map(frame.position, self._pairs(frame)) if frame.mapping else Seq(frame.position, tuple(frame.nodes))
        self._attach_node(node, frame.size, frame.depth, frame.anchor)

    def _attach_node(self, node: TreeNode, size: int, depth: int, anchor: str | None) -> None:
        if anchor is not None:
            self.anchors[anchor] = (node, size, depth)
        if not self.open_frames:
            self.roots.append(node)
            return
        if not isinstance(node, Text):
            self._require_scalar_key(node.position)
        frame = self.open_frames[-1]
        frame.nodes.append(node)
        frame.size += size
        frame.depth = max(frame.depth, depth + 1)

    def _require_scalar_key(self, position: Position) -> None:
        if self.open_frames and self.open_frames[-1].mapping and len(self.open_frames[-1].nodes) % 2 == 0:
            fail(position, "a list or mapping cannot be a key", "a text with [ or { needs quotes")

    def _pairs(self, frame: _Frame) -> tuple[tuple[Text, TreeNode], ...]:
        pairs: dict[str, tuple[Text, TreeNode]] = {}
        for key, value in zip(frame.nodes[::2], frame.nodes[1::2], strict=True):
            assert isinstance(key, Text)
            if key.value == "<<":
                self.reader.add_problem(key, "merge keys ('<<') are not supported", "write the keys explicitly")
            elif key.value in pairs:
                first = pairs[key.value][0].position.line
                self.reader.add_problem(key, f"{quote_text(key.value)} is written twice (first in line {first})")
            else:
                pairs[key.value] = (key, value)
        return tuple(pairs.values())


_SYNTAX_MESSAGES = (
    (
        "mapping values are not allowed",
        "a ':' is not allowed here",
        "check the indentation, and put quotes around a text that contains ': '",
    ),
    ("could not find expected ':'", "a ':' is missing after a key", "is the line above complete?"),
    ("unexpected end of stream", "a quote is not closed", ""),
    ("expected ',' or ']'", "a '[' without a ']', or a ',' is missing", ""),
    ("expected ',' or '}'", "a '{' without a '}', or a ',' is missing", ""),
    ("expected <block end>", "this does not fit the lines above", "check the indentation and the brackets"),
    ("expected '-' indicator", "this does not continue the list above", "check the indentation"),
    ("expected key", "this does not continue the keys above", "check the indentation and the brackets"),
    ("expected node content", "a value is missing here", "quote a text that begins with a special character"),
    ("unexpected ':'", "a ':' inside a text", "put quotes around the text"),
    ("found character", "a text cannot begin with this character", "put it in quotes"),
)


def _raise_syntax_error(error: Any, text: str, file: str) -> NoReturn:
    """Raise ScenarioError for a YAML syntax error, in words that fit a scenario."""
    mark, problem = error.problem_mark or error.context_mark, str(error.problem)
    if mark is None:
        fail(Position(file), f"this is not valid YAML: {problem}")
    lines = text.split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    tab = line.find("\t")
    if tab >= 0 and not line[:tab].strip(" -"):
        fail(Position(file, mark.line + 1, tab + 1), "a tab in the indentation", "YAML allows only spaces there")
    for yaml_text, what, hint in _SYNTAX_MESSAGES:
        if yaml_text in problem:
            opened = error.context_mark if yaml_text.startswith(("unexpected end", "expected ','")) else None
            place = opened or mark
            fail(Position(file, place.line + 1, place.column + 1), what, hint)
    fail(Position(file, mark.line + 1, mark.column + 1), f"this is not valid YAML: {problem}")


def _position(file: str, text: str, position: int) -> Position:
    before = text[:position]
    return Position(file, before.count("\n") + 1, position - (before.rfind("\n") + 1) + 1)

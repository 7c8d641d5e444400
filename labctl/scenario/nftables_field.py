"""The nftables of a machine in a scenario: a text in nft's language as it is, or tables with what is in them.

Both forms are kept as they stand in the file, with their positions. `labctl.scenario.raw_nftables` makes the objects.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from labctl.core.nft_ruleset import FAMILIES
from labctl.scenario import values
from labctl.scenario.document import Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import InvalidValue, Json, Key, ListOf, Located, MapOf, Scalar, Section, suggest

MAX_LINE = 4000  # characters of a rule or an element


def _line(text: str) -> str:
    if not text.isprintable():
        raise InvalidValue(f"{quote_text(text)} is not one printable line")
    if len(text) > MAX_LINE:
        raise InvalidValue(f"this line has {len(text)} characters, {MAX_LINE} are possible")
    return text


@dataclass(frozen=True, slots=True)
class _Line:
    """A line in nft's words. Reads as its node, which has its place."""

    what: str
    json: Any = None

    def read(self, node: TreeNode, label: str, reader: Reader) -> Text | None:
        found = Scalar(self.what, _line, {}).read(node, label, reader)
        return None if found is None or not isinstance(node, Text) else node

    def schema(self) -> Json:
        return dict(self.json or {"type": "string"})


@dataclass(frozen=True, slots=True)
class _Either:
    """A list, or a mapping with declared keys. Reads as {name: Located}."""

    section: Section
    items: ListOf
    key: str  # the key that the list stands for
    what: str

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Seq):
            return {self.key: Located(self.items.read(node, label, reader), node.position, node.position)}
        return self.section.read(node, label, reader)

    def schema(self) -> Json:
        return {"anyOf": [self.section.schema(), self.items.schema()]}


@dataclass(frozen=True, slots=True)
class _Elements:
    """The elements of a map: lines `KEY : VALUE`, or a mapping. Reads as pairs of nodes; a line's second is None."""

    what = "a list of elements, or a mapping from keys to values"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        line = _Line("an element such as 80 : accept")
        if isinstance(node, Seq) or (isinstance(node, Text) and node.is_null):
            found = ListOf(line).read(node, label, reader)
            return None if found is None else tuple((one.value, None) for one in found)
        pairs = MapOf(Scalar("an element", _line, {}), _Line("a value such as accept")).read(node, label, reader)
        if pairs is None:
            return None
        return tuple((Text(name.at, name.value, True, name.at), value.value) for name, value in pairs)

    def schema(self) -> Json:
        anything: Json = {"type": ["string", "integer", "number"]}
        return {"anyOf": [{"type": "array", "items": anything}, {"type": "object", "additionalProperties": anything}]}


def _object_name(text: str) -> str:
    if not text.isprintable() or not text.strip() or len(text) > 127:
        raise InvalidValue(f"{quote_text(text)} is not the name of an object of nft")
    return text


def _table_name(text: str) -> str:
    words = text.split()
    if len(words) == 1:
        return f"ip {words[0]}"
    if len(words) != 2:
        raise InvalidValue(f"{quote_text(text)} is not a table", "a family and a name, such as inet filter")
    if words[0] not in FAMILIES:
        hint = suggest(words[0], FAMILIES) or f"the families are {', '.join(FAMILIES)}"
        raise InvalidValue(f"there is no family {quote_text(words[0])}", hint)
    return f"{words[0]} {words[1]}"


_SCALAR: Json = {"type": ["string", "integer", "number"]}
_NAME = Scalar("a name", _object_name, {"maxLength": 127})
_TABLE = Scalar("a family and a name, such as inet filter", _table_name, {"maxLength": 140})
_RULES = ListOf(_Line("a rule such as tcp dport 22 accept"), allow_single=False)
_COMMENT = Key("comment", _Line("a text", _SCALAR), "a comment, which nft keeps")
_DEVICES = ListOf(_Line("a device", _SCALAR), allow_single=True)
_SET_KEYS = (
    Key("type", _Line("a type such as ipv4_addr . inet_service"), "its type (a map's: both sides, `mark : verdict`)"),
    Key("typeof", _Line("an expression such as ip saddr"), "in place of `type`: an expression with this type"),
    Key("flags", ListOf(_Line("a flag", _SCALAR), allow_single=True), "such as `interval`, `timeout`"),
    Key("timeout", _Line("a duration such as 1h", _SCALAR), "how long an element stays"),
    Key("gc_interval", _Line("a duration such as 1m", _SCALAR), "how often old elements go", allow_dashes=True),
    Key("size", _Line("a number", _SCALAR), "the most elements that it can have"),
    Key("policy", values.choice("performance", "memory"), "what nft chooses its kind for", "performance"),
    Key("auto_merge", values.BOOLEAN, "whether intervals that touch become one", "false", allow_dashes=True),
    Key("counter", values.BOOLEAN, "whether each element counts its packets", "false"),
    _COMMENT,
)  # fmt: skip
CHAIN = Section(
    "chain",
    (
        Key("type", _Line("a type such as filter", _SCALAR), "`filter`, `nat` or `route`; only for a chain at a hook"),
        Key("hook", _Line("a hook such as input", _SCALAR), "where the kernel calls it: `input`, `forward`, ..."),
        Key("priority", _Line("a number, or a name such as dstnat", _SCALAR), "its turn at the hook", "filter"),
        Key("policy", _Line("accept or drop", _SCALAR), "the verdict at its end", "accept"),
        Key("device", _DEVICES, "the device of a chain at `ingress` or `egress`"),
        _COMMENT,
        Key("rules", _RULES, "its rules, in nft's words"),
    ),
)
SET = Section("set", (*_SET_KEYS, Key("elements", ListOf(_Line("an element", _SCALAR)), "its elements")))
MAP = Section("map", (*_SET_KEYS, Key("elements", _Elements(), "its elements: `KEY : VALUE`, or a mapping")))
FLOWTABLE = Section(
    "flowtable",
    (
        Key("hook", _Line("ingress", _SCALAR), "where it is called", "ingress"),
        Key("priority", _Line("a number", _SCALAR), "its turn at the hook", "filter"),
        Key("devices", _DEVICES, "the devices that it takes packets of", required=True),
        Key("flags", _Line("offload", _SCALAR), "`offload`"),
        Key("counter", values.BOOLEAN, "whether it counts", "false"),
    ),
)
_CHAIN_FORMS = "a list of rules, or a mapping with type, hook, rules"
TABLE = Section(
    "table",
    (
        Key("chains", MapOf(_NAME, _Either(CHAIN, _RULES, "rules", _CHAIN_FORMS)), "its chains"),
        Key("sets", MapOf(_NAME, SET), "its sets"),
        Key("maps", MapOf(_NAME, MAP), "its maps"),
        Key("flowtables", MapOf(_NAME, FLOWTABLE), "its flow tables"),
        Key("counters", ListOf(_NAME), "the names of its counters"),
        Key("quotas", MapOf(_NAME, _Line("a quota such as over 100 mbytes")), "its named quotas"),
        Key("limits", MapOf(_NAME, _Line("a limit such as rate 10/second")), "its named limits"),
        Key("ct_helpers", MapOf(_NAME, _Line('a helper such as type "ftp" protocol tcp')), "its helpers of connection"
            " tracking", allow_dashes=True),
        _COMMENT,
        Key("flags", _Line("a flag", _SCALAR), "`dormant`"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class NftablesField:
    """The nftables of one machine: the node of a text, or pairs of a table and what is in it."""

    tables = MapOf(_TABLE, TABLE)
    what = "a text in nft's language, or a mapping from tables such as `inet filter` to chains, sets, maps, ..."

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Text) and not node.is_null:
            return node
        return self.tables.read(node, label, reader)

    def schema(self) -> Json:
        return {"anyOf": [self.tables.schema(), {"type": "string", "description": "a text in nft's language"}]}

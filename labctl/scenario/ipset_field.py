"""The IP sets of a machine in a raw scenario: names with members, or the text of `ipset save` as it is.

Both forms read as the same pairs of a name and {type, family, members}, each with its position. `make_ipset` makes the
object of the plan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from labctl.core.ipset_members import KINDS, parse_member
from labctl.core.names import did_you_mean
from labctl.core.resources import IpSet
from labctl.scenario import values
from labctl.scenario.document import Position, Reader, Seq, Text, TreeNode, quote_text
from labctl.scenario.field_types import InvalidValue, Json, Key, ListOf, Located, MapOf, Scalar, Section

FAMILIES = ("inet", "inet6")
_MAX_NAME = 31  # IPSET_MAXNAMELEN without its NUL
# options of `create` that change nothing that a packet could notice
_SIZES = ("hashsize", "maxelem", "bucketsize", "initval")
_TYPES_HINT = f"labctl builds sets of the types {', '.join(KINDS[:-1])} and {KINDS[-1]}"


def _name(text: str) -> str:
    if not text.isprintable() or not text or len(text.encode()) > _MAX_NAME or any(map(str.isspace, text)):
        raise InvalidValue(f"{quote_text(text)} is not the name of an IP set", f"at most {_MAX_NAME} characters")
    return text


_MEMBER = Scalar("an address or a network", str, {"type": "string"})
_MEMBERS = ListOf(_MEMBER)
IP_SET = Section(
    "ipset",
    (
        Key("type", values.choice(*KINDS), "its type, as in `ipset create`", KINDS[0]),
        Key("family", values.choice(*FAMILIES), "inet (IPv4) or inet6", FAMILIES[0]),
        Key("members", _MEMBERS, "its addresses or networks"),
    ),
)


@dataclass(frozen=True, slots=True)
class _IpSet:
    """One set: its members, or a mapping with its type."""

    what = "a list of its members, or a mapping with type, family and members"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Seq):
            return {"members": Located(_MEMBERS.read(node, label, reader), node.position, node.position)}
        return IP_SET.read(node, label, reader)

    def schema(self) -> Json:
        return {"anyOf": [IP_SET.schema(), _MEMBERS.schema()]}


@dataclass(frozen=True, slots=True)
class IpSetsField:
    """The sets of one machine."""

    sets = MapOf(Scalar("a set's name", _name, {"maxLength": _MAX_NAME}), _IpSet())

    @property
    def what(self) -> str:
        return f"{self.sets.what}, or the text of ipset save"

    def read(self, node: TreeNode, label: str, reader: Reader) -> Any:
        if isinstance(node, Text) and not node.is_null:
            return tuple(_SaveReader(node, label, reader).pairs())
        return self.sets.read(node, label, reader)

    def schema(self) -> Json:
        return {"anyOf": [self.sets.schema(), {"type": "string", "description": "the text of ipset save"}]}


class _SaveReader:
    """Reads the text of `ipset save`: lines with `create` and `add`."""

    def __init__(self, node: Text, label: str, reader: Reader) -> None:
        self.node, self.label, self.reader = node, label, reader
        self.sets: dict[str, tuple[Located, dict[str, Located], list[Located]]] = {}

    def pairs(self) -> Iterator[tuple[Located, Located]]:
        """The sets in the order of the text."""
        for line in self.node.lines():
            if not line.value.startswith("#"):
                self._read_line(line.position, line.value.split())
        for name, body, members in self.sets.values():
            yield name, Located({**body, "members": Located(tuple(members), name.at, name.at)}, name.at, name.at)

    def _read_line(self, at: Position, words: list[str]) -> None:
        verb, name, *rest = (*words, "", "")
        rest = [word for word in rest if word]
        if verb == "add" and rest[1:] == ["nomatch"]:
            rest = [" ".join(rest)]
        if verb == "create" and rest:
            if name in self.sets:
                self._refuse(at, f"the set {quote_text(name)} is created twice")
            self.sets[name] = (Located(name, at, at), dict(self._options(at, rest)), [])
        elif verb == "add" and name in self.sets and len(rest) == 1:
            self.sets[name][2].append(Located(rest[0], at, at))
        elif verb == "add" and name in self.sets and rest:
            self._refuse(at, f"a member with options ({quote_text(' '.join(rest[1:]))})", _TYPES_HINT)
        elif verb == "add" and rest:
            hint = did_you_mean(name, self.sets) or "its create comes first"
            self._refuse(at, f"there is no set {quote_text(name)}", hint)
        else:
            text = quote_text(" ".join(words))
            self._refuse(at, f"{text} is not a line of ipset save", "such as add NAME 192.0.2.0/24")

    def _options(self, at: Position, words: list[str]) -> Iterator[tuple[str, Located]]:
        kind, *rest = words
        if kind not in KINDS:
            self._refuse(at, f"sets of the type {quote_text(kind)} are not supported", _TYPES_HINT)
        else:
            yield "type", Located(kind, at, at)
        while rest:
            option, value = rest[0], rest[1] if len(rest) > 1 else ""
            rest = rest[2:]
            if option == "family" and value in FAMILIES:
                yield "family", Located(value, at, at)
            elif option not in _SIZES:
                self._refuse(at, f"the option {quote_text(option)} of a set is not supported", _TYPES_HINT)

    def _refuse(self, at: Position, what: str, hint: str = "") -> None:
        self.reader.add_problem(at, f"{self.label}: {what}", hint)


def make_ipset(ns: str, name: Located, body: dict[str, Located], reader: Reader) -> IpSet:
    """The IP set of a name and {type, family, members}. Problems with members are recorded."""
    kind = body["type"].value if "type" in body else KINDS[0]
    family = body["family"].value if "family" in body else FAMILIES[0]
    version = 6 if family == "inet6" else 4
    members: set[str] = set()
    for row in body["members"].value if "members" in body else ():
        try:
            one = parse_member(row.value, kind)
        except ValueError as error:
            what, hint = _member_problem(row.value, kind, version, str(error))
            reader.add_problem(row.at, f"ipsets: {name.value}: {what}", hint)
            continue
        if one.network.version != version:
            what, hint = _member_problem(row.value, kind, version, "")
            reader.add_problem(row.at, f"ipsets: {name.value}: {what}", hint)
        elif one.network.prefixlen == 0:
            what = f"ipsets: {name.value}: {kind} cannot have {row.value}"
            reader.add_problem(row.at, what, "write two halves, such as 0.0.0.0/1 and 128.0.0.0/1")
        else:
            members.add(str(one))
    return IpSet(ns, name.value, kind, tuple(sorted(members)), family)


def _member_problem(text: str, kind: str, version: int, error: str) -> tuple[str, str]:
    """What is wrong with the text of a member, and a hint."""
    if kind == "hash:ip,port":
        return f"{quote_text(text)} is not an IPv{version} address with a port", "such as 192.0.2.1,tcp:80"
    if "addresses only" in error:
        return f"{kind} has addresses only", "use hash:net for networks"
    hint = "such as 192.0.2.0/24, without host bits" if version == 4 else ""
    return f"{quote_text(text)} is not an IPv{version} network", hint

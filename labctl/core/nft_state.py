"""What the commands of a text in nft's language have made so far, each line with its place. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from labctl.core.names import did_you_mean
from labctl.core.nft_declarations import base_line, header_lines
from labctl.core.nft_ruleset import one_line
from labctl.core.nft_tokens import Token, joined
from labctl.core.resources import NftObject

IPTABLES_HINT = "paste this table as iptables-save prints it, under firewall: (ip) or firewall6: (ip6)"

BEFORE = -1  # the place of what was there before the text


@dataclass(slots=True)
class Line:
    """A line of an object, and the offset at which it begins in the text."""

    text: str
    at: int


@dataclass(slots=True)
class ScriptObject:
    """A table, or an object in it, with the places of its lines."""

    table: str
    kind: str
    name: str
    at: int
    header: list[Line] = field(default_factory=list)
    entries: list[Line] = field(default_factory=list)
    present: NftObject | None = None  # as it was before the text, if it was there

    def resource(self, ns: str) -> NftObject:
        """The object of a plan, in nft's words."""
        header = tuple(header_lines(self.kind, self.table, [line.text for line in self.header]))
        entries = tuple(line.text for line in self.entries)
        if self.kind != "chain":
            entries = tuple(dict.fromkeys(entries))
        return NftObject(ns, self.table, self.kind, self.name, header, entries)


@dataclass(slots=True)
class Mistake:
    """What is wrong at one place: at this offset, or at the first of these words that follows it."""

    at: int
    what: str
    hint: str = ""
    word: str = ""


Objects = dict[tuple[str, str, str], ScriptObject]  # by table, kind and name; the table's own kind is "table"


class Ruleset:
    """What the commands so far have made: each table, then its objects, in their order. Mistakes are collected."""

    def __init__(self) -> None:
        self.objects: Objects = {}
        self.mistakes: list[Mistake] = []

    def refuse(self, at: int, what: str, hint: str = "", word: str = "") -> None:
        """Record a mistake."""
        self.mistakes.append(Mistake(at, what, hint, word))

    def add(self, table: str, kind: str, name: str, at: int) -> ScriptObject:
        """The object of this name, made if it does not exist; so is its table."""
        if (table, "table", "") not in self.objects:
            self.objects[table, "table", ""] = ScriptObject(table, "table", "", at)
        return self.objects.setdefault((table, kind, name), ScriptObject(table, kind, name, at))

    def keep(self, item: NftObject) -> None:
        """Add an object that is there already. The text may add to it, and not remove it or anything of it."""
        known = ScriptObject(item.table, item.kind, item.name, BEFORE, present=item)
        base, _, policy = (
            item.header[0].partition("; policy ") if item.kind == "chain" and item.header else ("", "", "")
        )
        lines = [base, f"policy {policy.rstrip(';')}", *item.header[1:]] if policy else item.header
        known.header = [Line(line, BEFORE) for line in lines]
        known.entries = [Line(entry, BEFORE) for entry in item.entries]
        self.objects[item.table, item.kind, item.name] = known

    def may_lose(self, item: ScriptObject, at: int) -> bool:
        """Whether the text may remove an object or what is in it. Records a mistake if it was there before."""
        if item.present is not None:
            name = f"{item.kind} {item.name or item.table}"
            self.refuse(
                at, f"the {name} is the model's, and nothing of it can be removed", "rules and elements can be added"
            )
        return item.present is None

    def find(self, table: str, kind: str, name: str, at: int) -> ScriptObject | None:
        """The object of this name; None, with a mistake recorded, if there is none."""
        found = self.objects.get((table, kind, name))
        if found is None:
            self.refuse(at, *missing(self.objects, table, kind, name))
        return found

    def remove(self, table: str, kind: str = "table", name: str = "") -> None:
        """Remove an object, and with a table all that is in it."""
        for key in [key for key in self.objects if key[0] == table and (kind == "table" or key[1:] == (kind, name))]:
            del self.objects[key]

    def in_order(self) -> list[ScriptObject]:
        """All objects, each table before what is in it, in the order in which nft prints them: chains last."""
        tables = {table: number for number, table in enumerate(dict.fromkeys(key[0] for key in self.objects))}
        order = {"table": 0, "set": 2, "map": 2, "flowtable": 3, "chain": 4}
        return sorted(self.objects.values(), key=lambda item: (tables[item.table], order.get(item.kind, 1)))


def missing(objects: Iterable[tuple[str, str, str]], table: str, kind: str, name: str) -> tuple[str, str]:
    """What is wrong, and a hint, where this object is named and does not exist."""
    objects = tuple(objects)
    if (table, "table", "") not in objects:
        known = [one for one, what, _ in objects if what == "table"]
        return f"there is no table {table}", did_you_mean(table, known) or f"write add table {table} above"
    known = [one for where, what, one in objects if (where, what) == (table, kind)]
    kinds = [what for where, what, one in objects if where == table and one == name and what != "table"]
    hint = did_you_mean(name, known) or (f"{name} is a {kinds[0]}" if kinds else f"add it to the table {table}")
    return f"the table {table} has no {kind} {name}", hint


def rule_line(found: Sequence[Token], into: Ruleset) -> Line | None:
    """A rule in one line; None, with a mistake recorded, if no plan can have it."""
    words = [token.text for token in found]
    for number, (word, following) in enumerate(pairwise(words)):
        where = found[number].at
        if word == "xt" and following in ("match", "target"):
            name = f" {words[number + 2]}" if number + 2 < len(words) else ""
            into.refuse(
                where, f"nft cannot read this expression of iptables again (xt {following}{name})", IPTABLES_HINT
            )
            return None
        if word == "comment" and number == 0 and len(words) > 2:
            into.refuse(where, "nft cannot read this rule of iptables again (its comment is first)", IPTABLES_HINT)
            return None
        if word in ("jump", "goto") and following == "{":
            into.refuse(where, f"{word} to a chain without a name", "give the chain a name, and jump to it")
            return None
    return Line(one_line(joined(found)), found[0].at)


def add_header(item: ScriptObject, line: Line, into: Ruleset) -> None:
    """Add a line that says what an object is. One of the same beginning must be the same."""
    if not line.text:  # it said only what the kernel counts
        return
    if item.kind == "chain" and line.text.startswith("type "):
        line = Line(base_line(item.table, line.text), line.at)
    first = line.text.split(maxsplit=1)[0]
    for number, known in enumerate(item.header):
        if known.text.split(maxsplit=1)[0] == first:
            if known.text != line.text:
                if first != "policy":
                    into.refuse(line.at, f"the {item.kind} {item.name} has {known.text!r} already")
                item.header[number] = line
            return
    item.header.append(line)

"""The language of `nft list ruleset`: read it into objects of a plan, and write objects as such a text. Pure.

Nothing is understood beyond the blocks: a rule is one line, an element is one text between commas. What the kernel
counts is left out (`counter packets 5 bytes 300` is `counter`), as `nft -s` does it; so are the remaining times of
elements. Rules in other spellings stay as they are; `labctl.kernel.firewall` asks nft how it prints them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from labctl.core.resources import NftObject

FAMILIES = ("ip", "ip6", "inet", "arp", "bridge", "netdev")
# the objects of a table that have a block of their own; some have two words
KINDS = (
    "chain", "set", "map", "flowtable", "counter", "quota", "limit", "secmark", "synproxy",
    "ct helper", "ct timeout", "ct expectation",
)  # fmt: skip
WITH_ELEMENTS = ("set", "map")
# the priorities that have a name, in all families but bridge, and in bridge
PRIORITIES = {"raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100}
BRIDGE_PRIORITIES = {"dstnat": -300, "filter": -200, "out": 100, "srcnat": 300}
_QUOTED = re.compile(r'("[^"]*")')
_BEYOND_A_LINE = re.compile(r"[{};#\\]")  # what may end a statement, or let it go on; most lines have none of it
# marks of what is more than one line with single spaces, or of something that the kernel counts
_NOT_AS_IT_IS = re.compile(r"\n|\t|  | packets | used | expires |^packets ")
# what only the kernel counts
_COUNTS = re.compile(
    r"\b(counter) packets \d+ bytes \d+|(?<=\S) (?:used \d+ \w+|expires [0-9a-z]+)|^packets \d+ bytes \d+$"
)
_TABLE = re.compile(r"table (?:(" + "|".join(FAMILIES) + r") )?(\S+)")
_BASE_CHAIN = re.compile(r"type \S+ hook \S+.*")
_PRIORITY = re.compile(r"hook (\S+)(?: devices? (?:= )?(\{[^}]*\}|\S+))? priority ([\w-]+)(?: ([+-]) (\d+))?;")


def parse_ruleset(ns: str, text: str) -> Iterator[NftObject]:
    """The objects in what `nft list ruleset` or `nft list table` printed, in its order: a table, then what is in it.

    Raises ValueError for a text that does not list tables.
    """
    for statement in statements(text):
        head, brace, body = statement.partition("{")
        found = _TABLE.fullmatch(" ".join(head.split()))
        if not (found and brace and body.endswith("}")):
            raise ValueError(f"this is not a table of nft: {statement.splitlines()[0][:60]!r}")
        table = f"{found[1] or 'ip'} {found[2]}"
        yield from parse_table(ns, table, body[:-1])


def parse_table(ns: str, table: str, body: str) -> Iterator[NftObject]:
    """The table, and the objects in its block."""
    own: list[str] = []
    inside: list[NftObject] = []
    for statement in statements(body):
        head, brace, rest = statement.partition("{")
        words = head.split()
        kind = next((one for one in (" ".join(words[:-1]),) if one in KINDS), None)
        if brace and kind is not None:
            inside.append(parse_object(ns, table, kind, words[-1], rest[: rest.rindex("}")]))
        elif line := one_line(statement):
            own.append(line)
    yield NftObject(ns, table, "table", "", tuple(own))
    yield from inside


def parse_object(ns: str, table: str, kind: str, name: str, body: str) -> NftObject:
    """An object from the text inside its braces."""
    header: list[str] = []
    entries: list[str] = []
    policy = "accept"
    for statement in statements(body):
        line = one_line(statement)
        if kind == "chain":
            if _BASE_CHAIN.fullmatch(line):
                header.insert(0, line)
            elif line.startswith("policy "):
                policy = line.split()[1]
            elif line.startswith('comment "') and not entries and line.count('"') == 2 and line.endswith('"'):
                header.append(line)
            else:
                entries.append(line)
        elif kind in WITH_ELEMENTS and line.startswith("elements = {"):
            entries += split_elements(line.partition("{")[2].rpartition("}")[0])
        elif line:
            header.append(line)
    if header and _BASE_CHAIN.fullmatch(header[0]):
        header[0] = f"{header[0]}; policy {policy};"
    return NftObject(ns, table, kind, name, tuple(header), tuple(entries))


def statements(text: str) -> Iterator[str]:
    """The statements of a block: lines, or what is between semicolons; several lines as long as a brace is open.
    Comments (from # to the end of the line) are left out."""
    kept: list[str] = []
    depth = 0
    for line in text.splitlines():
        if not _BEYOND_A_LINE.search(line):
            kept.append(line)
            if depth <= 0:
                yield from _finished(kept)
                kept = []
            else:
                kept.append("\n")
            continue
        for number, part in enumerate(_QUOTED.split(line)):
            if number % 2:
                kept.append(part)
                continue
            code, comment, _ = part.partition("#")
            for token in re.split(r"([{};])", code):
                depth += (token == "{") - (token == "}")
                if token == ";" and depth <= 0:
                    yield from _finished(kept)
                    kept = []
                else:
                    kept.append(token)
            if comment:
                break
        if depth <= 0 and not line.endswith("\\"):
            yield from _finished(kept)
            kept = []
        else:
            kept.append("\n")
    yield from _finished(kept)


def _finished(kept: Sequence[str]) -> Iterator[str]:
    if text := "".join(kept).strip():
        yield text


def one_line(text: str) -> str:
    """A statement in one line, with single spaces, without what the kernel counts. Quoted words stay as they are."""
    if not _NOT_AS_IT_IS.search(text):
        return text.strip()
    parts = _QUOTED.split(text)
    if len(parts) == 1 and "\n" not in text and "  " not in text:
        return _COUNTS.sub(r"\1", text).strip()
    code = (re.sub(r"\s+", " ", part) for part in parts[::2])
    quoted = [*parts[1::2], ""]
    return "".join(_COUNTS.sub(r"\1", one) + word for one, word in zip(code, quoted, strict=True)).strip()


def split_elements(text: str) -> Iterator[str]:
    """The elements between the braces of a set or map: split at the commas outside quotes and braces."""
    if '"' not in text and "{" not in text:
        yield from (element for part in text.split(",") if (element := one_line(part)))
        return
    depth, kept = 0, ""
    for number, part in enumerate(_QUOTED.split(text)):
        if number % 2:
            kept += part
            continue
        for token in re.split(r"([{},])", part):
            depth += (token == "{") - (token == "}")
            if token == "," and depth == 0:
                yield one_line(kept)
                kept = ""
            else:
                kept += token
    if kept.strip():
        yield one_line(kept)


def ruleset_text(objects: Iterable[NftObject]) -> str:
    """Objects as `nft -s list ruleset` prints them, a table after the other."""
    tables: dict[str, list[NftObject]] = {}
    for item in objects:
        tables.setdefault(item.table, []).append(item)
    return "".join(_table_text(table, items) for table, items in tables.items())


def input_text(objects: Iterable[NftObject]) -> str:
    """Objects as input of `nft -f`, in words that every version of nft reads.

    nft 1.0.6 knows the priority `dstnat` at the hook prerouting only, and prints `-100` elsewhere; later versions read
    and print it at the hook output, too.
    """
    return ruleset_text(replace(item, header=numeric_header(item)) for item in objects)


def numeric_header(item: NftObject) -> tuple[str, ...]:
    """The header of an object, with the priority of a base chain as a number: the same for all versions of nft."""
    if (hook := hook_of(item)) is None:
        return item.header
    first = _PRIORITY.sub(lambda found: f"{found[0][: found.start(3) - found.start()]}{hook[1]};", item.header[0])
    return (first, *item.header[1:])


def _table_text(table: str, items: Iterable[NftObject]) -> str:
    header = [line for item in items if item.kind == "table" for line in item.header]
    blocks = [object_text(item) for item in items if item.kind != "table"]
    body = [f"\t{line}\n" for line in header]
    return f"table {table} {{\n{''.join(body)}{chr(10).join(blocks)}}}\n"


def object_text(item: NftObject) -> str:
    """One object of a table as nft prints it in the table's block."""
    lines = list(item.header)
    if item.kind in WITH_ELEMENTS:
        lines += [f"elements = {{ {', '.join(item.entries)} }}"] if item.entries else []
    else:
        lines += item.entries
    return f"\t{item.kind} {item.name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def hook_of(chain: NftObject) -> tuple[str, int] | None:
    """The hook of a base chain, and its priority as a number; None for a chain that no hook calls."""
    found = _PRIORITY.search(chain.header[0]) if chain.kind == "chain" and chain.header else None
    if found is None:
        return None
    named = BRIDGE_PRIORITIES if chain.table.startswith("bridge ") else PRIORITIES
    base = named[found[3]] if found[3] in named else int(found[3])
    return found[1], base + int(f"{found[4] or '+'}{found[5] or 0}")


def policy_of(chain: NftObject) -> str:
    """The policy of a base chain, `accept` or `drop`; "" for a chain that no hook calls."""
    _, _, policy = (chain.header[0] if chain.header else "").partition("; policy ")
    return policy.rstrip(";")

"""Objects of nft with what their rules counted, from what `nft list ruleset` printed without `-s`. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from labctl.core.nft_ruleset import one_line, parse_ruleset, statements
from labctl.core.resources import NftObject

Counter: TypeAlias = tuple[int, int]  # packets, bytes
_COUNTS = re.compile(r'"[^"]*"|\bpackets (\d+) bytes (\d+)')


@dataclass(frozen=True, slots=True)
class NftCounters:
    """An object of nft as it stands, and what each rule of a chain counted; None for a rule without a counter, and for
    elements."""

    item: NftObject
    counters: tuple[Counter | None, ...]


def parse_counters(ns: str, text: str) -> Iterator[NftCounters]:
    """The objects in what nft printed, in its order. Raises ValueError for a text that does not list tables."""
    blocks = (block for table in statements(text) for block in _blocks(table))
    of_chain = {(table, name): counts for table, name, counts in blocks}
    for item in parse_ruleset(ns, text):
        counts = of_chain.get((item.table, item.name), {}) if item.kind == "chain" else {}
        yield NftCounters(item, tuple(_take(counts, entry) for entry in item.entries))


def _take(counts: dict[str, list[Counter]], entry: str) -> Counter | None:
    """The counts of the next rule with this text: a chain may have the same rule twice."""
    found = counts.get(entry)
    return found.pop(0) if found else None


def _blocks(table: str) -> Iterator[tuple[str, str, dict[str, list[Counter]]]]:
    """The chains of a table: the table, the chain, and what the rules with each text counted."""
    head, _, body = table.partition("{")
    words = head.split()[1:]
    name = " ".join(words) if len(words) > 1 else f"ip {words[0]}"
    for block in statements(body.rpartition("}")[0]):
        head, brace, inside = block.partition("{")
        kind, *rest = head.split() or ("",)
        if brace and kind == "chain" and rest:
            yield name, rest[0], _counts(inside.rpartition("}")[0])


def _counts(body: str) -> dict[str, list[Counter]]:
    found: dict[str, list[Counter]] = {}
    for rule in statements(body):
        counted = next((one for one in _COUNTS.finditer(rule) if one[1]), None)
        if counted is not None:
            found.setdefault(one_line(rule), []).append((int(counted[1]), int(counted[2])))
    return found

"""What nft said of a text that it refused, as places in the objects that the text was made of. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from labctl.core.nft_ruleset import KINDS, split_elements
from labctl.core.resources import NftObject

_ERROR = re.compile(r"(?P<file>[^:\s]+):(?P<line>\d+):(?P<first>\d+)-(?P<last>\d+): Error: (?P<reason>.*)")
_OBJECT = re.compile(rf"\t(?P<kind>{'|'.join(KINDS)}) (?P<name>\S+) {{")
_FROM_KERNEL = "Could not process rule: "


@dataclass(frozen=True, slots=True)
class NftRefusal:
    """One reason of nft or the kernel: the object (None: not known), its line, and the word there that nft names."""

    reason: str
    item: NftObject | None = None
    line: str = ""
    word: str = ""

    def __str__(self) -> str:
        return f"{self.line!r}: {self.reason}" if self.line else self.reason


def refusals(script: str, stderr: str, objects: Iterable[NftObject]) -> tuple[NftRefusal, ...]:
    """The refusals in nft's standard error for a text that `ruleset_text` made of these objects, perhaps after other
    commands. At least one, even if nft has not said where."""
    lines = script.split("\n")
    known = {(item.table, item.kind, item.name): item for item in objects}
    found = tuple(
        _refusal(match, lines, known) for line in stderr.splitlines() if (match := _ERROR.fullmatch(line.strip()))
    )
    return tuple(dict.fromkeys(found)) or (NftRefusal(stderr.strip().partition("\n")[0] or "nft failed"),)


def _refusal(match: re.Match[str], lines: list[str], known: dict[tuple[str, str, str], NftObject]) -> NftRefusal:
    number = int(match["line"]) - 1
    reason = match["reason"].removeprefix(_FROM_KERNEL)
    text = lines[number] if number < len(lines) else ""
    where = tuple(_places(lines[: number + 1]))
    item = known.get(where[-1]) if where else None
    word = text[int(match["first"]) - 1 : int(match["last"])].strip()
    line = text.strip()
    if line.startswith("elements = {"):
        inner = line.partition("{")[2].rpartition("}")[0]
        line = next((one for one in split_elements(inner) if word and word in one), line)
    return NftRefusal(reason, item, "" if _OBJECT.fullmatch(text) or line.endswith("{") else line, word)


def _places(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """The table, kind and name of the object around each line, as far as there is one."""
    table, inside = "", ("", "", "")
    for line in lines:
        if line.startswith("table ") and line.endswith(" {"):
            table = line[len("table ") : -len(" {")]
            inside = (table, "table", "")
        elif (match := _OBJECT.fullmatch(line)) is not None:
            inside = (table, match["kind"], match["name"])
        elif line == "\t}":
            inside = (table, "table", "")
            continue
        if table:
            yield inside

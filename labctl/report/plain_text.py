"""Plain text lines: the results of verbs, without tables or colour. Everything here is pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from labctl.core.text import VERDICT_LABELS

if TYPE_CHECKING:
    from labctl.core.results import Verdict
    from labctl.report.node_view import TableSection

SYMBOLS: dict[str, str] = {"pass": "✔", "fail": "✘", "skip": "–", "inconclusive": "?"}
VERDICT_COLOURS: dict[str, str] = {"pass": "green", "fail": "red", "skip": "dim", "inconclusive": "yellow"}

ANSI_COLOUR = re.compile(r"\033\[\d*m")


def align(section: TableSection) -> list[str]:
    """A section as columns of plain text, two spaces apart. The title has its own line."""
    rows = [section.columns, *section.rows] if section.columns else list(section.rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    indent = "  " if section.title else ""
    lines = [section.title] if section.title else []
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append((indent + "  ".join(cells)).rstrip())
    return lines


def symbol(verdict: Verdict, *, symbols: bool) -> str:
    """The symbol of a verdict: ✔ ✘ – ? on a terminal, a word elsewhere."""
    return SYMBOLS[verdict] if symbols else VERDICT_LABELS[verdict]


def fold_line(text: str, width: int, indent: int = 0, continuation: str = "") -> list[str]:
    """Break a line between words into lines of at most `width` columns. Colour codes have no width.

    The lines after the first begin under its first word, and at least `indent` spaces from the left.
    `continuation` is added to each line that the next one continues. A word longer than a line is not broken.
    """
    if _visible_width(text) <= width:
        return [text]
    start = len(text) - len(text.lstrip(" "))
    begin = " " * max(start, indent)
    lines, line, empty = [], text[:start], True
    words = text[start:].split(" ")
    for number, word in enumerate(words, 1):
        longer = line + word if empty else f"{line} {word}"
        limit = width - (len(continuation) if number < len(words) else 0)
        if not empty and _visible_width(longer) > limit:
            lines.append(line.rstrip(" ") + continuation)
            longer = begin + word
        line, empty = longer, empty and not word
    return [*lines, line]


def _visible_width(text: str) -> int:
    return len(ANSI_COLOUR.sub("", text))

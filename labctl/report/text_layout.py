"""Lines and tables in the width of a terminal. Pure. Everything breaks between words and nowhere else.

A word (an address, a name, a word of a rule) is never broken: what a reader copies from a terminal is whole. Only a
word that is wider than the terminal does not fit.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.report.table_section import TableSection

GAP = "  "  # between two columns
ANSI_COLOUR = re.compile(r"\033\[\d*m")
WORD = re.compile(r"( *)([^ ]+)")
# Chinese and Japanese have no blanks between words: a line breaks between any two of these characters, but never before
# one that closes something, and never behind one that opens something
_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff00-\uff60\uffe0-\uffe6"
_OPENING = "（「『【〈《［｛"
_CLOSING = "、。，．・：；？！）」』】〉》］｝ー々ぁぃぅぇぉっゃゅょゎァィゥェォッャュョヮ"
_CODE = r"\033\[\d*m"
_WIDE_WORD = rf"( *)((?:[{_OPENING}]|{_CODE})*(?:[^ {_WIDE}]+|[{_WIDE}])(?:[{_CLOSING}]|{_CODE})*)"
COMMAND_WORD = re.compile(r"""( *)((?:"[^"]*"|'[^']*'|[^ ])+)""")  # a quoted text is one word

Paint = Callable[[str, str], str]  # a text in a colour of `terminal.COLOURS`


def text_width(text: str) -> int:
    """The columns that a text takes on a terminal: colour codes take none, wide characters (such as Japanese) two."""
    if "\033" in text:
        text = ANSI_COLOUR.sub("", text)
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def pad(text: str, width: int) -> str:
    """The text with blanks behind it, as many as `width` columns need."""
    return text + " " * (width - text_width(text))


def fold_line(text: str, width: int, indent: int = 0, continuation: str = "") -> list[str]:
    """Break a line between words into lines of at most `width` columns.

    The lines after the first begin under its first word, and at least `indent` spaces from the left; less, if its
    longest word does not fit otherwise. `continuation` is added to each line that the next one continues; with it, the
    line is a command, and a quoted text in it is one word.
    """
    if text_width(text) <= width:
        return [text]
    words = [(len(found[1]), found[2]) for found in (COMMAND_WORD if continuation else _word(text)).finditer(text)]
    if not words:
        return [text]
    room = max(0, width - len(continuation) - max(text_width(word) for _, word in words))
    begin = min(max(words[0][0], indent), room)
    lines, line = [], " " * min(words[0][0], room) + words[0][1]
    for number, (gap, word) in enumerate(words[1:], 2):
        longer = f"{line}{' ' * gap}{word}"
        limit = width - (len(continuation) if number < len(words) else 0)
        if text_width(longer) > limit and text_width(word):
            lines.append(line + continuation)
            longer = " " * begin + word
        elif text_width(longer) > limit:
            longer = line + word  # only a colour code
        line = longer
    return [*lines, line]


def _word(text: str) -> re.Pattern[str]:
    """What stays together in a text."""
    return WORD if text.isascii() else re.compile(_WIDE_WORD)  # 1 ms, once


def first_words(text: str, width: int) -> str:
    """As many whole words of a line as fit into `width` columns, with `...` for the rest; "" if no word fits."""
    if text_width(text) <= width:
        return text
    first = fold_line(text, width - 4)[0]
    return f"{first} ..." if text_width(first) <= width - 4 else ""


def align(section: TableSection) -> list[str]:
    """A section as columns of plain text, two spaces apart. The title has its own line."""
    rows = [section.columns, *section.rows] if section.columns else list(section.rows)
    widths = [max(map(text_width, column)) for column in zip(*rows, strict=True)]
    indent = GAP if section.title else ""
    lines = [section.title] if section.title else []
    for row in rows:
        lines.append((indent + GAP.join(map(pad, row, widths))).rstrip())
    return lines


def draw(
    section: TableSection,
    width: int,
    paint: Paint = lambda text, colour: text,
    style: Callable[[str], str] = lambda cell: "",
    rule: str = "-",
) -> Iterator[str]:
    """A section for a terminal: a bold title, a bold head over a line of `rule`, and cells that fold between words.

    If the longest words of all columns do not fit side by side, each row becomes several lines: its first cell, then
    each other cell behind the name of its column. `style` returns the colour of a cell, "" for none.
    """
    if section.title:
        yield from (paint(line, "bold") for line in fold_line(section.title, width))
    if not section.rows:
        return
    rows = [section.columns, *section.rows] if section.columns else list(section.rows)
    columns = list(zip(*rows, strict=True))
    widths = fit(
        [max(map(text_width, column)) for column in columns],
        [max(map(_longest_word, column)) for column in columns],
        width - len(GAP) * (len(columns) - 1),
    )
    if widths is None:
        for row in section.rows:
            yield from _stacked(section.columns or ("",) * len(row), row, width, paint, style)
        return
    if section.columns:
        yield from _row(section.columns, widths, paint, lambda _: "bold")
        yield rule * (sum(widths) + len(GAP) * (len(columns) - 1))
    for row in section.rows:
        yield from _row(row, widths, paint, style)


def fit(wanted: Sequence[int], least: Sequence[int], available: int) -> list[int] | None:
    """The widths of columns that want `wanted` and need at least `least`; narrow columns get what they want, and wide
    ones share the rest. None if they do not fit."""
    if sum(least) > available:
        return None
    limit = max(wanted)
    while sum(widths := [max(need, min(want, limit)) for want, need in zip(wanted, least, strict=True)]) > available:
        limit -= 1
    return widths


def _row(cells: Sequence[str], widths: Sequence[int], paint: Paint, style: Callable[[str], str]) -> Iterator[str]:
    """A row of a table. Its cells are folded first and coloured then, so that each line has its own colour codes."""
    folded = [fold_line(cell, width) for cell, width in zip(cells, widths, strict=True)]
    colours = [style(cell) for cell in cells]
    for number in range(max(map(len, folded))):
        parts = [lines[number] if number < len(lines) else "" for lines in folded]
        last = max((at for at, part in enumerate(parts) if part), default=0)
        line = []
        for at, part in enumerate(parts[: last + 1]):
            blanks = " " * (widths[at] - text_width(part)) if at < last else ""
            line.append((paint(part, colours[at]) if colours[at] and part else part) + blanks)
        yield GAP.join(line)


def _stacked(
    names: Sequence[str], row: Sequence[str], width: int, paint: Paint, style: Callable[[str], str]
) -> Iterator[str]:
    first, *rest = row
    if first:
        yield from (paint(line, "bold") for line in fold_line(first, width))
    for name, cell in zip(names[1:], rest, strict=True):
        if cell:
            label = f"{name}: " if name else ""
            colour = style(cell)
            for line in fold_line(f"  {label}{cell}", width, 4):
                yield paint(line, colour) if colour else line


def _longest_word(cell: str) -> int:
    return max((text_width(found[2]) for found in _word(cell).finditer(cell)), default=0)

"""Blocks of a handout, how high they are on paper, and how they share one or two sheets. Pure.

A browser prints the page, so nothing here knows the exact height of a text. It is estimated from its columns, and a
little too high rather than too low: the box for notes takes what is left of a sheet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from math import ceil

from labctl.drawing.words import columns, wrap

WIDTH = 186.0  # millimetres of a sheet of A4 without its margins
HEIGHT = 271.0
LINE = 4.7  # of a line of text
ROW = 4.3  # of a line in a table, with the room around it
COLUMNS = 100  # of text in a line; letters of most languages take less than their column
TABLE_COLUMNS = 104  # in all cells of a row
HEADING = 9.5
GAP = 3.0
LEAST_NOTES = 26.0
LEAST_ROWS = 4  # that a shortened list keeps


@dataclass(frozen=True, slots=True)
class Block:
    """A part of a sheet: its HTML, and its estimated height in millimetres. A list can be shortened: `shorter` makes it
    again with at most so many of its `rows`."""

    lines: tuple[str, ...]
    height: float
    rows: int = 0
    shorter: Callable[[int], Block] | None = None


def text_lines(text: str, width: int = COLUMNS) -> int:
    """How many lines a text takes."""
    return len(wrap(text.replace("`", ""), width, ""))


def paragraphs(text: str) -> Block:
    """A text of a scenario file: paragraphs, lists (`- `), and lines of commands that begin with two blanks."""
    lines: list[str] = []
    height, open_tag = 0.0, ""
    for line in text.split("\n"):
        tag = "pre" if line.startswith("  ") else "ul" if line.startswith("- ") else ""
        if tag != open_tag:
            lines += [f"</{open_tag}>"] if open_tag else []
            lines += [f"<{tag}>"] if tag else []
            open_tag, height = tag, height + GAP
        if tag == "pre":
            lines.append(escape(line[2:]))
            height += LINE
        elif line:
            lines.append(f"<li>{inline(line[2:])}</li>" if tag else f"<p>{inline(line)}</p>")
            height += text_lines(line) * LINE + (0 if tag else 1.5)
    return Block((*lines, *([f"</{open_tag}>"] if open_tag else [])), height)


def inline(text: str) -> str:
    """A text as HTML, with `code` as such."""
    parts = escape(text).split("`")
    if len(parts) % 2 == 0:
        return escape(text)
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def section(title: str, body: Iterable[str], height: float, kind: str = "") -> Block:
    """A block with a heading."""
    about = f' class="{kind}"' if kind else ""
    return Block((f"<section{about}><h2>{escape(title)}</h2>", *body, "</section>"), height + HEADING)


def table(
    title: str,
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    widths: Sequence[int],
    rest: Callable[[int], str],
    limit: int | None = None,
) -> Block:
    """A table with a caption. The first cell of each row is its head. `widths` are in percent; `rest` says what of so
    many rows is left out."""
    shown = rows if limit is None else rows[:limit]
    height = HEADING + ROW
    head = "".join(
        f'<th scope="col" style="width:{width}%">{escape(one)}</th>' for one, width in zip(heads, widths, strict=True)
    )
    lines = [f"<table><caption>{escape(title)}</caption><thead><tr>{head}</tr></thead><tbody>"]
    for row in shown:
        first, *others = row
        cells = "".join(f"<td>{escape(one)}</td>" for one in others)
        lines.append(f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>')
        height += ROW * max(
            len(wrap(one, max(4, TABLE_COLUMNS * width // 100), "")) for one, width in zip(row, widths, strict=True)
        )
    lines.append("</tbody></table>")
    if len(shown) < len(rows):
        lines.append(f'<p class="rest">{inline(rest(len(rows) - len(shown)))}</p>')
        height += LINE
    return Block(
        tuple(lines), height + GAP, len(shown), lambda most: table(title, heads, rows, widths, rest, limit=most)
    )


def bullets(title: str, items: Sequence[str], rest: Callable[[int], str], limit: int | None = None) -> Block:
    """A list of sentences with a heading."""
    shown = items if limit is None else items[:limit]
    lines = ['<ul class="ticks">', *(f"<li>{inline(one)}</li>" for one in shown), "</ul>"]
    height = sum(text_lines(one, COLUMNS - 4) * LINE + 0.6 for one in shown) + GAP
    if len(shown) < len(items):
        lines.append(f'<p class="rest">{inline(rest(len(items) - len(shown)))}</p>')
        height += LINE
    block = section(title, lines, height)
    return Block(block.lines, block.height, len(shown), lambda most: bullets(title, items, rest, most))


def commands(title: str, rows: Sequence[tuple[str, str]]) -> Block:
    """Commands to type, each with what it does."""
    widest = max(columns(command) for command, _ in rows)
    lines = ['<dl class="commands">']
    height = 1.0
    for command, what in rows:
        lines.append(f"<dt><code>{escape(command)}</code></dt><dd>{inline(what)}</dd>")
        height += LINE * max(ceil(columns(command) / 60), text_lines(what, max(30, 92 - min(widest, 60))))
    return section(title, [*lines, "</dl>"], height + GAP)


def total(blocks: Iterable[Block]) -> float:
    """The height of blocks, one below the other."""
    return sum(one.height for one in blocks)


def sheets(first: Sequence[Block], rest: Sequence[Block], most: int) -> list[list[Block]] | None:
    """The blocks on sheets, with room for notes at the end; None if they do not fit on so many. `first` are those of
    the first sheet."""
    found = [list(first)]
    for one in rest:
        if total([*found[-1], one]) > HEIGHT:
            found.append([])
        found[-1].append(one)
    if total(found[-1]) + LEAST_NOTES > HEIGHT:
        found.append([])
    return found if len(found) <= most and all(total(page) <= HEIGHT for page in found) else None


def shortened(blocks: Sequence[Block]) -> list[Block] | None:
    """The blocks with the longest of their lists a little shorter; None if none can be shorter."""
    lists = [one for one in blocks if one.shorter is not None and one.rows > LEAST_ROWS]
    if not lists:
        return None
    longest = max(lists, key=lambda one: one.height)
    assert longest.shorter is not None
    shorter = longest.shorter(max(LEAST_ROWS, min(longest.rows - 1, longest.rows * 9 // 10)))
    return [shorter if one is longest else one for one in blocks]

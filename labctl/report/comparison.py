"""A comparison as tables for people and for Markdown pages. Everything here is pure.

A few labs stand side by side with the questions as rows. Many would not fit: then the labs are the rows, and the
questions are dealt out to several tables, by what they are about.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from labctl.report.node_view import Section
from labctl.report.plain_text import count, duration

if TYPE_CHECKING:
    from labctl.compare.table import Table

SIDE_BY_SIDE = 4  # labs that stand side by side where lines may be as long as they are
LABEL, ROOM = 24, 22  # columns of a terminal that a question's words and an answer need
HOW = "sudo labctl compare --all --markdown > docs/comparison.md"
PAGE = """\
<!-- Written by `{how}`: measure it again, do not change it by hand. -->

# The models, compared

`{command}` measured every answer: each lab was built, asked with real packets and by its kernel's
own state, and removed. Nothing is typed in. What stands in parentheses says why a lab could not be asked."""


def sections(table: Table, width: int | None = None) -> tuple[Section, ...]:
    """The table in the form that suits `width` columns of a terminal; None for a pipe."""
    most = SIDE_BY_SIDE if width is None else max(1, (width - LABEL) // ROOM)
    return tuple(_turned(table)) if len(table.columns) > most else (_straight(table),)


def _straight(table: Table) -> Section:
    """The questions as rows, the labs side by side."""
    titles = tuple(column.title for column in table.columns)
    answers = zip(table.rows, zip(*table.cells, strict=True), strict=True)
    return Section("", ("", *titles), tuple((row.title, *(cell.text for cell in cells)) for row, cells in answers))


def _turned(table: Table) -> Iterator[Section]:
    """A table for each group of questions, with the labs as rows."""
    for group in dict.fromkeys(row.group for row in table.rows):
        chosen = [number for number, row in enumerate(table.rows) if row.group == group]
        rows = [
            (column.title, *(cells[number].text for number in chosen))
            for column, cells in zip(table.columns, table.cells, strict=True)
            if any(cell.state != "skipped" for cell in cells)
        ]
        yield Section(group, ("lab", *(table.rows[number].title for number in chosen)), tuple(rows))


def notes(table: Table) -> Iterator[str]:
    """What the table cannot say: who was left out and why, what was built otherwise, what times are worth."""
    for column in table.columns:
        reason = getattr(column, "reason", "")
        if reason:
            yield f"{column.title}: skipped, {reason}"
        lab = getattr(column, "lab", None)
        for part in lab.approximations if lab is not None else ():
            yield f"{column.title}: approximate, for want of {part.feature}: {part.what}; instead: {part.instead}"
    timed = [number for number, row in enumerate(table.rows) if row.timed]
    base = {
        column.title
        for column, cells in zip(table.columns, table.cells, strict=True)
        if any(cells[number].ratio == 1 and cells[number].text.startswith("1 (") for number in timed)
    }
    if base:
        first = ", ".join(sorted(base))
        yield f"times are of one run on this machine, relative to {first}: compare nothing else by them"


def tally(table: Table) -> str:
    """The last line: how many labs were compared, and how long that took."""
    skipped = sum(bool(getattr(column, "reason", "")) for column in table.columns)
    measured = len(table.columns) - skipped
    less = f", {skipped} skipped" if skipped else ""
    return f"{count(measured, 'lab')} measured{less} in {duration(table.seconds)}"


def evidence(table: Table) -> Iterator[str]:
    """Every answer with the sentences that it rests on."""
    for column, cells in zip(table.columns, table.cells, strict=True):
        for row, cell in zip(table.rows, cells, strict=True):
            if cell.evidence:
                yield f"{column.title}, {row.title}: {cell.text}"
                yield from (f"    {line}" for line in cell.evidence)


def style(text: str) -> str:
    """How a cell is to look on a terminal: dim where nobody could be asked, yellow where evidence was lost."""
    if text.startswith("(") or text == "skipped":
        return "dim"
    return "yellow" if text.startswith("inconclusive") else ""


def markdown(table: Table, how: str = HOW) -> Iterator[str]:
    """The page of a comparison, line by line; `how` is the command that wrote it."""
    yield from PAGE.format(how=how, command=how.partition(" > ")[0]).splitlines()
    for section in sections(table):
        yield ""
        if section.title:
            yield from (f"## {section.title[0].upper()}{section.title[1:]}", "")
        yield _line(section.columns)
        yield "|" + " --- |" * len(section.columns)
        yield from map(_line, section.rows)
    told = list(notes(table))
    if told:
        yield ""
        yield from (f"- {line}" for line in told)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

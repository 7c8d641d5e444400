"""A comparison as tables for terminals and for Markdown pages. Everything here is pure.

For a few labs, the questions are the rows and the labs are the columns. For more labs, the labs are the rows, and
there is one table for each group of questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from labctl.core.text import count, duration
from labctl.report.table_section import TableSection

if TYPE_CHECKING:
    from labctl.compare.table import Table

MAX_SIDE_BY_SIDE = 4  # labs as columns if the line length is not limited
LABEL_COLUMNS, CELL_COLUMNS = 24, 22  # terminal columns for the text of a question and for an answer
DEFAULT_COMMAND = "sudo labctl compare --all --markdown > docs/comparison.md"
PAGE = """\
<!-- Written by `{write_command}`: measure again, do not edit. -->

# The models, compared

`{command}` measured every answer. Each lab was built, measured with real packets and
from the kernel's state, and removed. No answer was entered manually. A text in parentheses says why a question does
not apply to a lab."""


def sections(table: Table, width: int | None = None) -> tuple[TableSection, ...]:
    """The table in the form that fits `width` columns of a terminal; None means a pipe without a limit."""
    max_labs = MAX_SIDE_BY_SIDE if width is None else max(1, (width - LABEL_COLUMNS) // CELL_COLUMNS)
    return tuple(_labs_as_rows(table)) if len(table.columns) > max_labs else (_questions_as_rows(table),)


def _questions_as_rows(table: Table) -> TableSection:
    """The questions as rows, the labs as columns."""
    titles = tuple(column.title for column in table.columns)
    answers = zip(table.rows, zip(*table.cells, strict=True), strict=True)
    return TableSection("", ("", *titles), tuple((row.title, *(cell.text for cell in cells)) for row, cells in answers))


def _labs_as_rows(table: Table) -> Iterator[TableSection]:
    """A table for each group of questions, with the labs as rows."""
    for group in dict.fromkeys(row.group for row in table.rows):
        chosen = [number for number, row in enumerate(table.rows) if row.group == group]
        rows = [
            (column.title, *(cells[number].text for number in chosen))
            for column, cells in zip(table.columns, table.cells, strict=True)
            if any(cell.state != "skipped" for cell in cells)
        ]
        yield TableSection(group, ("lab", *(table.rows[number].title for number in chosen)), tuple(rows))


def notes(table: Table) -> Iterator[str]:
    """Lines below the table: skipped labs with the reason, substitutes that were built, the meaning of times."""
    for column in table.columns:
        reason = getattr(column, "reason", "")
        if reason:
            yield f"{column.title}: skipped, {reason}"
        lab = getattr(column, "lab", None)
        for part in lab.approximations if lab is not None else ():
            text = f"approximate, because the kernel lacks {part.feature}: {part.aspect}"
            yield f"{column.title}: {text}; instead: {part.substitute}"
    timed = [number for number, row in enumerate(table.rows) if row.timed]
    base = {
        column.title
        for column, cells in zip(table.columns, table.cells, strict=True)
        if any(cells[number].ratio == 1 and cells[number].text.startswith("1 (") for number in timed)
    }
    if base:
        first = ", ".join(sorted(base))
        yield f"times are from one run on this machine, relative to {first}; do not compare them with other runs"


def tally(table: Table) -> str:
    """The last line: how many labs were compared, and how long that took."""
    skipped = sum(bool(getattr(column, "reason", "")) for column in table.columns)
    measured = len(table.columns) - skipped
    skipped_text = f", {skipped} skipped" if skipped else ""
    return f"{count(measured, 'lab')} measured{skipped_text} in {duration(table.seconds)}"


def evidence_lines(table: Table) -> Iterator[str]:
    """Every answer with the sentences of its evidence."""
    for column, cells in zip(table.columns, table.cells, strict=True):
        for row, cell in zip(table.rows, cells, strict=True):
            if cell.evidence:
                yield f"{column.title}, {row.title}: {cell.text}"
                yield from (f"    {line}" for line in cell.evidence)


def style(text: str) -> str:
    """The style of a cell on a terminal: dim if the question does not apply, yellow if evidence was lost."""
    if text.startswith("(") or text == "skipped":
        return "dim"
    return "yellow" if text.startswith("inconclusive") else ""


def markdown(table: Table, command: str = DEFAULT_COMMAND) -> Iterator[str]:
    """The Markdown page of a comparison, line by line. `command` is the command that writes it."""
    yield from PAGE.format(write_command=command, command=command.partition(" > ")[0]).splitlines()
    for section in sections(table):
        yield ""
        if section.title:
            yield from (f"## {section.title[0].upper()}{section.title[1:]}", "")
        yield _line(section.columns)
        yield "|" + " --- |" * len(section.columns)
        yield from map(_line, section.rows)
    note_lines = list(notes(table))
    if note_lines:
        yield ""
        yield from (f"- {line}" for line in note_lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

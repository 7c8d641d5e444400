"""Tables for terminals, drawn by rich, which is imported only when a table is drawn."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labctl.report.node_view import TableSection


FOLDED_COLUMNS = ("rule", "options", "names", "scenario", "grade", "what it shows", "addresses", "value")
MIN_FOLDED_WIDTH = 16  # the smallest readable width of a folding column


def draw(
    section: TableSection, *, colour: bool, width: int | None = None, style: Callable[[str], str] = lambda _: ""
) -> str:
    """A section as text with lines and colour, at most as wide as the terminal; long cells fold.

    `width` is in columns; None means the width of the terminal. `style` returns the rich style of a cell.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    page = io.StringIO()
    console = Console(
        file=page, force_terminal=colour, no_color=not colour, width=width or _terminal_width(), highlight=False
    )
    no_wrap_columns = _no_wrap_columns(section, console.width)
    table = Table(
        title=Text(section.title, style="bold") if section.title else None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_header=bool(section.columns),
        header_style="bold",
        pad_edge=False,
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    for name in section.columns or ("",) * len(section.rows[0] if section.rows else ()):
        table.add_column(name, overflow="fold", no_wrap=name in no_wrap_columns)
    for row in section.rows:
        table.add_row(*(Text(cell, style=style(cell)) for cell in row))
    console.print(table)
    return page.getvalue()


def _no_wrap_columns(section: TableSection, width: int) -> set[str]:
    """The columns that must not fold: the first, which names the rows, and all except FOLDED_COLUMNS, if enough width
    is left for these; else only the first, unless it is wider than a third of the table."""
    first = section.columns[0] if section.columns else ""
    cells = list(zip(section.columns, *section.rows, strict=True))
    widths = {
        column[0]: max(map(len, column)) + 2
        for column in cells
        if column[0] == first or column[0] not in FOLDED_COLUMNS
    }
    if sum(widths.values()) + MIN_FOLDED_WIDTH <= width:
        return set(widths)
    return {first} if widths.get(first, width) <= width // 3 else set()


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size((80, 24)).columns

"""A table of text, before it is laid out for a terminal."""

from __future__ import annotations

from dataclasses import dataclass

Row = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TableSection:
    """A table: its title, the names of its columns, and rows of text. Without columns it has no header."""

    title: str
    columns: Row
    rows: tuple[Row, ...]

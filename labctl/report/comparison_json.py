"""The JSON document of `compare --json`. Its keys are published in docs/json.md; keys are only added."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.compare.cell import Cell
    from labctl.compare.measurements import Column
    from labctl.compare.roles import Roles
    from labctl.compare.table import Row, Table

Document = dict[str, Any]


def comparison_document(table: Table) -> Document:
    """`compare --json`."""
    return {
        "rows": [{"row": row.key, "title": row.title, "group": row.group, "timed": row.timed} for row in table.rows],
        "labs": [_lab(column, table.rows, cells) for column, cells in zip(table.columns, table.cells, strict=True)],
        "seconds": round(table.seconds, 4),
    }


def _lab(column: Column, rows: tuple[Row, ...], cells: tuple[Cell, ...]) -> Document:
    from labctl.compare.measurements import Skipped, approximations

    skipped = isinstance(column, Skipped)
    return {
        "scenario": column.title,
        "model": column.model if isinstance(column, Skipped) else column.lab.model,
        "skipped": column.reason if isinstance(column, Skipped) else None,
        "approximate": [
            {"feature": part.feature, "what": part.aspect, "instead": part.substitute}
            for part in approximations(column)
        ],
        "cast": None if isinstance(column, Skipped) else _roles(column.roles),
        "seconds": None if isinstance(column, Skipped) else round(column.seconds, 4),
        "answers": [] if skipped else [_answer(row, cell) for row, cell in zip(rows, cells, strict=True)],
    }


def _roles(roles: Roles) -> Document:
    return {
        "pod": roles.pod,
        "node": roles.node,
        "mate": roles.same_node_pod,
        "far": roles.other_node_pod,
        "other": roles.other_node,
        "vm": roles.vm,
        "internet": roles.internet,
    }


def _answer(row: Row, cell: Cell) -> Document:
    return {
        "row": row.key,
        "text": cell.text,
        "state": cell.state,
        "address": None if cell.address is None else str(cell.address),
        "number": cell.number,
        "ratio": cell.ratio,
        "counts": dict(cell.counts),
        "evidence": list(cell.evidence),
    }

"""Judge a `compare` task: the scenarios that the learner names, against the measured row. Pure."""

from __future__ import annotations

from labctl.compare.cell import Cell
from labctl.compare.table import Table
from labctl.core.exercise_types import CompareGoal
from labctl.core.judgement import Judgement
from labctl.core.names import did_you_mean
from labctl.core.sentence import sentence, sentence_n
from labctl.errors import UsageError

NONE = "none"


def require_names(goal: CompareGoal, answer: str) -> frozenset[str]:
    """The scenarios of an answer; before it counts. Raises UsageError."""
    names = frozenset(answer.replace(",", " ").split())
    if names == {NONE}:
        return frozenset()
    for name in sorted(names):
        if name not in goal.scenarios:
            hint = did_you_mean(name, goal.scenarios, 0.5) or f"they are {', '.join(goal.scenarios)}, or {NONE}"
            raise UsageError(f"{name!r} is not one of the scenarios of this question", hint)
    return names


def judge_comparison(goal: CompareGoal, names: frozenset[str], table: Table) -> Judgement:
    """The judgement: the named scenarios are those for which the row has the value. Of a wrong answer, only the rows of
    the scenarios that were named are shown."""
    cells = _cells(goal, table)
    unclear = [(name, cell.text) for name, cell in cells.items() if cell.state in ("inconclusive", "skipped")]
    if unclear:
        texts = (sentence("not measured: {name}: {value}", name=name, value=value) for name, value in unclear)
        return Judgement("unclear", tuple(texts))
    right = {name for name, cell in cells.items() if cell.text == goal.value}
    if names == right:
        return Judgement("passed", tuple(_measured(name, cell) for name, cell in cells.items()))
    wrong = tuple(_measured(name, cells[name]) for name in sorted(names - right))
    missing = len(right - names)
    fit = sentence_n(
        "{number} that is not in your answer also fit", "{number} that are not in your answer also fit", missing
    )
    more = (fit,) if missing else ()
    return Judgement("failed", (*wrong, *more))


def _measured(name: str, cell: Cell) -> str:
    return sentence("measured: {name}: {value}", name=name, value=cell.text)


def _cells(goal: CompareGoal, table: Table) -> dict[str, Cell]:
    number = next(index for index, row in enumerate(table.rows) if row.key == goal.row)
    return {column.title: cells[number] for column, cells in zip(table.columns, table.cells, strict=True)}

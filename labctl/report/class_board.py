"""The board of a class as text, and as a JSON document."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from labctl.board.board import STATES, Board, Column, Line
from labctl.board.documents import entry_document
from labctl.board.entry import KINDS, TIME, Entry, Kind
from labctl.core.sentence import sentence, sentence_n
from labctl.report.table_section import TableSection
from labctl.report.terminal import Terminal
from labctl.translation.language import gettext

COLOURS = {"stuck": "red", "idle": "yellow", "done": "green"}
MARKS = {"finished": "#", "help": "!", "solved": "s", "begun": ">", "none": "."}
SYMBOLS = {"finished": "✔", "help": "!", "solved": "s", "begun": "▸", "none": "·"}
MAX_PROBLEMS = 20  # that are named
DAY, HOUR = 24 * 60, 60  # minutes


def mark(line: Line, column: Column) -> str:
    """A key of MARKS: how far a learner is in a lesson or an exercise."""
    one = line.entries.get(column)
    if one is None:
        return "none"
    if one.is_finished:
        return "solved" if one.solved else "finished"
    return "help" if line.state == "stuck" and one is line.last else "begun"


def state_name(state: str) -> str:
    """The word for the state of a learner."""
    names = {"stuck": gettext("stuck"), "idle": gettext("idle"), "working": gettext("working"), "done": gettext("done")}
    return names[state]


def mark_name(name: str) -> str:
    """What a mark means."""
    names = {
        "finished": gettext("finished"),
        "help": gettext("needs help"),
        "solved": gettext("solved by labctl"),
        "begun": gettext("begun"),
        "none": gettext("not begun"),
    }
    return names[name]


def kind_name(kind: Kind) -> str:
    """The word for several lessons, or exercises."""
    return gettext("lessons") if kind == "lesson" else gettext("exercises")


def ago(minutes: int) -> str:
    """How long ago something was, in a few characters."""
    if minutes < HOUR:
        return gettext(sentence("{number} min", number=minutes))
    if minutes < DAY:
        return gettext(sentence("{number} h", number=minutes // HOUR))
    return gettext(sentence("{number} d", number=minutes // DAY))


def summary(board: Board) -> str:
    """How many learners there are, and in which state."""
    learners = gettext(sentence_n("{number} learner", "{number} learners", len(board.lines)))
    states = [f"{number} {state_name(state)}" for state in STATES if (number := len(board.in_state(state)))]
    return f"{learners}: {', '.join(states)}" if states else learners


def print_board(board: Board, terminal: Terminal) -> None:
    """Print the board: who needs help, a line for each learner, and what the marks mean."""
    terminal.lines([f"{board.time.astimezone():%H:%M}  {summary(board)}"], fold=4)
    if not board.lines:
        return
    terminal.line()
    terminal.section(table(board, SYMBOLS if terminal.symbols else MARKS), _style(board))
    helped = [line for line in board.lines if line.reason]
    if helped:
        terminal.line()
        width = max(len(line.learner) for line in helped)
        texts = (f"{line.learner:<{width}}  {gettext(line.reason)}" for line in helped)
        terminal.lines(texts, fold=width + 2)
    terminal.line()
    terminal.lines(legend(board, SYMBOLS if terminal.symbols else MARKS), fold=4)


def table(board: Board, marks: dict[str, str]) -> TableSection:
    """The lines of the board."""
    kinds = [kind for kind in KINDS if board.of_kind(kind)]
    columns = (gettext("learner"), gettext("state"), *map(kind_name, kinds), gettext("points"), gettext("last change"))
    rows = tuple(_row(board, line, kinds, marks) for line in board.lines)
    return TableSection("", columns, rows)


def _row(board: Board, line: Line, kinds: Sequence[Kind], marks: dict[str, str]) -> tuple[str, ...]:
    cells = ("".join(marks[mark(line, column)] for column in board.of_kind(kind)) for kind in kinds)
    points = f"{line.points}/{line.possible}" if line.possible else ""
    return (line.learner, state_name(line.state), *cells, points, ago(line.minutes))


def _style(board: Board) -> Callable[[str], str]:
    """The colour of a cell: only the states have one."""
    colours = {state_name(state): colour for state, colour in COLOURS.items()}
    return lambda cell: colours.get(cell, "")


def legend(board: Board, marks: dict[str, str]) -> list[str]:
    """What the columns and the marks mean."""
    lines = []
    for kind in KINDS:
        names = [f"{at} {column.name}" for at, column in enumerate(board.of_kind(kind), 1)]
        if names:
            lines.append(f"{kind_name(kind)}: {', '.join(names)}")
    used = {mark(line, column) for line in board.lines for column in board.columns}
    lines.append(", ".join(f"{marks[name]} {mark_name(name)}" for name in MARKS if name in used))
    return lines


def problem_lines(problems: Sequence[tuple[str, str]]) -> list[str]:
    """What was left out, and why. Names of files come from others: a character that does not print is shown as ?."""
    lines = [gettext(sentence("{place} is left out: {problem}", place=_plain(place), problem=_plain(problem)))
             for place, problem in problems[:MAX_PROBLEMS]]  # fmt: skip
    if (more := len(problems) - MAX_PROBLEMS) > 0:
        lines.append(gettext(sentence_n("{number} more is left out", "{number} more are left out", more)))
    return lines


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text)


def board_document(board: Board, problems: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """`class board --json`. Another board can read it: `entries` has all that is known."""
    return {
        "time": board.time.strftime(TIME),
        "learners": [
            {
                "learner": line.learner,
                "state": line.state,
                "reason": str(line.reason) or None,
                "minutes": line.minutes,
                "lessons": line.finished("lesson"),
                "exercises": line.finished("exercise"),
                "points": line.points,
                "possible": line.possible,
            }
            for line in board.lines
        ],
        "entries": [entry_document(one) for one in _entries(board)],
        "problems": [{"place": place, "problem": problem} for place, problem in problems],
    }


def _entries(board: Board) -> Iterable[Entry]:
    for line in board.lines:
        yield from (line.entries[column] for column in board.columns if column in line.entries)

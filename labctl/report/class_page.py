"""The board of a class as one HTML page without other files, to be read from the last row of a room.

Each mark is a symbol and a text for screen readers, so nothing is said by a colour alone. All names come from records
that learners can write: every text is escaped, and the page allows no script and loads nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from labctl.board.board import STATES, Board, Column, Line
from labctl.board.entry import KINDS
from labctl.core.sentence import sentence
from labctl.report.class_board import SYMBOLS, ago, kind_name, mark, mark_name, state_name, summary
from labctl.translation.language import current_language, gettext

POLICY = "default-src 'none'; style-src 'unsafe-inline'"
STATE_SYMBOLS = {"stuck": "!", "idle": "…", "working": "▸", "done": "✔"}
ONE_TABLE = 25  # lines; more are two tables side by side
STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--stuck:#a40e26;--idle:#7d4e00;
--done:#116329;--band:#f6f8fa}
@media (prefers-color-scheme:dark){:root{--page:#0d1117;--ink:#f0f6fc;--soft:#9198a1;--line:#3d444d;--stuck:#ff8182;
--idle:#e3b341;--done:#56d364;--band:#161b22}}
*{box-sizing:border-box}
body{margin:0;padding:1.2vh 1.2vw;background:var(--page);color:var(--ink);font-family:system-ui,sans-serif;
font-size:clamp(13px,calc(96vh / (var(--rows) + 4) / 1.55),30px);line-height:1.25}
h1{font-size:1.5em;margin:0 0 .3em}h1 small{font-weight:400;color:var(--soft)}h2{font-size:1em;margin:.6em 0 .2em}
.tables{display:flex;gap:2vw;flex-wrap:wrap;align-items:flex-start}table{border-collapse:collapse;flex:1 1 40%}
th,td{padding:.12em .35em;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
thead th{color:var(--soft);font-weight:400}tbody th{font-weight:600}tbody tr:nth-child(even){background:var(--band)}
td.mark,th.mark{text-align:center;padding-left:.1em;padding-right:.1em}td.number{text-align:right}
.stuck,.help{color:var(--stuck);font-weight:700}.idle{color:var(--idle)}.done,.finished{color:var(--done)}
.none{color:var(--soft)}tr.stuck th{color:var(--stuck)}
ul.help{columns:2;margin:.2em 0 .6em;padding-left:1.2em;font-weight:400}footer{color:var(--soft);margin-top:.6em}
footer p{margin:.1em 0}
.screen-reader{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
@media print{body{font-size:9pt}}
""".strip()


def board_page(board: Board, refresh_s: int | None = None) -> str:
    """The page; with `refresh_s`, a browser loads it again after so many seconds."""
    return "\n".join(_page(board, refresh_s)) + "\n"


def _page(board: Board, refresh_s: int | None) -> Iterator[str]:
    title = gettext("Class board")
    yield f'<!DOCTYPE html>\n<html lang="{escape(current_language())}">\n<head>\n<meta charset="utf-8">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    if refresh_s is not None:
        yield f'<meta http-equiv="refresh" content="{refresh_s:d}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f"<title>{escape(title)}</title>\n<style>\n{STYLE}\n</style>\n</head>"
    parts = _parts(board.lines)
    rows = max((len(part) for part in parts), default=1) + 3 + (len(board.in_state("stuck")) + 1) // 2
    yield f'<body style="--rows:{rows}">\n<header>'
    time = f"{board.time.astimezone():%H:%M}"
    yield f"<h1>{escape(title)} <small>{escape(time)} · {escape(summary(board))}</small></h1>"
    yield from _needs_help(board)
    yield '</header>\n<main class="tables">'
    for number, part in enumerate(parts):
        yield from _table(board, part, number, len(parts))
    yield "</main>\n<footer>"
    yield from _legend(board)
    yield "</footer>\n</body>\n</html>"


def _parts(lines: Sequence[Line]) -> list[Sequence[Line]]:
    """The lines of each table: one, or two of about the same length."""
    if len(lines) <= ONE_TABLE:
        return [lines]
    half = (len(lines) + 1) // 2
    return [lines[:half], lines[half:]]


def _needs_help(board: Board) -> Iterator[str]:
    stuck = board.in_state("stuck")
    if stuck:
        yield f"<h2>{escape(gettext('needs help'))}</h2>\n<ul class=help>"
        yield from (f"<li><b>{escape(line.learner)}</b> {escape(gettext(line.reason))}</li>" for line in stuck)
        yield "</ul>"


def _table(board: Board, lines: Sequence[Line], number: int, count: int) -> Iterator[str]:
    caption = gettext("learners") + (f" {number + 1}/{count}" if count > 1 else "")
    yield f'<table>\n<caption class="screen-reader">{escape(caption)}</caption>\n<thead>\n<tr>'
    yield "".join(f'<th scope="col">{escape(text)}</th>' for text in (gettext("learner"), gettext("state")))
    for kind in KINDS:
        for at, column in enumerate(board.of_kind(kind), 1):
            name = f"{kind_name(kind)} {at}: {column.name}"
            short = f"{kind_name(kind)[:1].upper()}{at}"
            yield (
                f'<th scope="col" class="mark" title="{escape(name)}"><span aria-hidden="true">{escape(short)}</span>'
                f'<span class="screen-reader">{escape(column.name)}</span></th>'
            )
    yield "".join(f'<th scope="col">{escape(text)}</th>' for text in (gettext("points"), gettext("last change")))
    yield "</tr>\n</thead>\n<tbody>"
    for line in lines:
        yield _row(board, line)
    yield "</tbody>\n</table>"


def _row(board: Board, line: Line) -> str:
    state = f'<span aria-hidden="true">{STATE_SYMBOLS[line.state]}</span> {escape(state_name(line.state))}'
    cells = "".join(_cell(line, column) for column in board.columns)
    points = f"{line.points}/{line.possible}" if line.possible else ""
    return (
        f'<tr class="{line.state}"><th scope="row">{escape(line.learner)}</th><td class="{line.state}">{state}</td>'
        f'{cells}<td class="number">{points}</td><td class="number">{escape(ago(line.minutes))}</td></tr>'
    )


def _cell(line: Line, column: Column) -> str:
    name = mark(line, column)
    spoken = mark_name(name)
    one = line.entries.get(column)
    if one is not None and one.possible:
        spoken += ", " + gettext(sentence("{points} of {possible} points", points=one.points, possible=one.possible))
    elif one is not None:
        spoken += ", " + gettext(sentence("{done} of {total} steps", done=one.done, total=one.total))
    title = f"{line.learner}, {column.name}: {spoken}"
    return (
        f'<td class="mark {name}" title="{escape(title)}"><span aria-hidden="true">{SYMBOLS[name]}</span>'
        f'<span class="screen-reader">{escape(spoken)}</span></td>'
    )


def _legend(board: Board) -> Iterator[str]:
    for kind in KINDS:
        letter = kind_name(kind)[:1].upper()
        names = [f"{letter}{at} {column.name}" for at, column in enumerate(board.of_kind(kind), 1)]
        if names:
            yield f"<p>{escape(kind_name(kind))}: {escape(', '.join(names))}</p>"
    states = ", ".join(f"{STATE_SYMBOLS[state]} {state_name(state)}" for state in STATES)
    marks = ", ".join(f"{symbol} {mark_name(name)}" for name, symbol in SYMBOLS.items())
    yield f"<p>{escape(marks)} · {escape(states)}</p>"

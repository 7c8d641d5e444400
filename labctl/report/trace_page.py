"""A trace as one HTML page: the packet's path in the drawing of the lab, and below it a table of its steps. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from typing import TYPE_CHECKING

from labctl.core.sentence import sentence
from labctl.drawing import html
from labctl.drawing.svg import svg_lines
from labctl.report.trace import TITLES, VERDICT_LABELS
from labctl.report.trace_path import traced_drawing
from labctl.translation.language import gettext

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.scenario_types import Lab
    from labctl.drawing.model import Visit
    from labctl.tracing.evidence import TraceEvidence
    from labctl.tracing.result import Step, TraceResult

COLUMNS = (
    sentence("step"), sentence("machine"), sentence("devices"), sentence("from > to"), sentence("ttl"),
    sentence("after"), sentence("what happened"),
)  # fmt: skip


def trace_lines(
    form: str, evidence: TraceEvidence, result: TraceResult, lab: Lab, changes: Iterable[Change] | None = None
) -> list[str]:
    """The drawing with the packet's path, as `svg` or in a page (`html`). `changes` are what differs in the kernel."""
    changes = None if changes is None else tuple(changes)
    drawing = traced_drawing(lab, evidence, result, changes)
    if form == "svg":
        return svg_lines(drawing)
    return html.page_lines(drawing, html.details(lab, drawing, changes), _section(result, drawing.path))


def _section(result: TraceResult, visits: tuple[Visit, ...]) -> Iterator[str]:
    ends = {one.number: one.lost for one in visits if one.is_end}
    yield "<section>"
    yield f"<h2>{_text(result.probe)}</h2>"
    number = 0
    for leg in result.legs:
        heads = "".join(f'<th scope="col">{_text(one)}</th>' for one in COLUMNS)
        yield f"<table><caption>{_text(TITLES[leg.name])}</caption><thead><tr>{heads}</tr></thead><tbody>"
        for step in leg.steps:
            number += 1
            yield from _row(number, step, ends.get(number))
        yield "</tbody></table>"
    word, _ = VERDICT_LABELS[result.verdict]
    kind = "" if result.verdict == "answered" else ' class="lost"'
    yield f"<p{kind}><b>{_text(word)}</b> {_text(result.sentence)}</p>"
    if result.why is not None:
        yield f'<p class="lost"><b>{_text("why")}</b> {_text(result.why.sentence)}</p>'
    facts = [(note.label, note.text) for note in result.facts]
    facts += [("try", text) for text in result.tries] + [("unknown", text) for text in result.unknown]
    if facts:
        yield '<table class="facts"><tbody>'
        for label, text in facts:
            yield f'<tr><th scope="row">{_text(label)}</th><td>{_text(text)}</td></tr>'
        yield "</tbody></table>"
    yield "</section>"


def _text(text: str) -> str:
    """A text in the language in use, for HTML."""
    return escape(gettext(text))


def _row(number: int, step: Step, lost: str | None) -> Iterator[str]:
    notes = [f'<li><span class="soft">{_text(one.label)}</span> {_text(one.text)}</li>' for one in step.notes]
    notes += (
        [f'<li><span class="soft">{_text(sentence("in"))}</span> {escape(step.tunnel)}</li>'] if step.tunnel else []
    )
    notes += (
        [f'<li class="lost">{_text(sentence("lost here: {reason}", reason=lost))}</li>'] if lost is not None else []
    )
    cells = (
        f'<td class="number">{number}</td>',
        f"<td><b>{escape(step.node)}</b></td>",
        f"<td>{escape(' > '.join(step.devices))}</td>",
        f"<td>{escape(step.src)} &gt; {escape(step.dst)}</td>",
        f'<td class="number">{step.ttl}</td>',
        f'<td class="number">{step.when // 1000} us</td>',
        f"<td><ul>{''.join(notes)}</ul></td>",
    )
    yield f"<tr>{''.join(cells)}</tr>"

"""Two traces as text: side by side if the terminal is wide enough, else one below the other. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest

from labctl.core.sentence import Sentence, joined, sentence
from labctl.report.text_layout import fold_line, pad
from labctl.report.trace import TITLES, VERDICT_LABELS, Paint, fact_line, tunnel_text
from labctl.tracing.comparison import NOTE_KINDS, Difference, DifferenceKind, TraceComparison, leg_of
from labctl.tracing.result import Step, TraceResult
from labctl.translation.language import gettext

MIN_SIDE_BY_SIDE = 120  # columns of a terminal from which two hops fit side by side
KIND_WORDS: dict[DifferenceKind, Sentence] = {
    "machine": sentence("machine"), "device": sentence("device"), "route": sentence("route"), "rule": sentence("rule"),
    "nat": sentence("nat"), "tunnel": sentence("tunnel"), "address": sentence("address"), "ttl": sentence("ttl"),
    "end": sentence("end"), "cause": sentence("cause"),
}  # fmt: skip
MARK = "! "  # before each line of the first difference
NOTE_INDENT = 7 + len(MARK)  # columns before the text of a note


def comparison_lines(
    comparison: TraceComparison, paint: Paint = lambda text, colour: text, width: int | None = None
) -> Iterator[str]:
    """The comparison, line by line. `width` is the number of columns of the terminal; None means a pipe."""
    difference = comparison.difference
    name = difference.leg or "request" if difference is not None else "request"
    both = (comparison.first, comparison.second)
    columns = [_Column(result, name, difference) for result in both]
    if width is not None and width >= MIN_SIDE_BY_SIDE:
        yield from _side_by_side(columns, (width - 3) // 2, paint)
    else:
        for number, column in enumerate(columns):
            yield from ("",) if number else ()
            yield from (_painted(line, paint) for block in column.blocks(width) for line in block)
    yield ""
    for result in both:
        yield from _verdict_lines(result, paint)
    yield ""
    yield from _difference_lines(difference, both, paint)


class _Column:
    """One of the two traces as blocks of lines: its probe, then a block for each hop of the leg."""

    def __init__(self, result: TraceResult, leg: str, difference: Difference | None) -> None:
        self.result, self.leg, self.difference = result, leg, difference

    def blocks(self, width: int | None) -> Iterator[list[str]]:
        """The blocks, each line at most `width` columns wide if it can be broken there."""
        title = [gettext(TITLES[self.leg])] if self.leg != "request" else []
        yield [*_folded(gettext(self.result.probe), width, 0), *title]
        for number, step in enumerate(leg_of(self.result, self.leg), 1):
            marked = self.difference is not None and self.difference.hop == number
            yield [
                line for text in self._step_lines(number, step, marked) for line in _folded(text, width, NOTE_INDENT)
            ]

    def _step_lines(self, number: int, step: Step, marked: bool) -> Iterator[str]:
        mark = MARK if marked else " " * len(MARK)
        yield f"{mark}{number:>2}  {step.node}  {' > '.join(step.devices)}"
        tunnel = f"  {tunnel_text(step)}" if step.tunnel else ""
        yield f"{' ' * len(MARK)}    {step.src} > {step.dst}  ttl {step.ttl}{tunnel}"
        kind = self.difference.kind if marked and self.difference is not None else None
        for note in step.notes:
            mark = MARK if kind is not None and NOTE_KINDS.get(note.label) == kind else " " * len(MARK)
            yield f"{mark}    {pad(gettext(note.label), 6)} {gettext(note.text)}"


def _side_by_side(columns: list[_Column], width: int, paint: Paint) -> Iterator[str]:
    for blocks in zip_longest(*(column.blocks(width) for column in columns), fillvalue=()):
        for cells in zip_longest(*blocks, fillvalue=""):
            left, right = (_painted(pad(cell, size), paint) for cell, size in zip(cells, (width, 0), strict=True))
            yield f"{left} {paint('|', 'dim')} {right}".rstrip()


def _folded(text: str, width: int | None, indent: int) -> list[str]:
    return [text] if width is None else fold_line(text, width, indent)


def _painted(line: str, paint: Paint) -> str:
    return paint(line, "yellow") if line.startswith(MARK) else line


def _verdict_lines(result: TraceResult, paint: Paint) -> Iterator[str]:
    """The probe, how it ended, the sentence of the loss, and what to try."""
    word, colour = VERDICT_LABELS[result.verdict]
    yield f"{paint(gettext(word), colour)}  {gettext(joined(': ', (result.probe, result.sentence)))}"
    if result.why is not None:
        yield fact_line("why", paint(gettext(result.why.sentence), colour), paint)
    for text in result.tries:
        yield fact_line("try", text, paint)
    for text in result.unknown:
        yield fact_line("unknown", gettext(text), paint)


def _difference_lines(
    difference: Difference | None, both: tuple[TraceResult, TraceResult], paint: Paint
) -> Iterator[str]:
    if difference is None:
        yield gettext(sentence("no difference: both packets met the same routes, rules and translations"))
        return
    kind = KIND_WORDS[difference.kind]
    where = sentence("first difference: {kind}, in how they ended", kind=kind)
    if difference.leg is not None:
        leg = TITLES[difference.leg]
        where = sentence(
            "first difference: {kind}, in the {leg}, hop {number}", kind=kind, leg=leg, number=difference.hop
        )
    yield paint(gettext(where), "bold")
    texts = (difference.first, difference.second)
    for result, machine, text in zip(both, difference.machines, texts, strict=True):
        who = result.probe.partition(": ")[2] or result.probe
        yield f"  {who}"
        yield f"      {machine}: {gettext(text)}" if machine else f"      {gettext(text)}"

"""The text output of `trace`: a block for each hop, then the verdict with its reasons. Plain or coloured lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from labctl.core.sentence import sentence
from labctl.report.text_layout import pad, text_width
from labctl.tracing.result import Leg, Step, TraceResult
from labctl.translation.language import gettext

Paint = Callable[[str, str], str]
TITLES = {"request": sentence("request"), "reply": sentence("reply"), "error": sentence("icmp error")}
VERDICT_LABELS = {
    "answered": (sentence("OK"), "green"),
    "refused": (sentence("REFUSED"), "yellow"),
    "unanswered": (sentence("SILENT"), "yellow"),
    "lost": (sentence("LOST"), "red"),
}
# the labels of facts and notes that are words of a language; the others are words of the kernel and its tools
LABELS = (
    sentence("address"), sentence("back"), sentence("bridge"), sentence("counters"), sentence("cut"), sentence("flood"),
    sentence("kernel"), sentence("loop"), sentence("neighbour"), sentence("route"), sentence("rule"),
    sentence("service"), sentence("stale"), sentence("then"), sentence("try"), sentence("unknown"), sentence("why"),
)  # fmt: skip
LABEL_WIDTH = 9  # columns of a label
MAX_LINE_WIDTH = 100


def lines(result: TraceResult, paint: Paint = lambda text, colour: text, width: int = MAX_LINE_WIDTH) -> Iterator[str]:
    """The result, line by line. A hop that is wider than `width` columns takes two lines."""
    yield paint(gettext(result.probe), "bold")
    for leg in result.legs:
        yield ""
        yield paint(gettext(TITLES[leg.name]), "bold")
        yield from _leg(leg, paint, width)
    yield ""
    word, colour = VERDICT_LABELS[result.verdict]
    yield f"{paint(gettext(word), colour)}  {gettext(result.sentence)}"
    if result.why is not None:
        yield fact_line("why", paint(gettext(result.why.sentence), colour), paint)
    for note in result.facts:
        yield fact_line(note.label, gettext(note.text), paint)
    for text in result.tries:
        yield fact_line("try", text, paint)
    for text in result.unknown:
        yield fact_line("unknown", gettext(text), paint)


def fact_line(label: str, text: str, paint: Paint) -> str:
    """A fact behind its label."""
    return f"  {paint(pad(gettext(label), LABEL_WIDTH), 'dim')} {text}"


def _leg(leg: Leg, paint: Paint, width: int) -> Iterator[str]:
    node_width = max(len(step.node) for step in leg.steps)
    path_width = max(len(_path(step)) for step in leg.steps)
    ends_width = max(len(_ends(step)) for step in leg.steps)
    tail_width = max(text_width(_tail(step)) for step in leg.steps)
    indent_width = min(14 + node_width, max(14, width // 3))
    two_lines = 14 + node_width + path_width + ends_width + tail_width + 4 > width
    for step in leg.steps:
        head = f"{step.when // 1000:>7} us  {paint(step.node.ljust(node_width), 'bold')}  "
        indent = " " * indent_width
        if two_lines:
            yield f"{head}{_path(step)}"
            yield f"{indent}{_ends(step)}  {_tail(step)}"
        else:
            yield f"{head}{_path(step).ljust(path_width)}  {_ends(step).ljust(ends_width)}  {_tail(step)}"
        for note in step.notes:
            yield f"{indent}{paint(pad(gettext(note.label), 6), 'dim')} {gettext(note.text)}"


def _path(step: Step) -> str:
    return " > ".join(step.devices)


def _ends(step: Step) -> str:
    return f"{step.src} > {step.dst}"


def _tail(step: Step) -> str:
    return f"ttl {step.ttl}" + (f"  {tunnel_text(step)}" if step.tunnel else "")


def tunnel_text(step: Step) -> str:
    """The tunnel that a packet is in: `in vxlan 42 10.0.0.1 > 10.0.0.2`."""
    return gettext(sentence("in {tunnel}", tunnel=step.tunnel))

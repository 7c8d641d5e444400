"""The text output of `trace`: a block for each hop, then the verdict with its reasons. Plain or coloured lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from labctl.tracing.result import Leg, Step, TraceResult

Paint = Callable[[str, str], str]
TITLES = {"request": "request", "reply": "reply", "error": "icmp error"}
VERDICT_LABELS = {
    "answered": ("OK", "green"),
    "refused": ("REFUSED", "yellow"),
    "unanswered": ("SILENT", "yellow"),
    "lost": ("LOST", "red"),
}
LABEL_WIDTH = 9  # columns of a label
MAX_LINE_WIDTH = 100


def lines(result: TraceResult, paint: Paint = lambda text, colour: text, width: int = MAX_LINE_WIDTH) -> Iterator[str]:
    """The result, line by line. A hop that is wider than `width` columns takes two lines."""
    yield paint(result.probe, "bold")
    for leg in result.legs:
        yield ""
        yield paint(TITLES[leg.name], "bold")
        yield from _leg(leg, paint, width)
    yield ""
    word, colour = VERDICT_LABELS[result.verdict]
    yield f"{paint(word, colour)}  {result.sentence}"
    if result.why is not None:
        yield _fact("why", paint(result.why.sentence, colour), paint)
    for note in result.facts:
        yield _fact(note.label, note.text, paint)
    for text in result.tries:
        yield _fact("try", text, paint)
    for text in result.unknown:
        yield _fact("unknown", text, paint)


def _fact(label: str, text: str, paint: Paint) -> str:
    return f"  {paint(label.ljust(LABEL_WIDTH), 'dim')} {text}"


def _leg(leg: Leg, paint: Paint, width: int) -> Iterator[str]:
    node_width = max(len(step.node) for step in leg.steps)
    path_width = max(len(_path(step)) for step in leg.steps)
    ends_width = max(len(_ends(step)) for step in leg.steps)
    tail_width = max(len(_tail(step)) for step in leg.steps)
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
            yield f"{indent}{paint(note.label.ljust(6), 'dim')} {note.text}"


def _path(step: Step) -> str:
    return " > ".join(step.devices)


def _ends(step: Step) -> str:
    return f"{step.src} > {step.dst}"


def _tail(step: Step) -> str:
    return f"ttl {step.ttl}" + (f"  in {step.tunnel}" if step.tunnel else "")

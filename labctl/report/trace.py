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


def lines(result: TraceResult, paint: Paint = lambda text, colour: text) -> Iterator[str]:
    """The result, line by line."""
    yield paint(result.probe, "bold")
    for leg in result.legs:
        yield ""
        yield paint(TITLES[leg.name], "bold")
        yield from _leg(leg, paint)
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


def _leg(leg: Leg, paint: Paint) -> Iterator[str]:
    nodes = max(len(step.node) for step in leg.steps)
    roads = max(len(_path(step)) for step in leg.steps)
    ends = max(len(_ends(step)) for step in leg.steps)
    tails = max(len(_tail(step)) for step in leg.steps)
    wide = 14 + nodes + roads + ends + tails + 4 > MAX_LINE_WIDTH
    for step in leg.steps:
        head = f"{step.when // 1000:>7} us  {paint(step.node.ljust(nodes), 'bold')}  "
        indent = " " * (12 + nodes + 2)
        if wide:
            yield f"{head}{_path(step)}"
            yield f"{indent}{_ends(step)}  {_tail(step)}"
        else:
            yield f"{head}{_path(step).ljust(roads)}  {_ends(step).ljust(ends)}  {_tail(step)}"
        for note in step.notes:
            yield f"{indent}{paint(note.label.ljust(6), 'dim')} {note.text}"


def _path(step: Step) -> str:
    return " > ".join(step.devices)


def _ends(step: Step) -> str:
    return f"{step.src} > {step.dst}"


def _tail(step: Step) -> str:
    return f"ttl {step.ttl}" + (f"  in {step.tunnel}" if step.tunnel else "")

"""The text output of `trace`: a block for each hop, then the verdict with its reasons. Plain or coloured lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from labctl.tracing.result import Leg, Step, Story

Paint = Callable[[str, str], str]
TITLES = {"request": "request", "reply": "reply", "error": "icmp error"}
WORDS = {
    "answered": ("OK", "green"),
    "refused": ("REFUSED", "yellow"),
    "unanswered": ("SILENT", "yellow"),
    "lost": ("LOST", "red"),
}
LABEL = 9  # columns of a label
WIDE = 100


def lines(story: Story, paint: Paint = lambda text, colour: text) -> Iterator[str]:
    """The result, line by line."""
    yield paint(story.probe, "bold")
    for leg in story.legs:
        yield ""
        yield paint(TITLES[leg.name], "bold")
        yield from _leg(leg, paint)
    yield ""
    word, colour = WORDS[story.verdict]
    yield f"{paint(word, colour)}  {story.sentence}"
    if story.why is not None:
        yield _fact("why", paint(story.why.sentence, colour), paint)
    for note in story.facts:
        yield _fact(note.label, note.text, paint)
    for text in story.tries:
        yield _fact("try", text, paint)
    for text in story.unknown:
        yield _fact("unknown", text, paint)


def _fact(label: str, text: str, paint: Paint) -> str:
    return f"  {paint(label.ljust(LABEL), 'dim')} {text}"


def _leg(leg: Leg, paint: Paint) -> Iterator[str]:
    nodes = max(len(step.node) for step in leg.steps)
    roads = max(len(_road(step)) for step in leg.steps)
    ends = max(len(_ends(step)) for step in leg.steps)
    tails = max(len(_tail(step)) for step in leg.steps)
    wide = 14 + nodes + roads + ends + tails + 4 > WIDE
    for step in leg.steps:
        head = f"{step.when // 1000:>7} us  {paint(step.node.ljust(nodes), 'bold')}  "
        indent = " " * (12 + nodes + 2)
        if wide:
            yield f"{head}{_road(step)}"
            yield f"{indent}{_ends(step)}  {_tail(step)}"
        else:
            yield f"{head}{_road(step).ljust(roads)}  {_ends(step).ljust(ends)}  {_tail(step)}"
        for note in step.notes:
            yield f"{indent}{paint(note.label.ljust(6), 'dim')} {note.text}"


def _road(step: Step) -> str:
    return " > ".join(step.devices)


def _ends(step: Step) -> str:
    return f"{step.src} > {step.dst}"


def _tail(step: Step) -> str:
    return f"ttl {step.ttl}" + (f"  in {step.tunnel}" if step.tunnel else "")

"""A drawing as one SVG, in the light or dark colours of the reader, with a description for screen readers. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from labctl.core.sentence import joined, sentence, sentence_n
from labctl.drawing.geometry import CHIP_PAD, COLUMN, LINE, PAD, TITLE_SCALE, Chip, Frame, Layout, Wire
from labctl.drawing.layout import lay_out
from labctl.drawing.model import LEG_TITLES, Device, Drawing, Line, Mark, State
from labctl.drawing.packet_path import loss_place, path_lines
from labctl.drawing.places import Point, cable, middle, places
from labctl.drawing.svg_style import CLASS, style
from labctl.translation.language import gettext

SIZE = 11  # pixels of a text
TUNNELS = ("vxlan", "geneve", "ipip", "gre", "gretap", "sit", "ip6tnl", "wireguard", "tun")


def svg_lines(drawing: Drawing) -> list[str]:
    """The SVG, one element a line."""
    return list(_lines(lay_out(drawing)))


def description(drawing: Drawing) -> str:
    """What the drawing shows, in a sentence for screen readers."""
    boxes = [box for box in drawing.walk() if box.role != "summary"]
    parts = [
        sentence_n("{number} machine", "{number} machines", len(boxes)),
        sentence_n("{number} cable", "{number} cables", len(drawing.cables)),
        sentence_n("{number} tunnel", "{number} tunnels", len(drawing.tunnels)),
    ]
    inside = [
        sentence("{machine} contains {machines}", machine=box.name, machines=", ".join(one.name for one in box.boxes))
        for box in boxes
        if box.boxes
    ]
    legs = {leg: ", ".join(one.machine for one in group) for leg, group in groupby(drawing.path, lambda one: one.leg)}
    ways = [
        sentence("The {leg} passes {machines}", leg=LEG_TITLES[leg], machines=passed) for leg, passed in legs.items()
    ]
    ends = [
        sentence("It is lost at {machine}: {reason}", machine=one.machine, reason=one.lost)
        for one in drawing.path
        if one.is_end
    ]
    return gettext(joined(". ", [joined(", ", parts), *inside, *ways, *ends])) + "."


def _lines(layout: Layout) -> Iterator[str]:
    width, height = f"{layout.width:.0f}", f"{layout.height:.0f}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{CLASS}" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="graphics-document document" '
        'aria-labelledby="drawing-title drawing-desc">'
    )
    yield f'<title id="drawing-title">{escape(layout.drawing.title)}</title>'
    yield f'<desc id="drawing-desc">{escape(description(layout.drawing))}</desc>'
    yield f"<style>{style()}</style>"
    yield f'<rect class="page" width="{width}" height="{height}"/>'
    for number, line in enumerate(layout.head):
        y = layout.head_y + number * (LINE + 3)
        yield _text(layout.root.x + PAD, y, line, "s" if number else "t")
    yield from content_lines(layout)
    for number, line in enumerate(layout.foot):
        yield from _foot(layout.root.x + PAD, layout.foot_y + number * LINE, line)
    yield "</svg>"


def content_lines(layout: Layout) -> Iterator[str]:
    """The elements of a drawing without the texts above and below it."""
    for frame in layout.root.walk():
        yield from _frame(frame)
    for wire in layout.wires:
        yield from _wire(wire)
    if layout.drawing.path:
        yield from _path(layout)
    for frame in layout.root.walk():
        for chip in frame.all_chips:
            yield from _chip(chip)


def _start(tag: str, kind: str, name: str, title: str, state: State = "", rest: str = "") -> str:
    """The start of an element that a page can find and mark, by its id and `data-KIND`; `title` is for screen readers,
    and for the pointer that rests on it."""
    role = "graphics-object group" if kind in ("machine", "pods") else "graphics-symbol img"
    unique = quoteattr(f"{kind}-{name.replace(' ', '_')}")
    about = f'id={unique} data-{kind}={quoteattr(name)} role="{role}" aria-label={quoteattr(title)}'
    about += f' data-state="{state}"' if state else ""
    return f"<{tag} {about}{rest}><title>{escape(title)}</title>"


def _text(x: float, y: float, line: Line, style: str = "") -> str:
    """A text of which the line begins at the height `y`, after its marks. A missing thing is struck through, and the
    word is not."""
    size = SIZE * TITLE_SCALE if style == "t" else SIZE
    kinds = " ".join([*([style] if style else []), *(["bad"] if line.state or line.is_lost else [])])
    column = COLUMN * (TITLE_SCALE if style == "t" else 1)
    marks = "".join(map(str, line.marks))
    words = str(line)[len(marks) + 1 :] if marks else str(line)
    text = escape(words)
    if line.state == "missing":
        text = f'<tspan class="gone">{escape(line.text)}</tspan>{escape(words[len(line.text) :])}'
    kind = f' class="{kinds}"' if kinds else ""
    start = x + (len(marks) + 1) * column if marks else x
    signs = "".join(_marks(x, y + size / 2 + 1.5, line.marks, column))
    return f'{signs}<text x="{start:.1f}" y="{y + size * 0.85 + 1:.1f}"{kind}>{text}</text>'


def _marks(x: float, y: float, marks: Sequence[Mark], column: float) -> Iterator[str]:
    """The numbers of steps in circles, and where the packet was lost."""
    for mark in marks:
        width = len(str(mark)) * column
        number = "\N{MULTIPLICATION SIGN}" if mark.number is None else str(mark.number)
        size = f'width="{width - 3:.1f}" height="13" rx="6.5"'
        yield (
            f'<g class="{"lost" if mark.number is None else mark.leg}">'
            f'<rect class="m" x="{x:.1f}" y="{y - 6.5:.1f}" {size}/>'
            f'<text x="{x + width / 2 - 1.5:.1f}" y="{y + 3.2:.1f}">{number}</text></g>'
        )
        x += width


def _path(layout: Layout) -> Iterator[str]:
    """The line of a packet's path below the devices, with arrows between the machines."""
    known = places(layout)
    visits = layout.drawing.path
    yield '<g class="path" aria-hidden="true">'
    arrows = []
    for line in path_lines(known, visits):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.points)
        yield f'<polyline class="p {line.leg}{"" if line.is_cable else " far"}" points="{points}"/>'
        if line.arrow:
            arrows.append(_arrow(line.leg, *line.arrow))
    yield from arrows
    for one in visits:
        place = loss_place(known, one) if one.is_end else None
        if place is not None:
            yield _cross(*place, 8, " lost")
    yield "</g>"


def _arrow(leg: str, at: Point, toward: Point) -> str:
    angle = math.degrees(math.atan2(toward[1] - at[1], toward[0] - at[0]))
    place = f"translate({at[0]:.1f} {at[1]:.1f}) rotate({angle:.0f})"
    return f'<path class="a {leg}" d="M6 0l-10 -6v12z" transform="{place}"/>'


def _frame(frame: Frame) -> Iterator[str]:
    box, node = frame.box, frame.parent.box if frame.parent is not None else None
    if box is None:
        return
    title = str(Line(box.heading.text, box.state))
    if box.role == "summary":
        of = f" of {node.name}" if node is not None else ""
        yield _start("g", "pods", node.name if node is not None else box.name, f"{title}{of}", box.state)
    else:
        yield _start("g", "machine", box.name, title, box.state)
    yield _rect(frame.x, frame.y, frame.width, frame.height, f"f {box.role} {box.state}".rstrip(), 6)
    yield _text(frame.x + PAD, frame.y + 5, box.heading, "t")
    for number, line in enumerate(frame.notes):
        yield _text(frame.notes_at[0], frame.notes_at[1] + number * LINE, line, "s")
    yield "</g>"


def _rect(x: float, y: float, width: float, height: float, kind: str, radius: int) -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="{radius}"'
    return f"<rect class={quoteattr(kind)} {place}/>"


def _chip(chip: Chip) -> Iterator[str]:
    device = chip.device
    kind = "tunnel" if device.kind in TUNNELS else "bridge" if device.kind == "bridge" else ""
    yield _start("g", "device", str(device.at), _label(device), device.state)
    lost = "lost" if any(line.is_lost for line in device.path_lines) else ""
    kinds = " ".join(["c", *f"{kind} {device.state} {lost}".split()])
    yield _rect(chip.x, chip.y, chip.width, chip.height, kinds, 3)
    for number, line in enumerate(device.marked_lines):
        yield _text(chip.x + CHIP_PAD, chip.y + CHIP_PAD / 2 + number * LINE, line, "" if number else "b")
    yield "</g>"


def _label(device: Device) -> str:
    """The device for screen readers: its place, its lines, and the steps of a packet there."""
    name = Line(str(device.at), device.state)
    steps = [f"step {one.number}" for one in device.marks if one.number is not None]
    return ", ".join(map(str, (name, *device.marked_lines[1:], *steps)))


def _wire(wire: Wire) -> Iterator[str]:
    points = [wire.points[0]]
    for point in wire.points[1:]:
        if max(abs(point[0] - points[-1][0]), abs(point[1] - points[-1][1])) > 0.1:
            points.append(point)
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    look = f' class="{f"w {wire.kind} {wire.state}".rstrip()}" points="{path}"'
    one, other = map(str, wire.ends if wire.kind == "port" else cable(*wire.ends))
    broken = {"missing": ", missing", "changed": ", down", "extra": ", not planned"}.get(wire.state, "")
    title = f"{other} is a port of {one}" if wire.kind == "port" else f"cable {one} {other}"
    kind, name = ("port", other) if wire.kind == "port" else ("cable", f"{one} {other}")
    yield f"{_start('polyline', kind, name, title + broken, wire.state, look)}</polyline>"
    if wire.state in ("missing", "changed"):
        yield _cross(*middle(points))


def _cross(x: float, y: float, size: float = 5, kind: str = "") -> str:
    """Where a line is broken."""
    start, side = f"{x - size:.1f} {y - size:.1f}", 2 * size
    return f'<path class="cross{kind}" d="M{start}l{side} {side}m0 {-side}l{-side} {side}"/>'


def _foot(x: float, y: float, line: Line) -> Iterator[str]:
    """A line below the drawing; one of the legend begins with a sign."""
    if not line.state:
        yield _text(x, y, line, "b" if line.text == "services" else "s")
        return
    yield _rect(x, y + 2, 24, LINE - 4, f"c {line.state}", 3)
    yield _text(x + 32, y, Line(line.text), "s")

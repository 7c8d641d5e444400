"""A drawing as one SVG, in the light or dark colours of the reader, with a description for screen readers. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from labctl.core.text import count
from labctl.drawing.geometry import CHIP_PAD, LINE, PAD, TITLE_SCALE, Chip, Frame, Layout, Wire
from labctl.drawing.layout import lay_out
from labctl.drawing.model import Drawing, Line, State
from labctl.drawing.places import cable, middle

SIZE = 11  # pixels of a text
STYLE = """
svg{--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#8c959f;--cable:#0969da;--port:#8c959f;--chip:#fff;
--node:#eef4fb;--pod:#e9f7ee;--fabric:#f4f1fa;--outside:#f6f8fa;--tunnel:#bc4c00;--bridge:#fff8e5;--bad:#cf222e;--tint:#ffebe9}
@media (prefers-color-scheme:dark){svg{--page:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#5b636d;--cable:#58a6ff;
--port:#7d8590;--chip:#0d1117;--node:#15202e;--pod:#12261b;--fabric:#1f1a2e;--outside:#161b22;--tunnel:#ffa657;
--bridge:#2a2410;--bad:#ff7b72;--tint:#3c1618}}
text{font:11px ui-monospace,"DejaVu Sans Mono","Liberation Mono",Menlo,Consolas,monospace;fill:var(--ink);
white-space:pre;text-rendering:geometricPrecision}
.page{fill:var(--page)}.t{font-size:13px;font-weight:700}.s{fill:var(--soft)}.b{font-weight:700}
.f{stroke:var(--line);fill:var(--outside)}.f.node,.f.host{fill:var(--node)}.f.fabric{fill:var(--fabric)}
.f.pod,.f.container,.f.summary{fill:var(--pod)}
.c{stroke:var(--line);fill:var(--chip)}.c.bridge{fill:var(--bridge)}
.c.tunnel{stroke:var(--tunnel);stroke-dasharray:4 2}
.w{fill:none;stroke:var(--cable);stroke-width:1.5}.w.port{stroke:var(--port);stroke-width:1.2}
.w.far{stroke-dasharray:6 3}
.bad{fill:var(--bad)}.gone{text-decoration:line-through}
.f.missing,.f.changed,.f.extra,.c.missing,.c.changed,.c.extra,.w.missing,.w.changed,.w.extra,.cross{stroke:var(--bad)}
.f.missing,.c.missing,.w.missing,.w.changed{stroke-dasharray:4 3}.c.changed,.c.extra,.f.extra,.cross{stroke-width:2}
.c.extra,.f.extra{fill:var(--tint)}.cross{fill:none}
""".strip()
TUNNELS = ("vxlan", "geneve", "ipip", "gre", "gretap", "sit", "ip6tnl", "wireguard", "tun")


def svg_lines(drawing: Drawing) -> list[str]:
    """The SVG, one element a line."""
    return list(_lines(lay_out(drawing)))


def description(drawing: Drawing) -> str:
    """What the drawing shows, in a sentence for screen readers."""
    boxes = [box for box in drawing.walk() if box.role != "summary"]
    inside = [f"{box.name} contains {', '.join(one.name for one in box.boxes)}" for box in boxes if box.boxes]
    parts = [count(len(boxes), "machine"), count(len(drawing.cables), "cable"), count(len(drawing.tunnels), "tunnel")]
    return ". ".join([", ".join(parts), *inside]) + "."


def _lines(layout: Layout) -> Iterator[str]:
    width, height = f"{layout.width:.0f}", f"{layout.height:.0f}"
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'role="graphics-document document" aria-labelledby="drawing-title drawing-desc">'
    )
    yield f'<title id="drawing-title">{escape(layout.drawing.title)}</title>'
    yield f'<desc id="drawing-desc">{escape(description(layout.drawing))}</desc>'
    yield f"<style>{STYLE}</style>"
    yield f'<rect class="page" width="{width}" height="{height}"/>'
    for number, text in enumerate(layout.head):
        y = layout.head_y + number * (LINE + 3)
        yield _text(layout.root.x + PAD, y, Line(text), "s" if number else "t")
    for frame in layout.root.walk():
        yield from _frame(frame)
    for wire in layout.wires:
        yield from _wire(wire)
    for frame in layout.root.walk():
        for chip in frame.all_chips:
            yield from _chip(chip)
    for number, line in enumerate(layout.foot):
        yield from _foot(layout.root.x + PAD, layout.foot_y + number * LINE, line)
    yield "</svg>"


def _start(tag: str, kind: str, name: str, title: str, state: State = "", rest: str = "") -> str:
    """The start of an element that a page can find and mark, by its id and `data-KIND`; `title` is for screen readers,
    and for the pointer that rests on it."""
    role = "graphics-object group" if kind in ("machine", "pods") else "graphics-symbol img"
    unique = quoteattr(f"{kind}-{name.replace(' ', '_')}")
    about = f'id={unique} data-{kind}={quoteattr(name)} role="{role}" aria-label={quoteattr(title)}'
    about += f' data-state="{state}"' if state else ""
    return f"<{tag} {about}{rest}><title>{escape(title)}</title>"


def _text(x: float, y: float, line: Line, style: str = "") -> str:
    """A text of which the line begins at the height `y`. A missing thing is struck through, and the word is not."""
    size = SIZE * TITLE_SCALE if style == "t" else SIZE
    kinds = " ".join([*([style] if style else []), *(["bad"] if line.state else [])])
    text = escape(str(line))
    if line.state == "missing":
        text = f'<tspan class="gone">{escape(line.text)}</tspan>{escape(str(line)[len(line.text) :])}'
    kind = f' class="{kinds}"' if kinds else ""
    return f'<text x="{x:.1f}" y="{y + size * 0.85 + 1:.1f}"{kind}>{text}</text>'


def _frame(frame: Frame) -> Iterator[str]:
    box, node = frame.box, frame.parent.box if frame.parent is not None else None
    if box is None:
        return
    if box.role == "summary" and node is not None:
        yield _start("g", "pods", node.name, f"{box.title} of {node.name}", box.state)
    else:
        yield _start("g", "machine", box.name, box.title, box.state)
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
    yield _start(
        "g", "device", str(device.at), ", ".join((f"{device.at.ns}/{device.lines[0]}", *device.lines[1:])), device.state
    )
    yield _rect(chip.x, chip.y, chip.width, chip.height, " ".join(["c", *f"{kind} {device.state}".split()]), 3)
    for number, line in enumerate(device.marked_lines):
        yield _text(chip.x + CHIP_PAD, chip.y + CHIP_PAD / 2 + number * LINE, line, "" if number else "b")
    yield "</g>"


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


def _cross(x: float, y: float, size: float = 5) -> str:
    """Where a line is broken."""
    start, side = f"{x - size:.1f} {y - size:.1f}", 2 * size
    return f'<path class="cross" d="M{start}l{side} {side}m0 {-side}l{-side} {side}"/>'


def _foot(x: float, y: float, line: Line) -> Iterator[str]:
    """A line below the drawing; one of the legend begins with a sign."""
    if not line.state:
        yield _text(x, y, line, "b" if line.text == "services" else "s")
        return
    yield _rect(x, y + 2, 24, LINE - 4, f"c {line.state}", 3)
    yield _text(x + 32, y, Line(line.text), "s")

"""A drawing as lines of text, with box-drawing characters or in plain ASCII. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from labctl.drawing.model import Box, Device, Drawing, Line, State, line_state
from labctl.drawing.words import columns, wrap

WIDTH = 80  # columns of a drawing in a pipe
LEAST = 30  # columns: a narrower box has no room for an address and a name
ASCII = str.maketrans({**dict.fromkeys("┌┐└┘├", "+"), "─": "-", "│": "|"})
# around what is not as planned while lines are put together: characters that no text has, of no width
BEGIN, END = "\ue000", "\ue001"
CABLE_WORDS: dict[State, str] = {"missing": " (missing)", "changed": " (down)", "extra": " (extra)"}

Paint = Callable[[str], str]


def text_lines(
    drawing: Drawing, width: int = WIDTH, *, ascii_only: bool = False, paint: Paint | None = None
) -> list[str]:
    """The drawing in lines of at most `width` columns. `paint` colours what is not as planned in the kernel."""
    return [
        _painted(line.translate(ASCII) if ascii_only else line, paint)
        for line in map(str.rstrip, _Text(drawing, max(width, LEAST)).lines())
    ]


def _painted(line: str, paint: Paint | None) -> str:
    first, *rest = line.split(BEGIN)
    parts = [part.partition(END) for part in rest]
    return first + "".join((paint(text) if paint is not None and text else text) + after for text, _, after in parts)


def _width(line: str) -> int:
    return columns(line) - line.count(BEGIN) - line.count(END)


class _Text:
    def __init__(self, drawing: Drawing, width: int) -> None:
        self.drawing = drawing
        self.width = width
        self.devices = {device.at: device for box in drawing.walk() for device in box.devices}

    def lines(self) -> Iterator[str]:
        drawing, width = self.drawing, self.width
        yield from wrap(drawing.title, width)
        for text in (drawing.say, drawing.source):
            yield from wrap(text, width, "") if text else []
        yield ""
        for row in self._rows(drawing.boxes, width):
            yield from _beside([self._framed(box, least) for box, least in row])
        if drawing.legend:
            yield ""
            for line in drawing.legend:
                yield from _folded(line, width)
        if drawing.services:
            yield from ("", "services")
            for one in drawing.services:
                yield from _folded(Line(f"  {one}"), width)
        if drawing.omissions:
            yield ""
            for one in drawing.omissions:
                yield from wrap(one, width)

    def _rows(self, boxes: Sequence[Box], width: int, around: tuple[str, ...] = ()) -> Iterator[list[tuple[Box, int]]]:
        """The boxes in rows, as many in a row as fit, each with its width."""
        row: list[tuple[Box, int]] = []
        for box in boxes:
            wanted = min(width, self._natural_width(box, around))
            if row and sum(least + 1 for _, least in row) + wanted > width:
                yield row
                row = []
            row.append((box, wanted))
        if row:
            yield row

    def _natural_width(self, box: Box, around: tuple[str, ...] = ()) -> int:
        parts = [self._natural_width(one, (*around, box.name)) + 1 for one in box.boxes]
        inner = sum(parts) - 1 if parts else 0
        own = max((columns(line.text) for line in self._own_lines(box, around)), default=0)
        return max(columns(box.title) + 2, inner, own) + 4

    def _own_lines(self, box: Box, around: tuple[str, ...] = ()) -> list[Line]:
        return [*self._first_lines(box, around), *_route_lines(box)]

    def _first_lines(self, box: Box, around: tuple[str, ...]) -> Iterator[Line]:
        """The lines of a box above the boxes in it: notes, devices with their ports below them.

        `around` are the machines that the box is inside of: a cable to one of them is written there.
        """
        yield from map(_with_word, box.own_lines)
        masters = {device.at.dev for device in box.devices}
        tops = [one for one in box.devices if one.master not in masters]
        name_width = max((columns(one.lines[0]) for one in tops), default=0)
        for device in tops:
            yield self._device_line("", device, name_width, around)
            ports = [one for one in box.devices if one.master == device.at.dev]
            port_width = max((columns(one.lines[0]) for one in ports), default=0)
            for number, port in enumerate(ports, 1):
                sign = "└" if number == len(ports) else "├"
                yield self._device_line(f"{sign}─ ", port, port_width, around)

    def _device_line(self, start: str, device: Device, name_width: int, around: tuple[str, ...]) -> Line:
        name, *more = device.lines
        gap = " " * (name_width - columns(name))
        peer = device.peer if device.peer is not None and device.peer.ns not in around else None
        far = self.devices.get(peer) if peer is not None else None
        state = line_state(device, far) if far is not None else ""
        cable = [f"── {peer}{CABLE_WORDS.get(state, '')}"] if peer is not None else []
        states = [state, *(line.state for line in device.marked_lines)]
        return Line(f"{start}{name}{gap} {'  '.join([*more, *cable])}".rstrip(), "changed" if any(states) else "")

    def _framed(self, box: Box, width: int, around: tuple[str, ...] = ()) -> list[str]:
        """A box with its frame, `width` columns wide."""
        room = width - 4
        lines: list[str] = []
        inside = (*around, box.name)
        for line in self._first_lines(box, around):
            lines += _folded(line, room)
        for row in self._rows(box.boxes, room, inside):
            lines += _beside([self._framed(one, least, inside) for one, least in row])
        for line in _route_lines(box):
            lines += _folded(line, room)
        title, *rest = (_marked(part, box.state) for part in wrap(box.title, max(room - 2, 1), ""))
        head = f"┌ {title} {'─' * (width - _width(title) - 4)}┐"
        body = [f"│ {line}{' ' * (room - _width(line))} │" for line in (*rest, *lines)]
        return [head, *body, f"└{'─' * (width - 2)}┘"]


def _route_lines(box: Box) -> list[Line]:
    if not box.route_lines:
        return []
    return [Line("routes"), *(Line(f"  {_with_word(one).text}", one.state) for one in box.route_lines)]


def _with_word(line: Line) -> Line:
    """The line with the word of its state in its text."""
    return Line(str(line), "changed" if line.state else "")


def _marked(text: str, state: State) -> str:
    return f"{BEGIN}{text}{END}" if state else text


def _folded(line: Line, room: int) -> list[str]:
    """The line in parts of at most `room` columns; what is not as planned is marked in each."""
    text = line.text
    start = text[: len(text) - len(text.lstrip())]
    parts = [text] if columns(text) <= room else [start + part for part in wrap(text, room - len(start), "    ")]
    return [_marked(part, line.state) for part in parts]


def _beside(blocks: list[list[str]]) -> list[str]:
    """Blocks of lines, side by side."""
    height = max(map(len, blocks))
    filled = [[*block, *[" " * _width(block[0])] * (height - len(block))] for block in blocks]
    return [" ".join(parts) for parts in zip(*filled, strict=True)]

"""A drawing as lines of text, with box-drawing characters or in plain ASCII. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from labctl.drawing.model import Box, Device, Drawing
from labctl.drawing.words import columns, widest, wrap

WIDTH = 80  # columns of a drawing in a pipe
LEAST = 30  # columns: a narrower box has no room for an address and a name
ASCII = str.maketrans({**dict.fromkeys("┌┐└┘├", "+"), "─": "-", "│": "|"})


def text_lines(drawing: Drawing, width: int = WIDTH, *, ascii_only: bool = False) -> list[str]:
    """The drawing in lines of at most `width` columns."""
    width = max(width, LEAST)
    lines = [*wrap(drawing.title, width), *(wrap(drawing.say, width, "") if drawing.say else []), ""]
    for row in _rows(drawing.boxes, width):
        lines += _beside([_framed(box, least) for box, least in row])
    if drawing.services:
        lines += ["", "services", *(part for one in drawing.services for part in _folded(f"  {one}", width))]
    if drawing.omissions:
        lines += ["", *(part for one in drawing.omissions for part in wrap(one, width))]
    return [line.translate(ASCII) if ascii_only else line for line in map(str.rstrip, lines)]


def _rows(boxes: Sequence[Box], width: int, around: tuple[str, ...] = ()) -> Iterator[list[tuple[Box, int]]]:
    """The boxes in rows, as many in a row as fit, each with its width."""
    row: list[tuple[Box, int]] = []
    for box in boxes:
        wanted = min(width, _natural_width(box, around))
        if row and sum(least + 1 for _, least in row) + wanted > width:
            yield row
            row = []
        row.append((box, wanted))
    if row:
        yield row


def _natural_width(box: Box, around: tuple[str, ...] = ()) -> int:
    inner = sum(_natural_width(one, (*around, box.name)) + 1 for one in box.boxes) - 1 if box.boxes else 0
    title = columns(box.title) + 2
    return max(title, inner, widest(_own_lines(box, around))) + 4


def _own_lines(box: Box, around: tuple[str, ...] = ()) -> Iterator[str]:
    """The lines of a box without those of the boxes in it: notes, devices with their ports below them, routes.

    `around` are the machines that the box is inside of: a cable to one of them is written there.
    """
    yield from box.notes
    yield from box.addresses
    masters = {device.at.dev for device in box.devices}
    name_width = widest(device.at.dev for device in box.devices if device.master not in masters)
    for device in box.devices:
        if device.master in masters:
            continue
        yield _device_line(device, name_width, around)
        ports = [one for one in box.devices if one.master == device.at.dev]
        port_width = widest(one.at.dev for one in ports)
        for number, port in enumerate(ports, 1):
            yield f"{'└' if number == len(ports) else '├'}─ {_device_line(port, port_width, around)}"
    if box.route_lines:
        yield "routes"
        yield from (f"  {one}" for one in box.route_lines)


def _device_line(device: Device, name_width: int, around: tuple[str, ...]) -> str:
    name, *more = device.lines
    cable = [f"── {device.peer}"] if device.peer is not None and device.peer.ns not in around else []
    gap = " " * (name_width - columns(name))
    return f"{name}{gap} {'  '.join([*more, *cable])}".rstrip()


def _framed(box: Box, width: int, around: tuple[str, ...] = ()) -> list[str]:
    """A box with its frame, `width` columns wide."""
    room = width - 4
    lines: list[str] = []
    own = list(_own_lines(box, around))
    inside = (*around, box.name)
    start = own.index("routes") if box.route_lines else len(own)
    for line in own[:start]:
        lines += _folded(line, room)
    for row in _rows(box.boxes, room, inside):
        lines += _beside([_framed(one, least, inside) for one, least in row])
    for line in own[start:]:
        lines += _folded(line, room)
    title = wrap(box.title, max(room - 2, 1), "")
    head = f"┌ {title[0]} {'─' * (width - columns(title[0]) - 4)}┐"
    body = [f"│ {line}{' ' * (room - columns(line))} │" for line in (*title[1:], *lines)]
    return [head, *body, f"└{'─' * (width - 2)}┘"]


def _folded(line: str, room: int) -> list[str]:
    if columns(line) <= room:
        return [line]
    start = line[: len(line) - len(line.lstrip())]
    return [start + part for part in wrap(line, room - len(start), "    ")]


def _beside(blocks: list[list[str]]) -> list[str]:
    """Blocks of lines, side by side."""
    height = max(map(len, blocks))
    filled = [[*block, *[" " * columns(block[0])] * (height - len(block))] for block in blocks]
    return [" ".join(parts) for parts in zip(*filled, strict=True)]

"""Where the things of a drawing are: for whoever draws on it, such as the path of a packet. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from labctl.core.resources import Interface
from labctl.drawing.geometry import Chip, Frame, Layout

Cable = tuple[Interface, Interface]  # its two ends, sorted
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Area:
    """A rectangle in pixels; `x` and `y` are its upper left corner."""

    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass(frozen=True, slots=True)
class Places:
    """The places of everything in a drawing, in the pixels of its SVG.

    A machine that is drawn only as a part of a number (`12 pods`) has the place of that number. `cables` and `ports`
    (from a bridge to its port) are lines through points, from the first end to the second one of their key.
    """

    width: float
    height: float
    machines: dict[str, Area]
    devices: dict[Interface, Area]
    cables: dict[Cable, tuple[Point, ...]]
    ports: dict[Cable, tuple[Point, ...]]


def places(layout: Layout) -> Places:
    """The places of a layout."""
    frames = [frame for frame in layout.root.walk() if frame.box is not None]
    machines = {name: _area(frame) for frame in frames if frame.box is not None for name in frame.box.machines}
    devices = {chip.device.at: _area(chip) for frame in frames for chip in frame.all_chips}
    cables = {cable(*wire.ends): _from_first(wire.ends, wire.points) for wire in layout.wires if wire.kind != "port"}
    ports = {wire.ends: wire.points for wire in layout.wires if wire.kind == "port"}
    return Places(layout.width, layout.height, machines, devices, cables, ports)


def cable(one: Interface, other: Interface) -> Cable:
    """The key of the cable between two devices."""
    return (one, other) if one < other else (other, one)


def middle(points: Sequence[Point]) -> Point:
    """The middle of the longest part of a line."""
    (x1, y1), (x2, y2) = longest_part(points)
    return (x1 + x2) / 2, (y1 + y2) / 2


def longest_part(points: Sequence[Point]) -> tuple[Point, Point]:
    """The ends of the longest part of a line; the first one of several."""
    return max(pairwise(points), key=lambda pair: abs(pair[0][0] - pair[1][0]) + abs(pair[0][1] - pair[1][1]))


def _from_first(ends: Cable, points: tuple[Point, ...]) -> tuple[Point, ...]:
    return points if ends == cable(*ends) else points[::-1]


def _area(thing: Frame | Chip) -> Area:
    return Area(thing.x, thing.y, thing.width, thing.height)

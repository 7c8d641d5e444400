"""The path of a packet in a drawing: which lines and marks it adds, and where its line goes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise

from labctl.core.resources import Interface
from labctl.core.sentence import sentence
from labctl.drawing.model import Box, Device, Drawing, Event, Leg, Line, Mark, Visit
from labctl.drawing.places import Area, Places, Point, cable, longest_part, middle
from labctl.drawing.words import wrap
from labctl.translation.language import gettext

COLUMNS = 46  # of a line that says what happened: devices become as wide as that
TURN = 5.0  # pixels between a device and the line that turns away from it
ARROW = 0.36  # where on a line an arrow is
ASIDE = 2.5  # pixels by which the line of a leg is beside the middle, so that two legs are apart


@dataclass(frozen=True, slots=True)
class PathLine:
    """A part of a packet's path as a line through points. Between two machines, `arrow` is its direction: the place
    of an arrow, and a point to which it shows. `is_cable` is whether it follows a cable that is drawn."""

    leg: Leg
    points: tuple[Point, ...]
    arrow: tuple[Point, ...] = ()
    is_cable: bool = True


def with_path(drawing: Drawing, visits: Sequence[Visit], verdict: Sequence[Line]) -> Drawing:
    """The drawing with the steps of a packet: their numbers at the devices by which it came in, and what happened to it
    at the devices where it did. A step without a drawn device is at its machine."""
    drawn = {device.at for box in drawing.walk() for device in box.devices}
    own = [replace(one, devices=tuple(at for at in one.devices if at in drawn)) for one in visits]
    boxes = tuple(_box(box, own) for box in drawing.boxes)
    return replace(drawing, boxes=boxes, path=tuple(own), verdict=tuple(verdict))


def _box(box: Box, visits: Sequence[Visit]) -> Box:
    here = [one for one in visits if one.machine in box.machines and not one.devices]
    return replace(
        box,
        devices=tuple(_device(one, visits) for one in box.devices),
        boxes=tuple(_box(one, visits) for one in box.boxes),
        marks=tuple(Mark(one.leg, one.number) for one in here),
        path_lines=tuple(line for one in here for line in _lines(one, one.events, one.is_end)),
    )


def _device(device: Device, visits: Sequence[Visit]) -> Device:
    marks: list[Mark] = []
    lines: list[Line] = []
    for visit in visits:
        if visit.devices:
            if visit.devices[0] == device.at:
                marks.append(Mark(visit.leg, visit.number))
            is_end = visit.is_end and visit.devices[-1] == device.at
            lines += _lines(visit, [one for one in visit.events if _place_of(one, visit) == device.at], is_end)
    return replace(device, marks=tuple(marks), path_lines=tuple(lines))


def _place_of(event: Event, visit: Visit) -> Interface:
    return event.at if event.at in visit.devices and event.at is not None else visit.devices[0]


def _lines(visit: Visit, events: Iterable[Event], is_end: bool) -> Iterator[Line]:
    for event in events:
        first, *rest = wrap(event.text, COLUMNS, "")
        yield Line(first, marks=(Mark(visit.leg, visit.number),))
        yield from (Line(f"    {one}") for one in rest)
    if is_end:
        first, *rest = wrap(visit.lost or gettext(sentence("lost here")), COLUMNS, "")
        yield Line(first, marks=(Mark(visit.leg, None),), is_lost=True)
        yield from (Line(f"    {one}", is_lost=True) for one in rest)


def path_lines(places: Places, visits: Sequence[Visit]) -> Iterator[PathLine]:
    """The line of the path, leg by leg: inside machines beside their devices, between them along the cables."""
    for number, (leg, group) in enumerate(groupby(visits, key=lambda one: one.leg)):
        aside = ASIDE * (2 * number - 1)
        for line in _leg(places, leg, list(group)):
            arrow = tuple((x + aside, y + aside) for x, y in line.arrow)
            yield replace(line, points=tuple((x + aside, y + aside) for x, y in line.points), arrow=arrow)


def loss_place(places: Places, visit: Visit) -> Point | None:
    """Where a packet was lost that had left a device: the middle of its cable. None if it had not left, or if no cable
    is drawn there."""
    if not visit.is_past or not visit.devices:
        return None
    points = next((points for ends, points in places.cables.items() if visit.devices[-1] in ends), None)
    return middle(points) if points is not None else None


def _leg(places: Places, leg: Leg, visits: Sequence[Visit]) -> Iterator[PathLine]:
    for number, visit in enumerate(visits):
        for one, other in pairwise(visit.devices):
            yield PathLine(leg, _inside(places, one, other))
        if number + 1 < len(visits):
            yield _between(places, leg, visit, visits[number + 1])


def _between(places: Places, leg: Leg, one: Visit, other: Visit) -> PathLine:
    if one.devices and other.devices:
        ends = one.devices[-1], other.devices[0]
        points = places.cables.get(cable(*ends))
        if points is not None:
            points = points if ends == cable(*ends) else points[::-1]
            return PathLine(leg, points, _arrow(points))
    points = (_place(places, one, -1).middle, _place(places, other, 0).middle)
    return PathLine(leg, points, _arrow(points), is_cable=False)


def _place(places: Places, visit: Visit, at: int) -> Area:
    return places.devices[visit.devices[at]] if visit.devices else places.machines[visit.machine]


def _arrow(points: Sequence[Point]) -> tuple[Point, Point]:
    """A place on the first half of the longest part of a line, and the end of that part: so the arrows of a packet and
    of its answer are apart."""
    one, other = longest_part(points)
    return (one[0] + (other[0] - one[0]) * ARROW, one[1] + (other[1] - one[1]) * ARROW), other


def _inside(places: Places, one: Interface, other: Interface) -> tuple[Point, ...]:
    """The line between two devices of one machine: that from a bridge to its port, or one beside the devices."""
    for ends in ((one, other), (other, one)):
        if ends in places.ports:
            return places.ports[ends] if ends[0] == one else places.ports[ends][::-1]
    start, end = places.devices[one], places.devices[other]
    row, other_row = _row(places, one), _row(places, other)
    if row.y == other_row.y:
        is_below = _has_cable_above(places, one)
        y = row.y + row.height + TURN if is_below else row.y - TURN
        edges = [place.y + place.height if is_below else place.y for place in (start, end)]
        return (start.middle[0], edges[0]), (start.middle[0], y), (end.middle[0], y), (end.middle[0], edges[1])
    is_down = row.y < other_row.y
    y = row.y + row.height + TURN if is_down else row.y - TURN
    edges = [start.y + start.height, end.y] if is_down else [start.y, end.y + end.height]
    return (start.middle[0], edges[0]), (start.middle[0], y), (end.middle[0], y), (end.middle[0], edges[1])


def _row(places: Places, at: Interface) -> Area:
    """The row of devices in which a device stands."""
    own = places.devices[at]
    height = max(area.height for other, area in places.devices.items() if other.ns == at.ns and area.y == own.y)
    return Area(own.x, own.y, own.width, height)


def _has_cable_above(places: Places, at: Interface) -> bool:
    """Whether the cable of a device leaves it at its top."""
    for (one, _), points in ((ends, points) for ends, points in places.cables.items() if at in ends):
        _, y = points[0] if one == at else points[-1]
        return bool(abs(y - places.devices[at].y) < 1)
    return False

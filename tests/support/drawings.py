"""Drawings in tests: labs to draw, and what makes a layout legible."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import labctl
from labctl.core.diff import Change, diff
from labctl.core.resources import Resource
from labctl.core.scenario_types import Lab
from labctl.drawing.geometry import CHIP_PAD, LINE, PAD, TITLE_SCALE, Frame, Layout, text_width
from labctl.drawing.model import Box, Drawing
from labctl.drawing.packet_path import path_lines
from labctl.drawing.places import places
from labctl.scenario.definition import parse_and_compile

Area = tuple[float, float, float, float]  # left, top, right, bottom


def built_in(name: str) -> Lab:
    return labctl.load(name).compiled


def large(nodes: int, pods: int) -> Lab:
    lines = [f"  node{n}: {{pods: [{', '.join(f'p{n}-{p}' for p in range(pods))}]}}" for n in range(1, nodes + 1)]
    return parse_and_compile("\n".join(["name: large", "model: flannel", "nodes:", *lines, ""]), "large.yaml")[1]


def without(*lost: Resource, extra: Iterable[Resource] = (), lab: Lab | None = None) -> tuple[Change, ...]:
    """The differences of a lab, kubenet if none is given, if the kernel lacks some objects and has others."""
    plan = (lab if lab is not None else built_in("kubenet")).plan
    return diff(plan, (*(one for one in plan if one not in lost), *extra))


def box(drawing: Drawing, name: str) -> Box:
    return next(one for one in drawing.walk() if one.name == name)


def frame_texts(frame: Frame) -> Iterator[tuple[str, Area]]:
    if frame.box is None:
        return
    x, y = frame.x + PAD, frame.y + 5
    yield frame.box.title, (x, y, x + frame.title_width, y + LINE * TITLE_SCALE)
    for number, line in enumerate(frame.notes):
        x, y = frame.notes_at[0], frame.notes_at[1] + number * LINE
        yield str(line), (x, y, x + text_width([line]), y + LINE)
    for chip in frame.all_chips:
        for number, line in enumerate(chip.device.lines):
            x, y = chip.x + CHIP_PAD, chip.y + CHIP_PAD / 2 + number * LINE
            yield line, (x, y, x + text_width([line]), y + LINE)


def overlaps(one: Area, other: Area, slack: float = 0.5) -> bool:
    return (
        one[0] + slack < other[2]
        and other[0] + slack < one[2]
        and one[1] + slack < other[3]
        and other[1] + slack < one[3]
    )


def inside(one: Area, other: Area) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one[2] <= other[2] and one[3] <= other[3]


def area(thing: Frame) -> Area:
    return thing.x, thing.y, thing.x + thing.width, thing.y + thing.height


def texts_are_apart(found: Layout) -> None:
    every = [(frame, *one) for frame in found.root.walk() for one in frame_texts(frame)]
    ordered = sorted(every, key=lambda one: one[2][1])

    assert every
    assert [text for frame, text, place in every if not inside(place, area(frame))] == []
    for number, (_, text, place) in enumerate(ordered):
        for _, other, there in ordered[number + 1 :]:
            if there[1] > place[3]:
                break
            assert not overlaps(place, there), (text, other)


def boxes_are_apart(found: Layout) -> None:
    for frame in found.root.walk():
        children = [one for row in frame.rows for one in row]
        assert all(frame.box is None or inside(area(one), area(frame)) for one in children)
        assert not any(overlaps(area(one), area(other)) for one in children for other in children if one is not other)
        chips = [(one.x, one.y, one.x + one.width, one.y + one.height) for one in frame.all_chips]
        assert all(inside(one, area(frame)) for one in chips)
        assert not any(overlaps(one, other) for at, one in enumerate(chips) for other in chips[at + 1 :])
        assert not any(overlaps(one, area(other)) for one in chips for other in children)
    assert found.root.y + found.root.height <= found.foot_y <= found.height
    assert all(0 <= x <= found.width and 0 <= y <= found.height for one in found.wires for x, y in one.points)


def cables_cross_no_text(found: Layout) -> None:
    texts = [one for frame in found.root.walk() for one in frame_texts(frame)]
    crossed = []
    for wire in found.wires:
        if wire.kind == "far":
            continue  # the few that lead across several boxes go straight
        for (x1, y1), (x2, y2) in pairwise(wire.points):
            assert abs(x1 - x2) < 1 or abs(y1 - y2) < 0.1, wire
            line = (min(x1, x2) - 0.5, min(y1, y2) - 0.5, max(x1, x2) + 0.5, max(y1, y2) + 0.5)
            crossed += [(str(wire.ends[0]), str(wire.ends[1]), text) for text, place in texts if overlaps(line, place)]

    assert crossed == []


Segment = tuple[float, float, float, float]


def along(one: Segment, other: Segment) -> bool:
    """Whether two lines lie on each other for more than a point."""
    for low in (0, 1):  # vertical, then horizontal lines
        across = 1 - low
        if (
            max(one[low], one[low + 2], other[low], other[low + 2])
            - min(one[low], one[low + 2], other[low], other[low + 2])
            < 1
        ):
            begin = max(min(one[across], one[across + 2]), min(other[across], other[across + 2]))
            end = min(max(one[across], one[across + 2]), max(other[across], other[across + 2]))
            return end - begin > 1
    return False


def lines_are_apart(found: Layout) -> None:
    wires = [wire for wire in found.wires if wire.kind != "far"]
    parts = [(wire, (*one, *other)) for wire in wires for one, other in pairwise(wire.points) if one != other]
    joined = [
        (str(wire.ends), str(other.ends))
        for number, (wire, one) in enumerate(parts)
        for other, two in parts[number + 1 :]
        if wire.ends[0] != other.ends[0] and not set(wire.ends) & set(other.ends) and along(one, two)
    ]

    assert joined == []


def path_crosses_no_text(found: Layout) -> None:
    """The line of a packet's path, which goes behind devices, crosses no text of a machine."""
    chips = {line for frame in found.root.walk() for chip in frame.all_chips for line in chip.device.lines}
    texts = [one for frame in found.root.walk() for one in frame_texts(frame) if one[0] not in chips]
    crossed = []
    for line in path_lines(places(found), found.drawing.path):
        for (x1, y1), (x2, y2) in pairwise(line.points) if line.is_cable else ():
            band = (min(x1, x2) - 2.5, min(y1, y2) - 2.5, max(x1, x2) + 2.5, max(y1, y2) + 2.5)
            crossed += [(line.leg, text) for text, place in texts if overlaps(band, place, 2)]

    assert crossed == []

"""The path of a packet in a drawing: legible for every recorded trace, and at the devices where the packet was."""

from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from labctl.core.resources import Interface
from labctl.drawing.from_lab import MAX_NODES, draw
from labctl.drawing.layout import lay_out
from labctl.drawing.model import Box, Device, Drawing, Event, Visit
from labctl.drawing.packet_path import PathLine, loss_place, path_lines, with_path
from labctl.drawing.places import Area, Places, places
from labctl.drawing.svg import svg_lines
from labctl.drawing.text import text_lines
from tests.support.drawings import (
    boxes_are_apart,
    cables_cross_no_text,
    large,
    lines_are_apart,
    path_crosses_no_text,
    texts_are_apart,
)
from tests.support.golden import Golden
from tests.support.traced_drawings import NAMES, traced

KNOWN = ("service-tcp", "tunnel", "drop", "no-route", "vxlan-down", "loop")


@pytest.mark.parametrize("name", KNOWN)
def test_known_traces(golden: Golden, name: str) -> None:
    golden(f"drawings/trace-{name}.svg").check("\n".join(svg_lines(traced(name))) + "\n")


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_trace_is_legible(name: str) -> None:
    layout = lay_out(traced(name))

    for holds in (texts_are_apart, boxes_are_apart, cables_cross_no_text, lines_are_apart, path_crosses_no_text):
        holds(layout)
    assert layout.drawing.path


@pytest.mark.parametrize("name", NAMES)
def test_the_line_of_the_path_stays_in_the_drawing_and_is_unbroken(name: str) -> None:
    drawing = traced(name)
    known = places(lay_out(drawing))
    lines = list(path_lines(known, drawing.path))

    assert all(0 <= x <= known.width and 0 <= y <= known.height for line in lines for x, y in line.points)
    for one, other in pairwise(lines):
        if one.leg == other.leg:
            assert touch(known, one, other), (one, other)


def touch(known: Places, one: PathLine, other: PathLine) -> bool:
    """Whether two parts of the path end and begin at one device or machine."""
    ends = one.points[-1], other.points[0]
    areas = (*known.devices.values(), *known.machines.values())
    return any(all(inside(point, area) for point in ends) for area in areas)


def inside(point: tuple[float, float], area: Area, slack: float = 6) -> bool:
    x, y = point
    return -slack <= x - area.x <= area.width + slack and -slack <= y - area.y <= area.height + slack


def devices(drawing: Drawing) -> dict[str, Device]:
    return {str(one.at): one for box in drawing.walk() for one in box.devices}


def lines(drawing: Drawing, device: str) -> list[str]:
    return [str(one) for one in devices(drawing)[device].marked_lines]


def test_a_translation_stands_at_the_device_by_which_the_packet_came() -> None:
    drawing = traced("service-tcp")

    assert "(2) DNAT 10.96.0.10:80 → 10.2.0.2:80" in lines(drawing, "r1/h1")
    assert "(7) un-NAT 10.2.0.2:80 → 10.96.0.10:80" in lines(drawing, "r1/h1")
    assert lines(drawing, "h1/eth0")[0] == "(1)(8) eth0"
    assert [str(one) for one in drawing.path_legend] == ["(1) to 4: request", "(5) to 8: reply"]


def test_a_tunnel_begins_and_ends_at_its_device() -> None:
    drawing = traced("tunnel")

    assert lines(drawing, "v1/vx0")[-2:] == ["(1) into vxlan 42 192.0.2.1 → 198.51.100.1", "(6) out of vxlan 42"]
    assert "(3) out of vxlan 42" in lines(drawing, "v2/vx0")


def test_the_place_of_a_loss_has_its_cause_in_red() -> None:
    drawing = traced("drop")
    lost = [one for one in devices(drawing)["r2/r1"].path_lines if one.is_lost]
    root = ElementTree.fromstring("\n".join(svg_lines(drawing)))
    red = [
        one.get("data-device")
        for one in root.iter()
        if any("lost" in (rect.get("class") or "").split() for rect in one.findall("{*}rect"))
    ]

    assert str(lost[0]) == "(x) a rule of FORWARD in r2 dropped the request"
    assert [one for one in red if one] == ["r2/r1"]
    assert [str(one) for one in drawing.verdict][1] == "lost: the request was last seen entering r2/r1"
    assert "It is lost at r2: a rule of FORWARD in r2 dropped the request" in (root.findtext("{*}desc") or "")


def test_a_packet_that_never_left_is_lost_at_its_machine() -> None:
    name = next(name for name in NAMES if len(traced(name).path) == 1 and not traced(name).path[0].devices)
    drawing = traced(name)
    box = next(one for one in drawing.walk() if one.name == drawing.path[0].machine)

    assert str(box.heading).startswith("(1) ")
    assert box.path_lines[0].is_lost


ENDS = Interface("a", "eth0"), Interface("b", "eth0")


def two(*visits: Visit) -> Drawing:
    boxes = tuple(Box(one.ns, "vm", (Device(one, "veth", peer=far),)) for one, far in (ENDS, ENDS[::-1]))
    return with_path(Drawing("two", "raw", "", boxes, (ENDS,)), visits, ())


def test_a_packet_that_left_is_lost_on_the_cable() -> None:
    visit = Visit(1, "request", "a", ENDS[:1], is_end=True, is_past=True, lost="no carrier")
    known = places(lay_out(two(visit)))
    place = loss_place(known, visit)

    assert place is not None
    assert not any(inside(place, area, 0) for area in known.devices.values())
    assert loss_place(known, Visit(1, "request", "a", ENDS[:1], is_end=True)) is None
    assert "".join(svg_lines(two(visit))).count('class="cross lost"') == 1


def test_arrows_show_the_direction() -> None:
    there, back = (Visit(n, "request", at.ns, (at,)) for n, at in enumerate(ENDS)), Visit(3, "reply", "b", ENDS[1:])
    visits = (*there, back, Visit(4, "reply", "a", ENDS[:1]))
    lines = list(path_lines(places(lay_out(two(*visits))), visits))
    ways = [line.arrow[1][0] - line.arrow[0][0] for line in lines]

    assert [line.is_cable for line in lines] == [True, True]
    assert ways[0] > 0 > ways[1]
    assert lines[0].arrow[0][0] + 20 < lines[1].arrow[0][0], "the two arrows are apart"


def test_a_device_that_is_not_drawn_leaves_its_step_at_the_machine() -> None:
    visit = Visit(1, "request", "a", (Interface("a", "gone"),), (Event(Interface("a", "gone"), "DNAT x → y"),))
    drawing = two(visit, Visit(2, "request", "b", ENDS[1:]))
    line = next(path_lines(places(lay_out(drawing)), drawing.path))

    assert "(1) DNAT x → y" in "\n".join(text_lines(drawing))
    assert not line.is_cable


def test_in_a_large_lab_only_the_nodes_of_the_path_are_drawn() -> None:
    lab = large(MAX_NODES + 4, 3)
    drawing = draw(lab, focus={"p1-0", "p2-0"})
    names = {one.name for one in drawing.walk()}

    assert {"node1", "node2", "p1-0", "p2-0", "fabric", f"{MAX_NODES + 2} other nodes"} <= names
    assert "node3" not in names
    assert {one.name for one in draw(large(2, 3), focus={"p1-0"}).walk()} >= {"node1", "node2", "p2-2"}

"""The places of a drawing are those of its SVG, and nothing that the plan has is without one."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from labctl.core.resources import Interface
from labctl.drawing.from_lab import MAX_NODES, draw
from labctl.drawing.layout import lay_out
from labctl.drawing.model import Drawing
from labctl.drawing.places import Area, Places, cable, places
from labctl.drawing.svg import svg_lines
from tests.support.drawings import built_in, large

Element = ElementTree.Element
SPACE = "{http://www.w3.org/2000/svg}"


def elements(drawing: Drawing, kind: str) -> dict[str, Element]:
    root = ElementTree.fromstring("\n".join(svg_lines(drawing)))
    return {str(one.get(f"data-{kind}")): one for one in root.iter() if one.get(f"data-{kind}")}


def area(group: Element) -> tuple[float, ...]:
    rect = group.find(f"{SPACE}rect")
    assert rect is not None
    return tuple(float(str(rect.get(key))) for key in ("x", "y", "width", "height"))


def rounded(one: Area) -> tuple[float, ...]:
    return tuple(pytest.approx(value, abs=0.06) for value in (one.x, one.y, one.width, one.height))


def found(drawing: Drawing) -> Places:
    return places(lay_out(drawing))


@pytest.mark.parametrize("name", ["kubenet", "calico", "docker-overlay"])
def test_machines_and_devices_are_where_the_svg_has_them(name: str) -> None:
    drawing = draw(built_in(name))
    known = found(drawing)
    machines, devices = elements(drawing, "machine"), elements(drawing, "device")

    assert set(known.machines) == set(machines)
    assert {str(one) for one in known.devices} == set(devices)
    assert all(area(machines[one]) == rounded(place) for one, place in known.machines.items())
    assert all(area(devices[str(one)]) == rounded(place) for one, place in known.devices.items())


def test_cables_begin_at_the_first_device_of_their_key() -> None:
    known = found(draw(built_in("kubenet")))

    assert set(known.cables) == set(draw(built_in("kubenet")).cables)
    for (one, _), points in known.cables.items():
        place = known.devices[one]
        assert place.x <= points[0][0] <= place.x + place.width
        assert min(abs(points[0][1] - place.y), abs(points[0][1] - place.y - place.height)) < 0.1
    assert cable(Interface("b", "eth0"), Interface("a", "eth0")) == (Interface("a", "eth0"), Interface("b", "eth0"))


def test_ports_lead_from_the_bridge() -> None:
    known = found(draw(built_in("kubenet")))

    assert {bridge.dev for bridge, _ in known.ports} == {"cbr0"}
    assert len(known.ports) == 3


def test_a_pod_that_is_drawn_as_a_number_is_where_the_number_is() -> None:
    lab = large(MAX_NODES + 1, 2)
    drawing = draw(lab)
    known = found(drawing)
    numbers = elements(drawing, "pods")

    assert set(known.machines) == {one.name for one in lab.machines}
    assert known.machines["p1-0"] == known.machines["p1-1"] != known.machines["p2-0"]
    assert area(numbers["node1"]) == rounded(known.machines["p1-0"])

"""The layout: no text overlaps another, everything is inside its box, and cables cross no text."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings, strategies

from labctl.core.resources import Interface
from labctl.drawing.from_lab import draw
from labctl.drawing.geometry import Layout
from labctl.drawing.layout import lay_out
from labctl.drawing.model import Box, Device, Drawing, Line
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from tests.support.drawings import (
    boxes_are_apart,
    built_in,
    cables_cross_no_text,
    large,
    lines_are_apart,
    texts_are_apart,
)

LABS = (*catalog.names(), "20 nodes", "20 nodes, all", "40 pods")


@cache
def layout(name: str) -> Layout:
    if name == "40 pods":
        return lay_out(draw(large(1, 40), everything=True))
    if name in LABS[-3:]:
        return lay_out(draw(large(20, 3), everything=name.endswith("all")))
    return lay_out(draw(built_in(name), everything=True))


@pytest.mark.parametrize("name", LABS)
def test_no_text_overlaps_another_and_none_leaves_its_box(name: str) -> None:
    texts_are_apart(layout(name))


@pytest.mark.parametrize("name", LABS)
def test_boxes_are_inside_their_box_and_beside_the_others(name: str) -> None:
    boxes_are_apart(layout(name))


@pytest.mark.parametrize("name", LABS)
def test_cables_cross_no_text(name: str) -> None:
    cables_cross_no_text(layout(name))


@pytest.mark.parametrize("name", LABS)
def test_every_cable_is_a_line_from_one_end_to_the_other(name: str) -> None:
    found = layout(name)
    chips = {chip.device.at: chip for frame in found.root.walk() for chip in frame.all_chips}
    cables = {wire.ends: wire for wire in found.wires if wire.kind in ("cable", "far")}

    assert {frozenset(ends) for ends in cables} == {frozenset(one) for one in found.drawing.cables}
    for ends, wire in cables.items():
        for end, (x, y) in zip(ends, (wire.points[0], wire.points[-1]), strict=True):
            chip = chips[end]
            assert chip.x <= x <= chip.x + chip.width or ends[0].ns == ends[1].ns
            assert chip.y <= y <= chip.y + chip.height or ends[0].ns == ends[1].ns


FAR = """\
name: far
model: raw
namespaces:
  h1: {role: host}
  h2: {role: host}
  c1: {role: container, on: h1}
  c2: {role: container, on: h2}
links:
  - veth: [c1/eth0, c2/eth0]
  - veth: [h1/eth0, h2/eth0]
  - veth: [h1/one, h1/two]
"""


def test_cables_across_boxes_and_in_one_machine_are_drawn() -> None:
    drawing = draw(parse_and_compile(FAR, "far.yaml")[1])
    wires = {wire.ends[0].dev + wire.ends[1].dev + wire.ends[0].ns: wire for wire in lay_out(drawing).wires}

    assert wires["eth0eth0c1"].kind == "far"
    assert len(wires["eth0eth0h1"].points) == 4, "two machines in one row: up, across, down"
    assert wires["onetwoh1"].kind == "cable"


@pytest.mark.parametrize("name", LABS)
def test_lines_with_different_ends_do_not_lie_on_each_other(name: str) -> None:
    lines_are_apart(layout(name))


@strategies.composite
def drawings(pick: strategies.DrawFn) -> Drawing:
    """Any drawing: machines with names of any length, some inside others, cables between any two of them, bridges."""
    names = [f"{'m' * pick(strategies.integers(1, 20))}{n}" for n in range(pick(strategies.integers(1, 7)))]
    leaves = [f"{'p' * pick(strategies.integers(1, 20))}{n}" for n in range(pick(strategies.integers(0, 6)))]
    nodes = {leaf: pick(strategies.sampled_from(names)) for leaf in leaves}
    every = [*names, *leaves]
    devices: dict[str, list[Device]] = {name: [] for name in every}
    cables = []
    for name in every:
        for number in range(pick(strategies.integers(0, 2))):
            devices[name].append(Device(Interface(name, f"br{number}"), "bridge", "bridge", (Line("192.0.2.1/24"),)))
    for number in range(pick(strategies.integers(0, 12))):
        ends = [pick(strategies.sampled_from(every)) for _ in range(2)]
        one, other = (Interface(name, f"v{side}{number}") for side, name in enumerate(ends))
        for end, far in ((one, other), (other, one)):
            master = pick(strategies.sampled_from([None, "br0"]))
            addresses = (Line("203.0.113.10/24"),) * pick(strategies.integers(0, 2))
            devices[end.ns].append(Device(end, "veth", "", addresses, master, far))
        cables.append((one, other))

    def box(name: str, role: str, boxes: tuple[Box, ...] = ()) -> Box:
        routes = (Line("default via 192.0.2.254 dev br0"),) * pick(strategies.integers(0, 2))
        return Box(name, role, tuple(devices[name]), boxes, routes=routes)

    roles = [pick(strategies.sampled_from(["node", "vm", "fabric", "machine"])) for _ in names]
    if roles.count("fabric") > 1:
        roles = [role if role != "fabric" else "node" for role in roles]
    inner = strategies.sampled_from(["pod", "namespace"])
    boxes = tuple(
        box(name, role, tuple(box(leaf, pick(inner)) for leaf in leaves if nodes[leaf] == name))
        for name, role in zip(names, roles, strict=True)
    )
    return Drawing("any", "raw", "", boxes, tuple(cables))


@settings(max_examples=500, deadline=None, derandomize=True)
@given(drawings())
def test_any_drawing_is_legible(drawing: Drawing) -> None:
    found = lay_out(drawing)

    texts_are_apart(found)
    boxes_are_apart(found)
    cables_cross_no_text(found)
    lines_are_apart(found)


def test_a_long_title_is_left_of_the_cables_from_above() -> None:
    fabric, vm = Interface("a-fabric-with-a-long-name", "vm"), Interface("vm", "eth0")
    boxes = (
        Box("vm", "vm", (Device(vm, "veth", peer=fabric),)),
        Box(fabric.ns, "fabric", (Device(fabric, "veth", peer=vm),)),
    )
    found = lay_out(Drawing("long", "raw", "", boxes, ((fabric, vm),)))

    cables_cross_no_text(found)
    boxes_are_apart(found)


def test_a_cable_between_two_rows_of_nodes_leaves_the_upper_one_at_its_bottom() -> None:
    ends = Interface("n1", "down"), Interface("n3", "up")
    wide = Device(Interface("any", "x" * 90), "bridge", "bridge")
    devices = {end.ns: Device(end, "veth", peer=far) for end, far in (ends, ends[::-1])}
    boxes = tuple(
        Box(name, "node", (wide, *([devices[name]] if name in devices else []))) for name in ("n1", "n2", "n3")
    )
    found = lay_out(Drawing("rows", "raw", "", boxes, (ends,)))
    rows = [[one.box.name for one in row if one.box is not None] for row in found.root.rows]

    assert rows == [["n1", "n2"], ["n3"]]
    assert len(found.wires[0].points) <= 4
    boxes_are_apart(found)

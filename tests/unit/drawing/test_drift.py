"""What differs in the kernel is marked in every format, with its word; nothing that differs is left out silently."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar
from xml.etree import ElementTree

import pytest

from labctl.core.diff import Change
from labctl.core.iptables import rule
from labctl.core.resources import Address, Chain, Interface, Link, Netns, Resource, Route, Sysctl
from labctl.drawing.dot import dot_lines
from labctl.drawing.from_lab import MAX_NODES, draw
from labctl.drawing.layout import lay_out
from labctl.drawing.mermaid import mermaid_lines
from labctl.drawing.model import Box, Drawing
from labctl.drawing.svg import svg_lines
from labctl.drawing.text import text_lines
from tests.support.drawings import (
    boxes_are_apart,
    built_in,
    cables_cross_no_text,
    large,
    lines_are_apart,
    texts_are_apart,
    without,
)

LAB = built_in("kubenet")
R = TypeVar("R", bound=Resource)


def find(kind: type[R], **values: Any) -> R:
    return next(
        one for one in LAB.plan if isinstance(one, kind) and all(getattr(one, key) == at for key, at in values.items())
    )


def found(drawing: Drawing, name: str) -> Box:
    return next(one for one in drawing.walk() if one.name == name)


def elements(drawing: Drawing, kind: str) -> dict[str, str | None]:
    """The state of every element of one kind in the SVG."""
    root = ElementTree.fromstring("\n".join(svg_lines(drawing)))
    return {str(one.get(f"data-{kind}")): one.get("data-state") for one in root.iter() if one.get(f"data-{kind}")}


def marked(states: dict[str, str | None]) -> dict[str, str | None]:
    return {name: state for name, state in states.items() if state}


def text(drawing: Drawing) -> str:
    return "\n".join(text_lines(drawing, 200, paint=lambda part: f"<{part}>"))


def test_without_differences_nothing_is_marked_and_the_drawing_says_so() -> None:
    drawing = draw(LAB, changes=())

    assert drawing.source == "compared with the kernel: no difference"
    assert drawing.source in text(drawing)
    assert drawing.legend == ()
    assert "<" not in text(drawing)
    assert draw(LAB).source == ""


def test_a_missing_device_is_struck_out_with_its_cable_and_its_routes() -> None:
    eth0, veth = find(Link, at=Interface("b", "eth0")), find(Link, peer=Interface("b", "eth0"))
    route, address = find(Route, ns="b"), find(Address, ns="b", at=eth0.at)
    drawing = draw(LAB, changes=without(eth0, veth, route, address))

    assert marked(elements(drawing, "device")) == {"b/eth0": "missing", str(veth.at): "missing"}
    assert marked(elements(drawing, "cable")) == {f"b/eth0 {veth.at}": "missing"}
    assert marked(elements(drawing, "port")) == {str(veth.at): "missing"}
    assert '<tspan class="gone">default via 10.244.0.1 dev eth0</tspan> (missing)' in "\n".join(svg_lines(drawing))
    assert "│ <eth0 (missing) 10.244.0.3/24>" in text(drawing)
    assert f"<└─ {veth.at.dev} (missing) ── b/eth0 (missing)>" in text(drawing)
    assert [line.state for line in drawing.legend] == ["missing"]


def test_a_device_that_is_down_breaks_its_cable() -> None:
    node = find(Link, at=Interface("fabric", "node1"))
    drawing = draw(LAB, changes=without(node, extra=[replace(node, up=False)]))

    assert marked(elements(drawing, "cable")) == {"fabric/node1 node1/eth0": "changed"}
    assert marked(elements(drawing, "device")) == {"fabric/node1": "changed"}
    assert "<node1 10.224.0.1/32  up is down, should be up  ── node1/eth0 (down)>" in text(drawing)
    assert "\n".join(svg_lines(drawing)).count('class="cross"') == 1


def test_a_port_that_left_its_bridge_is_not_joined_to_it() -> None:
    veth = find(Link, peer=Interface("a", "eth0"))
    drawing = draw(LAB, changes=without(veth, extra=[replace(veth, master=None)]))

    assert marked(elements(drawing, "port")) == {str(veth.at): "missing"}
    assert marked(elements(drawing, "cable")) == {}
    assert "master is none, should be cbr0" in text(drawing)


def test_what_is_not_planned_is_drawn() -> None:
    ends = Interface("node1", "x0"), Interface("internet", "x1")
    more = (
        Link(ends[0], "veth", ends[1]), Link(ends[1], "veth", ends[0]), Netns("rogue"),
        Address(Interface("a", "eth0"), ip_interface("10.9.9.9/24")),
        Route("a", ip_network("198.51.100.0/24"), ip_address("10.244.0.1"), "eth0"),
    )  # fmt: skip
    drawing = draw(LAB, changes=without(extra=more))

    assert marked(elements(drawing, "device")) == {"node1/x0": "extra", "internet/x1": "extra"}
    assert marked(elements(drawing, "cable")) == {"internet/x1 node1/x0": "extra"}
    assert marked(elements(drawing, "machine")) == {"rogue": "extra"}
    assert str(found(drawing, "a").routes[0]) == "198.51.100.0/24 via 10.244.0.1 dev eth0 (extra)"
    assert "10.9.9.9/24 (extra)" in text(drawing)
    assert "<rogue (namespace) (extra)>" in text(drawing)
    assert drawing.source == "compared with the kernel: 5 differences"


def test_a_changed_route_says_what_it_is() -> None:
    route = find(Route, ns="a")
    drawing = draw(LAB, changes=without(route, extra=[replace(route, via=ip_address("10.244.0.9"))]))
    line = found(drawing, "a").routes[0]

    assert str(line) == "default via 10.244.0.1 dev eth0 (via is 10.244.0.9, should be 10.244.0.1)"
    assert line.state == "changed"


def test_a_second_route_to_one_destination_is_additional() -> None:
    route = find(Route, ns="a")
    second = replace(route, via=ip_address("10.244.0.9"))
    drawing = draw(LAB, changes=(Change(None, second),))

    assert [one.state for one in found(drawing, "a").routes] == ["extra", ""]


def test_differences_that_have_no_place_in_the_drawing_are_lines_of_their_machine() -> None:
    forwarding = find(Sysctl, ns="node1", name="net.ipv4.ip_forward")
    chain = find(Chain, ns="node1", name="POSTROUTING")
    changes = without(
        forwarding,
        chain,
        extra=[replace(forwarding, value="0"), replace(chain, rules=(*chain.rules, rule("-j ACCEPT")))],
    )
    drawing = draw(LAB, changes=changes)

    assert found(drawing, "node1").differences == (
        "changed sysctl net.ipv4.ip_forward: value is 0, should be 1",
        "extra iptables -t nat -A POSTROUTING -j ACCEPT",
    )
    assert "<changed sysctl net.ipv4.ip_forward: value is 0, should be 1>" in text(drawing)


def test_a_machine_without_a_namespace_is_missing_with_all_that_it_has() -> None:
    lost = tuple(one for one in LAB.plan if one.ns == "vm")
    drawing = draw(LAB, changes=without(*lost))

    assert marked(elements(drawing, "machine")) == {"vm": "missing"}
    assert marked(elements(drawing, "device")) == {"vm/eth0": "missing"}
    assert marked(elements(drawing, "cable")) == {"fabric/vm vm/eth0": "missing"}
    assert found(drawing, "vm").differences == ()


def test_pods_that_differ_are_drawn_also_in_a_large_lab() -> None:
    lab = large(MAX_NODES + 1, 4)
    lost = next(one for one in lab.plan if isinstance(one, Route) and one.ns == "p1-0")
    drawing = draw(lab, changes=without(lost, lab=lab))

    assert found(drawing, "p1-0").routes[0].state == "missing"
    assert {one.name for one in found(drawing, "node1").boxes} == {"p1-0", "3 more pods"}
    assert {one.name for one in found(drawing, "node2").boxes} == {"4 pods"}


def test_many_pods_that_differ_are_counted() -> None:
    lab = large(MAX_NODES + 1, 20)
    lost = [one for one in lab.plan if isinstance(one, Route) and one.ns.startswith("p1-")]
    drawing = draw(lab, changes=without(*lost, lab=lab))
    rest = found(drawing, "node1").boxes[-1]

    assert (rest.name, rest.differences) == ("12 more pods", ("12 of them not as planned",))
    assert drawing.source == f"compared with the kernel: {len(lost)} differences"


def drifted() -> Drawing:
    eth0, veth = find(Link, at=Interface("b", "eth0")), find(Link, peer=Interface("b", "eth0"))
    node, route = find(Link, at=Interface("fabric", "node1")), find(Route, ns="a")
    chain = find(Chain, ns="node1", name="POSTROUTING")
    more = (Link(Interface("node2", "x0"), "bridge"), replace(node, up=False))
    return draw(LAB, changes=without(eth0, veth, node, route, chain, extra=more))


def test_a_drawing_with_differences_is_legible() -> None:
    layout = lay_out(drifted())

    for holds in (texts_are_apart, boxes_are_apart, cables_cross_no_text, lines_are_apart):
        holds(layout)


@pytest.mark.parametrize("width", [40, 80])
def test_colours_do_not_change_the_shape_of_the_text(width: int) -> None:
    plain = text_lines(drifted(), width)
    coloured = text_lines(drifted(), width, paint=lambda part: f"\x02{part}\x03")

    assert ["".join(line.replace("\x02", "").replace("\x03", "")) for line in coloured] == plain
    assert "\x02" in "".join(coloured)
    assert max(map(len, plain)) <= width
    assert not any("│\x03" in line or "\x02│" in line for line in coloured), "frames keep their colour"


def test_mermaid_and_dot_mark_it_too() -> None:
    assert any(line.startswith("  class d") and line.endswith(" drift") for line in mermaid_lines(drifted()))
    assert any('-- "node1/eth0" [color="red", style="dashed"]' in line for line in dot_lines(drifted()))
    for lines in (mermaid_lines(drifted()), dot_lines(drifted())):
        assert any("compared with the kernel: " in line for line in lines)
        assert any("eth0 (missing)" in line for line in lines)

"""The page of a drawing: one file that needs no other, with everything that the drawing has as a number."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import pytest

from labctl.core.resources import Route
from labctl.core.scenario_types import Lab
from labctl.drawing.from_lab import MANY_NODES, SOME_NODES, draw
from labctl.drawing.html import details, page_lines
from labctl.drawing.layout import lay_out
from labctl.drawing.model import Drawing
from tests.support.drawings import (
    boxes_are_apart,
    built_in,
    cables_cross_no_text,
    large,
    lines_are_apart,
    texts_are_apart,
    without,
)

VOID = {"meta"}


@cache
def lab(nodes: int, pods: int) -> Lab:
    return built_in("kubenet") if nodes == 2 else large(nodes, pods)


@cache
def page(nodes: int, pods: int) -> str:
    drawing = draw(lab(nodes, pods))
    return "\n".join(page_lines(drawing, details(lab(nodes, pods), drawing)))


class Balance(HTMLParser):
    """Every element that begins also ends, and the ids are unique."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.ids += [str(value) for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, tag


@pytest.mark.parametrize(("nodes", "pods"), [(2, 0), (1, 30), (20, 4), (40, 3)])
def test_the_page_is_balanced_and_needs_no_other_file(nodes: int, pods: int) -> None:
    text = page(nodes, pods)
    found = Balance(text)

    assert found.open == []
    assert len(found.ids) == len(set(found.ids))
    assert set(re.findall(r"https?://[^\s\"'<]+", text)) == {"http://www.w3.org/2000/svg"}
    assert not [tag for tag, _ in found.tags if tag in ("link", "img", "iframe", "object")]
    assert not [about for tag, about in found.tags if tag == "script" and about]
    assert "default-src 'none'" in text
    assert not re.search(r"\burl\(|@import|fetch\(|XMLHttpRequest", text)


@pytest.mark.parametrize(("nodes", "pods"), [(1, 30), (20, 4), (MANY_NODES + 6, 3)])
def test_everything_that_is_a_number_can_be_opened(nodes: int, pods: int) -> None:
    drawing = draw(lab(nodes, pods))
    parts = details(lab(nodes, pods), drawing)
    names = {box.name for one in (drawing, *parts.values()) for box in one.walk() if box.role != "summary"}
    numbers = {str(about["data-pods"]) for _, about in Balance(page(nodes, pods)).tags if "data-pods" in about}
    templates = {str(about["data-details"]) for tag, about in Balance(page(nodes, pods)).tags if tag == "template"}

    assert names == {one.name for one in lab(nodes, pods).machines}
    assert numbers == templates == set(parts) != set()


def test_of_very_many_nodes_some_are_drawn_first_those_that_differ() -> None:
    many = lab(MANY_NODES + 6, 3)
    lost = next(one for one in many.plan if isinstance(one, Route) and one.ns == f"node{MANY_NODES + 5}")
    names = [box.name for box in draw(many).boxes]
    drifted = [box.name for box in draw(many, changes=without(lost, lab=many)).boxes]

    assert f"{MANY_NODES + 6 - SOME_NODES} other nodes" in names
    assert sum(name.startswith("node") for name in names) == SOME_NODES
    assert lost.ns in drifted
    assert lost.ns not in names
    assert any(f"{MANY_NODES + 6 - SOME_NODES} nodes are drawn as their number" in one for one in draw(many).omissions)
    assert {box.name for box in draw(many, everything=True).walk()} == {one.name for one in many.machines}


def parts() -> Iterator[Drawing]:
    for nodes, pods in ((1, 30), (20, 4), (MANY_NODES + 6, 3)):
        yield from details(lab(nodes, pods), draw(lab(nodes, pods))).values()


def test_the_parts_are_legible() -> None:
    for part in parts():
        layout = lay_out(replace(part, name="", model=""), is_part=True)
        for holds in (texts_are_apart, boxes_are_apart, cables_cross_no_text, lines_are_apart):
            holds(layout)


def test_names_are_escaped() -> None:
    text = "\n".join(page_lines(replace(draw(lab(2, 0)), name="<b>&"), {}, ["<section></section>"]))

    assert "<title>lab &lt;b&gt;&amp;, model kubenet</title>" in text
    assert "<b>" not in text
    assert '<body class="below"' in text

"""Each format of a drawing: known texts for a few scenarios, and what holds for every built-in one."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from xml.etree import ElementTree

import pytest

import labctl
from labctl.core.resources import Address, Link
from labctl.core.scenario_types import Lab
from labctl.drawing import dot, mermaid
from labctl.drawing.dot import dot_lines
from labctl.drawing.from_lab import draw
from labctl.drawing.mermaid import mermaid_lines
from labctl.drawing.model import Drawing
from labctl.drawing.svg import svg_lines
from labctl.drawing.text import text_lines
from labctl.drawing.words import columns, wrap
from labctl.scenario import catalog
from tests.support.golden import Golden

FORMATS: dict[str, Callable[[Drawing], list[str]]] = {
    "text": text_lines,
    "svg": svg_lines,
    "mermaid": mermaid_lines,
    "dot": dot_lines,
}
NAMES = catalog.names()
KNOWN = ("kubenet", "docker-bridge", "calico-vxlan", "services", "raw-dual-stack")
QUOTED = r'"(?:[^"\\]|\\.)*"'


@cache
def lab(name: str) -> Lab:
    return labctl.load(name).compiled


@cache
def complete(name: str) -> Drawing:
    return draw(lab(name), everything=True)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", KNOWN)
def test_known_drawings(golden: Golden, name: str, form: str) -> None:
    golden(f"drawings/{name}.{form}").check("\n".join(FORMATS[form](draw(lab(name)))) + "\n")


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_every_machine_device_and_address_of_the_plan_is_drawn(name: str, form: str) -> None:
    text = " ".join(" ".join(FORMATS[form](complete(name))).replace("\\l", " ").split())
    devices = {item.at.dev for item in lab(name).plan if isinstance(item, Link) and item.kind != "loopback"}
    addresses = {str(item.addr) for item in lab(name).plan if isinstance(item, Address) and not item.addr.is_loopback}
    wanted = {machine.name for machine in lab(name).machines} | devices | addresses

    assert devices
    assert addresses
    assert [one for one in sorted(wanted) if not re.search(rf"(?<![\w.]){re.escape(one)}(?!\w)", text)] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_service_is_in_the_legend(name: str) -> None:
    for form in FORMATS.values():
        text = " ".join("\n".join(form(complete(name))).split())
        assert all(str(one.ips[0]) in text for one in lab(name).virtual_addresses if one.ips)


@pytest.mark.parametrize("width", [30, 80, 120])
@pytest.mark.parametrize("name", NAMES)
def test_text_keeps_its_width_and_every_frame_is_closed(name: str, width: int) -> None:
    lines = text_lines(complete(name), width)
    text = "".join(lines)
    boxes = sum(1 for _ in complete(name).walk())

    assert max(map(columns, lines)) <= width
    assert {text.count("┌"), text.count("┐"), text.count("┘")} == {boxes}


@pytest.mark.parametrize("name", KNOWN)
def test_plain_text_has_ascii_characters_only(name: str) -> None:
    unicode, plain = text_lines(complete(name)), text_lines(complete(name), ascii_only=True)

    assert "".join(plain).isascii()
    assert list(map(columns, unicode)) == list(map(columns, plain))


@pytest.mark.parametrize("name", NAMES)
def test_mermaid_is_balanced_and_every_label_is_quoted(name: str) -> None:
    lines = [line.strip() for line in mermaid_lines(complete(name))]
    rest = [re.sub(QUOTED, "Q", line) for line in lines[4:]]
    shape = r"subgraph \w+\[Q\]|end|\w+\[Q\]|\w+ --- \w+|\w+ -\. Q \.- \w+|classDef [\w ,:-]+|class [\w,]+ text"
    defined = [line.split("[")[0] for line in rest if re.fullmatch(r"\w+\[Q\]", line)]
    used = {word for line in rest if "--" in line or "-." in line for word in re.findall(r"\bd\d+\b", line)}

    assert [line for line in rest if not re.fullmatch(shape, line)] == []
    assert sum(line.startswith("subgraph") for line in rest) == rest.count("end") > 0
    assert len(defined) == len(set(defined))
    assert used <= set(defined)


@pytest.mark.parametrize("name", NAMES)
def test_dot_is_balanced_and_every_name_is_quoted(name: str) -> None:
    text = re.sub(QUOTED, "Q", "\n".join(dot_lines(complete(name))))

    assert text.count("{") == text.count("}") > 1
    assert '"' not in text
    assert set(re.findall(r"\w+", text)) <= {
        "graph", "subgraph", "node", "edge", "Q", "label", "labelloc", "fontname", "fontsize", "compound", "shape",
        "style", "constraint",
    }  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_svg_is_xml_with_a_title_and_a_description(name: str) -> None:
    root = ElementTree.fromstring("\n".join(svg_lines(complete(name))))
    space = "{http://www.w3.org/2000/svg}"
    described = root.findtext(f"{space}desc") or ""

    assert root.findtext(f"{space}title") == complete(name).title
    assert root.get("role") == "graphics-document document"
    assert [root.find(f".//*[@id='{one}']") is not None for one in (root.get("aria-labelledby") or "").split()] == [
        True
    ] * 2
    assert described.startswith(f"{len(lab(name).machines)} machine")
    assert len(root.findall(f"{space}polyline")) >= len(complete(name).cables)
    assert "prefers-color-scheme:dark" in (root.findtext(f"{space}style") or "")


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_a_page_finds_every_machine_device_and_cable_in_the_svg(name: str, everything: bool) -> None:
    drawing = draw(lab(name), everything=everything)
    every = list(ElementTree.fromstring("\n".join(svg_lines(drawing))).iter())
    boxes = list(drawing.walk())
    ids = [one.get("id") for one in every if one.get("id")]
    named = [
        one for one in every if {f"data-{kind}" for kind in ("machine", "device", "cable", "port")} & set(one.keys())
    ]

    def found(kind: str) -> list[str]:
        return sorted(value for one in every if (value := one.get(f"data-{kind}")) is not None)

    assert found("machine") == sorted(box.name for box in boxes if box.role != "summary")
    assert found("device") == sorted(str(device.at) for box in boxes for device in box.devices)
    assert found("cable") == sorted(f"{one} {other}" for one, other in drawing.cables)
    assert len(found("pods")) == sum(box.role == "summary" for box in boxes)
    assert len(ids) == len(set(ids)), "ids are unique"
    assert not any(set(one) & set(" \t") for one in ids if one and not one.startswith("cable-"))
    assert all(one.get("aria-label") and one.get("role") for one in named)


def test_characters_with_a_meaning_are_escaped() -> None:
    assert mermaid.quoted('a "b" <c> #1', "d`") == '"a #quot;b#quot; #lt;c#gt; #35;1<br/>d#96;"'
    assert dot.quoted('a "b" \\') == '"a \\"b\\" \\\\"'
    assert dot.quoted("a", "b") == '"a\\lb\\l"'


def test_lines_are_broken_between_words_and_only_if_necessary_inside() -> None:
    assert wrap("one two three", 8) == ["one two", "  three"]
    assert wrap("abcdefghij k", 4) == ["abcd", "  ef", "  gh", "  ij", "  k"]
    assert columns("日本 e\u0301") == 6

"""A drawing as one HTML page without other files: to zoom, to move, to print, to open what is a number. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from html import escape

from labctl.core.diff import Change
from labctl.core.scenario_types import Lab
from labctl.drawing.from_lab import draw
from labctl.drawing.layout import lay_out
from labctl.drawing.model import Box, Drawing
from labctl.drawing.page_script import SCRIPT
from labctl.drawing.svg import content_lines, svg_lines
from labctl.drawing.svg_style import DARK, LIGHT
from labctl.translation.language import current_language

POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
STYLE = f"""
:root{{color-scheme:light dark;--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--bad:#cf222e;--panel:#f6f8fa}}
@media (prefers-color-scheme:dark){{:root{{--page:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--bad:#ff7b72;
--panel:#161b22}}}}
:root[data-colours=light]{{color-scheme:light;--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--bad:#cf222e;
--panel:#f6f8fa}}:root[data-colours=light] .lab-drawing{{{LIGHT}}}
:root[data-colours=dark]{{color-scheme:dark;--page:#0d1117;--ink:#e6edf3;--soft:#9198a1;--line:#3d444d;--bad:#ff7b72;
--panel:#161b22}}:root[data-colours=dark] .lab-drawing{{{DARK}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--page);color:var(--ink);font:14px/1.5 system-ui,sans-serif}}
header{{display:none;gap:6px;flex-wrap:wrap;align-items:center;padding:8px 16px;border-bottom:1px solid var(--line);
background:var(--panel)}}
header span{{color:var(--soft);margin-left:8px}}
.script header{{display:flex}}
button{{font:inherit;padding:2px 10px;border:1px solid var(--line);border-radius:6px;background:var(--page);
color:var(--ink);cursor:pointer}}
button:hover{{border-color:var(--soft)}}
:focus-visible{{outline:2px solid #0969da;outline-offset:1px}}
.script main{{height:calc(100vh - 47px);overflow:hidden;touch-action:none;cursor:grab}}
.script main:active{{cursor:grabbing}}
.script main>svg.lab-drawing{{display:block;width:100%;height:100%;max-width:none}}
.script body.below main{{height:min(calc(100vh - 47px),max(260px,calc(min(100vw,var(--width)) * var(--shape))))}}
main text{{user-select:text}}
.opens,.close{{cursor:pointer}}.opens:hover rect,.close:hover rect{{stroke-width:2;stroke:var(--cable)}}
section{{padding:8px 24px 32px;max-width:1300px}}
h2{{font-size:16px;margin:16px 0 6px}}
table{{border-collapse:collapse;width:100%;font:12px/1.5 ui-monospace,"DejaVu Sans Mono",Menlo,Consolas,monospace}}
th,td{{text-align:left;vertical-align:top;padding:3px 10px 3px 0;border-top:1px solid var(--line)}}
caption{{text-align:left;font-weight:700;padding:12px 0 4px}}
th{{color:var(--soft);font-weight:400}}td.number{{white-space:nowrap}}td:last-child{{width:50%}}
.facts td:last-child{{width:90%}}
section .lost{{color:var(--bad)}}.soft{{color:var(--soft)}}td ul{{margin:0;padding:0;list-style:none}}
@media print{{@page{{size:landscape;margin:10mm}}header,.close{{display:none!important}}
:root,:root[data-colours]{{color-scheme:light;--page:#fff;--ink:#1f2328;--soft:#59636e;--line:#d1d9e0;--bad:#cf222e}}
:root[data-colours] .lab-drawing,.lab-drawing{{{LIGHT}}}
.script main,.script body.below main{{height:auto;overflow:visible}}
.script main>svg.lab-drawing{{width:100%;height:auto;max-height:180mm}}
section{{padding:0;max-width:none}}tr{{break-inside:avoid}}}}
""".strip()
BUTTONS = (
    ("in", "+", "zoom in"), ("out", "−", "zoom out"), ("fit", "whole", "show the whole drawing"),
    ("width", "width", "as wide as the window"),
    ("close", "close all", "close all open nodes"), ("colours", "colours: auto", "light or dark colours"),
)  # fmt: skip
HINT = "drag to move, ctrl and the wheel to zoom"


def page_lines(drawing: Drawing, details: Mapping[str, Drawing], below: Iterable[str] = ()) -> list[str]:
    """The page. `details` are drawings of what is drawn as a number, by `data-pods`; `below` is HTML below it."""
    return list(_lines(drawing, details, list(below)))


def details(lab: Lab, drawing: Drawing, changes: Iterable[Change] | None = None) -> dict[str, Drawing]:
    """What a drawing of this lab draws as a number, in full: of each node with such pods, and of the other nodes."""
    changes = None if changes is None else tuple(changes)
    found: dict[str, Drawing] = {}
    boxes = list(drawing.boxes)
    for one in drawing.boxes:
        if one.role == "summary":
            nodes = {machine.name for machine in lab.machines if machine.on is None and machine.name in one.members}
            others = draw(lab, changes=changes, focus=nodes)
            found[one.name] = _part(others, tuple(box for box in others.boxes if box.name in nodes))
            boxes += found[one.name].boxes
    complete = draw(lab, changes=changes, every_pod=True)
    known = {box.name: box for box in complete.walk()}
    for top in boxes:
        for box in top.walk():
            if any(one.role == "summary" for one in box.boxes):
                found[box.name] = _part(complete, (known[box.name],))
    return found


def _part(drawing: Drawing, boxes: tuple[Box, ...]) -> Drawing:
    """A drawing of some boxes, with the cables between them."""
    inside = {device.at for top in boxes for box in top.walk() for device in box.devices}
    cables = tuple(pair for pair in drawing.cables if inside.issuperset(pair))
    return Drawing(drawing.name, drawing.model, "", boxes, cables)


def _lines(drawing: Drawing, details: Mapping[str, Drawing], below: list[str]) -> Iterator[str]:
    yield "<!doctype html>"
    yield f'<html lang="{current_language()}"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
    yield f"<title>{escape(drawing.title)}</title>"
    yield f"<style>{STYLE}</style></head>"
    layout = lay_out(drawing)
    shape = (
        f' class="below" style="--width:{layout.width:.0f}px;--shape:{layout.height / layout.width:.3f}"'
        if below
        else ""
    )
    yield f"<body{shape}>"
    yield "<header>"
    for work, text, title in BUTTONS:
        yield f'<button type="button" data-work="{work}" title="{title}" aria-label="{title}">{text}</button>'
    yield f"<span>{HINT}</span></header>"
    yield '<main tabindex="0" aria-label="drawing of the lab">'
    yield from svg_lines(drawing)
    yield "</main>"
    yield from below
    for name, part in details.items():
        yield from _template(name, part)
    yield f"<script>{SCRIPT}</script>"
    yield "</body></html>"


def _template(name: str, drawing: Drawing) -> Iterator[str]:
    """A part that the script opens in the drawing: above the node that it is of, which covers it."""
    layout = lay_out(replace(drawing, name="", model=""), is_part=True)
    first = layout.root.rows[0][0]
    several = len(drawing.boxes) > 1
    x, y = (layout.root.x, layout.root.y) if several else (first.x, first.y)
    place = f'data-x="{x:.1f}" data-y="{y:.1f}"'
    yield f'<template data-details="{escape(name)}" {place}><svg xmlns="http://www.w3.org/2000/svg">'
    width, height = layout.root.width, layout.root.height
    if several:
        yield f'<rect class="f" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6"/>'
    for line in content_lines(layout):
        yield re.sub(r""" id=("[^"]*"|'[^']*')""", "", line)
    right = x + (width if several else first.width)
    yield (
        f'<g class="close" aria-label="close {escape(name)}"><rect class="c" x="{right - 24:.1f}" y="{y + 4:.1f}" '
        f'width="20" height="16" rx="3"/><text x="{right - 17.5:.1f}" y="{y + 16:.1f}">×</text></g>'
    )
    yield "</svg></template>"

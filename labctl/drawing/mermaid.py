"""A drawing as a Mermaid flowchart, for Markdown pages. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import Interface
from labctl.drawing.model import Box, Drawing

ENTITIES = {"#": "#35;", '"': "#quot;", "<": "#lt;", ">": "#gt;", "&": "#amp;", "`": "#96;", "\\": "#92;"}


def mermaid_lines(drawing: Drawing) -> list[str]:
    """The flowchart: a subgraph for each machine, a node for each device. Every label is quoted."""
    return list(_Flowchart(drawing).lines())


def quoted(*lines: str) -> str:
    """A label of one or more lines, with every character that has a meaning in Mermaid or HTML as an entity."""
    return '"' + "<br/>".join("".join(ENTITIES.get(one, one) for one in line) for line in lines) + '"'


class _Flowchart:
    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        devices = [device.at for box in drawing.walk() for device in box.devices]
        self.ids = {at: f"d{number}" for number, at in enumerate(devices)}
        self.boxes = 0
        self.texts: list[str] = []
        self.marked: list[str] = []  # what is not as planned

    def lines(self) -> Iterator[str]:
        drawing = self.drawing
        yield "---"
        yield f"title: {quoted(drawing.title)}"
        yield "---"
        yield "flowchart TB"
        for box in drawing.boxes:
            yield from self._subgraph(box, "  ")
        for one, other in drawing.cables:
            yield f"  {self.ids[one]} --- {self.ids[other]}"
        for box in drawing.walk():
            for device in box.devices:
                master = Interface(device.at.ns, device.master) if device.master else None
                if master in self.ids:
                    yield f"  {self.ids[master]} --- {self.ids[device.at]}"
        for tunnel in drawing.tunnels:
            one, other = tunnel.ends
            yield f"  {self.ids[one]} -. {quoted(tunnel.text)} .- {self.ids[other]}"
        if drawing.services:
            yield '  subgraph services["services"]'
            yield f"    services0[{quoted(*drawing.services)}]"
            yield "  end"
            self.texts.append("services0")
        texts = (*([drawing.source] if drawing.source else []), *map(str, drawing.legend), *drawing.omissions)
        if texts:
            yield f"  omissions0[{quoted(*texts)}]"
            self.texts.append("omissions0")
        if self.texts:
            yield "  classDef text text-align:left,stroke-dasharray:3 3"
            yield f"  class {','.join(self.texts)} text"
        if self.marked:
            yield "  classDef drift stroke:#cf222e,color:#cf222e"
            yield f"  class {','.join(self.marked)} drift"

    def _subgraph(self, box: Box, indent: str) -> Iterator[str]:
        number, self.boxes = self.boxes, self.boxes + 1
        yield f"{indent}subgraph m{number}[{quoted(box.title)}]"
        for device in box.devices:
            yield f"{indent}  {self.ids[device.at]}[{quoted(*device.lines)}]"
            if any(line.state for line in device.marked_lines):
                self.marked.append(self.ids[device.at])
        for one in box.boxes:
            yield from self._subgraph(one, indent + "  ")
        text = box.texts
        if text or not (box.devices or box.boxes):
            yield f"{indent}  t{number}[{quoted(*(text or (box.name,)))}]"
            self.texts.append(f"t{number}")
            if any(line.state for line in (*box.own_lines, *box.routes)):
                self.marked.append(f"t{number}")
        yield f"{indent}end"

"""A drawing in the DOT language of Graphviz: `labctl graph --as dot | dot -Tsvg`. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.resources import Interface
from labctl.drawing.model import Box, Drawing, line_state


def dot_lines(drawing: Drawing) -> list[str]:
    """The graph: a cluster for each machine, a node for each device. Every name and label is quoted."""
    return list(_lines(drawing))


def quoted(*lines: str) -> str:
    """A label; its lines end with `\\l`, so that they begin at the left."""
    return '"' + "".join(f"{_escaped(line)}\\l" if len(lines) > 1 else _escaped(line) for line in lines) + '"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _lines(drawing: Drawing) -> Iterator[str]:
    devices = {device.at: device for box in drawing.walk() for device in box.devices}
    yield f"graph {quoted(drawing.name)} {{"
    yield f'  graph [label={quoted(drawing.title)}, labelloc="t", fontname="monospace", compound="true"]'
    yield '  node [shape="box", fontname="monospace", fontsize="10"]'
    yield '  edge [fontname="monospace", fontsize="9"]'
    for box in drawing.boxes:
        yield from _cluster(box, box.name, "  ")
    for one, other in drawing.cables:
        state = line_state(devices[one], devices[other])
        broken = (
            ' [color="red", style="dashed"]' if state in ("missing", "changed") else ' [color="red"]' if state else ""
        )
        yield f"  {quoted(str(one))} -- {quoted(str(other))}{broken}"
    for box in drawing.walk():
        for device in box.devices:
            master = Interface(device.at.ns, device.master) if device.master else None
            if master in devices:
                yield f"  {quoted(str(master))} -- {quoted(str(device.at))}"
    for tunnel in drawing.tunnels:
        ends = " -- ".join(quoted(str(end)) for end in tunnel.ends)
        yield f'  {ends} [style="dashed", label={quoted(tunnel.text)}, constraint="false"]'
    texts = (*([drawing.source] if drawing.source else []), *map(str, drawing.legend), *drawing.omissions)
    for name, lines in (("services", drawing.services), ("omissions", texts)):
        if lines:
            yield f'  {quoted("text of " + name)} [shape="note", label={quoted(*lines, "")}]'
    yield "}"


def _cluster(box: Box, path: str, indent: str) -> Iterator[str]:
    yield f"{indent}subgraph {quoted(f'cluster {path}')} {{"
    yield f"{indent}  label={quoted(box.title)}"
    for device in box.devices:
        marked = any(line.state for line in device.marked_lines)
        red = ', color="red", fontcolor="red"' if marked else ""
        yield f"{indent}  {quoted(str(device.at))} [label={quoted(*device.lines)}{red}]"
    for number, one in enumerate(box.boxes):
        yield from _cluster(one, f"{path} {number} {one.name}", indent + "  ")
    text = box.texts
    if text or not (box.devices or box.boxes):
        red = ', fontcolor="red"' if any(line.state for line in (*box.own_lines, *box.routes)) else ""
        shown = quoted(*(text or (box.name,)), "")
        yield f'{indent}  {quoted(f"text of {path}")} [shape="plaintext", label={shown}{red}]'
    yield f"{indent}}}"

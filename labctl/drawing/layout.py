"""The places of everything in a drawing: a layered layout of boxes in rows, with cables in the gaps between. Pure.

From the top: machines outside, the fabric, the nodes in rows; in a node its devices, and below them its pods. A device
is a chip with lines of text: chips with a cable upwards stand at the top of their box, those with a cable downwards at
the bottom, bridges and tunnels between. Every text has its width from the number of its columns. A cable goes straight
down, or by a lane in the gap between two rows; to a row further below, it goes down between two boxes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil

from labctl.core.resources import Interface
from labctl.drawing.from_lab import LEAVES, MAX_NODES
from labctl.drawing.geometry import CHIP_PAD, COLUMN, LINE, PAD, TITLE_SCALE, Chip, Frame, Layout, Wire, text_width
from labctl.drawing.lanes import LANE, Span, free_place, from_above, is_below
from labctl.drawing.model import Box, Device, Drawing, Line, line_state, port_state
from labctl.drawing.words import wrap

GAP = 12.0  # between two boxes of a row
CHIP_GAP = 8.0  # between two chips
WIDE = 1500.0  # pixels that a row of nodes may take before the next row begins
WIDE_POD_ROW = 760.0  # pixels that a row of pods may take
LEAST_WIDTH = 460.0  # of a whole drawing: room for the title
MARGIN = 24.0  # around the whole drawing


def lay_out(drawing: Drawing, *, is_part: bool = False, wide: float = WIDE) -> Layout:
    """The layout of a drawing. One that is a part of something else has no title. `wide` is how many pixels a row of
    nodes may take before the next row begins."""
    return _Layouter(drawing, wide).layout(is_part)


class _Layouter:
    def __init__(self, drawing: Drawing, wide: float) -> None:
        self.drawing = drawing
        self.wide = wide
        self.devices = {device.at: device for box in drawing.walk() for device in box.devices}
        self.frames: dict[str, Frame] = {}
        self.chip_of: dict[Interface, Chip] = {}
        self.frame_of: dict[Interface, Frame] = {}
        self.peers = {one: other for pair in drawing.cables for one, other in (pair, pair[::-1])}
        self.cables_in: dict[int, list[tuple[Interface, Interface]]] = {}  # by the frame in which gaps they are
        self.steps: dict[Interface, list[tuple[int, float]]] = {}  # of a cable: gaps, and where it leaves each
        self.lane: dict[tuple[Interface, int], int] = {}
        self.root = Frame(None)
        self._make_frames(self.root, drawing.boxes)
        self.row_of = {id(one): n for frame in self.root.walk() for n, row in enumerate(frame.rows) for one in row}

    # ---- which box is in which row, which device on which side ------------------------------------------

    def _make_frames(self, parent: Frame, boxes: tuple[Box, ...]) -> None:
        by_rank: dict[int, list[Frame]] = {}
        for box in boxes:
            frame = Frame(box, parent, notes=_notes(box))
            self._make_frames(frame, box.boxes)
            self.frames[box.name] = frame
            by_rank.setdefault(self._rank(box, parent), []).append(frame)
        parent.rows = [by_rank[rank] for rank in sorted(by_rank)]

    def _rank(self, box: Box, parent: Frame) -> int:
        if parent.box is not None:
            return 1 if box.role in (*LEAVES, "summary") else 0
        if box.role == "fabric":
            return 1
        return 2 if box.boxes or box.role in ("node", "host", "summary") else 0

    def _chain(self, frame: Frame) -> list[Frame]:
        """The frame and all around it, from the outermost."""
        chain = [frame]
        while chain[0].parent is not None:
            chain.insert(0, chain[0].parent)
        return chain

    def _side(self, frame: Frame, device: Device) -> str:
        other = self.peers.get(device.at)
        if other is None and device.peer is not None and device.peer not in self.devices:
            return "top"  # its cable leads out of the part that is drawn
        if other is None or other.ns == device.at.ns:
            return "inner"
        far = self.frames[other.ns]
        if frame in self._chain(far):
            return "bottom"
        if far.parent is frame.parent:
            is_above = self.row_of[id(frame)] < self.row_of[id(far)]
            return "bottom" if is_above and not frame.rows else "top"  # below are the boxes inside it
        return "top"

    def _make_chips(self) -> None:
        for frame in self.root.walk():
            for device in frame.box.devices if frame.box is not None else ():
                chip = Chip(device, self._side(frame, device), 0.0, 0.0)
                chip.height = len(device.lines) * LINE + CHIP_PAD
                chip.width = text_width(device.lines) + 2 * CHIP_PAD
                frame.chips[chip.side].append(chip)
                self.chip_of[device.at], self.frame_of[device.at] = chip, frame
        for cable in self.drawing.cables:
            self.cables_in.setdefault(id(self._container(*cable)), []).append(cable)
        for one, other in self.drawing.cables:
            near, far = self.chip_of[one], self.chip_of[other]
            if self._is_direct(one, other) and max(map(len, self.root.rows), default=0) <= MAX_NODES:
                width = max(map(_width_without_path, (near.device, far.device)))
                near.width, far.width = max(near.width, width), max(far.width, width)

    def _is_direct(self, one: Interface, other: Interface) -> bool:
        """Whether a cable leads from a box to one in it or in a row beside."""
        here, there = self.frame_of[one], self.frame_of[other]
        return here is not there and (here.parent is there or there.parent is here or here.parent is there.parent)

    # ---- widths, from the inside ------------------------------------------------------------------------

    def _wrap_rows(self, frame: Frame) -> None:
        """Break rows that are too wide: into columns of equal number."""
        most = self.wide if frame.box is None else min(self.wide, WIDE_POD_ROW)
        rows = []
        for row in frame.rows:
            total = sum(one.width + GAP for one in row)
            parts = ceil(total / most)
            length = ceil(len(row) / parts)
            rows += [row[start : start + length] for start in range(0, len(row), length)]
        frame.rows = rows
        self.row_of.update({id(one): number for number, row in enumerate(rows) for one in row})
        for one, _ in self._cables(frame):  # of two boxes that were in one row, the upper one has its end at the bottom
            chip, upper = self.chip_of[one], self.frame_of[one]
            side = self._side(upper, chip.device)
            if side != chip.side:
                upper.chips[chip.side].remove(chip)
                upper.chips[side].append(chip)
                chip.side = side
                self._measure(upper)

    def _measure(self, frame: Frame) -> None:
        for row in frame.rows:
            for one in row:
                self._measure(one)
        self._wrap_rows(frame)
        for row in frame.rows:
            widest_box = max(one.width for one in row)
            if widest_box < 1.3 * min(one.width for one in row):
                for one in row:
                    one.width = widest_box
        gap = self._gutter(frame)
        inner = max((sum(one.width + gap for one in row) - gap for row in frame.rows), default=0.0)
        inner += self._passes(frame) * LANE + GAP if len(frame.rows) > 1 else 0
        chips = {side: sum(one.width + CHIP_GAP for one in found) - CHIP_GAP for side, found in frame.chips.items()}
        notes = text_width(frame.notes)
        first = frame.chips["top"][0].width / 2 if frame.chips["top"] else 0.0
        shift = max(0.0, frame.title_width + CHIP_GAP - first) if frame.chips["top"] else 0.0
        beside = self._beside(frame)
        below = 0.0 if beside else notes
        top = chips["top"] + shift + beside
        frame.width = max(inner, top, chips["inner"], chips["bottom"], frame.title_width, below) + 2 * PAD

    def _beside(self, frame: Frame) -> float:
        """The width that the lines of text take at the right of the chips."""
        return text_width(frame.notes) + 2 * PAD if frame.notes and self._notes_place(frame) == "right" else 0.0

    def _passes(self, frame: Frame) -> int:
        """How many cables go past a row of boxes."""
        ends = (
            (self.chip_of[one], self._row(one, frame), self._row(other, frame)) for one, other in self._cables(frame)
        )
        return sum(lower - upper > (start.side != "top") for start, upper, lower in ends)

    def _gutter(self, frame: Frame) -> float:
        return GAP + (2 * LANE * (len(frame.rows) - 1) if len(frame.rows) > 1 and self._passes(frame) else 0.0)

    def _container(self, one: Interface, other: Interface) -> Frame | None:
        """The frame in which gaps a cable is drawn; None if it leads across more than one frame."""
        here, there = self.frame_of[one], self.frame_of[other]
        if not self._is_direct(one, other):
            return None
        if there.parent is here:
            return here
        return there if here.parent is there else here.parent

    def _row(self, at: Interface, container: Frame) -> int:
        frame = self.frame_of[at]
        return -1 if frame is container else self.row_of[id(frame)]

    def _notes_place(self, frame: Frame) -> str:
        if frame.rows or not frame.chips["bottom"]:
            return "below"
        return "right" if frame.chips["top"] else "above"

    # ---- x, from the outside -----------------------------------------------------------------------------

    def _place_x(self, frame: Frame) -> None:
        gap = self._gutter(frame)
        for row in frame.rows:
            total = sum(one.width + gap for one in row) - gap
            room = frame.width - 2 * PAD
            only = row[0]
            if frame.box is None and only.box is not None and only.box.role == "fabric" and len(row) == 1:
                total = only.width = max(only.width, room)
            x = frame.x + PAD + (max(0.0, (room - total) / 2) if len(frame.rows) < 2 or frame.box is None else 0.0)
            for one in row:
                one.x = x
                x += one.width + gap
                self._place_x(one)
        self._flow(frame, frame.chips["inner"])
        self._flow(frame, frame.chips["top"], after_title=True)

    def _flow(self, frame: Frame, chips: list[Chip], *, after_title: bool = False) -> None:
        x = frame.x + PAD
        for number, chip in enumerate(chips):
            if after_title and not number:
                x = max(x, frame.x + PAD + frame.title_width + CHIP_GAP - chip.width / 2)
            chip.x = x
            x += chip.width + CHIP_GAP

    def _align(self, frame: Frame, side: str) -> None:
        """Put the chips of one side above or below the other ends of their cables, as far as there is room."""
        chips = frame.chips[side]
        wanted = {id(chip): self._wanted(chip, number) for number, chip in enumerate(chips)}
        chips.sort(key=lambda chip: wanted[id(chip)])
        least = frame.x + PAD
        most = frame.x + frame.width - PAD - (self._beside(frame) if side == "top" else 0.0)
        if side == "top" and chips:
            least = max(least, least + frame.title_width + CHIP_GAP - chips[0].width / 2)
        self._sweep(chips, wanted, least, most)

    def _align_inner(self, frame: Frame) -> None:
        """Put each bridge in the middle of its ports, the other devices beside them."""
        chips = frame.chips["inner"]
        ports = {
            chip.device.at.dev: [
                o.middle for o in frame.all_chips if o.device.master == chip.device.at.dev and o.side != "inner"
            ]
            for chip in chips
        }
        middles = {one: sum(found) / len(found) for one, found in ports.items() if found}
        if not middles:
            return
        last = 0.0
        wanted = {}
        for chip in chips:  # a device without ports stands behind the one before it
            last = wanted[id(chip)] = middles.get(chip.device.at.dev, last + 1e-6)
        chips.sort(key=lambda chip: wanted[id(chip)])
        self._sweep(chips, wanted, frame.x + PAD, frame.x + frame.width - PAD)

    def _straighten(self) -> None:
        """Move the lower end of each cable that is nearly straight."""
        for one, other in self.drawing.cables:
            upper, lower = sorted((self.chip_of[one], self.chip_of[other]), key=lambda chip: chip.side == "top")
            if self._is_direct(one, other) and abs(upper.middle - lower.middle) <= CHIP_GAP / 2:
                lower.x += upper.middle - lower.middle

    def _sweep(self, chips: list[Chip], wanted: dict[int, float], least: float, most: float) -> None:
        """Place chips side by side between two bounds, each as near to its wanted middle as those before it allow."""
        x = least
        for chip in chips:
            chip.x = max(x, wanted[id(chip)] - chip.width / 2)
            x = chip.x + chip.width + CHIP_GAP
        x = most
        for chip in reversed(chips):
            chip.x = min(chip.x, x - chip.width)
            x = chip.x - CHIP_GAP

    def _wanted(self, chip: Chip, number: int) -> float:
        other = self.peers.get(chip.device.at)
        if other is None:
            return chip.middle
        far = self.chip_of[other]
        return far.middle + number * 1e-6 + 1e-3 * self.row_of.get(id(self.frame_of[other]), 0)

    # ---- y, from the top ---------------------------------------------------------------------------------

    def _place_y(self, frame: Frame, y: float) -> None:
        frame.y = y
        y += 4 if frame.box is None else LINE + 8
        place = self._notes_place(frame)
        if frame.notes and place == "above":
            frame.notes_at = (frame.x + PAD, y)
            y += len(frame.notes) * LINE + 4
        sides = [side for side in ("top", "inner", "bottom") if frame.chips[side]]
        for number, side in enumerate(sides):
            if number:
                y += self._buses(frame, sides[number - 1], side)
            for chip in frame.chips[side]:
                chip.y = y
            height = max(chip.height for chip in frame.chips[side])
            if side == "top" and place == "right":
                last = max(chip.x + chip.width for chip in frame.chips["top"])
                frame.notes_at = (last + 2 * PAD, y)
                height = max(height, len(frame.notes) * LINE)
            y += height
            frame.bottoms[side] = y
        if sides[-1:] == ["inner"] and any(chip.device.master for chip in frame.chips["inner"]):
            y += self._buses(frame, "inner", "inner")
        frame.gaps = []
        for number, row in enumerate(frame.rows):
            lanes = frame.lanes.get(number, 0)
            frame.gaps.append(y)
            y += 10 + LANE * (lanes + 1) if lanes else 16.0 if sides or number else 0.0
            for one in row:
                self._place_y(one, y)
            height = max(one.height for one in row)
            for one in row:
                one.height = height
            y += height
        if frame.notes and place == "below":
            if sides or frame.rows:  # a packet's path turns below devices
                y += 14 if self.drawing.path and not frame.rows else 6
            frame.notes_at = (frame.x + PAD, y)
            y += len(frame.notes) * LINE
        frame.height = y + PAD - frame.y

    def _buses(self, frame: Frame, above: str, below: str) -> float:
        """The height of the gap between two rows of chips: room for one lane for each bridge with ports there."""
        masters = {chip.device.master for side in (above, below) for chip in frame.chips[side] if chip.device.master}
        return 10 + LANE * len(masters) if masters and "inner" in (above, below) else 10.0

    def _cables(self, frame: Frame) -> list[tuple[Interface, Interface]]:
        """The cables in the gaps of a frame, each from the upper row to the lower one; those to far rows first."""
        found = []
        for one, other in self.cables_in.get(id(frame), ()):
            found.append((one, other) if self._row(one, frame) <= self._row(other, frame) else (other, one))
        return sorted(found, key=lambda pair: (-self._row(pair[1], frame), self.chip_of[pair[1]].middle))

    def _route(self, frame: Frame) -> None:
        """Find the way of each cable in a frame: where it goes down past each row, and its lane in each gap."""
        passed: dict[tuple[int, int], int] = {}
        spans: dict[int, list[Span]] = {}
        for one, other in self._cables(frame):
            upper, lower = self._row(one, frame), self._row(other, frame)
            start, end = self.chip_of[one].middle, self.chip_of[other].middle
            x, steps = start, []
            for gap in range(upper if self.chip_of[one].side == "top" else upper + 1, lower + 1):
                target = end if gap == lower else self._slot(frame, gap, end, passed)
                steps.append((gap, target))
                if abs(target - x) > 1e-2 or upper == lower:
                    spans.setdefault(gap, []).append((x, target, one, gap == upper))
                x = target
            self.steps[one] = steps
        for gap, found in spans.items():
            ends: list[float] = []  # of each lane, where its last cable ends
            for span in from_above(found):
                # a cable that goes down where another one comes down takes a lane above that one
                begin, end, one, _ = span
                above = [self.lane.get((other[2], gap), -1) for other in found if is_below(span, other)]
                least = max(above, default=-1) + 1
                left, right = min(begin, end), max(begin, end)
                lane = next((n for n in range(least, len(ends)) if ends[n] + LANE < left), max(len(ends), least))
                ends += [0.0] * (lane + 1 - len(ends))
                ends[lane] = right
                self.lane[one, gap] = lane
            frame.lanes[gap] = len(ends)

    # ---- lines -------------------------------------------------------------------------------------------

    def _wires(self) -> Iterator[Wire]:
        for frame in self.root.walk():
            yield from self._ports(frame)
            for one, other in self._cables(frame):
                yield self._cable(tuple(self._points(frame, one, other)), "cable", one, other)
        for one, other in self.drawing.cables:
            if one.ns != other.ns and self._container(one, other) is None:
                near, far = self.chip_of[one], self.chip_of[other]
                yield self._cable(((near.middle, near.y), (far.middle, far.y)), "far", one, other)
            elif one.ns == other.ns:
                near, far = sorted((self.chip_of[one], self.chip_of[other]), key=lambda chip: chip.x)
                y = near.y + near.height / 2
                yield self._cable(((near.x + near.width, y), (far.x, y)), "cable", one, other)

    def _cable(self, points: tuple[tuple[float, float], ...], kind: str, one: Interface, other: Interface) -> Wire:
        return Wire(points, kind, (one, other), line_state(self.devices[one], self.devices[other]))

    def _points(self, frame: Frame, one: Interface, other: Interface) -> Iterator[tuple[float, float]]:
        start, end = self.chip_of[one], self.chip_of[other]
        x = start.middle
        yield (x, start.y if start.side == "top" else start.y + start.height)
        for gap, target in self.steps[one]:
            if (one, gap) in self.lane:
                y = frame.gaps[gap] + 4 + LANE * (self.lane[one, gap] + 1)
                yield (x, y)
                yield (target, y)
            x = target
        yield (end.middle, end.y)

    def _slot(self, frame: Frame, row: int, near: float, passed: dict[tuple[int, int], int]) -> float:
        """Where a cable goes past a row: between the two boxes, or behind the last one, that are nearest to `near`."""
        boxes = frame.rows[row]
        begins = [one.x + one.width for one in boxes]
        room = [(after.x - begin - 4) // LANE for begin, after in zip(begins, boxes[1:], strict=False)]
        free = [number for number, most in enumerate(room) if passed.get((row, number), 0) < most]
        chosen = min([*free, len(boxes) - 1], key=lambda number: abs(begins[number] - near))
        passed[row, chosen] = passed.get((row, chosen), 0) + 1
        return begins[chosen] + 2 + LANE * passed[row, chosen]

    def _ports(self, frame: Frame) -> Iterator[Wire]:
        """From the bridges of a box to their ports, by a lane for each bridge."""
        for number, (bridge, ports) in enumerate(_bridges(frame)):
            foreign = [chip.middle for other, found in _bridges(frame) if other is not bridge for chip in found]
            stem = free_place(bridge, foreign)
            for chip in ports:
                ends = (bridge.device.at, chip.device.at)
                below = bridge.side != "top" and bridge.y >= chip.y and chip.side != bridge.side
                y = frame.bottoms[chip.side if below else bridge.side] + 6 + LANE * number
                bridge_y = bridge.y if below else bridge.y + bridge.height
                chip_y = chip.y + chip.height if below or chip.side == bridge.side else chip.y
                points = ((stem, bridge_y), (stem, y), (chip.middle, y), (chip.middle, chip_y))
                yield Wire(points, "port", ends, port_state(bridge.device, chip.device))

    # ---- all together ------------------------------------------------------------------------------------

    def layout(self, is_part: bool) -> Layout:
        self._make_chips()
        self._measure(self.root)
        self.root.x = MARGIN - PAD
        self._place_x(self.root)
        for frame in reversed(list(self.root.walk())):
            self._align(frame, "bottom")
        for frame in self.root.walk():
            if frame.box is not None and frame.box.role == "fabric":
                self._align(frame, "top")
        self._straighten()
        for frame in self.root.walk():
            self._align_inner(frame)
        for frame in self.root.walk():
            self._route(frame)
        ends = [one.x + one.width for one in self.root.walk()] + [x for way in self.steps.values() for _, x in way]
        width = max(self.root.width, *ends, 0.0 if is_part else LEAST_WIDTH) + 2 * MARGIN - PAD
        room = int((width - 2 * MARGIN) / COLUMN)
        titles = [Line(part) for part in wrap(self.drawing.title, int(room / TITLE_SCALE), "")]
        texts = [Line(text) for text in (self.drawing.say, self.drawing.source) if text]
        head = [*titles, *(part for line in (*texts, *self.drawing.verdict) for part in _wrapped(line, room))]
        if is_part:
            head = []
        self._place_y(self.root, MARGIN + len(head) * (LINE + 3))
        services = [Line(part) for one in self.drawing.services for part in wrap(one, room)]
        blocks = [
            [*self.drawing.path_legend, *self.drawing.legend],
            [Line("services"), *services] if services else [],
            [Line(part) for one in self.drawing.omissions for part in wrap(one, room)],
        ]
        foot = [line for block in blocks if block for line in (Line(""), *block)][1:]
        foot_y = self.root.y + self.root.height + 4
        height = foot_y + len(foot) * LINE + MARGIN
        return Layout(
            self.drawing, self.root, tuple(self._wires()), tuple(head), tuple(foot), MARGIN, foot_y, width, height
        )  # fmt: skip


def _bridges(frame: Frame) -> list[tuple[Chip, list[Chip]]]:
    """The devices of a box that have ports, each with its ports."""
    ports: dict[str, list[Chip]] = {}
    for chip in frame.all_chips:
        if chip.device.master is not None:
            ports.setdefault(chip.device.master, []).append(chip)
    return [(chip, ports[chip.device.at.dev]) for chip in frame.all_chips if chip.device.at.dev in ports]


def _width_without_path(device: Device) -> float:
    lines = device.marked_lines
    return text_width(lines[: len(lines) - len(device.path_lines)]) + 2 * CHIP_PAD


def _wrapped(line: Line, room: int) -> list[Line]:
    """A line as lines that have room."""
    return [replace(line, text=part) for part in wrap(line.text, room, "")]


def _notes(box: Box) -> list[Line]:
    return [*box.own_lines, *box.route_lines]

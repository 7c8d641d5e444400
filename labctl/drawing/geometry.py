"""Places of what a drawing consists of, in pixels, and the size of texts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from labctl.core.resources import Interface
from labctl.drawing.model import Box, Device, Drawing, Line, State
from labctl.drawing.words import columns, widest

COLUMN = 7.0  # pixels of one column of text at 11 pixels; monospaced fonts have 0.6 of their size, some round it up
LINE = 14.0  # pixels from one line of text to the next
PAD = 10.0  # between a frame and what is in it
CHIP_PAD = 6.0  # between the frame of a chip and its text
TITLE_SCALE = 13 / 11  # the titles of boxes are larger than other texts


def text_width(lines: Iterable[str | Line]) -> float:
    """The pixels that the widest line takes."""
    return widest(map(str, lines)) * COLUMN


@dataclass(slots=True)
class Chip:
    """A device: its place, and where it is in its box: at the top, in the middle, at the bottom."""

    device: Device
    side: str
    width: float
    height: float
    x: float = 0.0
    y: float = 0.0

    @property
    def middle(self) -> float:
        return self.x + self.width / 2


@dataclass(slots=True)
class Frame:
    """A box: its place, its chips, the rows of boxes in it, and its lines of text. The root has no box."""

    box: Box | None
    parent: Frame | None = None
    chips: dict[str, list[Chip]] = field(default_factory=lambda: {"top": [], "inner": [], "bottom": []})
    rows: list[list[Frame]] = field(default_factory=list)
    notes: list[Line] = field(default_factory=list)
    x: float = 0.0
    y: float = 0.0
    width: float = 0.0
    height: float = 0.0
    lanes: dict[int, int] = field(default_factory=dict)  # the number of lanes in the gap above each row
    notes_at: tuple[float, float] = (0.0, 0.0)
    gaps: list[float] = field(default_factory=list)  # the upper end of the gap above each row
    bottoms: dict[str, float] = field(default_factory=dict)  # the lower end of each row of chips

    @property
    def title_width(self) -> float:
        return columns(self.box.title) * COLUMN * TITLE_SCALE if self.box is not None else 0.0

    @property
    def all_chips(self) -> Iterator[Chip]:
        for side in ("top", "inner", "bottom"):
            yield from self.chips[side]

    def walk(self) -> Iterator[Frame]:
        """The frame and all frames in it."""
        yield self
        for row in self.rows:
            for one in row:
                yield from one.walk()


@dataclass(frozen=True, slots=True)
class Wire:
    """A line through points. `kind` is cable, port (of a bridge) or far (a cable that goes straight across boxes)."""

    points: tuple[tuple[float, float], ...]
    kind: str
    ends: tuple[Interface, Interface]
    state: State = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing with the places of everything, in pixels. `head` and `foot` are lines of text above and below."""

    drawing: Drawing
    root: Frame
    wires: tuple[Wire, ...]
    head: tuple[Line, ...]
    foot: tuple[Line, ...]
    head_y: float
    foot_y: float
    width: float
    height: float

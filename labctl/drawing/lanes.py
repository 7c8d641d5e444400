"""Which of the cables in a gap between two rows goes above which, and where a line leaves a device. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from labctl.core.resources import Interface
from labctl.drawing.geometry import CHIP_PAD, Chip

LANE = 8.0  # between two cables side by side

# a cable in a gap: from where and to where it goes, its upper end, and whether it comes up from the row below
Span: TypeAlias = tuple[float, float, Interface, bool]


def free_place(chip: Chip, taken: list[float]) -> float:
    """Where a line leaves a chip: its middle, or as near to it as no other line comes down."""
    steps = sorted(range(-3, 4), key=abs)
    places = [chip.middle + step * LANE for step in steps if abs(step * LANE) < chip.width / 2 - CHIP_PAD]
    return next((x for x in places if all(abs(x - other) >= LANE / 2 for other in taken)), chip.middle)


def _near(one: float, other: float) -> bool:
    """Whether two lines look like one."""
    return abs(one - other) < LANE / 2


def is_below(span: Span, other: Span) -> bool:
    """Whether a cable comes down where another one goes down to its lane."""
    downs = [span[1], span[0]] if span[3] else [span[1]]
    return span[2] != other[2] and not other[3] and any(_near(x, other[0]) for x in downs)


def from_above(spans: list[Span]) -> Iterator[Span]:
    """Cables of one gap from the left, but first those that go down where others come down."""
    left = sorted(spans, key=lambda span: min(span[:2]))
    begins = {span[2]: [other[2] for other in left if is_below(span, other)] for span in left}
    done: set[Interface] = set()
    while left:
        chosen = next((span for span in left if done.issuperset(begins[span[2]])), left[0])
        left.remove(chosen)
        done.add(chosen[2])
        yield chosen

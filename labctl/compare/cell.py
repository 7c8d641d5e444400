"""One answer in a comparison's table, as data: words for people, values for programs, and what they rest on. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from labctl.core.resources import IP

State: TypeAlias = Literal["measured", "absent", "inconclusive", "skipped"]


@dataclass(frozen=True, slots=True)
class Cell:
    """An answer. `absent` means that the lab has nobody to ask, `inconclusive` that evidence was lost, and then `text`
    says so; a guess is never made.

    `address` is the raw address behind a word, `number` a count, a TTL, bytes, microseconds or Gbit/s, `ratio` that
    relative to the first lab, `counts` numbers by what they count; `evidence` are sentences.
    """

    text: str
    state: State = "measured"
    address: IP | None = None
    number: float | None = None
    ratio: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()


def absent(why: str) -> Cell:
    """There is nobody to ask, or nothing to ask about."""
    return Cell(f"({why})", "absent")


def inconclusive(why: str, evidence: tuple[str, ...] = ()) -> Cell:
    """Something was asked, and what is needed for an answer was lost."""
    return Cell(f"inconclusive: {why}", "inconclusive", evidence=evidence)

"""One answer in a comparison's table: the text for people, the values for programs, and the evidence. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from labctl.core.resources import IP

State: TypeAlias = Literal["measured", "absent", "inconclusive", "skipped"]


@dataclass(frozen=True, slots=True)
class Cell:
    """An answer. `absent` means that the lab has no machine for the question, `inconclusive` that evidence was lost;
    in both cases `text` gives the reason. An answer is never a guess.

    `address` is the address behind a word in `text`. `number` is a count, a TTL, bytes, microseconds or Gbit/s, and
    `ratio` is `number` relative to the first lab. `counts` has numbers by what they count. `evidence` are sentences.
    """

    text: str
    state: State = "measured"
    address: IP | None = None
    number: float | None = None
    ratio: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()


def absent(reason: str) -> Cell:
    """The cell of a question that this lab has no machine for."""
    return Cell(f"({reason})", "absent")


def inconclusive(reason: str, evidence: tuple[str, ...] = ()) -> Cell:
    """The cell of a question that was asked, but without enough evidence for an answer."""
    return Cell(f"inconclusive: {reason}", "inconclusive", evidence=evidence)

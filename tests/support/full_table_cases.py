"""Traces while the machine's neighbour table is full: which entries exist before, the probe, and what is reported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import GOLDEN
from tests.support.trace_cases import ROAD

FULL_TABLES = GOLDEN / "full_tables"
# the lab of two routers, with a namespace that holds the entries that fill the table
LAB = ROAD.replace("h2]\nlinks:", "h2, full]\nlinks:\n  - {veth: [full/v, full/w]}")
ADDRESSES = {
    4: {"h1": "10.1.0.2", "r1h": "10.1.0.1", "r1r": "10.9.0.1", "r2r": "10.9.0.2", "r2h": "10.2.0.1", "h2": "10.2.0.2"},
    6: {
        "h1": "2001:db8:1::2",
        "r1h": "2001:db8:1::1",
        "r1r": "2001:db8:9::1",
        "r2r": "2001:db8:9::2",
        "r2h": "2001:db8:2::1",
        "h2": "2001:db8:2::2",
    },
}
# (namespace, device, neighbour) of each entry on the way from h1 to h2 and back, and the neighbour's device
WAY = (
    ("h1", "eth0", "r1h", "r1/h1"),
    ("r1", "r2", "r2r", "r2/r1"),
    ("r2", "h2", "h2", "h2/eth0"),
    ("h2", "eth0", "r2h", "r2/h2"),
    ("r2", "r1", "r1r", "r1/r2"),
    ("r1", "h1", "h1", "h1/eth0"),
)


@dataclass(frozen=True)
class FullTableCase:
    """The first `known` entries of the way are permanent; with `asking`, the next one exists, without an answer so far.
    Then the table is filled, the probe is sent, and `node` is reported as the machine without an entry."""

    name: str
    version: int
    known: int
    node: str
    place: str
    options: str = ""
    asking: bool = False

    @property
    def probe(self) -> str:
        """The probe as the command line takes it."""
        return f"h1 {ADDRESSES[self.version]['h2']}{self.options}"

    @property
    def file(self) -> Path:
        """The recording."""
        return FULL_TABLES / f"{self.name}.json"


CASES = (
    FullTableCase("source-4", 4, 0, "h1", "never left h1"),
    FullTableCase("router-4", 4, 1, "r1", "entering r1/h1"),
    FullTableCase("reply-4", 4, 3, "h2", "reply never left h2"),
    FullTableCase("asked-4", 4, 2, "h2", "entering r2/r1", asking=True),
    FullTableCase("source-6", 6, 0, "h1", "never left h1"),
    FullTableCase("source-tcp-6", 6, 0, "h1", "never left h1", " --tcp 80"),
    FullTableCase("router-6", 6, 2, "r2", "entering r2/r1"),
    FullTableCase("reply-6", 6, 3, "h2", "reply never left h2"),
    FullTableCase("router-of-reply-6", 6, 5, "r1", "entering r1/r2"),
    FullTableCase("asked-6", 6, 2, "h2", "entering r2/r1", asking=True),
)

"""A check as text, for plans: its sentence, its probe, and what must be seen."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.probe_kinds import probe_kind
from labctl.core.scenario_types import Check, See


def check_lines(check: Check) -> Iterator[str]:
    """A check's sentence, then its probe and what must be seen."""
    yield check.say
    yield f"    {probe_kind(check).plan_line(check)}"
    yield from (f"    {see_text(see)}" for see in check.sees)


def see_text(see: See) -> str:
    """What must be seen (or not) at a device, in the syntax of a scenario file."""
    names = ("src", "dst", "sport", "ttl", "encap", "outer_src", "outer_dst", "direction")
    conditions = [f"{name} {value}" for name in names if (value := getattr(see, name)) is not None]
    conditions += [f"packet {see.packet}"] if see.packet != "request" else []
    return " ".join(
        [("not see at " if see.negate else "see at ") + str(see.at) + ":", ", ".join(conditions) or "anything"]
    )

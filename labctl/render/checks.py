"""A check as text, for plans: its sentence, its probe, and what must be seen."""

from __future__ import annotations

from collections.abc import Iterator

from labctl.core.scenario_types import Check, See
from labctl.core.topology import probe_text


def check_lines(check: Check) -> Iterator[str]:
    """A check's sentence, then its probe and what must be seen."""
    yield check.say
    if check.probe in ("taken", "cni"):
        yield f"    {probe_text(check)}"
        return
    if check.probe == "mesh":
        pairs = sum(len(sources) * len(targets) - len({*sources} & {*targets}) for sources, targets in check.groups)
        yield f"    mesh of {len(check.groups)} group{'s' if len(check.groups) != 1 else ''}, {pairs} pairs"
        return
    port = "" if check.port is None else f":{check.port}"
    port += "" if check.size is None else f", size {check.size}"
    expect = "" if check.expect == "reply" else f", expect {check.expect}"
    answered = "" if check.server is None else f", answered by {check.server[0]}:{check.server[1]}"
    yield f"    {check.probe} {check.source} -> {check.target}{port}{answered}{expect}"
    yield from (f"    {see_text(see)}" for see in check.sees)


def see_text(see: See) -> str:
    """What must be seen (or not) at a device, in the syntax of a scenario file."""
    names = ("src", "dst", "ttl", "encap", "outer_src", "outer_dst", "direction")
    conditions = [f"{name} {value}" for name in names if (value := getattr(see, name)) is not None]
    conditions += [f"packet {see.packet}"] if see.packet != "request" else []
    return " ".join(
        [("not see at " if see.negate else "see at ") + str(see.at) + ":", ", ".join(conditions) or "anything"]
    )

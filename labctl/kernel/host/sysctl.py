"""Who may ping without privileges (net.ipv4.ping_group_range), where not every group exists.

"0 2147483647" is every group. In a user namespace the kernel takes only groups that are mapped there, so that
every group is the range of those; it is written and read as that, and means the same.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

NAME, EVERYONE = "net.ipv4.ping_group_range", "0 2147483647"


def written(name: str, value: str) -> str:
    """What to write to a setting that is to have this value."""
    return f"0 {last()}" if name == NAME and value == EVERYONE else value


def meant(name: str, value: str) -> str:
    """What a setting's value means."""
    return EVERYONE if name == NAME and value == f"0 {last()}" else value


@cache
def last() -> int:
    """The last group there is, counted from 0 without a gap."""
    end = 0
    for line in sorted(Path("/proc/self/gid_map").read_text().splitlines(), key=lambda text: int(text.split()[0])):
        first, _, count = map(int, line.split())
        if first > end:
            break
        end = first + count
    return min(end - 1, 2147483647)

"""net.ipv4.ping_group_range (the groups that may ping without privileges) in a user namespace.

The value "0 2147483647" means every group. In a user namespace the kernel accepts only groups that are mapped there. So
"every group" is written and read there as the range of the mapped groups.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

NAME, ALL_GROUPS = "net.ipv4.ping_group_range", "0 2147483647"


def to_kernel(name: str, value: str) -> str:
    """What to write to a sysctl so that it has this value."""
    return f"0 {last()}" if name == NAME and value == ALL_GROUPS else value


def from_kernel(name: str, value: str) -> str:
    """What a sysctl's value means, in the form that plans use."""
    return ALL_GROUPS if name == NAME and value == f"0 {last()}" else value


@cache
def last() -> int:
    """The last group of the range of mapped groups that starts with 0."""
    end = 0
    for line in sorted(Path("/proc/self/gid_map").read_text().splitlines(), key=lambda text: int(text.split()[0])):
        first, _, count = map(int, line.split())
        if first > end:
            break
        end = first + count
    return min(end - 1, 2147483647)

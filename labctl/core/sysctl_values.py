"""When two texts are the same value of a sysctl: the kernel reads `0x10` and shows 16."""

from __future__ import annotations

import re

_BASES = {"0x": 16, "0X": 16}
_NUMBER = re.compile(r"-?(0[xX][0-9a-fA-F]+|[0-9]+)")


def same_value(one: str, other: str) -> bool:
    """Whether two texts stand for one value: the same words, where numbers may be decimal, octal (010) or hexadecimal
    (0x8), as the kernel's `proc_dointvec` reads them, and any space separates them."""
    return one == other or [*map(_word, one.split())] == [*map(_word, other.split())]


def _word(text: str) -> int | str:
    if not _NUMBER.fullmatch(text):
        return text
    digits = text.lstrip("-")
    base = _BASES.get(digits[:2], 8 if digits.startswith("0") and set(digits) <= set("01234567") else 10)
    return int(digits, base) * (-1 if text.startswith("-") else 1)

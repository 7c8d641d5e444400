"""The width of texts, in columns of a font in which all characters have one width. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable


def columns(text: str) -> int:
    """The columns that a text takes: wide characters (such as Japanese) take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(one) else 1 + (unicodedata.east_asian_width(one) in "WF") for one in text)


def widest(texts: Iterable[str]) -> int:
    """The columns of the widest text, 0 without any."""
    return max(map(columns, texts), default=0)


def wrap(text: str, width: int, indent: str = "  ") -> list[str]:
    """A text as lines of at most `width` columns, broken between words, and inside a word only if it is wider than a
    line. The lines after the first begin with `indent`."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1].strip() else lines[-1] + word
        if columns(longer) > width and lines[-1].strip():
            lines.append(indent)
            longer = indent + word
        while columns(longer) > width:
            cut = next(at for at in range(len(longer), 0, -1) if columns(longer[:at]) <= width or at == 1)
            lines[-1], longer = longer[:cut], indent + longer[cut:]
            lines.append("")
        lines[-1] = longer
    return lines

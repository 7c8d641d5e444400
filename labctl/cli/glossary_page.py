"""The page docs/glossary.md, in the installed package or in the source tree."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from labctl.explanation.glossary import Entry, parse


@cache
def entries() -> tuple[Entry, ...]:
    """The entries of the glossary; none if its page is not installed."""
    here = Path(__file__).resolve().parent.parent
    for folder in (here / "docs", here.parent / "docs"):
        try:
            return parse((folder / "glossary.md").read_text(encoding="utf-8"))
        except OSError:
            continue
    return ()

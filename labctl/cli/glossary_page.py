"""The page docs/glossary.md, or glossary.ja.md in Japanese, in the installed package or in the source tree."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from labctl.explanation.glossary import Entry, parse
from labctl.translation.language import ORIGINAL


@cache
def entries(language: str = ORIGINAL) -> tuple[Entry, ...]:
    """The entries of the glossary in a language, else in English; none if its page is not installed."""
    here = Path(__file__).resolve().parent.parent
    for name in ("glossary.md",) if language == ORIGINAL else (f"glossary.{language}.md", "glossary.md"):
        for folder in (here / "docs", here.parent / "docs"):
            try:
                return parse((folder / name).read_text(encoding="utf-8"))
            except OSError:
                continue
    return ()

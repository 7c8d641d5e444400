"""README.ja.md is README.md in Japanese: the same commands, output, links and options, section by section."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.doc_pages import blocks
from tests.support.paths import ROOT

ENGLISH, JAPANESE = ROOT / "README.md", ROOT / "README.ja.md"
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")


def prose(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def sections(text: str) -> list[tuple[str, str]]:
    """The level of each heading (`##`), and the text below it."""
    parts = re.split(r"^(#+) .*\n", prose(text), flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def code(text: str) -> set[str]:
    """The commands, options and names that a text has in backticks."""
    return set(re.findall(r"`([^`]+)`", text))


def links(text: str) -> list[str]:
    """The pages that the links of a text lead to, without README itself and its headings."""
    return sorted(target.partition("#")[0] for target in LINK.findall(text) if not target.startswith(("#", "README")))


def in_japanese(page: str) -> str:
    """The page that the Japanese README leads to instead: the page in Japanese, if there is one."""
    japanese = page.replace(".md", ".ja.md")
    return japanese if (ROOT / japanese).exists() else page


def anchors(page: Path) -> set[str]:
    """What a link can have after its #, as GitHub makes it from the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


ENGLISH_SECTIONS, JAPANESE_SECTIONS = sections(ENGLISH.read_text()), sections(JAPANESE.read_text())


def test_both_have_the_same_code_blocks() -> None:
    assert [block.text for block in blocks(JAPANESE)] == [block.text for block in blocks(ENGLISH)]


def test_both_have_the_same_headings() -> None:
    assert [level for level, _ in JAPANESE_SECTIONS] == [level for level, _ in ENGLISH_SECTIONS]


@pytest.mark.parametrize("number", range(len(ENGLISH_SECTIONS)))
def test_a_section_names_the_same_things_and_leads_to_the_same_pages(number: int) -> None:
    english, japanese = ENGLISH_SECTIONS[number][1], JAPANESE_SECTIONS[number][1]

    assert code(japanese) == code(english)
    assert links(japanese) == sorted(map(in_japanese, links(english)))
    assert japanese.count("\n- ") == english.count("\n- ")


def test_both_have_the_same_table_of_verbs() -> None:
    rows = [re.findall(r"^\| (`labctl.*?`) \|", page.read_text(), re.MULTILINE) for page in (ENGLISH, JAPANESE)]

    assert len(rows[0]) > 20
    assert rows[0] == rows[1]


def test_a_link_to_a_heading_leads_there() -> None:
    targets = [target.partition("#") for target in LINK.findall(prose(JAPANESE.read_text()))]
    broken = [(page, name) for page, _, name in targets if name and name not in anchors(ROOT / (page or JAPANESE))]

    assert len([name for _, _, name in targets if name]) > 5
    assert broken == []


def test_each_leads_to_the_other() -> None:
    assert "[日本語](README.ja.md)" in ENGLISH.read_text()
    assert "[English](README.md)" in JAPANESE.read_text()

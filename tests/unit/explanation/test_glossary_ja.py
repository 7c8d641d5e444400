"""The Japanese glossary: equal to the English one in its words, their order and its examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.cli.glossary_page import entries
from labctl.explanation.glossary import Entry, find

DOCS = Path(__file__).resolve().parents[3] / "docs"
INDEX = re.compile(r"^\[([^\]]+)\]\(#", re.MULTILINE)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)


def page(language: str) -> str:
    return (DOCS / {"en": "glossary.md"}.get(language, f"glossary.{language}.md")).read_text(encoding="utf-8")


def index(language: str) -> list[str]:
    """The words of the list at the top of a page."""
    return [word for text in INDEX.findall(page(language).partition("\n##")[0]) for word in text.split(", ")]


def found(entry: Entry) -> Entry | None:
    """The Japanese entry of the first English word."""
    return find(entries("ja"), entry.terms[0])


def test_every_english_word_leads_to_an_entry_of_its_own_place() -> None:
    japanese = entries("ja")

    assert [found(entry) for entry in entries()] == list(japanese)
    for entry, other in zip(entries(), japanese, strict=True):
        lost = [word for word in entry.terms if "," not in word and find(japanese, word) is not other]
        assert lost == [], other.title


def test_the_index_has_the_same_words_in_the_same_order() -> None:
    english, japanese = index("en"), index("ja")

    assert [word for word in japanese if word in english] == english


def test_every_title_is_a_word_of_the_page_and_every_link_leads_to_a_title() -> None:
    anchors = {re.sub(r"[^\w -]", "", entry.title.lower()).replace(" ", "-") for entry in entries("ja")}

    assert set(re.findall(r"\]\(#([^)]+)\)", page("ja"))) == anchors


def test_the_examples_are_the_same() -> None:
    assert BLOCK.findall(page("ja")) == BLOCK.findall(page("en"))
    for entry, other in zip(entries(), entries("ja"), strict=True):
        codes = [set(re.findall(r"\d+(?:\.\d+){3}|veth\w{4,}", " ".join(one.paragraphs))) for one in (entry, other)]
        assert codes[0] == codes[1], other.title


def test_the_text_of_every_entry_is_japanese_and_its_lines_are_joined_without_blanks() -> None:
    for entry in entries("ja"):
        prose = [text for text in entry.paragraphs if not text.startswith("    ")]
        assert re.search(r"[ぁ-んァ-ン]", prose[0]), entry.title
        if entry.title != "三つの法則":  # its list is one paragraph, with a blank between the entries
            assert not re.search(r"[ぁ-ん、。] [ぁ-んァ-ン一-龥]", "\n".join(prose)), entry.title


@pytest.mark.parametrize(
    ("words", "title"), [("ブリッジ", "ブリッジ"), ("bridges", "ブリッジ"), ("pod-cidr", "Pod CIDR")]
)
def test_a_term_is_found_in_both_languages(words: str, title: str) -> None:
    entry = find(entries("ja"), words)
    assert entry is not None
    assert entry.title == title


def test_a_language_without_a_page_has_the_english_one() -> None:
    assert entries("eo") == entries()

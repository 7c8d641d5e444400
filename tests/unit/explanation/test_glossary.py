"""The glossary as data: every entry of the page, found by each of its words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from labctl.cli.glossary_page import entries
from labctl.explanation.glossary import find, parse, suggestion, terms

PAGE = (Path(__file__).resolve().parents[3] / "docs/glossary.md").read_text(encoding="utf-8")
INDEX = PAGE.partition("\n##")[0]


def test_every_entry_of_the_page_is_there_with_its_text() -> None:
    assert [one.title for one in entries()] == re.findall(r"^### (.+)$", PAGE, re.MULTILINE)
    assert all(one.paragraphs and all(len(text) > 20 for text in one.paragraphs) for one in entries())


def test_every_word_of_the_index_leads_to_an_entry() -> None:
    words = [part.strip() for text in re.findall(r"^\[([^\]]+)\]\(#", INDEX, re.MULTILINE) for part in text.split(",")]
    assert len(words) > 40
    assert [word for word in words if find(entries(), word) is None] == []


def test_no_mark_of_markdown_is_left() -> None:
    for entry in entries():
        for text in entry.paragraphs:
            assert not re.search(r"\]\(|```|(?<!\w)\*\w", text), f"{entry.title}: {text}"


@pytest.mark.parametrize(
    ("words", "title"),
    [
        ("masquerade", "Masquerade"),
        ("MASQUERADE", "Masquerade"),
        ("pod cidr", "Pod CIDR"),
        ("pod-cidr", "Pod CIDR"),
        ("pods", "Pod"),
        ("snat", "SNAT and DNAT"),
        ("underlay", "Overlay and underlay"),
        ("rp_filter", "rp_filter"),
        ("rp-filter", "rp_filter"),
        ("laws", "The three laws"),
        ("NAT", "SNAT and DNAT"),
        ("kube-proxy", "kube-proxy"),
        ("MTU", "MTU"),
        ("promiscuous", "Promiscuous mode"),
    ],
)
def test_a_term_is_found_as_people_write_it(words: str, title: str) -> None:
    entry = find(entries(), words)
    assert entry is not None
    assert entry.title == title


def test_a_mistyped_term_gets_a_suggestion() -> None:
    assert find(entries(), "masqerade") is None
    assert suggestion(entries(), "masqerade") == "did you mean masquerade?"
    assert suggestion(entries(), "zzz") == ""
    assert "masquerade" in terms(entries())


def test_links_and_code_of_a_page() -> None:
    page = (
        "# Words\n\n[one](#one) ·\n[first, 1](#one)\n\n### One\n\nA *word*, see [two](#two) and `x`.\nMore.\n\n"
        "```console\n$ ls\na\n```\n\nEnd.\n\n## Next\n\n### Two\n\nIt is.\n"
    )
    one, two = parse(page)

    assert (one.title, one.terms) == ("One", ("one", "first", "1", "One"))
    assert one.paragraphs == ("A word, see two and x. More.", "    $ ls\n    a", "End.")
    assert one.see_also == ("two",)
    assert (two.title, two.paragraphs) == ("Two", ("It is.",))

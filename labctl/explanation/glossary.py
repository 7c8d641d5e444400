"""The glossary, docs/glossary.md or its translation, as entries: what `labctl explain masquerade` prints."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from labctl.core.names import did_you_mean
from labctl.core.text import joined_lines

_INDEX = re.compile(r"^\[([^\]]+)\]\(#([\w-]+)\)", re.MULTILINE)
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry: its title, the words that name it, and its paragraphs; a paragraph of several lines is a console."""

    title: str
    terms: tuple[str, ...]
    paragraphs: tuple[str, ...]
    see_also: tuple[str, ...] = ()


def parse(page: str) -> tuple[Entry, ...]:
    """The entries of the page, in its order. Each has its title and the words of the index that lead to it."""
    words: dict[str, list[str]] = {}
    index, _, _ = page.partition("\n##")
    for word, anchor in _INDEX.findall(index):
        words.setdefault(anchor, []).extend(part.strip() for part in word.split(","))
    found = []
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        title, _, rest = section.partition("\n")
        body = re.split(r"^## ", rest, flags=re.MULTILINE)[0].strip()
        anchor = re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")
        terms = tuple(dict.fromkeys((*words.get(anchor, ()), title)))
        links = [target for _, target in _LINK.findall(body) if target.startswith("#")]
        titles = tuple(dict.fromkeys(link[1:].replace("-", " ") for link in links))
        found.append(Entry(title, terms, tuple(_paragraphs(body)), titles))
    return tuple(found)


def find(entries: Sequence[Entry], words: str) -> Entry | None:
    """The entry of a term, without regard to capital letters, dashes and a plural; None if there is none."""
    wanted = _plain(words)
    by_term = {_plain(term): entry for entry in entries for term in entry.terms}
    return by_term.get(wanted) or by_term.get(wanted.removesuffix("s"))


def suggestion(entries: Sequence[Entry], words: str) -> str:
    """The term that is most similar, as a hint; "" if none is similar."""
    return did_you_mean(words.lower(), [term.lower() for entry in entries for term in entry.terms])


def terms(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Every term in lower case."""
    return tuple(dict.fromkeys(term.lower() for entry in entries for term in entry.terms))


def _plain(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text.strip().lower())


def _paragraphs(body: str) -> list[str]:
    """The paragraphs without the marks of Markdown; a code block is one paragraph with its lines."""
    found, code = [], False
    for part in re.split(r"\n\n|(?=^```)|(?<=^```)$", body, flags=re.MULTILINE):
        text = part.strip("\n")
        if text.startswith("```"):
            code = not code
            text = text.partition("\n")[2]
        if not text.strip():
            continue
        found.append("\n".join(f"    {line}" for line in text.splitlines()) if code else _words(text))
    return found


def _words(text: str) -> str:
    plain = re.sub(r"(?<![\w`])\*([^*]+)\*", r"\1", _LINK.sub(r"\1", text))
    return joined_lines(plain.replace("`", ""))

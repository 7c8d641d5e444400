"""Sentences in English that can be said in another language: a template, and the values of its placeholders. Pure.

    sentence("{node} has no route to {dst}", node="node1", dst=ip)

is the text "node1 has no route to 10.0.0.9", and everything that works with texts works with it. A report that uses
another language looks up the template in a catalogue of gettext and fills in the values again. The template is the id
of the sentence there, so it must be a literal: `scripts/translations` collects them.

A text that was put together by other means (an f-string, `+`, a slice) is a plain text, and stays English.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any, Protocol


class Catalog(Protocol):
    """What knows the sentences of a language, as `gettext.NullTranslations` does."""

    def gettext(self, message: str, /) -> str: ...
    def ngettext(self, one: str, many: str, number: int, /) -> str: ...


class Sentence(str):
    """A sentence in English, with its template and values. `many` is the template for more than one, "" if the number
    does not matter; then `number` decides between both."""

    template: str
    values: Mapping[str, Any]
    many: str
    number: int

    __slots__ = ("many", "number", "template", "values")

    def __new__(cls, template: str, values: Mapping[str, Any], many: str = "", number: int = 1) -> Sentence:
        chosen = template if not many or number == 1 else many
        self = super().__new__(cls, chosen.format_map(values) if values else chosen)
        self.template, self.values, self.many, self.number = template, values, many, number
        return self

    def __getnewargs__(self) -> tuple[Any, ...]:  # for pickle and copy
        return self.template, self.values, self.many, self.number

    def in_language(self, catalog: Catalog) -> str:
        """The sentence in the language of a catalog; values that are sentences, too. What the catalog does not know
        stays English."""
        if self.many:
            template = catalog.ngettext(self.template, self.many, self.number)
        else:
            template = catalog.gettext(self.template)
        if not self.values:
            return template
        return template.format_map({name: _translated(value, catalog) for name, value in self.values.items()})


def sentence(template: str, /, **values: Any) -> Sentence:
    """A sentence. `template` is a literal with placeholders as in `str.format`: `{node}`, `{seconds:g}`. A brace is
    written twice if there are values, once if there are none."""
    return Sentence(template, values)


def sentence_n(one: str, many: str, number: int, /, **values: Any) -> Sentence:
    """A sentence that depends on a number: `one` for 1, else `many`. The placeholder `{number}` is the number."""
    return Sentence(one, {"number": number, **values}, many, number)


def joined(separator: str, parts: Iterable[Any]) -> Sentence:
    """Sentences and other values as one text, each said in its language: `a, b, c`."""
    values = {f"part{at}": part for at, part in enumerate(parts)}
    escaped = separator.replace("{", "{{").replace("}", "}}")
    return Sentence(escaped.join(f"{{{name}}}" for name in values), values)


def all_of(parts: Iterable[Any]) -> Sentence:
    """`a`, `a and b`, `a and b and c`. The parts must not be empty."""
    return reduce(lambda first, last: sentence("{first} and {last}", first=first, last=last), *_pairs(parts))


def one_of(parts: Iterable[Any]) -> Sentence:
    """`a`, `a or b`, `a or b or c`. The parts must not be empty."""
    return reduce(lambda first, last: sentence("{first} or {last}", first=first, last=last), *_pairs(parts))


def listed(parts: Iterable[Any]) -> Sentence:
    """`a`, `a and b`, `a, b and c`. The parts must not be empty."""
    *first, last = parts
    return all_of([in_a_row(first), last] if first else [last])


def in_a_row(parts: Iterable[Any]) -> Sentence:
    """`a, b, c`, with the comma of the language. The parts must not be empty."""
    return reduce(lambda first, last: sentence("{first}, {last}", first=first, last=last), *_pairs(parts))


def _pairs(parts: Iterable[Any]) -> tuple[list[Any], Sentence]:
    """The parts after the first one, and the first one as a sentence: what `reduce` begins with."""
    first, *others = parts
    return others, first if isinstance(first, Sentence) else joined("", [first])


def _translated(value: Any, catalog: Catalog) -> Any:
    """A value in the language of a catalog: a sentence, or the `sentence` of an object."""
    said = value if isinstance(value, Sentence) else getattr(value, "sentence", None)
    return said.in_language(catalog) if isinstance(said, Sentence) else value

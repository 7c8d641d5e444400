"""Sentences that can be said in another language."""

from __future__ import annotations

import copy
import json
import pickle
from gettext import NullTranslations

import pytest

from labctl.core.sentence import Sentence, all_of, in_a_row, joined, listed, one_of, sentence, sentence_n

LOST = sentence("{node} lost {what}", node="c1", what=sentence_n("{number} frame", "{number} frames", 3))


KNOWN = {
    "{node} lost {what}": "{what} were lost by {node}", "{number} frames": "frames: {number}", "a": "A",
    "{first} and {last}": "{last} and before it {first}", "{first} or {last}": "{first} | {last}",
    "{first}, {last}": "{first}; {last}",
}  # fmt: skip


class Catalogue(NullTranslations):
    def gettext(self, message: str) -> str:
        return KNOWN.get(message, message)

    def ngettext(self, msgid1: str, msgid2: str, n: int) -> str:
        return self.gettext(msgid1 if n == 1 else msgid2)


def test_a_sentence_is_its_english_text() -> None:
    assert LOST == "c1 lost 3 frames"
    assert sentence("100 % of {it}") == "100 % of {it}"
    assert json.dumps([LOST]) == '["c1 lost 3 frames"]'


@pytest.mark.parametrize(("number", "text"), [(0, "0 frames"), (1, "1 frame"), (2, "2 frames")])
def test_the_number_chooses_the_words(number: int, text: str) -> None:
    assert sentence_n("{number} frame", "{number} frames", number) == text


def test_a_sentence_and_the_sentences_in_it_are_said_in_another_language() -> None:
    assert LOST.in_language(Catalogue()) == "frames: 3 were lost by c1"


def test_parts_are_joined_and_each_is_said() -> None:
    text = joined(" {or} ", [sentence("a"), 2, "a"])

    assert text == "a {or} 2 {or} a"
    assert text.in_language(Catalogue()) == "A {or} 2 {or} a"
    assert joined(", ", []) == ""


@pytest.mark.parametrize(
    ("made", "english", "said"),
    [
        (all_of("a"), "a", "a"),
        (all_of([sentence("a")]), "a", "A"),
        (all_of(["x", sentence("a"), 3]), "x and a and 3", "3 and before it A and before it x"),
        (one_of([sentence("a"), "y", "z"]), "a or y or z", "A | y | z"),
        (in_a_row(["x", sentence("a"), "y"]), "x, a, y", "x; A; y"),
        (listed("x"), "x", "x"),
        (listed(["x", "y"]), "x and y", "y and before it x"),
        (listed([sentence("a"), "y", "z"]), "a, y and z", "z and before it A; y"),
    ],
)
def test_names_in_a_row_are_said(made: Sentence, english: str, said: str) -> None:
    assert (made, made.in_language(Catalogue())) == (english, said)


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda text: pickle.loads(pickle.dumps(text))])
def test_a_copy_can_still_be_said(again: object) -> None:
    assert callable(again)
    copied = again(LOST)

    assert isinstance(copied, Sentence)
    assert (copied, copied.in_language(Catalogue())) == (LOST, LOST.in_language(Catalogue()))

"""The language of a process: which one the user wants, and what a text is in it."""

from __future__ import annotations

from gettext import NullTranslations

import pytest

from labctl.core.sentence import sentence
from labctl.translation import language


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [("LANG", "ja_JP.UTF-8", "ja"), ("LANG", "C.UTF-8", "en"), ("LC_ALL", "de", "de"), ("LABCTL_LANG", "pt_BR", "pt")],
)
def test_the_language_is_that_of_the_locale(
    variable: str, value: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in language.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, value)

    assert language.chosen_language() == expected
    assert language.chosen_language("fr") == "fr"


def test_a_language_without_a_catalogue_is_english() -> None:
    language.use("xx")

    assert language.current_language() == "en"
    assert language.gettext(sentence("{node} is up", node="c1")) == "c1 is up"


def test_a_text_is_said_in_the_language_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    class Reversed(NullTranslations):
        def gettext(self, message: str) -> str:
            return {"{node} is up": "up is {node}", "drift": "tfird"}.get(message, message)

    monkeypatch.setattr(language, "_catalog", Reversed())

    assert language.gettext(sentence("{node} is up", node="c1")) == "up is c1"
    assert language.gettext("drift") == "tfird"
    assert language.gettext("") == ""
    assert language.gettext("unknown") == "unknown"

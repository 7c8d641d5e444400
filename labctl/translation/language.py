"""The language of what this process prints for its user. English needs no catalogue and reads no file.

The command line calls `use` once. Reports call `gettext` for each text that they print; documents for programs
(`--json`) stay English, so that a program reads the same on every machine.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from labctl.core.sentence import Catalog, Sentence

ORIGINAL = "en"
DOMAIN = "labctl"
DIRECTORY = Path(__file__).with_name("locale")  # ja/LC_MESSAGES/labctl.po, and labctl.mo that is made of it
CODE = re.compile(r"[a-z]{2,3}(?=[_.@-]|$)")  # the language in the name of a locale
VARIABLES = ("LABCTL_LANG", "LC_ALL", "LC_MESSAGES", "LANG")

_catalog: Catalog | None = None
_code = ORIGINAL


def chosen_language(given: str | None = None) -> str:
    """The language that the user wants: the given one, else that of LABCTL_LANG or of the locale (`ja` of
    ja_JP.UTF-8), else English."""
    found = given or next((os.environ[name] for name in VARIABLES if os.environ.get(name)), "")
    code = CODE.match(found)
    return code[0] if code is not None else ORIGINAL


def languages() -> tuple[str, ...]:
    """The languages that labctl has, English first."""
    return (ORIGINAL, *sorted(path.name for path in DIRECTORY.iterdir() if path.is_dir()))


def is_known(text: str) -> bool:
    """Whether a text, such as `ja` or `ja_JP.UTF-8`, means a language that labctl has."""
    found = CODE.match(text)
    return found is not None and found[0] in languages()


def use(code: str) -> None:
    """Print in this language from now on. A language without a catalogue is English."""
    global _catalog, _code
    _catalog, _code = None, ORIGINAL
    if code == ORIGINAL or not (DIRECTORY / code).is_dir():
        return
    from gettext import translation

    _catalog, _code = translation(DOMAIN, DIRECTORY, [code]), code


def current_language() -> str:
    """The language in use."""
    return _code


def gettext(text: str) -> str:
    """A text in the language in use: a sentence with its values, or a literal. What no catalogue knows is unchanged."""
    if _catalog is None:
        return text
    return text.in_language(_catalog) if isinstance(text, Sentence) else _catalog.gettext(text) if text else text


def ngettext(one: str, many: str, number: int) -> str:
    """One of two texts, which a number decides between, in the language in use."""
    if _catalog is None:
        return one if number == 1 else many
    return _catalog.ngettext(one, many, number)

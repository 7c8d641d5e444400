"""The language of the command line: that of `--lang CODE`, or of the locale. It is decided before click reads the
arguments, so that click's own messages are in it as well, in front of `--help` and behind it."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

from labctl.translation import language


def use_language(arguments: Sequence[str]) -> str:
    """Use the language that these arguments or the environment ask for, and return it. If labctl does not have it,
    it uses English; an exercise of another author may still have texts in that language."""
    wanted = language.chosen_language(_requested(arguments))
    language.use(wanted)
    if language.current_language() != language.ORIGINAL:
        _translate_click()
    return wanted


def _requested(arguments: Sequence[str]) -> str | None:
    """The value of the first `--lang` of labctl itself. A wrong one is not used: click's reading of it reports it."""
    own_arguments = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    for at, word in enumerate(own_arguments):
        value = word.removeprefix("--lang=") if word.startswith("--lang=") else ""
        if word == "--lang":
            value = next(iter(own_arguments[at + 1 :]), "")
        if value and language.is_known(value):
            return value
    return None


def _translate_click() -> None:
    """Let click look up its messages here. It asks gettext of Python, which takes the language from the environment of
    the process; a changed environment would also translate the commands that labctl runs."""
    from click import core, decorators, exceptions, formatting, parser, types

    functions = {"_": language.gettext, "ngettext": language.ngettext}
    modules: tuple[ModuleType, ...] = (core, decorators, exceptions, formatting, parser, types)
    for module in modules:
        for name in functions.keys() & vars(module).keys():
            setattr(module, name, functions[name])

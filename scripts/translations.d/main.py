"""scripts/translations: collect, compile and check the sentences of every language. See there."""

from __future__ import annotations

import sys

import catalogue  # beside this file
from babel import Locale, UnknownLocaleError

USAGE = "usage: scripts/translations update | compile | check | add CODE"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["add", code]:
            return _add(code)
        case ["update"]:
            for code in catalogue.codes():
                catalogue.update(code)
                _report(code)
        case ["compile"]:
            for code in catalogue.codes():
                catalogue.compile_catalogue(code)
        case ["check"]:
            return int(any([_report(code) for code in catalogue.codes()]))
        case _:
            print(USAGE, file=sys.stderr)
            return 2
    return 0


def _add(code: str) -> int:
    try:
        Locale(code)
    except (UnknownLocaleError, ValueError):
        print(f"{code!r} is not the code of a language, such as ja or fr", file=sys.stderr)
        return 2
    catalogue.update(code)
    _report(code)
    return 0


def _report(code: str) -> bool:
    """Print what is wrong with a catalogue; returns whether anything is."""
    found = list(catalogue.problems(code))
    for problem in found:
        print(f"{code}: {problem}")
    print(f"{code}: {len(found)} problems" if found else f"{code}: complete")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Small texts: the words of verdicts, counts and durations, and the one line of a `repr`. Pure, and fast to import."""

from __future__ import annotations

from unicodedata import east_asian_width

from labctl.core.sentence import Sentence, sentence

VERDICT_LABELS: dict[str, str] = {"pass": "PASS", "fail": "FAIL", "skip": "SKIP", "inconclusive": "INCONCLUSIVE"}
COMMAND_PREFIX = sentence("    run manually: ")
MAX_REPR = 200  # characters of a repr


def count(number: int, noun: str) -> Sentence:
    """`1 object`, `2 objects`; with the plural of nouns that end in y, s or ch."""
    return Sentence(f"{{number}} {noun}", {"number": number}, f"{{number}} {plural(noun)}", number)


def plural(noun: str) -> str:
    """The plural of a noun."""
    if noun.endswith("y"):
        return f"{noun[:-1]}ies"
    return f"{noun}es" if noun.endswith(("s", "ch")) else f"{noun}s"


def duration(seconds: float) -> str:
    """A duration as text: `0.21 s`, `12 s`."""
    return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.0f} s"


def joined_lines(text: str) -> str:
    """The lines of a paragraph as one line. A blank joins two of them, and nothing two wide characters, such as those
    of Japanese."""
    joined = ""
    for line in text.splitlines():
        part = " ".join(line.split())
        if joined and part and not all(east_asian_width(one) in "WF" for one in (joined[-1], part[0])):
            joined += " "
        joined += part
    return joined


def short_repr(value: object, text: str) -> str:
    """The repr of a result: its class and a text, in one line of at most MAX_REPR characters."""
    line = f"{type(value).__name__} {' '.join(text.split())}"
    return f"<{line if len(line) <= MAX_REPR - 2 else line[: MAX_REPR - 3] + '…'}>"

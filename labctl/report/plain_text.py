"""Plain text lines: the results of verbs, without tables or colour. Everything here is pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from labctl.core.text import VERDICT_LABELS

if TYPE_CHECKING:
    from labctl.core.results import Verdict

SYMBOLS: dict[str, str] = {"pass": "✔", "fail": "✘", "skip": "–", "inconclusive": "?"}
VERDICT_COLOURS: dict[str, str] = {"pass": "green", "fail": "red", "skip": "dim", "inconclusive": "yellow"}

ROOT_COMMAND = re.compile(
    r"(?<!sudo )(?<![\w.-])((modprobe|apt-get install|apt install|sysctl -w) (?=\w)|prlimit (?=--)|(umount|rm) (?=/))"
)
VERB_COMMAND = re.compile(
    r"(?<!sudo )(?<![\w./-])labctl"
    r"(?= (up|down|status|check|exec|shell|show|trace|capture|compare|doctor|view|break|fix)\b)"
)


def with_sudo(text: str, sudo: str) -> str:
    """A hint with `sudo` (or nothing) before each command in it that changes the machine and so needs its root."""
    return ROOT_COMMAND.sub(lambda found: sudo + found[0], text)


def with_command(text: str, labctl: str) -> str:
    """A hint in which the verbs of labctl that need root are written as a user types them: after `labctl`."""
    return VERB_COMMAND.sub(labctl, text)


def symbol(verdict: Verdict, *, symbols: bool) -> str:
    """The symbol of a verdict: ✔ ✘ – ? on a terminal, a word elsewhere."""
    return SYMBOLS[verdict] if symbols else VERDICT_LABELS[verdict]

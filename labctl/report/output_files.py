"""The files that verbs write beside their output: whether they can be, and that they are."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Check


def keeper(folder: str, complain: Callable[[str], None]) -> Callable[[Check, bytes], str]:
    """What writes each check's packets into a folder, under its number and sentence, and answers where; a file that
    cannot be written is complained of, for it is no reason to prove nothing more. Raises UsageError for the folder.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {folder}: {error.strerror}") from error
    number = count(1)

    def keep(check: Check, data: bytes) -> str:
        words = re.sub(r"[^a-z0-9]+", "-", check.say.lower()).strip("-")[:60]
        path = os.path.join(folder, f"{next(number):02d}-{words}.pcapng")
        try:
            with open(path, "wb") as file:
                file.write(data)
        except OSError as error:
            complain(f"labctl: cannot write {path}: {error.strerror}; the check goes on without its packets")
            return ""
        return path

    return keep


def writable(path: str) -> None:
    """Raises UsageError now, rather than after all the checks, for a file that cannot be written."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a directory")
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {path}: there is no directory {folder}")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission")


def write(path: str, text: str) -> None:
    """Write a whole file. Raises UsageError."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file of bytes. Raises UsageError."""
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error

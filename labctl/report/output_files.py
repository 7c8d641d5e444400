"""Files that verbs write in addition to their output: test early that they can be written, and write them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from labctl.errors import UsageError

if TYPE_CHECKING:
    from labctl.core.scenario_types import Check


def pcap_writer(folder: str, warn: Callable[[str], None]) -> Callable[[Check, bytes], str]:
    """Return a function that writes a check's packets into a folder and returns the path of the file. The name of the
    file has the check's number and sentence. If a file cannot be written, `warn` reports it, and the function
    returns "". Raises UsageError if the folder cannot be created.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot create the folder {folder}: {error.strerror}") from error
    number = count(1)

    def write_pcap(check: Check, data: bytes) -> str:
        name = re.sub(r"[^a-z0-9]+", "-", check.say.lower()).strip("-")[:60]
        path = os.path.join(folder, "-".join(filter(None, (f"{next(number):02d}", name))) + ".pcapng")
        try:
            with open(path, "wb") as file:
                file.write(data)
        except OSError as error:
            warn(f"labctl: cannot write {path}: {error.strerror}; the check continues without its packets")
            return ""
        return path

    return write_pcap


def require_writable(path: str) -> None:
    """Raises UsageError now, not after all the checks, if a file cannot be written."""
    folder = os.path.dirname(path) or "."
    if os.path.isdir(path):
        raise UsageError(f"cannot write {path}: it is a directory")
    if not os.path.isdir(folder):
        raise UsageError(f"cannot write {path}: there is no directory {folder}")
    if not os.access(path if os.path.exists(path) else folder, os.W_OK):
        raise UsageError(f"cannot write {path}: no permission")


def write(path: str, text: str) -> None:
    """Write a text file, replacing it. Raises UsageError if it cannot be written."""
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a binary file, replacing it. Raises UsageError if it cannot be written."""
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error

"""Files that verbs write in addition to their output: test early that they can be written, and write them.

labctl often runs as root and writes into folders such as /tmp, where others can put a link before. So no file is
written through a link that another user owns, and none that another user has put into a folder where everybody can
write. Linux has the same rules as settings (fs.protected_symlinks, fs.protected_regular), but not everywhere.
"""

from __future__ import annotations

import errno
import os
import re
import stat
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
            with os.fdopen(open_output(path), "wb") as file:
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
    try:
        _require_own(path)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from None


def open_output(path: str) -> int:
    """A file descriptor of an output file, which is created or emptied. Raises OSError, also for a file or a link of
    another user (see above)."""
    is_link = _require_own(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
    fd = os.open(path, flags if is_link else flags | os.O_NOFOLLOW, 0o666)
    try:
        found = os.fstat(fd)
        if not is_link:
            _refuse_foreign(found, path)  # it may be another file by now
        if stat.S_ISREG(found.st_mode):
            os.ftruncate(fd, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _require_own(path: str) -> bool:
    """Whether the path is a link that may be followed. Raises PermissionError if what is there must not be used."""
    try:
        found = os.lstat(path)
    except OSError:
        return False  # there is nothing yet; or the kernel says what is wrong when the file is opened
    _refuse_foreign(found, path)
    return stat.S_ISLNK(found.st_mode)


def _refuse_foreign(found: os.stat_result, path: str) -> None:
    """Raises PermissionError for a link of another user, and in a folder where everybody can write for a file of
    another user, or with a second name: that may be a name of any file."""
    is_shared = os.stat(os.path.dirname(path) or ".").st_mode & stat.S_IWOTH
    is_foreign = found.st_uid not in _trusted_users()
    if is_foreign and (is_shared or stat.S_ISLNK(found.st_mode)):
        raise PermissionError(errno.EPERM, f"what is there belongs to another user (uid {found.st_uid})")
    if is_shared and stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
        raise PermissionError(errno.EPERM, "the file there has a second name")


def _trusted_users() -> set[int]:
    """Root, this user, and the user who typed `sudo`."""
    sudo_uid = os.environ.get("SUDO_UID", "")
    return {0, os.geteuid(), *([int(sudo_uid)] if sudo_uid.isascii() and sudo_uid.isdigit() else [])}


def write(path: str, text: str) -> None:
    """Write a text file, replacing it. Raises UsageError if it cannot be written."""
    try:
        with os.fdopen(open_output(path), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def write_bytes(path: str, data: bytes) -> None:
    """Write a binary file, replacing it. Raises UsageError if it cannot be written."""
    try:
        with os.fdopen(open_output(path), "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error

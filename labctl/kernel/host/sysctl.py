"""Read every sysctl of a namespace, by its dotted name, to find what other programs changed."""

from __future__ import annotations

import os
from collections.abc import Iterator


def read_all_sysctls(root: str = "/proc/sys/net") -> dict[str, str]:
    """All sysctls below net of this thread's namespace; those that cannot be read are left out."""
    return dict(_read(root, "net"))


def _read(folder: str, name: str) -> Iterator[tuple[str, str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            full_name = f"{name}.{entry.name.replace('.', '/')}"
            if entry.is_dir(follow_symlinks=False):
                yield from _read(entry.path, full_name)
                continue
            try:
                fd = os.open(entry.path, os.O_RDONLY | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                yield full_name, " ".join(os.read(fd, 4096).decode(errors="replace").split())
            except OSError:
                continue
            finally:
                os.close(fd)

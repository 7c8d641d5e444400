"""Mount a kernel filesystem for this process only, without a mount point. It ends when its descriptor is closed."""

from __future__ import annotations

import ctypes
import os

from labctl.kernel.host.syscalls import libc, raise_on_error

FSOPEN, FSCONFIG, FSMOUNT = 430, 431, 432  # the same numbers on every architecture
FSCONFIG_CMD_CREATE, FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC = 6, 1, 1


def mount_detached(kind: str) -> int:
    """The descriptor of a new mount of a filesystem: `proc`, `tracefs`. Raises OSError, also before Linux 5.2."""
    made = _call(FSOPEN, ctypes.c_char_p(kind.encode()), FSOPEN_CLOEXEC)
    try:
        _call(FSCONFIG, made, FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(FSMOUNT, made, FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(made)


def _call(number: int, *words: object) -> int:
    return raise_on_error(int(libc.syscall(ctypes.c_long(number), *words)), "mount")

"""The libc calls that Python 3.10 does not have: unshare, setns, mount, umount. Fast to import."""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_RDONLY = 1
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

IPT_SO_GET_INFO = 64
_IPT_GETINFO = 84  # size in bytes of struct ipt_getinfo, which starts with the name of a table
_IPT_ENTRIES = 76  # where its num_entries is

libc = ctypes.CDLL(None, use_errno=True)


def raise_on_error(result: int, call: str) -> int:
    """Return the result of a libc call; for -1 raise an OSError that names the call."""
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
    return result


def setns(fd: int, kind: int = CLONE_NEWNET) -> None:
    """Move the calling thread into the namespace of `fd`. Raises OSError."""
    raise_on_error(libc.setns(fd, kind), "setns")


def unshare(flags: int) -> None:
    """Move the calling thread (or a single-threaded process) into new namespaces of the kinds in `flags`. Raises
    OSError."""
    raise_on_error(libc.unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """mount(2). Raises OSError."""
    args = [None if arg is None else os.fsencode(arg) for arg in (source, target, kind)]
    raise_on_error(
        libc.mount(*args, ctypes.c_ulong(flags), None if data is None else os.fsencode(data)), f"mount {target}"
    )


def umount(target: str, flags: int = MNT_DETACH) -> None:
    """umount2(2). Raises OSError."""
    raise_on_error(libc.umount2(os.fsencode(target), flags), f"umount {target}")


def probe_legacy_table(fd: int, table: str, level: int = 0) -> int:
    """Ask the legacy ip_tables (level 0) or ip6_tables (level 41) about a table through a raw socket, as
    iptables-legacy does first. The kernel then creates the table in the namespace. Returns the number of its entries:
    the rules, and what begins and ends its chains.

    Python's own getsockopt cannot pass the table's name. Raises OSError if the kernel does not have the table.
    """
    info = ctypes.create_string_buffer(table.encode(), _IPT_GETINFO)
    size = ctypes.c_uint32(_IPT_GETINFO)
    raise_on_error(libc.getsockopt(fd, level, IPT_SO_GET_INFO, info, ctypes.byref(size)), f"table {table}")
    return int.from_bytes(info.raw[_IPT_ENTRIES : _IPT_ENTRIES + 4], sys.byteorder)

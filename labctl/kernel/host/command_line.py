"""What ps and /proc show of this process: its command line and its environment, without another exec."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping, Sequence

from labctl.kernel.host.syscalls import libc, raise_on_error

PR_SET_MM = 35
PR_SET_MM_MAP = 14
# struct prctl_mm_map: where the code, the data, the heap, the stack, the command line and the environment are; then
# the auxiliary vector (0: it stays) and a descriptor of the program (-1: it stays)
_MAP = struct.Struct("=11QQIi")
# which numbers of /proc/PID/stat are meant, from the number of the parent
_CODE, _STACK, _DATA_AND_HEAP = slice(22, 24), 24, slice(41, 44)

_shown: list[ctypes.Array[ctypes.c_char]] = []  # the kernel reads the texts from here whenever someone asks


def set_command_line(command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Let /proc/self/cmdline and /proc/self/environ have these texts, as after an exec of this command. The process
    itself keeps its sys.argv and os.environ. Raises OSError if the kernel has no CONFIG_CHECKPOINT_RESTORE."""
    arguments = b"".join(os.fsencode(word) + b"\0" for word in command)
    variables = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())
    text = ctypes.create_string_buffer(arguments + variables)
    start = ctypes.addressof(text)
    end = start + len(arguments)
    with open("/proc/self/stat", "rb") as file:
        fields = [int(field) for field in file.read().rpartition(b")")[2].split()[1:]]
    libc.sbrk.restype = ctypes.c_void_p
    heap_end = libc.sbrk(0)
    data_and_heap = fields[_DATA_AND_HEAP]
    layout = _MAP.pack(
        *fields[_CODE], *data_and_heap, heap_end, fields[_STACK], start, end, end, end + len(variables), 0, 0, -1
    )
    result = libc.prctl(PR_SET_MM, PR_SET_MM_MAP, layout, ctypes.c_ulong(len(layout)), ctypes.c_ulong(0))
    raise_on_error(result, "prctl(PR_SET_MM)")
    _shown.append(text)

"""TUN devices: created through /dev/net/tun, in the namespace of the calling thread.

A program opens the device by its name, and reads and writes packets. Until a program does, the device has no carrier.
"""

from __future__ import annotations

import fcntl
import os
import struct

DEVICE = "/dev/net/tun"
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
TUNSETIFF, TUNSETPERSIST, TUNSETIFINDEX = 0x400454CA, 0x400454CB, 0x400454DA


def open_tun(name: str, index: int | None = None) -> int:
    """A file descriptor of the TUN device with this name. If it does not exist, it is created, with this index. Raises
    OSError."""
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        if index is not None:
            fcntl.ioctl(fd, TUNSETIFINDEX, struct.pack("=I", index))
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("=16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    except OSError:
        os.close(fd)
        raise
    return fd


def create_tun(name: str, index: int) -> None:
    """Create a TUN device that stays until it is deleted. Raises OSError."""
    fd = open_tun(name, index)
    try:
        fcntl.ioctl(fd, TUNSETPERSIST, 1)
    finally:
        os.close(fd)

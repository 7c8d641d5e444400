"""A look at whether a namespace has ebtables rules, without starting a program: one netlink question."""

from __future__ import annotations

import os
import socket
import struct

_NETLINK_NETFILTER = 12
_GETTABLE = 10 << 8 | 1  # subsystem nf_tables, message NFT_MSG_GETTABLE
_NEWTABLE = 10 << 8  # what each answer is
_REQUEST_DUMP = 0x301
_BRIDGE = 7  # NFPROTO_BRIDGE
_ASK = struct.pack("=IHHIIBBH", 20, _GETTABLE, _REQUEST_DUMP, 1, 0, _BRIDGE, 0, 0)


def has_nft_tables() -> bool:
    """Whether this thread's namespace has nf_tables tables of the bridge family (what ebtables-nft makes).

    Where nf_tables is a module that nobody loaded there are none, and asking would load it.
    """
    if os.path.exists("/proc/modules") and not os.path.exists("/sys/module/nf_tables"):
        return False
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as asking:
            asking.send(_ASK)
            answer = asking.recv(8192)
    except OSError:
        return False
    return len(answer) >= 6 and int(struct.unpack_from("=H", answer, 4)[0]) == _NEWTABLE

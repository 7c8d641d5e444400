"""Make the kernel give up a neighbour that it still asks for."""

from __future__ import annotations

import socket
import sys

from labctl.core.resources import IP, Interface, Neighbour
from labctl.kernel.netlink import dump, messages
from labctl.kernel.netlink.encoding import ACK, REQUEST
from labctl.kernel.netlink.rtnetlink import Channel


def give_up(device: str, ip: IP) -> bool:
    """End the questions of this thread's namespace for a neighbour, as the kernel does itself after the last one: the
    packets that wait are dropped, and their senders get an ICMP error. An entry in another state is not changed.
    Returns whether there was one to give up. Raises OSError."""
    index = socket.if_nametoindex(device)
    channel = Channel()
    try:
        entries = dump.neighbours(channel)
        if not any((one.index, one.ip, one.state) == (index, ip, messages.NUD["incomplete"]) for one in list(entries)):
            return False
        message = messages.neighbour(Neighbour(Interface("", device), ip, None, "failed"), index)
        message[6:8] = (REQUEST | ACK).to_bytes(2, sys.byteorder)  # change it, never create it
        channel.queue(message, None)
        return not channel.flush()
    finally:
        channel.close()


def is_asking() -> bool:
    """Whether this thread's namespace asks for a neighbour that has not answered. Raises OSError."""
    channel = Channel()
    try:
        return any(one.state == messages.NUD["incomplete"] for one in list(dump.neighbours(channel)))
    finally:
        channel.close()

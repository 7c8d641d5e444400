"""What can make a namespace answer late when it is asked for the MAC address of a neighbour.

A kernel answers for its own addresses at once, while it handles the question. It answers later if it proxies (a random
time, up to `proxy_delay`), if the address is still being verified (IPv6 duplicate address detection), or if a program
with a packet socket answers.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address

from labctl.core.resources import IP
from labctl.kernel.netlink import dump
from labctl.kernel.netlink.rtnetlink import Channel

ETH_P_ALL, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0806, 0x86DD
TENTATIVE, DADFAILED = 0x40, 0x08  # IFA_F_TENTATIVE, IFA_F_DADFAILED
PROTOCOL_COLUMN, INODE_COLUMN = 3, 8  # of /proc/net/packet
PROXY_SETTINGS = ("ipv4/conf/*/proxy_arp", "ipv4/conf/*/proxy_arp_pvlan", "ipv6/conf/*/proxy_ndp")
TICKS_PER_S = 100  # USER_HZ, the unit of proxy_delay


@dataclass(frozen=True, slots=True)
class AnswerDelay:
    """How late a namespace may answer: up to `proxy_s` seconds, or at any time."""

    proxy_s: float = 0.0
    unbounded: bool = False


def read_answer_delay(ip: IP, own_sockets: Collection[int]) -> AnswerDelay:
    """How late this thread's namespace may answer for an address. `own_sockets` are the inodes of labctl's own packet
    sockets, which answer nothing. Raises OSError."""
    unbounded = _has_packet_socket(own_sockets) or (ip.version == 6 and _is_tentative(ip))
    return AnswerDelay(_proxy_delay_s(ip.version) if _is_proxy() else 0.0, unbounded)


def read_retry_s(device: str, version: int) -> float:
    """The seconds after which this thread's namespace asks again if a neighbour at a device does not answer. Raises
    OSError."""
    with open(f"/proc/sys/net/ipv{version}/neigh/{device}/retrans_time_ms") as file:
        return int(file.read()) / 1000


def _is_proxy() -> bool:
    if any(_number(path) for pattern in PROXY_SETTINGS for path in glob.glob(f"/proc/sys/net/{pattern}")):
        return True
    channel = Channel()
    try:
        return any(True for _ in dump.neighbours(channel, proxy=True))
    finally:
        channel.close()


def _proxy_delay_s(version: int) -> float:
    paths = glob.glob(f"/proc/sys/net/ipv{version}/neigh/*/proxy_delay")
    return max(map(_number, paths), default=0) / TICKS_PER_S


def _number(path: str) -> int:
    with suppress(OSError, ValueError), open(path) as file:
        return int(file.read())
    return 0


def _has_packet_socket(own_sockets: Collection[int]) -> bool:
    with open("/proc/thread-self/net/packet") as file:
        rows = [line.split() for line in file][1:]
    answering = (ETH_P_ALL, ETH_P_ARP, ETH_P_IPV6)
    return any(int(row[PROTOCOL_COLUMN], 16) in answering and int(row[INODE_COLUMN]) not in own_sockets for row in rows)


def _is_tentative(ip: IP) -> bool:
    return any(address == ip and flags & TENTATIVE for address, flags in _ipv6_addresses())


def has_tentative_address() -> bool:
    """Whether duplicate address detection is at work for an IPv6 address of this thread's namespace, other than a
    link-local one. An address that is known to be a duplicate stays tentative, and does not count."""
    return any(
        flags & (TENTATIVE | DADFAILED) == TENTATIVE and not address.is_link_local
        for address, flags in _ipv6_addresses()
    )


def _ipv6_addresses() -> list[tuple[IPv6Address, int]]:
    """Every IPv6 address of this thread's namespace, with its flags."""
    if not os.path.exists("/proc/thread-self/net/if_inet6"):
        return []
    with open("/proc/thread-self/net/if_inet6") as file:
        rows = [line.split() for line in file]
    return [(IPv6Address(int(row[0], 16)), int(row[4], 16)) for row in rows]

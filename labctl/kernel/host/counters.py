"""The network stack's counters of one namespace that indicate problems, and how /proc/net writes a socket."""

from __future__ import annotations

import re
from functools import cache
from ipaddress import ip_address

from labctl.core.resources import IP

# counters of packets with a problem, or of packets that report one
PROBLEM_COUNTERS = re.compile(
    r"(Discards|Errors|NoRoutes|Errs|Fails|Unreachs|TimeExcds|UnknownProtos|RPFilter|NoPorts|Overflows|Drops?"
    r"|TruncatedPkts|TooBigErrors|PktTooBigs|FragCreates|OutRsts|ListenDrops|ParmProbs)$"
)
NET = "/proc/thread-self/net"
LISTEN_STATES = {"tcp": "0A", "udp": "07"}  # the state in /proc/net/tcp and udp of a socket that waits for clients
ADDRESS_COLUMN, STATE_COLUMN = 1, 3  # of /proc/net/tcp and udp
DEVICE_COUNTERS = ((3, "rx errors"), (4, "rx dropped"), (11, "tx errors"), (12, "tx dropped"))  # columns of dev


def read_counters() -> dict[str, int]:
    """The counters of problems in this thread's namespace: `Ip.InAddrErrors`, `Ip6InNoRoutes`, `eth0 rx dropped`."""
    found: dict[str, int] = {}
    for name in ("snmp", "netstat"):
        lines = _lines(name)
        for names, values in zip(lines[::2], lines[1::2], strict=False):
            group = names[0].rstrip(":")
            found |= {
                f"{group}.{key}": int(value) for key, value in zip(names[1:], values[1:], strict=False)
                if _is_problem(key)
            }  # fmt: skip
    for fields in _lines("snmp6"):
        if len(fields) == 2 and _is_problem(fields[0]):
            found[fields[0]] = int(fields[1])
    for fields in _lines("dev")[2:]:
        device = fields[0].rstrip(":")
        for column, counter in DEVICE_COUNTERS:
            found[f"{device} {counter}"] = int(fields[column])
    return found


@cache
def _is_problem(name: str) -> bool:
    """Whether a counter counts problems. The names are the same in all namespaces."""
    return PROBLEM_COUNTERS.search(name) is not None


def increases(before: dict[str, int], after: dict[str, int]) -> dict[str, int]:
    """How much each counter has increased; those that have not are left out. Pure."""
    return {name: now - before.get(name, 0) for name, now in after.items() if now > before.get(name, 0)}


def address_of(text: str) -> IP:
    """The address of a socket, as /proc/net/tcp and udp write it in hexadecimal digits."""
    return ip_address(_bytes(text))


def _bytes(text: str) -> bytes:
    """The bytes of an address in /proc/net/tcp, which has words of four bytes in the machine's byte order."""
    import sys

    groups = [bytes.fromhex(text[at : at + 8]) for at in range(0, len(text), 8)]
    return b"".join(group[::-1] if sys.byteorder == "little" else group for group in groups)


def _lines(name: str) -> list[list[str]]:
    try:
        with open(f"{NET}/{name}") as file:
            return [line.split() for line in file]
    except OSError:
        return []

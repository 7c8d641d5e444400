"""Mark one probe for rule tracing: a small nft table sets `nftrace` on it, also for legacy tables.

The kernel has one bit for both. For a packet with this bit, ip_tables reports every rule that matches (see `nflog`), as
with the TRACE target, but without a change or a new number of the lab's rules. The table is owned by its socket
(Linux 5.12 and later), so the kernel deletes it when the process ends, however it ends.

One table of the family inet marks what IP receives and sends. Frames of a bridge, and packets that a chain sees at a
device's ingress, are marked by tables of the families bridge and netdev; they are made only where such chains are.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from labctl.core.observations import ProbeMatch
from labctl.errors import KernelError
from labctl.kernel.netlink.encoding import CREATE
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import encode_attribute

PREFIX = "labctl-trace"
NFT_TABLE_F_OWNER = 2  # NFT_TABLE_F_OWNER
PRIORITY = -1000  # before conntrack's defragmentation (-400) and before every table
PREROUTING, OUTPUT = 0, 3
INET, NETDEV, BRIDGE = 1, 5, 7  # NFPROTO_*; INET is IPv4 and IPv6
INGRESS = 0  # NF_NETDEV_INGRESS
NETWORK, TRANSPORT = 1, 2  # the header from which an offset counts
NFTRACE, L4PROTO = 12, 16  # keys of `meta`
_NEWTABLE, _DELTABLE, _NEWCHAIN, _NEWRULE = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (0, 2, 3, 6))
APPEND = 0x800  # NLM_F_APPEND


class ProbeMarkTable:
    """The table in the namespace of the thread that creates it; `bridge` makes another one for frames of bridges,
    `devices` one for what comes in at these devices. Raises OSError if nf_tables refuses the first one."""

    def __init__(
        self, matches: Iterable[ProbeMatch], name: str, bridge: bool = False, devices: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.missing: tuple[str, ...] = ()  # the families in which nf_tables refused the table
        self._families = [INET]
        self._socket = NfnetlinkSocket(timeout_s=1)
        wanted = tuple(matches)
        try:
            try:
                self._socket.nft_transaction(_table_requests(name, INET, wanted, NFT_TABLE_F_OWNER))
                self.is_owned = True
            except OSError:
                self._socket.nft_transaction(_table_requests(name, INET, wanted, 0))
                self.is_owned = False
            for family, word in ((BRIDGE, "bridge"), (NETDEV, "netdev")):
                if bridge if family == BRIDGE else devices:
                    self._add(family, word, wanted, devices)
        except OSError:
            self._socket.close()
            raise

    def _add(self, family: int, word: str, matches: tuple[ProbeMatch, ...], devices: Sequence[str]) -> None:
        flags = NFT_TABLE_F_OWNER if self.is_owned else 0
        try:
            self._socket.nft_transaction(_table_requests(self.name, family, matches, flags, devices))
        except OSError:
            self.missing += (word,)
        else:
            self._families.append(family)

    def close(self) -> None:
        """Delete the tables."""
        try:
            self._socket.nft_transaction([_deletion(self.name, family) for family in self._families])
        except OSError:
            pass  # the namespace is gone, or the table was deleted already
        finally:
            self._socket.close()


def remove(name: str) -> None:
    """Delete the tables of a killed trace from this thread's namespace. Raises KernelError."""
    with NfnetlinkSocket(timeout_s=1) as sock:
        for family in (BRIDGE, NETDEV):
            with suppress(OSError):
                sock.nft_transaction([_deletion(name, family)])
        try:
            sock.nft_transaction([_deletion(name, INET)])
        except OSError as error:
            raise KernelError(f"cannot remove nft table {name}: {error.strerror}", errno=error.errno or 0) from None


def _deletion(name: str, family: int) -> tuple[int, int, bytes]:
    return _DELTABLE, 0, nfgenmsg(family) + _text(1, name)


def _table_requests(
    name: str, family: int, matches: tuple[ProbeMatch, ...], flags: int, devices: Sequence[str] = ()
) -> Iterator[tuple[int, int, bytes]]:
    head = nfgenmsg(family)
    yield _NEWTABLE, CREATE, head + _text(1, name) + _number(2, flags)
    hooks: list[tuple[str, int, str]] = [("prerouting", PREROUTING, ""), ("output", OUTPUT, "")]
    if family == NETDEV:
        hooks = [(f"ingress{number}", INGRESS, device) for number, device in enumerate(devices)]
    for chain, hook, device in hooks:
        place = _number(1, hook) + struct.pack("=HH", 8, 2) + struct.pack(">i", PRIORITY)
        hook_attribute = _nest(4, place + (_text(3, device) if device else b""))
        yield _NEWCHAIN, CREATE, head + _text(1, name) + _text(3, chain) + hook_attribute + _text(7, "filter")
        for match in matches:
            rule = b"".join(_nest(1, expression) for expression in _expressions(match))
            yield _NEWRULE, CREATE | APPEND, head + _text(1, name) + _text(2, chain) + _nest(4, rule)


def _expressions(match: ProbeMatch) -> Iterator[bytes]:
    """meta l4proto N, @th,offset,length VALUE, meta nftrace set 1"""
    yield _expression("meta", _number(1, 1) + _number(2, L4PROTO))
    yield _compare(bytes([match.protocol]))
    source = _number(2, TRANSPORT) + _number(3, match.offset) + _number(4, len(match.value))
    yield _expression("payload", _number(1, 1) + source)
    yield _compare(match.value)
    yield _expression("immediate", _number(1, 1) + _nest(2, encode_attribute(1, b"\1")))
    yield _expression("meta", _number(2, NFTRACE) + _number(3, 1))


def _compare(value: bytes) -> bytes:
    return _expression("cmp", _number(1, 1) + _number(2, 0) + _nest(3, encode_attribute(1, value)))


def _expression(name: str, data: bytes) -> bytes:
    return _text(1, name) + _nest(2, data)


def _text(kind: int, value: str) -> bytes:
    return encode_attribute(kind, value.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return struct.pack("=HH", 8, kind) + struct.pack(">I", value)


def _nest(kind: int, value: bytes) -> bytes:
    return encode_attribute(kind | 0x8000, value)

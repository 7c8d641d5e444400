"""The rules of an nf_tables table as the kernel has them: how many each chain has, and which iptables-nft cannot show.

iptables-nft reads some rules that `nft` wrote as others, with exit status 0: `ip daddr { 192.0.2.1, 192.0.2.2 } drop`
as `-j DROP`, `ip saddr 192.0.2.1-192.0.2.9` as `-s 192.0.2.9`, `udp length 80` as `-p udp` (seen with 1.8.9). The
kernel has the expressions of each rule, and they show which rules these are. Raw netlink; no program is started.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator

from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.nft_tables import FAMILIES
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes, encode_attribute

_GETRULE, _GETGEN = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (7, 16))
_TABLE, _CHAIN, _EXPRESSIONS = 1, 2, 4
_NUMBERS = {name: number for number, name in FAMILIES.items()}
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
# what iptables-nft itself compares in a transport header: ports, ICMP's type and code, TCP's flags
_TRANSPORT_OFFSETS = frozenset({0, 1, 2, 13})
_ADDRESS_OFFSETS = {"ip": (12, 16), "ip6": (8, 24)}
_EQUAL, _NOT_EQUAL = 0, 1


def _attribute(size: int, kind: int, flags: bytes = b"\0") -> bytes:
    """The pattern of an attribute's header; the kernel marks a nest or not."""
    header = struct.pack("=HH", size, kind)
    return re.escape(header) if flags == b"\0" else rb".." + rb"(?:" + re.escape(header[2:]) + rb"|" + flags + rb")"


def _expression(name: str, data: bytes) -> bytes:
    """The pattern of an expression: its name, its data, which begin with the attributes in `data`."""
    padded = name.encode() + b"\0" * (4 - len(name) % 4)
    nested = re.escape(struct.pack("=H", 2 | 0x8000))
    return re.escape(padded) + _attribute(0, 2, nested) + data


_ANY = rb"(....)"
_REGISTER = _attribute(8, 1) + rb"...."
_TOKEN = re.compile(
    rb"(?P<lookup>lookup\0\0)"
    + rb"|(?P<payload>" + _expression("payload", _REGISTER + b"".join(_attribute(8, kind) + _ANY for kind in (2, 3)))
    + rb")|(?P<cmp>" + _expression("cmp", _REGISTER + _attribute(8, 2) + _ANY) + rb")",
    re.DOTALL,
)  # fmt: skip


def allow_large_rules(sock: NfnetlinkSocket) -> None:
    """Make the kernel answer the first dump of a socket in messages of 32 KiB: it takes the size of the last read for
    that, and without one it leaves out rules of more than about 3.7 KB (two `-m u32`)."""
    sock.get(_GETGEN, nfgenmsg(0))


def rule_counts(family: str, table: str) -> Counter[str]:
    """The number of rules of each chain of a table in the namespace of this thread. Raises OSError."""
    return Counter(chain for chain, _ in _rules(family, table))


def unshown_rules(family: str, table: str) -> dict[str, frozenset[int]]:
    """The rules of a table that iptables-nft reads as something else, by chain: their numbers, from 1.

    Of the calling thread's namespace. Raises OSError.
    """
    found: dict[str, set[int]] = {}
    numbers: Counter[str] = Counter()
    for chain, expressions in _rules(family, table):
        numbers[chain] += 1
        if _is_unshown(expressions, family):
            found.setdefault(chain, set()).add(numbers[chain])
    return {chain: frozenset(some) for chain, some in found.items()}


def _rules(family: str, table: str) -> Iterator[tuple[str, bytes]]:
    """The chain and the bytes of the expressions of each rule, in order."""
    with NfnetlinkSocket() as sock:
        allow_large_rules(sock)
        body = nfgenmsg(_NUMBERS[family]) + encode_attribute(_TABLE, table.encode() + b"\0")
        for data, start, end in sock.dump(_GETRULE, body):
            found = attributes(data, start + 4, end)
            if attribute_text(data, found[_TABLE]) == table:
                span = found.get(_EXPRESSIONS, (0, 0))
                yield attribute_text(data, found[_CHAIN]), data[span[0] : span[1]]


def _is_unshown(expressions: bytes, family: str) -> bool:
    loaded: set[tuple[int, int]] = set()
    last = (0, 0)  # the header that was loaded last, and the offset in it
    addresses = [(_NETWORK_HEADER, offset) for offset in _ADDRESS_OFFSETS.get(family, ())]
    for token in _TOKEN.finditer(expressions):
        if token["lookup"]:
            return True  # a set or a map: iptables has none
        if token["cmp"]:
            if last in addresses and _number(token[6]) not in (_EQUAL, _NOT_EQUAL):
                return True  # a range of addresses
            continue
        last = _number(token[3]), _number(token[4])
        if last[0] == _TRANSPORT_HEADER and last[1] not in _TRANSPORT_OFFSETS:
            return True
        if last[0] == _NETWORK_HEADER and last in loaded:
            return True  # two conditions on one field, of which iptables shows the last
        loaded.add(last)
    return False


def _number(raw: bytes) -> int:
    return int(struct.unpack("!I", raw)[0])

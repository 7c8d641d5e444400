"""The rules of an nf_tables table as the kernel has them: how many each chain has, and which iptables-nft cannot show.

iptables-nft reads some rules that `nft` wrote as others, with exit status 0: `ip daddr { 192.0.2.1, 192.0.2.2 } drop`
as `-j DROP`, `ip saddr 192.0.2.1-192.0.2.9` as `-s 192.0.2.9`, `udp length 80` as `-p udp` (seen with 1.8.9). The
kernel has the expressions of each rule, and they show which rules these are. Raw netlink; no program is started.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Collection, Iterator
from functools import cache

from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.nft_tables import FAMILIES
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes, encode_attribute

_GETRULE, _GETGEN = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (7, 16))
MAX_CHAIN_REQUESTS = 100  # up to so many chains are requested one by one
_TABLE, _CHAIN, _EXPRESSIONS = 1, 2, 4
_NUMBERS = {name: number for number, name in FAMILIES.items()}
_NETWORK_HEADER, _TRANSPORT_HEADER = 1, 2
# what iptables-nft itself compares in a transport header: ports, ICMP's type and code, TCP's flags
_TRANSPORT_OFFSETS = (0, 1, 2, 13)
_ADDRESS_OFFSETS = {"ip": (12, 16), "ip6": (8, 24)}
_RANGE_OPERATIONS = (2, 3, 4, 5)  # NFT_CMP_LT to NFT_CMP_GTE


def _attribute(size: int, kind: int) -> bytes:
    return re.escape(struct.pack("=HH", size, kind))


def _expression(name: str, *numbers: bytes) -> bytes:
    """The pattern of an expression with a register and then `numbers`, patterns of four bytes each."""
    padded = re.escape(name.encode() + b"\0" * (4 - len(name) % 4))
    data = rb"..(?:" + re.escape(struct.pack("=H", 2)) + rb"|" + re.escape(struct.pack("=H", 2 | 0x8000)) + rb")"
    return padded + data + b"".join(_attribute(8, kind) + one for kind, one in enumerate((rb"....", *numbers), 1))


def _numbers(*values: int) -> bytes:
    return rb"(?:" + b"|".join(re.escape(struct.pack("!I", value)) for value in values) + rb")"


@cache
def _unshown_pattern(family: str) -> re.Pattern[bytes]:
    """The pattern of the expressions that iptables-nft does not read as they are: a set or map, another field of the
    transport header, two conditions on one field of the network header (it shows the last), a range of addresses."""
    network, transport = _numbers(_NETWORK_HEADER), _numbers(_TRANSPORT_HEADER)
    other_field = _expression("payload", transport, rb"(?!" + _numbers(*_TRANSPORT_OFFSETS) + rb")....")
    twice = (
        _expression("payload", network, rb"(?P<field>....)") + rb".*" + _expression("payload", network, rb"(?P=field)")
    )
    address = _expression("payload", network, _numbers(*_ADDRESS_OFFSETS[family]))
    address_range = address + rb"(?:(?!payload).)*" + _expression("cmp", _numbers(*_RANGE_OPERATIONS))
    return re.compile(b"|".join((rb"lookup\0\0", other_field, twice, address_range)), re.DOTALL)


def allow_large_rules(sock: NfnetlinkSocket) -> None:
    """Make the kernel answer the first dump of a socket in messages of 32 KiB: it takes the size of the last read for
    that, and without one it leaves out rules of more than about 3.7 KB (two `-m u32`)."""
    sock.get(_GETGEN, nfgenmsg(0))


def rule_counts(family: str, table: str, chains: Collection[str]) -> Counter[str]:
    """The number of rules of these chains of a table in the namespace of this thread. A few are requested one by one:
    the others in the table may be ten thousands. Raises OSError."""
    if len(chains) > MAX_CHAIN_REQUESTS:
        return Counter(chain for chain, _ in _rules(family, table) if chain in chains)
    return Counter(chain for name in chains for chain, _ in _rules(family, table, name) if chain == name)


def unshown_rules(family: str, table: str) -> dict[str, frozenset[int]]:
    """The rules of a table that iptables-nft reads as something else, by chain: their numbers, from 1.

    Of the calling thread's namespace. Raises OSError.
    """
    found: dict[str, set[int]] = {}
    pattern = _unshown_pattern(family)
    numbers: Counter[str] = Counter()
    for chain, expressions in _rules(family, table):
        numbers[chain] += 1
        if pattern.search(expressions):
            found.setdefault(chain, set()).add(numbers[chain])
    return {chain: frozenset(some) for chain, some in found.items()}


def _rules(family: str, table: str, chain: str | None = None) -> Iterator[tuple[str, bytes]]:
    """The chain and the bytes of the expressions of each rule, in order: of a table, or of one chain in it. (An old
    kernel can give all rules of the table nevertheless.)"""
    with NfnetlinkSocket() as sock:
        allow_large_rules(sock)
        body = nfgenmsg(_NUMBERS[family]) + encode_attribute(_TABLE, table.encode() + b"\0")
        if chain is not None:
            body += encode_attribute(_CHAIN, chain.encode() + b"\0")
        for data, start, end in sock.dump(_GETRULE, body):
            found = attributes(data, start + 4, end)
            if attribute_text(data, found[_TABLE]) == table:
                span = found.get(_EXPRESSIONS, (0, 0))
                yield attribute_text(data, found[_CHAIN]), data[span[0] : span[1]]

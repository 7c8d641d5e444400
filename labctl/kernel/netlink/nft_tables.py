"""The nf_tables tables of a namespace: list them, and delete one. Raw netlink; no program is started.

ebtables-nft keeps its rules in tables of the bridge family, iptables-nft in tables of the families ip and ip6. A table
that does not belong to the lab's firewall backend was created manually, by `nft` or iptables-nft.
"""

from __future__ import annotations

import errno
import os
import struct

from labctl.errors import KernelError
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFT_COMPAT, NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes, encode_attribute

FAMILIES = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_GETTABLE, _DELTABLE = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (1, 2))
_COMPAT_GET = NFNL_SUBSYS_NFT_COMPAT << 8


def tables() -> tuple[tuple[str, str], ...]:
    """(family, name) of every table in the namespace of this thread."""
    try:
        if is_loaded():
            with NfnetlinkSocket() as sock:
                return read(sock)
    except OSError:
        pass
    return ()


def is_loaded() -> bool:
    """Whether the kernel has nf_tables now. If it is a module and not loaded, there are no tables; a request would load
    it."""
    return not os.path.exists("/proc/modules") or os.path.exists("/sys/module/nf_tables")


def read(sock: NfnetlinkSocket) -> tuple[tuple[str, str], ...]:
    """(family, name) of every table in the namespace of a socket. Raises OSError for the socket."""
    found: list[tuple[str, str]] = []
    for data, start, end in sock.dump(_GETTABLE, nfgenmsg(0)):
        if (span := attributes(data, start + 4, end).get(1)) is not None:
            found.append((FAMILIES.get(data[start], str(data[start])), attribute_text(data, span)))
    return tuple(found)


def remove(ns: str, family: str, name: str) -> None:
    """Delete a table with all its contents from the namespace of this thread. Raises KernelError."""
    number = next(number for number, word in FAMILIES.items() if word == family)
    body = nfgenmsg(number) + encode_attribute(1, name.encode() + b"\0")
    with NfnetlinkSocket() as sock:
        try:
            sock.nft_transaction([(_DELTABLE, 0, body)])
        except OSError as error:
            code = error.errno or 0
            cause = os.strerror(code)
            raise KernelError(f"cannot remove nft table {family} {name} in {ns}: {cause}", errno=code) from None


def extension_problem(feature: str) -> str:
    """Why iptables-nft has no such match or target (`-m set`, `-j NFLOG`), or "". The request goes to nft_compat, which
    knows the extensions of xtables. A kernel without nft_compat has no iptables-nft at all; this function does not
    report that."""
    is_target = feature[1] == "j"
    body = encode_attribute(1, feature[3:].encode() + b"\0")
    body += b"".join(encode_attribute(kind, struct.pack(">I", number)) for kind, number in ((2, 0), (3, is_target)))
    with NfnetlinkSocket() as sock:
        codes = {sock.request(_COMPAT_GET, nfgenmsg(family) + body) for family in (2, 10)}
    return "the kernel's nft_compat does not know it" if codes == {errno.ENOENT} else ""

"""The base chains of nft in a namespace: where the kernel calls them, with which priority. Raw netlink, no program."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from labctl.core.netfilter_hooks import HookChain, hook_name
from labctl.kernel.netlink.nfnetlink import NFNL_SUBSYS_NFTABLES, NfnetlinkSocket, nfgenmsg
from labctl.kernel.netlink.nft_tables import FAMILIES
from labctl.kernel.netlink.rtnetlink import attribute_text, attributes, iter_attributes

_GETTABLE, _GETCHAIN = (NFNL_SUBSYS_NFTABLES << 8 | number for number in (1, 4))
_TABLE, _HANDLE, _NAME, _HOOK, _POLICY, _USE, _TYPE = range(1, 8)
_HOOK_NUMBER, _PRIORITY, _DEVICE, _DEVICES = 1, 2, 3, 4
_TABLE_NAME, _TABLE_FLAGS, _TABLE_HANDLE = 1, 2, 4
_DORMANT = 1


def base_chains(sock: NfnetlinkSocket | None = None) -> tuple[HookChain, ...]:
    """The base chains of the thread's namespace (or of that of the socket), without those of dormant tables. The order
    is the kernel's: table after table, each in the order of creation. Raises OSError."""
    if sock is None:
        with NfnetlinkSocket(timeout_s=1) as own:
            return base_chains(own)
    handles: dict[tuple[int, str], int] = {}
    for data, start, end in sock.dump(_GETTABLE, nfgenmsg(0)):
        found = attributes(data, start + 4, end)
        flags = _number(data, found[_TABLE_FLAGS]) if _TABLE_FLAGS in found else 0
        if _TABLE_NAME in found and not flags & _DORMANT:
            handle = _long(data, found[_TABLE_HANDLE]) if _TABLE_HANDLE in found else 0
            handles[data[start], attribute_text(data, found[_TABLE_NAME])] = handle
    return tuple(_chains(sock, handles))


def _chains(sock: NfnetlinkSocket, handles: dict[tuple[int, str], int]) -> Iterator[HookChain]:
    for data, start, end in sock.dump(_GETCHAIN, nfgenmsg(0)):
        found = attributes(data, start + 4, end)
        if _HOOK not in found or _TABLE not in found or _NAME not in found:
            continue
        family, table = FAMILIES.get(data[start], str(data[start])), attribute_text(data, found[_TABLE])
        if (data[start], table) not in handles:
            continue
        hook = attributes(data, *found[_HOOK])
        (priority,) = struct.unpack_from("!i", data, hook[_PRIORITY][0])
        devices = [attribute_text(data, hook[_DEVICE])] if _DEVICE in hook else []
        if _DEVICES in hook:
            devices += [attribute_text(data, span) for _, span in iter_attributes(data, *hook[_DEVICES])]
        yield HookChain(
            family, table, attribute_text(data, found[_NAME]),
            attribute_text(data, found[_TYPE]) if _TYPE in found else "filter",
            hook_name(family, _number(data, hook[_HOOK_NUMBER])), priority,
            "drop" if _POLICY in found and _number(data, found[_POLICY]) == 0 else "accept",
            tuple(dict.fromkeys(devices)), _number(data, found[_USE]) if _USE in found else 0,
            _long(data, found[_HANDLE]), handles[data[start], table],
        )  # fmt: skip


def _number(data: bytes, span: tuple[int, int]) -> int:
    return int(struct.unpack_from("!I", data, span[0])[0])


def _long(data: bytes, span: tuple[int, int]) -> int:
    return int(struct.unpack_from("!Q", data, span[0])[0])

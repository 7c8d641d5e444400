"""What netfilter's netlink lists in many namespaces: the tables of nft, and the IP sets. One socket for both."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from labctl.core.resources import IpSet
from labctl.kernel.netlink import ipset, nft_tables
from labctl.kernel.netlink.nfnetlink import NfnetlinkSocket

T = TypeVar("T")


class NetfilterReader:
    """Reads one namespace after the other. Which of the kernel's modules are loaded is looked up once, at the start."""

    def __init__(self) -> None:
        self._has_tables, self._has_sets = nft_tables.is_loaded(), ipset.is_loaded()

    def read(self, ns: str) -> tuple[tuple[tuple[str, str], ...], tuple[IpSet, ...]]:
        """The tables of nft (family, name) and the IP sets of this thread's namespace, with `ns` as its name."""
        if not self._has_tables and not self._has_sets:
            return (), ()
        try:
            sock = NfnetlinkSocket()
        except OSError:
            return (), ()
        with sock:
            tables = _read(lambda: nft_tables.read(sock)) if self._has_tables else ()
            return tables, _read(lambda: ipset.read(sock, ns)) if self._has_sets else ()


def _read(read: Callable[[], tuple[T, ...]]) -> tuple[T, ...]:
    try:
        return read()
    except OSError:
        return ()

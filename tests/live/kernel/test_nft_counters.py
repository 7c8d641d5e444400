"""What rules of nft counted, read from the kernel; tables of iptables are not among those of nft."""

from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from labctl.core.iptables import Backend
from labctl.core.nft_counters import NftCounters
from labctl.kernel.firewall import commands
from labctl.kernel.firewall.chains import native_tables
from labctl.kernel.firewall.nft_program import read_counters, start_counting_denied
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare

pytestmark = pytest.mark.kernel

TEXT = """
table inet t {
    set ports { type inet_service; elements = { 9 }; }
    chain output {
        type filter hook output priority filter; policy accept;
        udp dport @ports counter drop comment "discard"
        counter accept
    }
}
table ip filter { chain FORWARD { type filter hook forward priority filter; policy accept; }; }
"""


def send_and_read(backend: Backend) -> tuple[tuple[NftCounters, ...], int]:
    """In a new namespace, which ends with this thread: three packets that a rule drops, then what was counted."""
    unshare(CLONE_NEWNET)
    commands.run(["/sbin/ip", "link", "set", "lo", "up"])
    assert commands.run([commands.find("nft"), "-f", "-"], TEXT).returncode == 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        for _ in range(3):
            with pytest.raises(PermissionError):
                sender.sendto(b"x", ("127.0.0.1", 9))
    with ExitStack() as held:
        denied = start_counting_denied([("inet", "t")], held)()
    return read_counters("n", native_tables(backend)), denied


@pytest.mark.parametrize(("backend", "tables"), [("legacy", {"inet t", "ip filter"}), ("nft", {"inet t"})])
def test_rules_of_nft_tell_what_they_counted(backend: Backend, tables: set[str]) -> None:
    with NetnsThread() as thread:
        found, denied = thread.run(None, send_and_read, backend)

    assert denied == 3
    assert {one.item.table for one in found} == tables
    chain = next(one for one in found if one.item.name == "output")
    assert chain.item.entries[0] == 'udp dport @ports counter drop comment "discard"'
    assert chain.counters == ((3, 87), (0, 0))
    elements = next(one for one in found if one.item.kind == "set")
    assert (elements.item.entries, elements.counters) == (("9",), (None,))


def test_a_namespace_without_tables_has_none() -> None:
    def read() -> tuple[NftCounters, ...]:
        unshare(CLONE_NEWNET)
        return read_counters("n", native_tables("legacy"))

    with NetnsThread() as thread:
        assert thread.run(None, read) == ()

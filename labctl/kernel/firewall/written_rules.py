"""Whether a restore program wrote what it was given: all rules stand in the kernel, not only its exit status is 0.

A word that the program takes for one of its options can make it end early, with exit status 0 and nothing written.
labctl gives it no such word (`labctl.core.iptables_extensions`); this is the second line of defence, and costs one
system call for each legacy table, or one dump of the written rules of nf_tables.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence

from labctl.core.iptables import BUILTIN
from labctl.core.iptables_save import TableEdit, is_builtin
from labctl.errors import KernelError
from labctl.kernel.firewall.commands import FirewallTool
from labctl.kernel.host.syscalls import probe_legacy_table
from labctl.kernel.netlink import nft_rules

_LEVELS = {"ip": (socket.AF_INET, socket.IPPROTO_IP), "ip6": (socket.AF_INET6, socket.IPPROTO_IPV6)}


def verify(tool: FirewallTool, ns: str, table_edits: Sequence[TableEdit]) -> None:
    """Raise KernelError if rules of the edits are missing in the namespace of this thread."""
    for edit in table_edits:
        if not edit.rule_count:
            continue
        missing = _missing_legacy(tool.family, edit) if tool.legacy else _missing_nft(tool.family, edit)
        if missing > 0:
            what = f"cannot write the {tool.command} table {edit.table} in {ns}"
            raise KernelError(f"{what}: {tool.restore} ended without an error, but {missing} rules are missing")


def _missing_legacy(family: str, edit: TableEdit) -> int:
    """How many entries are missing at least. A table has a policy for each built-in chain, an entry at its end, and two
    entries for each other chain; chains that the edit leaves alone have more."""
    own = sum(2 for chain in edit.chains_to_write if not is_builtin(chain))
    wanted = edit.rule_count + own + len(BUILTIN[(family, edit.table)]) + 1
    kind, level = _LEVELS[family]
    with socket.socket(kind, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as sock:
        try:
            return wanted - probe_legacy_table(sock.fileno(), edit.table, level)
        except OSError:
            return wanted


def _missing_nft(family: str, edit: TableEdit) -> int:
    wanted = {chain.name: len(chain.rules) for chain in edit.chains_to_write if chain.rules}
    try:
        counts = nft_rules.rule_counts(family, edit.table, wanted.keys())
    except OSError:
        return edit.rule_count
    return sum(max(0, number - counts[name]) for name, number in wanted.items())

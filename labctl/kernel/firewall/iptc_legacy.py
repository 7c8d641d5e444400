"""Legacy IPv4 rules through python-iptables: read in the form of iptables-save, and written without a fork.

What this module cannot do is left to the caller, which then uses the tools: `read_tables` returns None, `write` returns
the edits that it did not make. The library keeps one table per name for the whole process, bound to the namespace in
which it was opened. So this module opens a table for each use, closes it, and removes it from the library's cache,
under a lock. IPv6 does not use the library: the two families in one process break each other's extensions.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_save import TableEdit, is_builtin
from labctl.core.resources import Chain
from labctl.kernel.firewall.iptc_import import load
from labctl.kernel.firewall.iptc_rules import build
from labctl.kernel.firewall.iptc_words import RuleFormatter, StdoutCapture, UnsupportedRule
from labctl.kernel.host.syscalls import probe_legacy_table

MAX_CHAIN_ENTRIES = 100  # entries that are no rules, of a table with so few rules
MAX_RULES = 120  # up to so many rules in a table, reading is not slower than one run of iptables-save, measured

_lock = threading.Lock()


@cache
def library() -> Any | None:
    """The module iptc of python-iptables, or None if it cannot work here."""
    try:
        iptc = load()
        with StdoutCapture() as printer:
            printer.prove()
    except Exception:  # a missing library, directory or symbol, an unknown version: always use the tools then
        return None
    return iptc


@contextlib.contextmanager
def open_table(iptc: Any, name: str) -> Iterator[Any]:
    """Open a table of this thread's namespace; afterwards close it and clear the library's caches."""
    table_type = iptc.Table
    try:
        table = table_type(name, autocommit=False)
        # for a rule that jumps, the library would open every known table, and so create it
        table_type.existing_table_names.update({other: other == name for other in table_type.ALL})
        yield table
    finally:
        for table in table_type._cache.values():
            table.autocommit = False
            table.close()
        table_type._cache.clear()
        table_type.existing_table_names.clear()
        iptc.Chain._cache.clear()


def read_tables(ns: str, tables: Sequence[str]) -> list[Chain] | None:
    """The chains of these tables, which must exist; None if the tools should read them instead."""
    iptc = library()
    if iptc is None:
        return None
    if _entries(tables) > MAX_RULES + MAX_CHAIN_ENTRIES:
        return None  # to open a table, the library copies all of it
    chains: list[Chain] = []
    with _lock, StdoutCapture() as printer:
        try:
            for name in tables:
                with open_table(iptc, name) as table:
                    chains += _chains(RuleFormatter(iptc, table, printer), ns, table)
        except (UnsupportedRule, iptc.IPTCError, OSError, ValueError):
            return None
    return chains


def _entries(tables: Sequence[str]) -> int:
    """How many entries the largest of these tables has: its rules, and what begins and ends its chains."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as sock:
        return max((probe_legacy_table(sock.fileno(), name) for name in tables), default=0)


def write(table_edits: Sequence[TableEdit]) -> list[TableEdit]:
    """Make the edits, one commit per table. Returns those that were not made, which the tools must make or refuse."""
    iptc = library()
    if iptc is None:
        return list(table_edits)
    left: list[TableEdit] = []
    with _lock:
        for edit in table_edits:
            try:
                with open_table(iptc, edit.table) as table:
                    _apply_edit(iptc, table, edit)
                    table.commit()
            except Exception:  # there are many kinds; the tool that is called next reports what is wrong
                left.append(edit)
    return left


def _chains(words: RuleFormatter, ns: str, table: Any) -> Iterator[Chain]:
    low: Any = table._iptc
    names = []
    name = low.iptc_first_chain(table._handle)
    while name:
        names.append(name.decode())
        name = low.iptc_next_chain(table._handle)
    count = 0
    for chain in names:
        policy = table.get_policy(chain)[0]
        rules = []
        entry = low.iptc_first_rule(chain.encode(), table._handle)
        while entry:
            if (count := count + 1) > MAX_RULES:
                raise UnsupportedRule("too many rules to read them one by one")
            rules.append(FirewallRule(tuple(words.rule_args(entry))))
            entry = low.iptc_next_rule(entry, table._handle)
        yield Chain(ns, table.name, chain, tuple(rules), policy and policy.name)


def _apply_edit(iptc: Any, table: Any, edit: TableEdit) -> None:
    """Make the whole edit in the table's memory: it takes effect with the commit."""
    for chain in edit.chains_to_write:
        if table.is_chain(chain.name):
            table.flush_entries(chain.name)
        else:
            table.create_chain(chain.name)
        if is_builtin(chain):
            table.set_policy(chain.name, chain.policy or "ACCEPT")
    for chain in edit.chains_to_delete:
        table.flush_entries(chain.name)
        if is_builtin(chain):
            table.set_policy(chain.name, "ACCEPT")
    for chain in edit.chains_to_write:
        for rule in chain.rules:
            table.append_entry(chain.name, build(iptc, table, rule))
    for chain in edit.chains_to_delete:
        if not is_builtin(chain):
            table.delete_chain(chain.name)

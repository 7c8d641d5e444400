"""Read and write tables of nft with the program `nft`, with which CNI plugins and users write them.

labctl writes no rules of nft itself. It expects those that CNI plugins wrote to stay, and restores them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from labctl.core import nft_ruleset
from labctl.core.resources import Chain
from labctl.errors import KernelError, MissingError
from labctl.kernel.firewall import commands

if TYPE_CHECKING:
    from labctl.core.diff import Change

_HINT = "apt install nftables"


def read_chains(ns: str, family: str, table: str, wanted: Iterable[Chain] = ()) -> tuple[Chain, ...]:
    """The chains of a table in this thread's namespace. `wanted` are the chains of nft that the caller expects there.

    Without the program there are none; raises MissingError if some are expected. None are read if the caller expects
    the table and no chain of it: then it was recorded without the program.
    """
    key = (ns, family, table)
    expected = [chain for chain in wanted if nft_ruleset.table_key(chain) == key]
    if expected and all(nft_ruleset.is_table_item(chain) for chain in expected):
        return ()
    try:
        program = commands.find("nft")
    except MissingError:
        if expected:
            raise MissingError(f"{ns} has rules of nft, and nft is not installed", _HINT) from None
        return ()
    done = commands.run([program, "-s", "list", "table", family, table])
    if done.returncode:
        return ()  # it was removed meanwhile
    return tuple(nft_ruleset.parse_table(ns, family, table, done.stdout))


def write(ns: str, changes: Iterable[Change]) -> None:
    """Carry out the changes of chains of nft in this thread's namespace, in one transaction.

    Raises KernelError if nft refuses them, MissingError if it is not installed.
    """
    script = nft_ruleset.restore_script(changes)
    if not script:
        return
    try:
        program = commands.find("nft")
    except MissingError:
        raise MissingError(f"cannot restore rules of nft in {ns}: nft is not installed", _HINT) from None
    done = commands.run([program, "-f", "-"], script)
    if done.returncode:
        reason = done.stderr.strip().splitlines()
        raise KernelError(f"cannot restore rules of nft in {ns}: {reason[0] if reason else 'nft failed'}")

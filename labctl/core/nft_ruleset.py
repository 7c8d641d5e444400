"""The text of an nft table, as `nft list table` prints it, and the chains in it. Pure.

A table that nft wrote is one `Chain` of the family `nft` without rules: it says that the table exists. With `chains` it
is also one `Chain` for each of its chains, with the lines of the chain as rules; a chain without a name has the table's
own lines and its sets and maps. labctl compares these lines and writes them back, and never reads more out of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import TYPE_CHECKING

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain

if TYPE_CHECKING:
    from labctl.core.diff import Change

NFT = "nft"
_QUOTED = re.compile(r'"[^"]*"')
_BLOCK = re.compile(r"(set|map) (\S+) \{")
_HEADER = re.compile(r'(type|policy) .*|comment "[^"]*"')


def table_item(ns: str, family: str, table: str) -> Chain:
    """The chain that stands for a whole table."""
    return Chain(ns, table, f"{family} {table}", family=NFT)


def is_table_item(chain: Chain) -> bool:
    """Whether a chain stands for a whole table of nft."""
    return chain.family == NFT and chain.name.partition(" ")[2] == chain.table


def table_key(chain: Chain) -> tuple[str, str, str]:
    """The namespace, family and name of the table that a chain of nft belongs to, or stands for."""
    family, _, table = (chain.name if is_table_item(chain) else chain.table).partition(" ")
    return chain.ns, family, table


def parse_table(ns: str, family: str, table: str, text: str) -> Iterator[Chain]:
    """The chains in what `nft list table` printed; first the one without a name, if the table has other lines."""
    own: list[str] = []
    chains: list[Chain] = []
    for statement in _statements(_inside(text)):
        head, _, body = statement.partition("{")
        if head.startswith("chain "):
            rules = tuple(FirewallRule((line,)) for line in _statements(body[: body.rindex("}")]))
            chains.append(Chain(ns, f"{family} {table}", head.split()[1], rules, family=NFT))
        else:
            own.append(statement)
    if own:
        yield Chain(ns, f"{family} {table}", "", tuple(FirewallRule((line,)) for line in own), family=NFT)
    yield from chains


def _inside(text: str) -> str:
    """The lines between the braces of the first block."""
    start, end = text.find("{"), text.rfind("}")
    return text[start + 1 : end] if 0 <= start < end else ""


def _statements(text: str) -> Iterator[str]:
    """The statements of a block: lines, or several lines as long as a brace is open."""
    lines: list[str] = []
    depth = 0
    for line in map(str.strip, text.splitlines()):
        if not line:
            continue
        unquoted = _QUOTED.sub("", line)
        depth += unquoted.count("{") - unquoted.count("}")
        lines.append(line)
        if depth <= 0:
            yield "\n".join(lines)
            lines, depth = [], 0


def restore_script(changes: Iterable[Change]) -> str:
    """The input of `nft -f` that carries out changes of nft chains; "" if there is none. Tables are removed elsewhere.

    One script is one transaction. A chain keeps its type and its hook for its life: one that has others is made again.
    """
    flushed: list[str] = []
    deleted: list[str] = []
    added: list[str] = []
    for change in changes:
        chain = change.subject
        if not isinstance(chain, Chain) or chain.family != NFT or is_table_item(chain):
            continue
        want, have = change.want, change.have
        assert isinstance(want, Chain | None)
        assert isinstance(have, Chain | None)
        if have is not None:
            flushed += _flush(have)
        if have is not None and have.name and (want is None or _header(want) != _header(have)):
            deleted.append(f"delete chain {have.table} {have.name}")
        if want is not None:
            added.append(_block(want))
    return "".join(f"{line}\n" for line in (*flushed, *deleted, *added))


def _flush(chain: Chain) -> Iterator[str]:
    if chain.name:
        yield f"flush chain {chain.table} {chain.name}"
        return
    for rule in chain.rules:
        if found := _BLOCK.match(rule.args[0]):
            yield f"flush {found[1]} {chain.table} {found[2]}"


def _header(chain: Chain) -> tuple[str, ...]:
    return tuple(takewhile(_HEADER.fullmatch, (rule.args[0] for rule in chain.rules)))


def _block(chain: Chain) -> str:
    lines = "\n".join(rule.args[0] for rule in chain.rules)
    body = f"chain {chain.name} {{\n{lines}\n}}" if chain.name else lines
    return f"table {chain.table} {{\n{body}\n}}"

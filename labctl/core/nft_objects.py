"""Objects of nft in the words that models use: `base_chain(...)`, `chain(...)`, `verdict_map(...)`. Pure.

Each returns an `NftObject`, in the spelling of `nft -s list ruleset`. `assemble` adds the
table, unless a model yields it because it has a comment or flags.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from labctl.core.resources import NftObject

if TYPE_CHECKING:
    from labctl.core.why import Reason


def table(ns: str, name: str, *, comment: str = "", flags: str = "", why: Reason | None = None) -> NftObject:
    """A table: `name` is its family and name, as `inet netavark`."""
    header = [f"comment {_quoted(comment)}"] if comment else []
    return NftObject(ns, name, "table", "", (*header, *([f"flags {flags}"] if flags else [])), why=why)


def base_chain(
    ns: str,
    table: str,
    name: str,
    rules: Iterable[str] = (),
    *,
    type: str,
    hook: str,
    priority: str,
    policy: str = "accept",
    device: str = "",
    comment: str = "",
    why: Reason | None = None,
) -> NftObject:
    """A chain that the kernel calls at a hook. `priority` is as nft prints it: `filter`, `dstnat - 10`, `-90`."""
    on = f' device "{device}"' if device else ""
    header = [f"type {type} hook {hook}{on} priority {priority}; policy {policy};"]
    header += [f"comment {_quoted(comment)}"] if comment else []
    return NftObject(ns, table, "chain", name, tuple(header), tuple(rules), why=why)


def chain(
    ns: str, table: str, name: str, rules: Iterable[str] = (), *, comment: str = "", why: Reason | None = None
) -> NftObject:
    """A chain that other rules jump to."""
    header = (f"comment {_quoted(comment)}",) if comment else ()
    return NftObject(ns, table, "chain", name, header, tuple(rules), why=why)


def set_(
    ns: str,
    table: str,
    name: str,
    elements: Iterable[str] = (),
    *,
    type: str,
    settings: Iterable[str] = (),
    why: Reason | None = None,
) -> NftObject:
    """A named set. `settings` are its other lines in nft's order: `flags interval`, `timeout 3h`, `comment "..."`."""
    return NftObject(ns, table, "set", name, (f"type {type}", *settings), tuple(elements), why=why)


def map_(
    ns: str,
    table: str,
    name: str,
    elements: Iterable[str] = (),
    *,
    type: str,
    settings: Iterable[str] = (),
    why: Reason | None = None,
) -> NftObject:
    """A named map. `type` has both sides, `ifname : verdict`; so has each element, `"docker0" : jump NAME`."""
    return NftObject(ns, table, "map", name, (f"type {type}", *settings), tuple(elements), why=why)


def _quoted(text: str) -> str:
    return f'"{text}"'

"""The input of `nft -f` that carries out the changes of a diff in one transaction. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from labctl.core.nft_ruleset import WITH_ELEMENTS, input_text, numeric_header, policy_of
from labctl.core.resources import NftObject

if TYPE_CHECKING:
    from labctl.core.diff import Change


def needs_present(changes: Iterable[Change]) -> bool:
    """Whether `change_script` has to know the objects that exist: something goes that others may refer to."""
    return any(_is_made_again(*pair) or _goes(*pair) for pair in _pairs(changes))


def change_script(changes: Iterable[Change], present: Sequence[NftObject] = ()) -> str:
    """The commands that carry out all changes of objects of nft; "" if there are none.

    nft carries out the whole text or nothing. A chain with other rules is emptied and filled again; of sets and maps
    only the elements that differ are written. A chain keeps its type and hook for its life, a set its type: one that
    has others is made again, and with it the rules and elements among `present` that refer to it.
    """
    flushed: list[str] = []
    deleted: list[str] = []
    added: list[NftObject] = []
    elements: list[str] = []
    gone: set[tuple[str, str]] = set()  # table and name of what is deleted or made again
    handled: set[tuple[object, ...]] = set()
    pairs = list(_pairs(changes))
    removed_tables = {have.table for want, have in pairs if want is None and have is not None and have.kind == "table"}
    for want, have in pairs:
        item = want or have
        assert item is not None
        handled.add(item.key)
        if item.kind == "table":
            if want is None:
                deleted.append(f"delete table {item.table}")
            else:
                added.append(want)
            continue
        if want is None and item.table in removed_tables:
            continue  # it goes with its table
        if have is not None and (_goes(want, have) or _is_made_again(want, have)):
            gone.add((item.table, item.name))
            flushed += _flush(have)
            deleted.append(f"delete {have.kind} {have.table} {have.name}")
            added += [] if want is None else [want]
        elif have is None:
            assert want is not None
            added.append(want)
        else:
            assert want is not None
            if item.kind in WITH_ELEMENTS:
                flushed += _element_command("delete", have, set(have.entries) - set(want.entries))
                elements += _element_command("add", want, set(want.entries) - set(have.entries))
            else:
                flushed += _flush(have)
                added.append(want)
    for item in present:
        if item.key not in handled and item.table not in removed_tables and _refers(item, gone):
            flushed += _flush(item)
            added.append(item)
    lines = [line for line in (*flushed, *deleted) if line]
    return "".join(f"{line}\n" for line in lines) + input_text(added) + "".join(f"{line}\n" for line in elements)


def _pairs(changes: Iterable[Change]) -> Iterator[tuple[NftObject | None, NftObject | None]]:
    for change in changes:
        if isinstance(change.subject, NftObject):
            assert isinstance(change.want, NftObject | None)
            assert isinstance(change.have, NftObject | None)
            yield change.want, change.have


def _goes(want: NftObject | None, have: NftObject | None) -> bool:
    return want is None and have is not None and have.kind != "table"


def _is_made_again(want: NftObject | None, have: NftObject | None) -> bool:
    """Whether an object exists with a header that it cannot change. A base chain can change its policy."""
    if want is None or have is None or want.kind == "table" or numeric_header(want) == numeric_header(have):
        return False
    if want.kind != "chain":
        return True
    return _without_policy(want) != _without_policy(have)


def _without_policy(chain: NftObject) -> tuple[str, ...]:
    policy = policy_of(chain)
    return tuple(line.replace(f"; policy {policy};", ";") for line in numeric_header(chain))


def _refers(item: NftObject, names: set[tuple[str, str]]) -> bool:
    """Whether the rules or elements of an object name one of these, in the same table."""
    here = {name for table, name in names if table == item.table}
    if not here:
        return False
    words = {f"@{name}" for name in here} | here
    return any(word.rstrip(",") in words for entry in item.entries for word in entry.split())


def _flush(item: NftObject) -> Iterator[str]:
    if item.kind == "chain" or item.kind in WITH_ELEMENTS:
        yield f"flush {item.kind} {item.table} {item.name}"


def _element_command(verb: str, item: NftObject, elements: set[str]) -> Iterator[str]:
    if elements:
        ordered = [one for one in item.entries if one in elements]
        yield f"{verb} element {item.table} {item.name} {{ {', '.join(ordered)} }}"

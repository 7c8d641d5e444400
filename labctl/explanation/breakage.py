"""What breaks without an object: the faults of the catalogue that remove or change it. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from labctl.core.diff import Change
from labctl.core.iptables import FirewallRule
from labctl.core.resources import Address, Chain, NftObject, Resource
from labctl.core.scenario_types import Lab
from labctl.faults.catalogue import applicable


@dataclass(frozen=True, slots=True)
class Breakage:
    """A kind of fault on one object: what is wrong, what follows for packets, and the object as `labctl break` takes
    it. `removes` is whether the object is missing then; else it is there, and wrong."""

    kind: str
    on: str
    summary: str
    effect: str
    removes: bool


class Breakages:
    """The faults of one lab by the object that they remove or change."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def of(self, item: Resource) -> tuple[Breakage, ...]:
        """What breaks if the object is missing or wrong. Of a chain, its rules are asked with `of_rule`."""
        found = (one for one, change in self._by_key.get(item.key, ()) if not _is_about_rules(change))
        return _unique(found)

    def of_rule(self, chain: Chain | NftObject, rule: FirewallRule | str) -> tuple[Breakage, ...]:
        """What breaks if the chain lacks this rule, or has another in its place."""
        found = (one for one, change in self._by_key.get(chain.key, ()) if rule in _removed_rules(change))
        return _unique(found)

    @cached_property
    def _by_key(self) -> dict[tuple[Any, ...], list[tuple[Breakage, Change]]]:
        found: dict[tuple[Any, ...], list[tuple[Breakage, Change]]] = {}
        for kind, faults in applicable(self.lab):
            for fault in faults:
                for change in fault.changes:
                    if change.have is not None:
                        removes = _is_gone(change, fault.changes) or _has_fewer_rules(change)
                        one = Breakage(kind.name, fault.on, kind.summary, kind.effect, removes)
                        found.setdefault(change.have.key, []).append((one, change))
        return found


def _is_gone(change: Change, changes: Iterable[Change]) -> bool:
    """Whether nothing is in the place of the object: an address with another prefix length is wrong, not missing."""
    have = change.have
    if change.want is not None:
        return False
    return not isinstance(have, Address) or not any(
        isinstance(one.want, Address) and (one.want.at, one.want.addr.ip) == (have.at, have.addr.ip) for one in changes
    )


def _is_about_rules(change: Change) -> bool:
    have, want = change.have, change.want
    if isinstance(have, NftObject) and isinstance(want, NftObject):
        return have.kind == "chain" and have.header == want.header
    return isinstance(have, Chain) and isinstance(want, Chain) and have.policy == want.policy


def _rules(item: Resource | None) -> tuple[FirewallRule | str, ...] | None:
    """The rules of a chain of either firewall, the elements of a set or map of nft; None for anything else."""
    if isinstance(item, NftObject) and item.kind != "table":
        return item.entries
    return item.rules if isinstance(item, Chain) else None


def _removed_rules(change: Change) -> Counter[FirewallRule | str]:
    have, want = _rules(change.have), _rules(change.want)
    return Counter() if have is None or want is None else Counter(have) - Counter(want)


def _has_fewer_rules(change: Change) -> bool:
    """Whether rules of a chain, or elements, are missing; else one has another in its place."""
    have, want = _rules(change.have), _rules(change.want)
    return have is not None and want is not None and len(want) < len(have)


def _unique(found: Iterator[Breakage]) -> tuple[Breakage, ...]:
    """Each kind once, those that remove the object first."""
    by_kind: dict[str, Breakage] = {}
    for one in found:
        by_kind.setdefault(one.kind, one)
    return tuple(sorted(by_kind.values(), key=lambda one: not one.removes))

"""What differs between the wanted and the found: the one function behind up, status, dry-run and repair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache
from operator import attrgetter
from typing import Any, Literal, cast

from labctl.core.iptables import BUILTIN
from labctl.core.kernel_defaults import moves_local, own_addresses, own_rules
from labctl.core.resources import PHASE, TRANSIENT, Chain, Link, Neighbour, Netns, Plan, Resource, Route, Rule, Sysctl

Kind = Literal["missing", "extra", "changed"]
_NO_IPV6 = ("net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.lo.disable_ipv6")  # they take ::1 away


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: wanted and not there (missing), there and not wanted (extra), or both but unlike."""

    want: Resource | None
    have: Resource | None

    @property
    def kind(self) -> Kind:
        if self.have is None:
            return "missing"
        return "extra" if self.want is None else "changed"

    @property
    def subject(self) -> Resource:
        """The object this change is about: as wanted where it is wanted, else as found."""
        subject = self.want if self.want is not None else self.have
        assert subject is not None
        return subject


def diff(want: Plan, have: Plan) -> tuple[Change, ...]:
    """The changes that turn `have` into `want`: removals first, last phase first, then the rest in order.

    What belongs to a missing or extra namespace or link goes without saying for removals (the kernel
    takes it along) but is listed for additions, since each has to be made. Learned neighbours and
    forwarding entries, and the ageing away of transient ones, are no drift.
    """
    found = {item.key: item for item in have}
    wanted = _implied(want, found) | {item.key: item for item in want}
    twins = _twins(wanted, found, have) if len(found) < len(have) else []
    gone = {key for key in found if key[0] in ("netns", "link") and key not in wanted}
    extra = [
        Change(None, item)
        for key, item in found.items()
        if key not in wanted and _counts(item) and not _goes_along(item, gone)
    ]
    extra += [Change(None, item) for item in twins]
    rest: list[Change] = []
    for key, item in wanted.items():
        other = found.get(key)
        if other is None:
            if not _ignorable(item, found):
                rest.append(Change(item, None))
        elif item is not other and item != other and not same(item, other):
            rest.append(Change(item, other))
    extra.sort(key=lambda change: -PHASE[type(change.have)])
    rest.sort(key=lambda change: PHASE[type(change.want)])
    return (*extra, *rest)


def beyond(want: Plan, have: Plan) -> Plan:
    """What is there beside the wanted, or in its place: everything that `diff` would call extra, with all that
    goes along with it, and the found side of what it would call changed."""
    found = {item.key: item for item in have}
    wanted = _implied(want, found) | {item.key: item for item in want}
    return tuple(
        item
        for key, item in found.items()
        if (key not in wanted and _counts(item)) or (key in wanted and not same(wanted[key], item))
    )


def _twins(
    wanted: dict[tuple[Any, ...], Resource], found: dict[tuple[Any, ...], Resource], have: Plan
) -> list[Resource]:
    """What is there beside another of the same key, as `ip route append` makes it: all but the wanted one."""
    groups: dict[tuple[Any, ...], list[Resource]] = {}
    for item in have:
        groups.setdefault(item.key, []).append(item)
    twins: list[Resource] = []
    for key, group in groups.items():
        if len(group) > 1:
            want = wanted.get(key)
            keep = next((item for item in group if want is not None and same(want, item)), group[-1])
            found[key] = keep
            twins += [item for item in dict.fromkeys(group) if item != keep]
    return twins


def _implied(want: Plan, found: dict[tuple[Any, ...], Resource]) -> dict[tuple[Any, ...], Resource]:
    """What nobody needs to plan: forwarding on every device, as ip_forward says; the kernel's own routing rules, but
    not the first where the plan has it elsewhere; the addresses of a loopback device that is up. A family of which
    nothing was read is not spoken here."""
    implied: dict[tuple[Any, ...], Resource] = {}
    forward = {item.ns: item.value for item in want if isinstance(item, Sysctl) and item.name == "net.ipv4.ip_forward"}
    for key, item in found.items():
        if isinstance(item, Sysctl) and item.name.endswith(".forwarding") and item.ns in forward:
            implied[key] = Sysctl(item.ns, item.name, forward[item.ns])  # what ip_forward sets on every device
    silent = {item.ns for item in want if isinstance(item, Sysctl) and item.name in _NO_IPV6 and item.value == "1"}
    moved = {(item.ns, item.family) for item in want if isinstance(item, Rule) and moves_local(item)}
    for ns in [item.name for item in want if isinstance(item, Netns)]:
        lo = found.get(("link", ns, "lo"))
        for version in (4, 6):
            rules = {rule.key: rule for rule in own_rules(ns, version)[(ns, version) in moved :]}
            if any(key in found for key in rules):
                implied |= rules
                if isinstance(lo, Link) and lo.up and (version == 4 or ns not in silent):
                    implied |= {address.key: address for address in own_addresses(ns, version)}
    return implied


def same(want: Resource, have: Resource) -> bool:
    """Whether two objects of one key are alike, where None on the wanted side means "any"."""
    return not differing(want, have)


def differing(want: Resource, have: Resource) -> tuple[str, ...]:
    """The names of the fields in which `have` is not as wanted."""
    if type(want) is not type(have):
        return ("kind",)
    names, getter = _fields(cast("Any", type(want)))
    if getter(want) == getter(have):
        return ()
    return tuple(name for name in names if not _alike(want, have, name))


def _alike(want: Resource, have: Resource, name: str) -> bool:
    wanted, found = getattr(want, name), getattr(have, name)
    if wanted == found:
        return True
    if isinstance(want, Link) and name in ("master", "peer"):
        return False
    if isinstance(want, Link) and name == "born":
        return {wanted, found} == {None, want.ns}  # made where it is: said in two ways
    if isinstance(want, Link) and name == "options":
        return set(wanted) <= set(found)
    if isinstance(want, Neighbour) and name in ("state", "mac") and want.state in TRANSIENT:
        # compared by address and MAC while it exists; one that failed has none
        return name == "state" or found is None
    if isinstance(want, Chain) and name == "policy":
        return (wanted or "ACCEPT") == (found or "ACCEPT")
    if isinstance(want, Route):
        return name in ("dev", "proto") and wanted is None
    if name in ("mtu", "mac", "connected", "pid"):
        return wanted is None or found is None
    return False


def _counts(item: Resource) -> bool:
    """Whether an object nobody asked for is drift: not what the kernel learned or always has."""
    if isinstance(item, Neighbour):
        return item.proxy or item.state == "permanent"
    if isinstance(item, Chain):
        return bool(item.rules) or (item.policy or "ACCEPT") != "ACCEPT" or not _builtin(item)
    if isinstance(item, Link):
        return item.kind != "loopback"
    return True


def _ignorable(item: Resource, found: dict[tuple[Any, ...], Resource]) -> bool:
    """Whether the absence of a wanted object is no drift."""
    if isinstance(item, Neighbour) and item.state in TRANSIENT and not item.proxy:
        return ("link", item.at.ns, item.at.dev) in found  # it aged away; a new link needs it anew
    if isinstance(item, Chain):
        return not item.rules and item.policy in (None, "ACCEPT") and _builtin(item) and _known(item.ns, found)
    return False


def _known(ns: str, found: dict[tuple[Any, ...], Resource]) -> bool:
    return ("netns", ns) in found


def _goes_along(item: Resource, gone: set[tuple[Any, ...]]) -> bool:
    if not gone or isinstance(item, Netns):
        return False
    if ("netns", item.ns) in gone:
        return True
    if isinstance(item, (Link, Route)):
        return isinstance(item, Route) and ("link", item.ns, item.dev) in gone
    at = getattr(item, "at", None)
    return at is not None and ("link", at.ns, at.dev) in gone


def _builtin(chain: Chain) -> bool:
    return chain.name in BUILTIN.get((chain.family, chain.table), ())


@cache
def _fields(kind: Any) -> tuple[tuple[str, ...], Any]:
    names = tuple(field.name for field in fields(kind))
    return names, attrgetter(*names)


def by_place(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """Changes grouped by namespace, for reports; the order within each is kept."""
    places: dict[str, list[Change]] = {}
    for change in changes:
        places.setdefault(change.subject.ns, []).append(change)
    return places


__all__ = ["Change", "beyond", "by_place", "diff", "differing", "same"]

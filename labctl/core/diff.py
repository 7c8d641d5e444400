"""The differences between the wanted and the observed state: one function for up, status, dry-run and repair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any, Literal, cast

from labctl.core.iptables import BUILTIN
from labctl.core.kernel_defaults import (
    kernel_default_addresses,
    kernel_default_fdb,
    kernel_default_rules,
    replaces_local_rule,
)
from labctl.core.nft_ruleset import numeric_header
from labctl.core.resources import (
    CREATION_ORDER,
    TRANSIENT_NUD_STATES,
    Chain,
    Link,
    Neighbour,
    Netns,
    NextHop,
    NftObject,
    Plan,
    Resource,
    Route,
    Rule,
    Sysctl,
    in_creation_order,
    value_fields,
)
from labctl.core.sysctl_values import same_value
from labctl.core.text import short_repr

ChangeKind = Literal["missing", "extra", "changed"]
_DISABLE_IPV6_SYSCTLS = ("net.ipv6.conf.all.disable_ipv6", "net.ipv6.conf.lo.disable_ipv6")  # they remove ::1


@dataclass(frozen=True, slots=True)
class Change:
    """One difference: a wanted object does not exist (missing), an object is not wanted (extra), or values differ
    (changed)."""

    want: Resource | None
    have: Resource | None

    def __repr__(self) -> str:
        return short_repr(self, f"{self.kind}: {' '.join(str(part) for part in self.subject.key if part is not None)}")

    @property
    def kind(self) -> ChangeKind:
        if self.have is None:
            return "missing"
        return "extra" if self.want is None else "changed"

    @property
    def subject(self) -> Resource:
        """The object of this change: the wanted one if there is one, else the observed one."""
        subject = self.want if self.want is not None else self.have
        assert subject is not None
        return subject


def diff(want: Plan, have: Plan) -> tuple[Change, ...]:
    """The changes that turn `have` into `want`: first removals in reverse order of phases, then the others in order.

    For a namespace or link that is removed, its objects are not listed, because the kernel removes them with it. For
    one that is added, each object is listed, because each has to be created. Learned neighbours and forwarding
    entries, and transient entries that expired, are not drift.
    """
    if not have:  # a new lab: nothing is there by default, and nothing may be missing
        return tuple([Change(item, None) for item in in_creation_order({item.key: item for item in want}.values())])
    want, have = _without_shared_chains(want, have)
    found = {item.key: item for item in have}
    wanted = _kernel_defaults(want, found) | {item.key: item for item in want}
    duplicates = _duplicates(wanted, found, have) if len(found) < len(have) else []
    removed_keys = {key for key in found if (key[0] in ("netns", "link") or _is_nft_table(key)) and key not in wanted}
    extra = [
        Change(None, item)
        for key, item in found.items()
        if key not in wanted and _is_drift(item) and not _removed_with_parent(item, removed_keys)
    ]
    extra += [Change(None, item) for item in duplicates]
    rest: list[Change] = []
    for key, item in wanted.items():
        other = found.get(key)
        if other is None:
            if not _may_be_missing(item, found):
                rest.append(Change(item, None))
        elif item is not other and item != other and not same(item, other):
            rest.append(Change(item, other))
    extra.sort(key=lambda change: -CREATION_ORDER[type(change.have)])
    rest.sort(key=lambda change: CREATION_ORDER[type(change.want)])
    return (*extra, *rest)


def _without_shared_chains(want: Plan, have: Plan) -> tuple[Plan, Plan]:
    """Both sides without the chains of iptables that are one object in both: readers return the planned chains where
    exactly these are there, and a cluster has ten thousands of them."""
    wanted = {id(item) for item in want if isinstance(item, Chain)}
    shared = wanted.intersection([id(item) for item in have])
    if not shared:
        return want, have
    left = (tuple([item for item in items if id(item) not in shared]) for items in (want, have))
    return next(left), next(left)


def surplus(want: Plan, have: Plan) -> Plan:
    """The observed objects that are not as wanted: everything that `diff` calls extra, including the objects that go
    with a namespace or link, and the observed side of everything that it calls changed."""
    found = {item.key: item for item in have}
    wanted = _kernel_defaults(want, found) | {item.key: item for item in want}
    return tuple(
        item
        for key, item in found.items()
        if (key not in wanted and _is_drift(item)) or (key in wanted and not same(wanted[key], item))
    )


def _duplicates(
    wanted: dict[tuple[Any, ...], Resource], found: dict[tuple[Any, ...], Resource], have: Plan
) -> list[Resource]:
    """Additional objects with the key of another one, as `ip route append` creates them: all except the wanted one.

    `found` then has the one to keep.
    """
    groups: dict[tuple[Any, ...], list[Resource]] = {}
    for item in have:
        groups.setdefault(item.key, []).append(item)
    duplicates: list[Resource] = []
    for key, group in groups.items():
        if len(group) > 1:
            want = wanted.get(key)
            keep = next((item for item in group if want is not None and same(want, item)), group[-1])
            found[key] = keep
            duplicates += [item for item in dict.fromkeys(group) if item != keep]
    return duplicates


def _kernel_defaults(want: Plan, found: dict[tuple[Any, ...], Resource]) -> dict[tuple[Any, ...], Resource]:
    """Objects that are wanted without being in the plan: forwarding on every device, as ip_forward sets it; the
    kernel's routing rules, without the first one if the plan moves it; the addresses of a loopback device that is up;
    the entry of a vxlan for unknown destinations (if the vxlan exists: a new one gets it from the kernel).
    A family of which no rule was read is left out."""
    implied: dict[tuple[Any, ...], Resource] = {}
    forward = {item.ns: item.value for item in want if isinstance(item, Sysctl) and item.name == "net.ipv4.ip_forward"}
    for key, item in found.items():
        if isinstance(item, Sysctl) and item.name.endswith(".forwarding") and item.ns in forward:
            implied[key] = Sysctl(item.ns, item.name, forward[item.ns])  # ip_forward sets it on every device
    without_ipv6: set[str] = set()
    for item in want:  # in the order in which they are written
        if isinstance(item, Sysctl) and item.name in _DISABLE_IPV6_SYSCTLS:
            (without_ipv6.discard if same_value(item.value, "0") else without_ipv6.add)(item.ns)
    local_rule_replaced = {
        (item.ns, item.family) for item in want if isinstance(item, Rule) and replaces_local_rule(item)
    }
    for link in want:
        if isinstance(link, Link) and link.kind == "vxlan" and link.key in found:
            implied |= {entry.key: entry for entry in kernel_default_fdb(link)}
    for ns in [item.name for item in want if isinstance(item, Netns)]:
        lo = found.get(("link", ns, "lo"))
        for version in (4, 6):
            rules = {
                rule.key: rule for rule in kernel_default_rules(ns, version)[(ns, version) in local_rule_replaced :]
            }
            if any(key in found for key in rules):
                implied |= rules
                if isinstance(lo, Link) and lo.up and (version == 4 or ns not in without_ipv6):
                    implied |= {address.key: address for address in kernel_default_addresses(ns, version)}
    return implied


def same(want: Resource, have: Resource) -> bool:
    """Whether two objects with one key are equal, where None on the wanted side means "any"."""
    return not differing_fields(want, have)


def differing_fields(want: Resource, have: Resource) -> tuple[str, ...]:
    """The names of the fields of `have` that are not as wanted."""
    if type(want) is not type(have):
        return ("kind",)
    names, getter = _fields(cast("Any", type(want)))
    if getter(want) == getter(have):
        return ()
    return tuple(name for name in names if not _field_matches(want, have, name))


def _field_matches(want: Resource, have: Resource, name: str) -> bool:
    wanted, found = getattr(want, name), getattr(have, name)
    if wanted == found:
        return True
    if isinstance(want, Link) and name in ("master", "peer"):
        return False
    if isinstance(want, Link) and name == "link_netns":
        return {wanted, found} == {None, want.ns}  # None and its own namespace mean the same
    if isinstance(want, Link) and name == "options":
        return set(wanted) <= set(found) or all(_option_matches(pair, dict(found)) for pair in wanted)
    if isinstance(want, Neighbour) and name in ("state", "mac") and want.state in TRANSIENT_NUD_STATES:
        # compared by address and MAC address while it exists; a failed entry has no MAC address
        return name == "state" or found is None
    if isinstance(want, Chain) and name == "policy":
        return (wanted or "ACCEPT") == (found or "ACCEPT")
    if isinstance(want, NftObject):
        if name == "header":
            assert isinstance(have, NftObject)
            return numeric_header(want) == numeric_header(have)
        return name == "entries" and want.kind != "chain" and _elements_match(want, found)
    if isinstance(want, Sysctl) and name == "value":
        return same_value(wanted, found)
    if isinstance(want, Route) and name == "nexthops":
        return _nexthops_match(want.nexthops, found)
    if isinstance(want, Route):
        return name in ("dev", "proto", "nhid") and wanted is None
    if name in ("mtu", "mac", "txqueuelen", "connected", "pid", "via"):
        return wanted is None or found is None
    return False


def _elements_match(want: NftObject, found: tuple[str, ...]) -> bool:
    """Whether a set or map has the wanted elements, in any order. Packets may have added some to a dynamic one, and
    elements with a timeout go by themselves."""
    dynamic = any(line.startswith("flags ") and "dynamic" in line for line in want.header)
    all_go = any(line.startswith("timeout ") for line in want.header)
    stay = {entry for entry in want.entries if not all_go and " timeout " not in entry}
    return stay <= set(found) and (dynamic or set(found) <= set(want.entries))


def _nexthops_match(wanted: tuple[NextHop, ...], found: tuple[NextHop, ...]) -> bool:
    """Whether a multipath route has these next hops, in any order; a wanted one without a device may have any."""
    order = [sorted(hops, key=lambda hop: (str(hop.via), hop.weight, hop.onlink)) for hops in (wanted, found)]
    return len(wanted) == len(found) and all(
        want == replace(have, dev=have.dev if want.dev is not None else None) for want, have in zip(*order, strict=True)
    )


def _option_matches(pair: tuple[str, str], found: dict[str, str]) -> bool:
    """Whether an option of a link is as wanted. The kernel counts `ageing_time` (hundredths of a second) in jiffies,
    and shows one less if it is not a whole number of them."""
    name, value = pair
    if name == "ageing_time":
        return name in found and 0 <= int(value) - int(found[name]) <= 1
    return found.get(name) == value


def _is_drift(item: Resource) -> bool:
    """Whether an unwanted object is drift: it is not, if the kernel learned it or always has it."""
    if isinstance(item, Neighbour):
        return item.proxy or item.state == "permanent"
    if isinstance(item, Chain):
        return bool(item.rules) or (item.policy or "ACCEPT") != "ACCEPT" or not _builtin(item)
    if isinstance(item, Link):
        return item.kind != "loopback"
    return True


def _may_be_missing(item: Resource, found: dict[tuple[Any, ...], Resource]) -> bool:
    """Whether a wanted object may be missing without being drift."""
    if isinstance(item, Neighbour) and item.state != "permanent" and not item.proxy:
        # it expired, or the kernel needed its place (also one with noarp); a new link needs it again
        return ("link", item.at.ns, item.at.dev) in found
    if isinstance(item, Chain):
        return not item.rules and item.policy in (None, "ACCEPT") and _builtin(item) and _netns_exists(item.ns, found)
    return False


def _netns_exists(ns: str, found: dict[tuple[Any, ...], Resource]) -> bool:
    return ("netns", ns) in found


def _removed_with_parent(item: Resource, removed_keys: set[tuple[Any, ...]]) -> bool:
    if not removed_keys or isinstance(item, Netns):
        return False
    if ("netns", item.ns) in removed_keys:
        return True
    if isinstance(item, NftObject):
        return item.kind != "table" and ("nft", item.ns, item.table, "table", "") in removed_keys
    if isinstance(item, (Link, Route)):
        return isinstance(item, Route) and ("link", item.ns, item.dev) in removed_keys
    at = getattr(item, "at", None)
    return at is not None and ("link", at.ns, at.dev) in removed_keys


def _is_nft_table(key: tuple[Any, ...]) -> bool:
    return bool(key[0] == "nft" and key[3] == "table")


def _builtin(chain: Chain) -> bool:
    return chain.name in BUILTIN.get((chain.family, chain.table), ())


@cache
def _fields(kind: Any) -> tuple[tuple[str, ...], Any]:
    names = value_fields(kind)
    return names, attrgetter(*names)


def by_namespace(changes: Iterable[Change]) -> dict[str, list[Change]]:
    """Changes grouped by namespace, for reports; the order within each namespace is kept."""
    groups: dict[str, list[Change]] = {}
    for change in changes:
        groups.setdefault(change.subject.ns, []).append(change)
    return groups


__all__ = ["Change", "by_namespace", "diff", "differing_fields", "same", "surplus"]

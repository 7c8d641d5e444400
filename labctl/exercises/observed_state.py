"""Differences between a lab and its plan in words that give no answer away: what is there is said, what should be there
is not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from labctl.core.diff import Change, differing_fields
from labctl.core.names import summarize_names
from labctl.core.nft_words import without_comment
from labctl.core.resources import (
    Address,
    Attachment,
    Chain,
    Fdb,
    IpSet,
    Link,
    Neighbour,
    Netns,
    NftObject,
    Plan,
    Process,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.sentence import joined, sentence
from labctl.render.resources import resource_identity, resource_line, resource_values, value_text

NOUNS = {
    Netns: sentence("namespace"),
    Link: sentence("link"),
    Sysctl: sentence("sysctl"),
    Address: sentence("address"),
    Neighbour: sentence("neighbour"),
    Fdb: sentence("fdb entry"),
    Route: sentence("route"),
    Rule: sentence("rule"),
    IpSet: sentence("ipset"),
    Chain: sentence("chain"),
    NftObject: sentence("nft object"),
    Attachment: sentence("attachment"),
    Process: sentence("process"),
}
MAX_SHOWN = 4  # objects in a list of what is there
MAX_LINES = 8
FORWARDING = "net.ipv4.ip_forward"
# what a plan decides and a learner's `ip link add` leaves to the kernel
FREE_FIELDS: dict[type, frozenset[str]] = {
    Link: frozenset({"autoconf", "txqueuelen", "link_netns"}),
    Route: frozenset({"onlink", "proto"}),
}


def without_free_fields(changes: Iterable[Change]) -> tuple[Change, ...]:
    """The differences without those that no task is about (IPv6 autoconfiguration, comments of rules), and without the
    forwarding of devices, which is as `ip_forward` says."""
    changes = tuple(changes)
    switched = {item.ns for change in changes if isinstance(item := change.subject, Sysctl) and item.name == FORWARDING}
    return tuple(change for change in changes if not _is_free(change) and not _follows(change, switched))


def _follows(change: Change, switched: set[str]) -> bool:
    """Whether a difference follows from `ip_forward` of its machine."""
    item = change.subject
    return isinstance(item, Sysctl) and item.ns in switched and item.name.endswith(".forwarding")


def _is_free(change: Change) -> bool:
    want, have = change.want, change.have
    if isinstance(want, Chain) and isinstance(have, Chain):
        return differing_fields(want, have) == ("rules",) and _bare(want) == _bare(have)
    if isinstance(want, NftObject) and isinstance(have, NftObject):
        is_chain = want.kind == "chain" and differing_fields(want, have) == ("entries",)
        return is_chain and [*map(without_comment, want.entries)] == [*map(without_comment, have.entries)]
    return want is not None and have is not None and not _bound_fields(want, have)


def _bound_fields(want: Resource, have: Resource) -> list[str]:
    """The differing fields that a task can be about."""
    free = FREE_FIELDS.get(type(want), frozenset())
    return [name for name in differing_fields(want, have) if name not in free]


def _bare(chain: Chain) -> tuple[str, ...]:
    """The rules of a chain without their comments."""
    return tuple(str(rule.without_match("comment")) for rule in chain.rules)


def describe(changes: Iterable[Change], observed: Plan) -> tuple[str, ...]:
    """The differences as sentences, at most MAX_LINES and the number of the others."""
    lines = list(dict.fromkeys(line for change in changes for line in _lines(change, observed)))
    more = (sentence("and {number} more differences", number=len(lines) - MAX_LINES),) if len(lines) > MAX_LINES else ()
    return (*lines[:MAX_LINES], *more)


def _lines(change: Change, observed: Plan) -> Iterator[str]:
    want, have = change.want, change.have
    noun = _noun(change.subject)
    if want is None and have is not None:
        yield sentence("{node} has something that does not belong there: {object}", node=have.ns, object=_full(have))
    elif have is None and want is not None:
        words = {"node": want.ns, "noun": noun, "present": _present(want, observed)}
        vowel = noun[0] in "aeiou"
        yield (
            sentence("{node} lacks an {noun}; {present}", **words)
            if vowel
            else sentence("{node} lacks a {noun}; {present}", **words)
        )
    elif isinstance(have, Chain):
        yield sentence(
            "{node}: {object}; it has another rule, too few rules, or rules in another order",
            node=have.ns,
            object=_full(have),
        )
    elif isinstance(have, NftObject) and isinstance(want, NftObject):
        yield from _nft_lines(want, have)
    elif isinstance(have, IpSet):
        yield sentence(
            "{node}: ipset {name} has the members {members}",
            node=have.ns,
            name=have.name,
            members=", ".join(have.members) or sentence("none"),
        )
    elif want is not None and have is not None:
        for name in _bound_fields(want, have):
            yield joined(": ", (have.ns, joined(" ", (noun, resource_identity(have))), _field(name, have)))


def _nft_lines(want: NftObject, have: NftObject) -> Iterator[str]:
    """What an object of nft is now, that should be otherwise."""
    if want.header != have.header:
        yield sentence("{node}: {object} has {header}", node=have.ns, object=_named(have), header=" ".join(have.header))
    if have.kind == "chain" and want.entries != have.entries:
        yield sentence(
            "{node}: {object}; it has another rule, too few rules, or rules in another order",
            node=have.ns,
            object=_full(have),
        )
    elif have.kind != "chain" and {*want.entries} != {*have.entries}:
        yield sentence(
            "{node}: {object} has the elements {elements}",
            node=have.ns,
            object=_named(have),
            elements=", ".join(have.entries) or sentence("none"),
        )


def _noun(item: Resource) -> str:
    return sentence("{kind} of nft", kind=item.kind) if isinstance(item, NftObject) else NOUNS[type(item)]


def _named(item: NftObject) -> str:
    """An object of nft as nft calls it: `chain inet netavark POSTROUTING`."""
    return f"{item.kind} {item.table} {item.name}".rstrip()


def _field(name: str, have: Resource) -> str:
    value: Any = getattr(have, name)
    if name == "connected":
        return (
            sentence("the route to its subnet is there") if value else sentence("the route to its subnet is not there")
        )
    label = "address" if name == "mac" else name
    text = value_text(name, value)
    return (
        sentence("it is {state}", state=text)
        if name == "up"
        else sentence("{field} is {value}", field=label, value=text)
    )


def _full(item: Resource) -> str:
    """An object with all its values; a chain with its rules."""
    if isinstance(item, NftObject) and item.kind == "chain":
        rules = "; ".join(item.entries) or sentence("no rules")
        return sentence("chain {chain}: {rules}", chain=f"{item.table} {item.name}", rules=rules)
    if isinstance(item, NftObject):
        return _named(item)
    if not isinstance(item, Chain):
        return resource_line(item)
    rules = "; ".join(map(str, item.rules)) or sentence("no rules")
    return sentence("chain {chain}: {rules}", chain=resource_values(item), rules=rules)


def _present(want: Resource, observed: Plan) -> str:
    """What there is of the same kind in the same machine, or on the same device."""
    found = [item for item in observed if type(item) is type(want) and item.ns == want.ns]
    if isinstance(want, NftObject):
        found = [item for item in found if isinstance(item, NftObject) and item.kind == want.kind]
    texts = [_short(item) for item in found if not _is_always_there(item)]
    shown = summarize_names(texts, MAX_SHOWN) or sentence("none")
    if isinstance(want, Address):
        return sentence("its {noun}es: {objects}", noun=NOUNS[Address], objects=shown)
    if isinstance(want, NftObject):
        return sentence("its {noun}s of nft: {objects}", noun=want.kind, objects=shown)
    return sentence("its {noun}s: {objects}", noun=NOUNS[type(want)], objects=shown)


def _is_always_there(item: Resource) -> bool:
    """Whether the kernel makes it in every machine: the loopback device, link-local addresses."""
    if isinstance(item, Address):
        return item.addr.is_loopback or item.addr.is_link_local
    return isinstance(item, Link) and item.kind == "loopback"


def _short(item: Resource) -> str:
    """An object in a list of what is there: a device or a chain by its name."""
    if isinstance(item, NftObject):
        return f"{item.table} {item.name}".rstrip()
    return resource_identity(item) if isinstance(item, (Link, Chain)) else resource_values(item)

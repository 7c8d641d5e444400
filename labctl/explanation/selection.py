"""Which objects of a lab a person means: `node1`, `node1 cbr0`, `node1/10.244.0.0/24`, `KUBE-SERVICES`. Pure.

The first word may name a machine. The rest is the name of an object, or a kind of objects (`routes`), or else a part
of its text as `plan` prints it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from labctl.core.names import did_you_mean, summarize_names
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
    Process,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.scenario_types import Lab
from labctl.core.text import count
from labctl.errors import UsageError
from labctl.explanation.explanation import Subject, subjects
from labctl.render.resources import RESOURCE_NOUNS, prefix_text


def find_subjects(lab: Lab, words: Sequence[str]) -> tuple[Subject, ...]:
    """The objects that the words name; all of the lab if there are no words.

    Raises UsageError if there is none, with the object of the most similar name.
    """
    everything = tuple(subjects(lab.plan))
    machine, text = _split(lab, words)
    here = tuple(one for one in everything if machine is None or one.machine == machine)
    if not text:
        return here
    wanted = text.lower()
    exact = tuple(one for one in here if wanted in _names(one) or wanted in _kinds(one))
    if exact:
        return exact
    found = tuple(one for one in here if wanted in f"{one.noun} {one.text}".lower())
    if found:
        return found
    where = f"lab {lab.name}" if machine is None else machine
    known = dict.fromkeys(name for one in here for name in _names(one))
    if machine is None:
        known = dict.fromkeys((*(item.name for item in lab.plan if isinstance(item, Netns)), *known))
    hint = did_you_mean(words[0], machines(lab)) if machine is None and len(words) > 1 else ""
    hint = hint or did_you_mean(wanted, known)
    if not hint:
        hint = f"`labctl explain {lab.name} {machine}` lists all" if machine else f"its machines are {_names_of(lab)}"
    raise UsageError(f"{where} has no object {text!r}", hint)


def object_names(lab: Lab, machine: str) -> tuple[str, ...]:
    """The names of the objects of one machine, for completion."""
    return tuple(
        dict.fromkeys(_names(one)[0] for one in subjects(lab.plan) if one.machine == machine and one.rule is None)
    )


def machines(lab: Lab) -> tuple[str, ...]:
    """The names of the machines, and those that share the namespace of another one."""
    return tuple(
        dict.fromkeys(
            (*(item.name for item in lab.plan if isinstance(item, Netns)), *(one.name for one in lab.machines))
        )
    )


def _split(lab: Lab, words: Sequence[str]) -> tuple[str | None, str]:
    """The machine that the words begin with, if any, and the rest."""
    if not words:
        return None, ""
    known = machines(lab)
    first, *rest = words
    name, slash, after = first.partition("/")
    if first in known:
        return _netns(lab, first), " ".join(rest)
    if slash and name in known:
        return _netns(lab, name), " ".join((after, *rest))
    return None, " ".join(words)


def _names_of(lab: Lab) -> str:
    return summarize_names(machines(lab), 20)


def _netns(lab: Lab, machine: str) -> str:
    return next((one.netns_of for one in lab.machines if one.name == machine and one.netns_of is not None), machine)


def _kinds(subject: Subject) -> tuple[str, ...]:
    """What kind of object it is, as one word: `route` and `routes` mean every route, `nft` everything of nft."""
    noun, item = subject.noun, subject.item
    nft = ("nft", f"nft {item.kind}", f"nft {item.kind}s") if isinstance(item, NftObject) else ()
    if nft and subject.rule is not None:
        nft = ("nft", "nft rule", "nft rules")
    return (noun, count(2, noun).partition(" ")[2], *nft)


def _names(subject: Subject) -> tuple[str, ...]:
    """The names of an object, the best first, in lower case. A rule has none: it is found by its text, or its chain."""
    item: Resource = subject.item
    names: Iterable[str]
    if subject.rule is not None:
        names = ()
    elif isinstance(item, Netns):
        names = ("namespace",)
    elif isinstance(item, Link):
        names = (item.at.dev, f"link {item.at.dev}")
    elif isinstance(item, (Sysctl, IpSet, Process)):
        names = (item.name, f"{RESOURCE_NOUNS[type(item)]} {item.name}")
    elif isinstance(item, Address):
        names = (str(item.addr), str(item.addr.ip), f"address {item.addr}", item.at.dev)
    elif isinstance(item, Neighbour):
        names = (f"neighbour {item.ip}", str(item.ip))
    elif isinstance(item, Fdb):
        names = (item.mac, f"fdb {item.mac}")
    elif isinstance(item, Route):
        names = (f"route {prefix_text(item.dst)}", str(item.dst), prefix_text(item.dst))
    elif isinstance(item, Rule):
        names = (f"rule {item.pref}",)
    elif isinstance(item, Chain):
        names = (f"{item.table}/{item.name}", f"{item.table} {item.name}")
    elif isinstance(item, NftObject):
        whole = f"{item.table} {item.name}".rstrip()
        names = (whole, *([f"{item.table}/{item.name}", item.name] if item.name else [item.table.split()[1]]))
        names = (*names, f"{item.kind} {whole}")
    else:
        assert isinstance(item, Attachment)
        names = (f"attachment {item.ifname}", item.ifname)
    return tuple(name.lower() for name in names)

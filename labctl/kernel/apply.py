"""Making it so: the changes of a diff, carried out in the order of the phases.

Messages are prepared per namespace and sent in batches. Link indexes are chosen here, so that nothing
has to be looked up between two messages: one end of each veth gets an index that no other has in the
lab, which also lets `observe` pair the ends again without asking the kernel for namespace ids.
"""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from labctl.diff import Change, differing
from labctl.errors import KernelError
from labctl.kernel import messages
from labctl.kernel.encode import U32, Mac
from labctl.kernel.netlink import Refusal
from labctl.kernel.observe import Snapshot, sysctl_path
from labctl.kernel.rooms import Rooms
from labctl.plan import Address, Chain, Fdb, Link, Neighbour, Netns, Port, Resource, Route, Rule, Sysctl

GONE = {errno.ENODEV, errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENXIO}
Firewall = Callable[[str, Sequence[Change]], None]  # writes the chain changes of the namespace it runs in


class _Later(Exception):
    """In a repair: the device is not there yet; the next round will find it."""


class Builder:
    """Carries out one list of changes. `snapshot` holds the links that are already there, if any are."""

    def __init__(self, rooms: Rooms, firewall: Firewall, snapshot: Snapshot | None = None) -> None:
        self._rooms = rooms
        self._firewall = firewall
        self._lenient = snapshot is not None
        self._ipv6 = os.path.exists("/proc/sys/net/ipv6")
        self._index: dict[tuple[str, str], int] = {}
        self._used: dict[str, set[int]] = {}
        for ns, links in (snapshot.links if snapshot is not None else {}).items():
            self._used[ns] = set(links)
            for link in links.values():
                self._index[ns, link.name] = link.index
        highest = max((index for used in self._used.values() for index in used), default=1)
        self._near = itertools.count(highest + 1)
        self._born_whole: set[Port] = set()  # ends created with their master already set

    def apply(self, changes: Sequence[Change]) -> None:
        """Do it all. Raises KernelError for the first thing the kernel refused, after trying the rest."""
        refused = self._remove(changes)
        added = [change.want for change in changes if change.want is not None and change.have is None]
        remade = [change.want for change in changes if _must_remake(change)]
        for item in added:
            if isinstance(item, Netns):
                self._rooms.make(item.name)
        links = [item for item in (*added, *remade) if isinstance(item, Link)]
        refused += self._create_links(links)
        self._write_sysctls([c.want for c in changes if isinstance(c.want, Sysctl)])
        refused += self._configure(changes, {id(link) for link in links})
        self._raise(refused)
        self._write_chains([change for change in changes if isinstance(change.subject, Chain)])

    # removing

    def _remove(self, changes: Iterable[Change]) -> list[Refusal]:
        for change in changes:
            if change.want is not None and not _must_remake(change):
                continue
            item = change.have
            if isinstance(item, Netns):
                self._rooms.forget(item.name)
            elif item is not None and not isinstance(item, (Chain, Sysctl)) and item.ns in self._rooms.channels:
                self._queue_removal(item)
        refused = self._flush()
        return [refusal for refusal in refused if refusal.errno not in GONE]

    def _queue_removal(self, item: Resource) -> None:
        tag = ("remove", item)
        channel = self._rooms.channels[item.ns]
        match item:
            case Link():
                index = self._index.pop((item.ns, item.at.dev), None)
                if index is not None:
                    channel.queue(messages.delete_link(index), tag)
            case Rule():
                channel.queue(messages.rule(item, delete=True), tag)
            case Route():
                index = self._index.get((item.ns, item.dev or ""))
                channel.queue(messages.route(item, index, delete=True), tag)
            case Address() | Neighbour() | Fdb():
                index = self._index.get((item.ns, item.at.dev))
                if index is not None:
                    channel.queue(_maker(item)(item, index, delete=True), tag)

    # making links

    def _create_links(self, links: Sequence[Link]) -> list[Refusal]:
        """Create links in waves: one that lies upon another waits until that is there."""
        todo = {link.at: link for link in links if link.kind != "loopback"}
        refused: list[Refusal] = []
        for link in links:
            if link.kind == "loopback":
                self._index[link.ns, link.at.dev] = 1
        while todo:
            wave = [link for link in todo.values() if self._ready(link, todo)]
            for link in wave or list(todo.values()):
                if link.at in todo:
                    peer = todo.get(link.peer) if link.peer is not None else None
                    near, far = _near_end(link, peer)
                    del todo[near.at]
                    if far is not None:
                        del todo[far.at]
                    self._create(near, far)
            refused += self._flush()
        return refused

    def _ready(self, link: Link, todo: dict[Port, Link]) -> bool:
        lower = dict(link.options).get("dev")
        return lower is None or Port(link.born or link.ns, lower) not in todo

    def _create(self, near: Link, far: Link | None) -> None:
        home = near.born or near.ns
        if near.kind == "veth" and far is None:
            self._fail(near, f"its peer {near.peer} is missing from the plan")
        index = next(self._near)
        self._take(near.at, index)
        self._born_whole.add(near.at)
        peer_index = self._free(far.at) if far is not None else 0
        fd = None
        if far is not None and far.ns != home:
            fd = self._rooms.fds[far.ns]
        elif near.born is not None:
            fd = self._rooms.fds[near.ns]
        try:
            message = messages.create_link(near, far, index, peer_index, fd, lambda dev: self._find(home, dev))
        except (ValueError, KeyError) as error:
            self._fail(near, str(error))
        self._rooms.channels[home].queue(message, ("add", near))

    def _take(self, at: Port, index: int) -> int:
        self._index[at.ns, at.dev] = index
        self._used.setdefault(at.ns, {1}).add(index)
        return index

    def _free(self, at: Port) -> int:
        used = self._used.setdefault(at.ns, {1})
        return self._take(at, next(index for index in itertools.count(2) if index not in used))

    # configuring: links up, addresses, neighbours, routes, rules

    def _configure(self, changes: Iterable[Change], fresh: set[int]) -> list[Refusal]:
        for change in changes:
            item = change.want
            if item is None or isinstance(item, (Netns, Sysctl, Chain)):
                continue
            if item.ns not in self._rooms.channels:
                continue
            try:
                if not isinstance(item, Link):
                    self._queue_addition(item, change.have)
                elif id(item) in fresh:
                    self._settle(item)
                elif isinstance(change.have, Link):
                    self._mend(item, change.have)
            except _Later:
                continue
        return self._flush()

    def _settle(self, link: Link) -> None:
        """Finish a link that was just created: all that cannot be said at its birth, then up."""
        index, channel = self._index[link.ns, link.at.dev], self._rooms.channels[link.ns]
        tag = ("set up", link)
        if link.kind != "loopback":
            if link.master is not None and link.at not in self._born_whole:
                channel.queue(messages.attribute(index, "IFLA_MASTER", U32(self._find(link.ns, link.master))), tag)
            if self._ipv6 and not link.autoconf:
                channel.queue(messages.autoconf(index, False), tag)
            if link.hairpin:
                channel.queue(messages.hairpin(index, True), tag)
        self._flags(link)

    def _flags(self, link: Link) -> None:
        index = self._find(link.ns, link.at.dev)
        message = messages.flags(index, up=link.up, promisc=link.promisc)
        self._rooms.channels[link.ns].queue(message, ("set up", link))

    def _mend(self, want: Link, have: Link) -> None:
        """Change what differs of a link that is there."""
        index, channel = self._find(want.ns, want.at.dev), self._rooms.channels[want.ns]
        tag, wrong = ("change", want), differing(want, have)
        if "mtu" in wrong:
            channel.queue(messages.attribute(index, "IFLA_MTU", want.mtu), tag)
        if "mac" in wrong and want.mac is not None:
            channel.queue(messages.attribute(index, "IFLA_ADDRESS", Mac(want.mac)), tag)
        if "master" in wrong:
            master = self._find(want.ns, want.master) if want.master is not None else 0
            channel.queue(messages.attribute(index, "IFLA_MASTER", U32(master)), tag)
        if "autoconf" in wrong and self._ipv6:
            channel.queue(messages.autoconf(index, want.autoconf), tag)
        if ("hairpin" in wrong or "master" in wrong) and want.master is not None:
            channel.queue(messages.hairpin(index, want.hairpin), tag)
        if "options" in wrong:
            message = messages.kind_options(want, index, lambda dev: self._find(want.ns, dev))
            channel.queue(message, tag)
        if "up" in wrong or "promisc" in wrong:
            self._flags(want)

    def _queue_addition(self, item: Resource, have: Resource | None) -> None:
        channel, verb = self._rooms.channels[item.ns], "add" if have is None else "change"
        tag = (verb, item)
        match item:
            case Address():
                index = self._find(item.ns, item.at.dev)
                if have is None:
                    channel.queue(messages.address(item, index), tag)
                elif item.connected:
                    channel.queue(messages.connected(item, index, delete=False), tag)
                if item.connected is False:
                    channel.queue(messages.connected(item, index, delete=True), ("remove the connected route of", item))
            case Neighbour():
                channel.queue(messages.neighbour(item, self._find(item.ns, item.at.dev)), tag)
            case Fdb():
                channel.queue(messages.fdb(item, self._find(item.ns, item.at.dev)), tag)
            case Route():
                out = self._find(item.ns, item.dev) if item.dev is not None else None
                channel.queue(messages.route(item, out, replace=have is not None), tag)
            case Rule():
                if have is not None:
                    assert isinstance(have, Rule)
                    channel.queue(messages.rule(have, delete=True), tag)
                channel.queue(messages.rule(item), tag)

    # sysctls and chains, by entering

    def _write_sysctls(self, items: Sequence[Resource | None]) -> None:
        for item in items:
            assert isinstance(item, Sysctl)
            if item.ns not in self._rooms.fds:
                continue
            self._rooms.enter(item.ns)
            try:
                fd = os.open(sysctl_path(item.name), os.O_WRONLY | os.O_CLOEXEC)
                try:
                    os.write(fd, item.value.encode())
                finally:
                    os.close(fd)
            except OSError as error:
                self._fail(item, error.strerror or str(error), _sysctl_hint(item, error), error.errno or 0, "set")

    def _write_chains(self, changes: Sequence[Change]) -> None:
        by_ns: dict[str, list[Change]] = {}
        for change in changes:
            by_ns.setdefault(change.subject.ns, []).append(change)
        for ns, own in by_ns.items():
            if ns in self._rooms.fds:
                self._rooms.enter(ns)
                self._firewall(ns, own)

    # talking to the kernel

    def _find(self, ns: str, dev: str) -> int:
        index = self._index.get((ns, dev))
        if index is None:
            if self._lenient:
                raise _Later
            raise KernelError(f"no device {dev} in {ns}", "name a device that the scenario makes", errno.ENODEV)
        return index

    def _flush(self) -> list[Refusal]:
        return [refusal for channel in self._rooms.channels.values() for refusal in channel.flush()]

    def _raise(self, refused: list[Refusal]) -> None:
        """Raise for the first refusal. In a repair, what a later round mends is let pass."""
        if self._lenient:
            passing = {errno.EEXIST, errno.EINVAL, *GONE}
            refused = [refusal for refusal in refused if refusal.errno not in passing]
        for refusal in refused:
            verb, item = refusal.tag
            self._fail(item, str(refusal), _hint(item, refusal.errno), refusal.errno, verb)

    def _fail(self, item: Any, cause: str, hint: str = "", number: int = 0, verb: str = "add") -> None:
        from labctl.words import line

        raise KernelError(f"cannot {verb} {line(item)} in {item.ns}: {cause}", hint, number)


def _near_end(link: Link, peer: Link | None) -> tuple[Link, Link | None]:
    """Which end of a veth to create from: the one with a master, which must be in its own namespace."""
    if peer is not None and peer.master is not None and link.master is None:
        return peer, link
    return link, peer


def _must_remake(change: Change) -> bool:
    """Whether a link is so unlike that it has to be deleted and made anew."""
    want, have = change.want, change.have
    if not isinstance(want, Link) or not isinstance(have, Link) or want.kind == "loopback":
        return False
    wrong = differing(want, have)
    return "kind" in wrong or "peer" in wrong or ("options" in wrong and want.kind != "bridge")


def _maker(item: Address | Neighbour | Fdb) -> Any:
    if isinstance(item, Address):
        return messages.address
    return messages.neighbour if isinstance(item, Neighbour) else messages.fdb


def _hint(item: Resource, number: int) -> str:
    """What a person can do about a refusal, where that is known."""
    if isinstance(item, Route) and number == errno.ENETUNREACH:
        return f"no address in {item.ns} covers {item.via}; add `onlink` or a route to it first"
    if isinstance(item, Link) and number == errno.EOPNOTSUPP:
        return f"this kernel has no {item.kind} devices; try: modprobe {item.kind}"
    if isinstance(item, Link) and number == errno.EXFULL:
        return "a Linux bridge takes at most 1023 ports"
    if isinstance(item, Link) and number == errno.EEXIST:
        return "two devices of one name in one namespace"
    return "run it as root: sudo labctl ..." if number == errno.EPERM else ""


def _sysctl_hint(item: Sysctl, error: OSError) -> str:
    if error.errno == errno.ENOENT and "bridge" in item.name:
        return "load the module first: modprobe br_netfilter"
    if error.errno == errno.ENOENT:
        return "this kernel has no such setting, or the device is not there"
    return ""

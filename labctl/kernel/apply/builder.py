"""Apply the changes of a diff to the kernel, phase by phase. Attachments are the work of CNI plugins (`kernel.cni`).

Messages are prepared per namespace and sent in batches. labctl chooses the link indexes itself, so that nothing has to
be looked up between two messages. One end of each veth gets an index that is unique in the lab. So `observe` can also
pair the ends again without a request for namespace ids.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from labctl.core.diff import Change
from labctl.core.kernel_defaults import kernel_default_rules, replaces_local_rule
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
from labctl.core.sentence import sentence
from labctl.errors import KernelError
from labctl.kernel import processes
from labctl.kernel.apply.firewall_changes import FirewallChanges
from labctl.kernel.apply.ifindex import DeviceNotReady, Indexes
from labctl.kernel.apply.links import LinkBuilder, has_no_ipv6, must_recreate
from labctl.kernel.apply.sysctls import SysctlWriter
from labctl.kernel.host import phases
from labctl.kernel.host.modules import FALLBACK_DEVICES
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.lab_namespaces import NamespaceSet
from labctl.kernel.netlink import messages
from labctl.kernel.netlink.errors import fail_refused
from labctl.kernel.netlink.rtnetlink import Refusal, flush_all

if TYPE_CHECKING:
    from labctl.kernel.firewall.chains import ChainWriter
    from labctl.kernel.observe.snapshot import Snapshot

GONE = {errno.ENODEV, errno.ESRCH, errno.ENOENT, errno.EADDRNOTAVAIL, errno.ENXIO}
ChangeWriter = Callable[[str, Sequence[Change]], None]  # writes changes of the namespace it runs in


class Builder:
    """Carries out one list of changes. `snapshot` has the links that exist already, in a repair. Without `chains`,
    changes of the firewall are left out."""

    def __init__(self, namespaces: NamespaceSet, chains: ChainWriter | None, snapshot: Snapshot | None = None) -> None:
        self._namespaces = namespaces
        self._chains = chains
        self._indexes = Indexes(snapshot)
        self._linker = LinkBuilder(namespaces, self._indexes)
        self._settings = SysctlWriter(namespaces, self._indexes)

    def apply(self, changes: Sequence[Change]) -> None:
        """Carry out all changes. Raises KernelError for the first netlink message that the kernel refused, after it
        has sent the others of that phase; MissingError for a missing tool."""
        chains = [change for change in changes if isinstance(change.subject, (Chain, NftObject))]
        changes = [
            change for change in changes if not isinstance(change.subject, (Chain, NftObject))
        ]  # a cluster has few others
        refused = self._remove(changes)
        wanted = [change.want for change in changes if isinstance(change.want, Process)]
        with (
            processes.Starter(self._namespaces.lab) as starter,
            FirewallChanges(self._namespaces, self._chains, chains) as firewall,
        ):
            if wanted:
                starter.prepare()
            self._create_namespaces(changes)
            # rules of iptables need their IP sets, which `_build` writes
            if not self._indexes.repairing and not any(isinstance(change.subject, IpSet) for change in changes):
                firewall.start_early()
            self._build(changes, refused)
            phases.begin(sentence("programs and firewall"))
            # programs start, and others write rules, at the same time
            self._start_processes(starter, (one for one in wanted if one.inside is None))
            firewall.start()
            self._start_processes(starter, (one for one in wanted if one.inside is not None))
            firewall.finish()
        if sets := [change for change in changes if isinstance(change.subject, IpSet)]:
            from labctl.kernel.netlink import ipset

            self._each(sets, ipset.remove)

    def _create_namespaces(self, changes: Sequence[Change]) -> None:
        phases.begin(sentence("namespaces"))
        self._namespaces.create_all(
            change.want.name for change in changes if isinstance(change.want, Netns) and change.have is None
        )

    def _build(self, changes: Sequence[Change], refused: list[Refusal]) -> None:
        """Everything except namespaces, processes and chains. `refused` is what the kernel refused to remove."""
        added = [change.want for change in changes if change.want is not None and change.have is None]
        recreated = [change.want for change in changes if must_recreate(change)]
        links = [item for item in (*added, *recreated) if isinstance(item, Link)]
        settings = [change.want for change in changes if isinstance(change.want, Sysctl)]
        phases.begin(sentence("links"))
        with self._settings.writing(settings):
            refused += self._linker.create(links)
        phases.begin(sentence("settings"))
        try:
            self._settings.write(settings)
        except KernelError:
            self._raise(refused)  # a setting of a link that the kernel refused is missing: that is the cause
            raise
        phases.begin(sentence("links up, addresses, neighbours, routes and rules"))
        refused += self._configure(changes, {id(link) for link in links})
        self._raise(refused)
        self._each([change for change in changes if isinstance(change.want, Link)], _update_carriers)
        if sets := [change for change in changes if isinstance(change.subject, IpSet)]:
            from labctl.kernel.netlink import ipset

            self._each(sets, ipset.write)

    # removing

    def _remove(self, changes: Iterable[Change]) -> list[Refusal]:
        for change in changes:
            if change.want is not None and not must_recreate(change) and not isinstance(change.have, Process):
                continue
            item = change.have
            if isinstance(item, Netns):
                self._namespaces.delete(item.name)
            elif isinstance(item, Process):
                processes.stop(item)
            elif (
                item is not None
                and not isinstance(item, (Attachment, Chain, NftObject, IpSet, Sysctl))
                and item.ns in self._namespaces.channels
            ):
                self._queue_removal(item)
        refused = self._flush()
        for refusal in refused:
            self._retry_removal(refusal)
        return [refusal for refusal in (*refused, *self._flush()) if refusal.errno not in GONE]

    def _retry_removal(self, refusal: Refusal) -> None:
        """Deleting some objects fails if all observed attributes are given: retry with only the key attributes."""
        item = refusal.tag[1]
        if isinstance(item, Route) and refusal.errno in GONE:
            self._namespaces.channels[item.ns].queue(
                messages.delete_route(item, None, without_nexthop=True), refusal.tag
            )
        elif isinstance(item, Address) and refusal.errno in GONE:
            index = self._indexes.get(item.ns, item.at.dev)
            if index is not None and item.addr.version == 4:
                message = messages.address(item, index, delete=True, local_only=True)
                self._namespaces.channels[item.ns].queue(message, refusal.tag)

    def _queue_removal(self, item: Resource) -> None:
        tag = ("remove", item)
        channel = self._namespaces.channels[item.ns]
        match item:
            case Link():
                index = self._indexes.remove(item.at)
                if index is None:
                    return
                # a module's fallback device cannot be deleted
                is_fallback = item.at.dev in FALLBACK_DEVICES
                channel.queue(messages.flags(index, up=False) if is_fallback else messages.delete_link(index), tag)
            case Rule():
                channel.queue(messages.rule(item, delete=True), tag)
            case Route():
                index = self._indexes.get(item.ns, item.dev or "")
                channel.queue(messages.delete_route(item, index), tag)
            case Address() | Neighbour() | Fdb():
                index = self._indexes.get(item.ns, item.at.dev)
                if index is not None:
                    channel.queue(_maker(item)(item, index, delete=True), tag)

    # configuring: links up, addresses, neighbours, routes, rules

    def _configure(self, changes: Sequence[Change], new_links: set[int]) -> list[Refusal]:
        """Set links up, and add what is on them. Where a bridge is new, its ports and all other namespaces come first:
        a bridge that is up looks at all of its ports each time one of them gets or loses its carrier, so a thousand
        ports would cost a million looks. Ports that join a bridge only now keep the plan's order, which numbers them.
        """
        new_bridges = [
            change.want
            for change in changes
            if isinstance(change.want, Link) and change.want.kind == "bridge" and id(change.want) in new_links
        ]
        bridged = {link.ns for link in new_bridges} - {
            link.ns for link in new_bridges if not self._linker.has_all_ports(link)
        }
        later: list[Change] = []
        for change in changes:
            item = change.want
            if item is None or isinstance(item, (Netns, Sysctl, IpSet, Chain, NftObject, Attachment, Process)):
                continue
            if item.ns not in self._namespaces.channels:
                continue
            is_port = isinstance(item, Link) and item.kind == "veth" and item.master is not None
            if item.ns in bridged and not is_port:
                later.append(change)
            else:
                self._configure_one(change, new_links)
        refused = self._flush()
        for change in later:
            self._configure_one(change, new_links)
        return refused + self._flush() if later else refused

    def _configure_one(self, change: Change, new_links: set[int]) -> None:
        item = change.want
        assert item is not None
        try:
            if not isinstance(item, Link):
                self._queue_addition(item, change.have)
            elif id(item) in new_links:
                self._linker.set_up(item)
            elif isinstance(change.have, Link):
                self._linker.update(item, change.have)
        except DeviceNotReady:
            return

    def _queue_addition(self, item: Resource, have: Resource | None) -> None:
        channel, verb = self._namespaces.channels[item.ns], "add" if have is None else "change"
        tag = (verb, item)
        match item:
            case Address():
                index = self._indexes.find(item.ns, item.at.dev)
                if have is None:
                    channel.queue(messages.address(item, index), tag)
                elif item.connected:
                    channel.queue(messages.connected_route(item, index, delete=False), tag)
                if item.connected is False:
                    channel.queue(
                        messages.connected_route(item, index, delete=True), ("remove the connected route of", item)
                    )
            case Neighbour():
                channel.queue(messages.neighbour(item, self._indexes.find(item.ns, item.at.dev)), tag)
            case Fdb():
                via = self._indexes.get(item.ns, item.via) if item.via is not None else None
                channel.queue(messages.fdb(item, self._indexes.find(item.ns, item.at.dev), via=via), tag)
            case Route():
                oif = self._indexes.find(item.ns, item.dev) if item.dev is not None else None
                message = messages.route(
                    item, oif, lambda dev: self._indexes.find(item.ns, dev), replace=have is not None
                )
                channel.queue(message, tag)
            case Rule():
                if have is not None:
                    assert isinstance(have, Rule)
                    channel.queue(messages.rule(have, delete=True), tag)
                channel.queue(messages.rule(item), tag)
                if replaces_local_rule(item):
                    # only now, or the namespace would not recognise its own addresses for a while
                    first = kernel_default_rules(item.ns, item.family)[0]
                    channel.queue(messages.rule(first, delete=True), ("remove", first))

    # sets and carriers: from inside the namespace

    def _each(self, changes: Sequence[Change], write: ChangeWriter) -> None:
        """Call `write` with the changes of each namespace, from inside that namespace."""
        by_ns: dict[str, list[Change]] = {}
        for change in changes:
            by_ns.setdefault(change.subject.ns, []).append(change)
        for ns, ns_changes in by_ns.items():
            if ns in self._namespaces.channels:
                self._namespaces.enter(ns)
                write(ns, ns_changes)

    def _start_processes(self, starter: processes.Starter, wanted: Iterable[Process]) -> None:
        by_ns: dict[str, list[Process]] = {}
        for process in wanted:
            by_ns.setdefault(process.ns, []).append(process)
        for ns, ns_processes in by_ns.items():
            if ns in self._namespaces.channels:
                self._namespaces.enter(ns)
                starter.start(ns_processes)

    # sending to the kernel

    def _flush(self) -> list[Refusal]:
        return flush_all(self._namespaces.channels.values())

    def _raise(self, refused: list[Refusal]) -> None:
        """Raise KernelError for the first refusal. In a repair, refusals that a later round can fix are ignored."""
        refused = [refusal for refusal in refused if not has_no_ipv6(refusal)]
        if self._indexes.repairing:
            passing = {errno.EEXIST, errno.EINVAL, *GONE}
            refused = [refusal for refusal in refused if refusal.errno not in passing]
        for refusal in refused:
            fail_refused(refusal)


def _maker(item: Address | Neighbour | Fdb) -> Any:
    if isinstance(item, Address):
        return messages.address
    return messages.neighbour if isinstance(item, Neighbour) else messages.fdb


def _update_carriers(ns: str, changes: Sequence[Change]) -> None:
    links = (change.want for change in changes if isinstance(change.want, Link))
    device_state.update_carriers(device_state.carrier_order(links))

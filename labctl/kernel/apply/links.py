"""Create links (a veth with both ends at once), complete them, and change them later."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import replace

from labctl.core.diff import Change, differing_fields
from labctl.core.resources import Interface, Link
from labctl.kernel.apply.ifindex import Indexes
from labctl.kernel.host import tun
from labctl.kernel.host.modules import FALLBACK_DEVICES
from labctl.kernel.namespaces.lab_namespaces import MAX_DESCRIPTORS, NamespaceSet
from labctl.kernel.netlink import messages
from labctl.kernel.netlink.encoding import U32, Mac
from labctl.kernel.netlink.errors import fail
from labctl.kernel.netlink.rtnetlink import Refusal, flush_all

SET_AUTOCONF = "set the IPv6 autoconfiguration of"
MANY_PORTS = 64  # of a bridge, from which on a look at all of them for each of them takes longer than two messages


class LinkBuilder:
    """Creates and changes links through the netlink sockets of a lab's namespaces."""

    def __init__(self, namespaces: NamespaceSet, indexes: Indexes) -> None:
        self._namespaces = namespaces
        self._indexes = indexes
        self._ipv6 = os.path.exists("/proc/sys/net/ipv6")
        self._created_with_master: set[Interface] = set()  # links that were created with their master already set
        self._created_up: set[Interface] = set()  # ports that were created up: their peers are down yet
        self._next_ports: dict[
            tuple[str, str], deque[Interface]
        ] = {}  # by bridge: its new ports that are not in it yet
        self._large_bridges: set[Interface] = set()  # new ones with many ports

    def create(self, links: Sequence[Link]) -> list[Refusal]:
        """Create links in waves: a link with a lower device waits until that exists. Returns the refusals.

        A bridge numbers its ports as they come. So a port joins it at creation only if all that are before it in the
        plan have joined; the others join in the plan's order, when they are set up.
        """
        masters = {(link.ns, link.master) for link in links if link.master is not None}
        ordered = sorted(links, key=lambda link: (link.ns, link.at.dev) not in masters)  # masters before ports
        todo = {link.at: link for link in ordered if link.kind != "loopback"}
        refused: list[Refusal] = []
        for link in links:
            if link.kind == "loopback":
                self._indexes.assign(link.at, 1)
            elif link.master is not None:
                self._next_ports.setdefault((link.ns, link.master), deque()).append(link.at)
        self._large_bridges = {
            Interface(ns, bridge) for (ns, bridge), ports in self._next_ports.items() if len(ports) >= MANY_PORTS
        }
        while todo:
            wave = [link for link in todo.values() if self._ready(link, todo)]
            for number, link in enumerate(wave or list(todo.values())):
                if link.at in todo:
                    if number % (MAX_DESCRIPTORS // 2) == 0:  # each message has a descriptor, which must be open yet
                        refused += flush_all(self._namespaces.channels.values())
                    peer = todo.get(link.peer) if link.peer is not None else None
                    near, far = _creation_end(link, peer)
                    del todo[near.at]
                    if far is not None:
                        del todo[far.at]
                    self._create_one(near, far)
            refused += flush_all(self._namespaces.channels.values())
        return refused + self._disable_autoconf(link for link in links if link.options and "dev" in dict(link.options))

    def _disable_autoconf(self, links: Iterable[Link]) -> list[Refusal]:
        """Switch off IPv6 autoconfiguration of links with a lower device now: a VLAN comes up together with its lower
        device, before `set_up` gets to it."""
        has_messages = False
        for link in links:
            if self._ipv6 and not link.autoconf:
                has_messages = True
                message = messages.autoconf(self._indexes.find(link.ns, link.at.dev), False)
                self._namespaces.channels[link.ns].queue(message, (SET_AUTOCONF, link))
        return flush_all(self._namespaces.channels.values()) if has_messages else []

    def _ready(self, link: Link, todo: dict[Interface, Link]) -> bool:
        lower = dict(link.options).get("dev")
        return lower is None or Interface(link.link_netns or link.ns, lower) not in todo

    def _create_one(self, near: Link, far: Link | None) -> None:
        create_ns = near.link_netns or near.ns
        if near.kind == "veth" and far is None:
            fail(near, f"its peer {near.peer} is missing from the plan")
        if near.kind == "tun":
            self._make_tun(near)
            return
        if near.at.dev in FALLBACK_DEVICES and self._adopt_fallback_device(near):
            return
        index = self._indexes.next_lab_index(near.at, create_ns)
        joins = near.master is not None and create_ns == near.ns and self._is_next_port(near)
        peer_index = self._indexes.next_free_index(far.at) if far is not None else 0
        # a plain port has no carrier until its peer is up: it can be up at once, which saves a message for each
        plain = near.up and near.arp and not (near.promisc or near.hairpin or near.isolated)
        up = joins and far is not None and plain
        fd = None
        if far is not None and far.ns != create_ns:
            fd = self._namespaces.descriptor(far.ns)
        elif create_ns != near.ns:
            fd = self._namespaces.descriptor(near.ns)
        try:
            message = messages.create_link(
                near if joins else replace(near, master=None),
                far,
                index,
                peer_index,
                fd,
                lambda dev: self._indexes.find(create_ns, dev),
                up,
            )
        except (ValueError, KeyError) as error:
            fail(near, str(error))
        self._namespaces.channels[create_ns].queue(message, ("add", near))
        if up:
            self._created_up.add(near.at)
            if self._ipv6 and not near.autoconf:
                self._namespaces.channels[create_ns].queue(messages.autoconf(index, False), (SET_AUTOCONF, near))

    def has_all_ports(self, bridge: Link) -> bool:
        """Whether all new ports of a bridge have joined it at their creation."""
        return not self._next_ports.get((bridge.ns, bridge.at.dev))

    def _is_next_port(self, link: Link) -> bool:
        """Whether a link can join its bridge at creation: if all ports before it in the plan have done so."""
        next_ports = self._next_ports[link.ns, link.master or ""]
        if next_ports[0] != link.at:
            return False
        self._created_with_master.add(next_ports.popleft())
        return True

    def _make_tun(self, link: Link) -> None:
        """Create a TUN device, which netlink cannot do: through /dev/net/tun, as a persistent device."""
        self._namespaces.enter(link.ns)
        try:
            tun.create_tun(link.at.dev, self._indexes.next_lab_index(link.at))
        except OSError as error:
            fail(link, error.strerror or str(error))
        self._set_sizes(link)

    def _adopt_fallback_device(self, link: Link) -> bool:
        """Use the fallback device that the tunnel's module created in the namespace, if it has the name of this link.
        Returns whether there is one."""
        from labctl.kernel.netlink import dump

        channel = self._namespaces.channels[link.ns]
        device = next((one for one in dump.links(channel) if one.name == link.at.dev), None)
        if device is not None:
            self._indexes.assign(link.at, device.index)
            # it has no IPv6 sysctls until its MTU has changed once
            mtu = link.mtu or device.mtu
            for one in (mtu - 1, mtu):
                channel.queue(messages.attribute(device.index, "IFLA_MTU", one), ("set up", link))
            self._set_sizes(replace(link, mtu=None))
        return device is not None

    def _set_sizes(self, link: Link) -> None:
        """Set what a create message would contain: the MTU and the length of the queue."""
        for name, value in (("IFLA_MTU", link.mtu), ("IFLA_TXQLEN", link.txqueuelen)):
            if value is not None:
                message = messages.attribute(self._indexes.find(link.ns, link.at.dev), name, value)
                self._namespaces.channels[link.ns].queue(message, ("set up", link))

    def set_up(self, link: Link) -> None:
        """Complete a link that was just created: set what the create message cannot contain, then set it up."""
        if link.at in self._created_up:
            return
        index, channel = self._indexes.find(link.ns, link.at.dev), self._namespaces.channels[link.ns]
        tag = ("set up", link)
        if link.kind == "bridge":
            self._set_sizes(link)
        if link.kind != "loopback":
            if link.master is not None and link.at not in self._created_with_master:
                channel.queue(
                    messages.attribute(index, "IFLA_MASTER", U32(self._indexes.find(link.ns, link.master))), tag
                )
            if self._ipv6 and not link.autoconf:
                channel.queue(messages.autoconf(index, False), (SET_AUTOCONF, link))
            if link.hairpin or link.isolated:
                channel.queue(messages.bridge_port(index, hairpin=link.hairpin, isolated=link.isolated), tag)
        if link.at in self._large_bridges and dict(link.options).get("mcast_snooping") != "0":
            self._set_up_without_snooping(link)
        else:
            self.set_flags(link, is_new=True)

    def _set_up_without_snooping(self, bridge: Link) -> None:
        """Set a bridge up, and switch multicast snooping off meanwhile: with it, the kernel starts the timers of all
        ports again for each port that begins to forward."""
        index, channel = self._indexes.find(bridge.ns, bridge.at.dev), self._namespaces.channels[bridge.ns]
        for value in ("0", "1"):
            only_snooping = replace(bridge, options=(("mcast_snooping", value),))
            message = messages.kind_options(only_snooping, index, lambda dev: self._indexes.find(bridge.ns, dev))
            if value == "1":
                self.set_flags(bridge, is_new=True)
            channel.queue(message, ("set up", bridge))

    def set_flags(self, link: Link, *, is_new: bool = False) -> None:
        """Set a link up or down, promiscuous or not, with or without ARP. A new link has the ARP flag of its kind."""
        index = self._indexes.find(link.ns, link.at.dev)
        arp = None if link.kind == "loopback" or (is_new and link.arp) else link.arp
        message = messages.flags(index, up=link.up, promisc=link.promisc, arp=arp)
        self._namespaces.channels[link.ns].queue(message, ("set up", link))

    def update(self, want: Link, have: Link) -> None:
        """Change what differs in an existing link."""
        index, channel = self._indexes.find(want.ns, want.at.dev), self._namespaces.channels[want.ns]
        tag, wrong = ("change", want), differing_fields(want, have)
        if "mtu" in wrong:
            channel.queue(messages.attribute(index, "IFLA_MTU", want.mtu), tag)
        if "mac" in wrong and want.mac is not None:
            channel.queue(messages.attribute(index, "IFLA_ADDRESS", Mac(want.mac)), tag)
        if "txqueuelen" in wrong and want.txqueuelen is not None:
            channel.queue(messages.attribute(index, "IFLA_TXQLEN", want.txqueuelen), tag)
        if "master" in wrong:
            master = self._indexes.find(want.ns, want.master) if want.master is not None else 0
            channel.queue(messages.attribute(index, "IFLA_MASTER", U32(master)), tag)
        if "autoconf" in wrong and self._ipv6:
            channel.queue(messages.autoconf(index, want.autoconf), (SET_AUTOCONF, want))
        if {"hairpin", "isolated", "master"} & set(wrong) and want.master is not None:
            channel.queue(messages.bridge_port(index, hairpin=want.hairpin, isolated=want.isolated), tag)
        if "options" in wrong:
            message = messages.kind_options(want, index, lambda dev: self._indexes.find(want.ns, dev))
            channel.queue(message, tag)
        if {"up", "promisc", "arp"} & set(wrong):
            self.set_flags(want)


def has_no_ipv6(refusal: Refusal) -> bool:
    """Whether a link cannot have or lack autoconfiguration, because it has no IPv6 at all: its MTU is below 1280."""
    verb, link = refusal.tag
    return verb == SET_AUTOCONF and refusal.errno == errno.EAFNOSUPPORT and not link.autoconf


def _creation_end(link: Link, peer: Link | None) -> tuple[Link, Link | None]:
    """The end of a veth in the namespace where the pair is created, and the other end. An end with a master comes
    first, because only there the message can name the master."""
    if peer is not None and peer.master is not None and link.master is None:
        return peer, link
    return link, peer


def must_recreate(change: Change) -> bool:
    """Whether a link must be deleted and created again: if its kind, its peer, the namespace where it was created, or
    (except of a bridge) its options differ."""
    want, have = change.want, change.have
    if not isinstance(want, Link) or not isinstance(have, Link) or want.kind == "loopback":
        return False
    wrong = differing_fields(want, have)
    return bool({"kind", "peer", "link_netns"} & set(wrong)) or ("options" in wrong and want.kind != "bridge")

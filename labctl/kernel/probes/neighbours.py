"""Temporary neighbour entries during a check of many pairs: added where there is none, and removed at the end.

An existing entry is never changed, right or wrong: the check must find a wrong one. The entries are recorded before
they are added, so that those of a killed check can be removed.
"""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from labctl.core.neighbour_presets import Preset
from labctl.core.resources import IP, Interface, Neighbour
from labctl.kernel.host import paths
from labctl.kernel.host.work_record import WorkRecord
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import dump, messages
from labctl.kernel.netlink.encoding import ACK, REQUEST, RTM_GETNEIGH
from labctl.kernel.netlink.rtnetlink import Channel

RECORD_KIND = "neighbours"
NDA_DST = 1  # attribute of a neighbour message: its address


class TemporaryNeighbours:
    """Permanent entries that exist as long as this context. `add` makes them, `entry_count` counts them.

    It keeps at most `max_files` files open, each for one namespace.
    """

    def __init__(self, lab: str, thread: NetnsThread, max_files: int) -> None:
        self._lab, self._thread, self._max_files = lab, thread, max_files
        self._channels: dict[str, Channel] = {}  # by namespace; the kernel answers its ioctls about devices, too
        self._indices: dict[Interface, int] = {}
        self._macs: dict[Interface, str | None] = {}
        self._known: set[Preset] = set()
        self._entries: dict[str, list[_Entry]] = {}  # those that were made, by namespace
        self.entry_count = 0
        self._record: WorkRecord | None = None

    def __enter__(self) -> TemporaryNeighbours:
        self._record = WorkRecord(f"a check of lab {self._lab}")
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._record is not None
        try:
            self._record.finish(self._remove_entries)
        finally:
            for channel in self._channels.values():
                channel.close()

    def add(self, wanted: Iterable[Preset]) -> None:
        """Make the entries that were not added before. Raises KernelError, LimitError."""
        new: dict[str, list[_Entry]] = {}
        for preset in wanted:
            if preset not in self._known:
                self._known.add(preset)
                mac, index = self._mac(preset.mac_interface), self._index(preset.at)
                if mac is not None and index:
                    new.setdefault(preset.at.ns, []).append(_Entry(preset.at.dev, index, preset.ip, mac))
        for node, entries in new.items():
            self._add(node, entries)

    def _add(self, node: str, wanted: Sequence[_Entry]) -> None:
        """Make entries in one namespace, except those that exist already: they are not this check's to remove."""
        channel = self._channel(node)
        if channel is None:
            return
        entries = _missing(channel, wanted)
        assert self._record is not None
        self._record.note(RECORD_KIND, lab=self._lab, node=node, entries=[entry.text for entry in entries])
        made = self._entries.setdefault(node, [])
        made += entries  # before they are there: what is interrupted is removed as well
        for entry in entries:
            message = entry.message()
            message[6:8] = messages.CREATE_FLAGS.to_bytes(2, sys.byteorder)  # add only, never replace
            channel.queue(message, entry)
        refused = {refusal.tag for refusal in channel.flush() if refusal.errno == errno.EEXIST}
        if refused:
            made[:] = [entry for entry in made if entry not in refused]
        self.entry_count += len(entries) - len(refused)

    def _remove_entries(self) -> None:
        for node, entries in self._entries.items():
            channel = self._channel(node) if entries else None
            if channel is not None:
                for entry in entries:
                    channel.queue(entry.message(delete=True), entry)
                channel.flush()  # a refused removal means that the entry was gone already

    def _channel(self, node: str) -> Channel | None:
        if node not in self._channels:
            path = paths.netns_path(self._lab, node)
            if not path.exists():
                return None
            if len(self._channels) >= self._max_files:
                self._channels.pop(next(iter(self._channels))).close()
            self._channels[node] = self._thread.run(path, Channel)
        return self._channels[node]

    def _mac(self, interface: Interface) -> str | None:
        if interface not in self._macs:
            channel = self._channel(interface.ns)
            self._macs[interface] = device_state.mac(channel, interface.dev) if channel is not None else None
        return self._macs[interface]

    def _index(self, interface: Interface) -> int:
        if interface not in self._indices:
            channel = self._channel(interface.ns)
            self._indices[interface] = device_state.ifindex(channel, interface.dev) if channel is not None else 0
        return self._indices[interface]


class _Entry(NamedTuple):
    """One entry: the device, its index, the neighbour's address and its MAC."""

    device: str
    ifindex: int
    ip: IP
    mac: str

    @property
    def text(self) -> list[str]:
        """The entry in a record."""
        return [self.device, str(self.ip), self.mac]

    @property
    def question(self) -> bytearray:
        """The netlink message that asks whether there is an entry for the address at the device."""
        packed = self.ip.packed
        attribute = struct.pack("=HH", 4 + len(packed), NDA_DST) + packed
        family = socket.AF_INET if self.ip.version == 4 else socket.AF_INET6
        body = struct.pack("=BxxxiHBB", family, self.ifindex, 0, 0, 0) + attribute
        return bytearray(struct.pack("=IHHII", 16 + len(body), RTM_GETNEIGH, REQUEST | ACK, 0, 0) + body)

    def message(self, *, delete: bool = False) -> bytearray:
        """The netlink message. One is encoded for each IP version, and the others differ in three places."""
        message = bytearray(_template(self.ip.version, delete))
        packed = self.ip.packed
        message[20:24] = self.ifindex.to_bytes(4, sys.byteorder)  # ndm_ifindex
        message[32 : 32 + len(packed)] = packed
        message[36 + len(packed) : 42 + len(packed)] = bytes.fromhex(self.mac.replace(":", ""))
        return message


def _missing(channel: Channel, wanted: Sequence[_Entry]) -> list[_Entry]:
    """Those of the entries that the kernel does not have, with any MAC. A dump would take longer than all of these
    questions: for it, the kernel walks through the entries of all namespaces."""
    for entry in wanted:
        channel.queue(entry.question, entry)
    refused = {refusal.tag: refusal.errno for refusal in channel.flush()}
    if not {*refused.values()} <= {errno.ENOENT}:  # a kernel before 5.0 has only the dump
        found = {(one.index, one.ip) for one in dump.neighbours(channel)}
        return [entry for entry in wanted if (entry.ifindex, entry.ip) not in found]
    return [entry for entry in wanted if entry in refused]


@cache
def _template(version: int, delete: bool) -> bytes:
    ip = ip_address("0.0.0.0" if version == 4 else "::")
    return bytes(messages.neighbour(Neighbour(Interface("", ""), ip, "00:00:00:00:00:00"), 0, delete=delete))


def remove_recorded(entries: Iterable[tuple[str, str, str]]) -> int:
    """Remove the entries of a killed check (device, address, MAC) from this thread's namespace; returns their number.

    An entry that is not permanent, or has another MAC, is not the check's, and stays. Raises OSError.
    """
    wanted: dict[tuple[int, IP], tuple[str, str]] = {}
    for device, address, mac in entries:
        with suppress(OSError):  # the device is gone, and its entries with it
            wanted[socket.if_nametoindex(device), ip_address(address)] = (device, mac)
    channel = Channel()
    try:
        left = []
        for one in dump.neighbours(channel):
            if one.ip is not None and one.state == messages.NUD["permanent"] and (one.index, one.ip) in wanted:
                device, mac = wanted[one.index, one.ip]
                if mac == one.mac:
                    left.append((Neighbour(Interface("", device), one.ip, mac), one.index))
        for entry, index in left:
            channel.queue(messages.neighbour(entry, index, delete=True), entry)
        return len(left) - len(channel.flush())
    finally:
        channel.close()

"""Temporary neighbour entries during a check of many pairs: added where there is none, and removed at the end.

An existing entry is never changed, right or wrong: the check must find a wrong one. The entries are recorded before
they are added, so that those of a killed check can be removed.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import ip_address

from labctl.core.neighbour_presets import Preset
from labctl.core.resources import IP, Interface, Neighbour
from labctl.kernel.host import paths
from labctl.kernel.host.work_record import WorkRecord
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import dump, messages
from labctl.kernel.netlink.rtnetlink import Channel

RECORD_KIND = "neighbours"


class TemporaryNeighbours:
    """Permanent entries that exist as long as this context. `entry_count` counts them."""

    def __init__(self, lab: str, wanted: Iterable[Preset], thread: NetnsThread) -> None:
        self._lab, self._thread = lab, thread
        self._channels: dict[str, Channel] = {}
        self._sockets: dict[str, socket.socket] = {}
        self._indices: dict[Interface, int] = {}
        self._macs: dict[Interface, str | None] = {}
        self._entries: dict[str, dict[Preset, Neighbour]] = {}
        for preset in wanted:
            mac = self._mac(preset.mac_interface)
            if mac is not None and self._index(preset.at):
                entry = Neighbour(preset.at, preset.ip, mac)
                self._entries.setdefault(preset.at.ns, {})[preset] = entry
        self.entry_count = 0
        self._record: WorkRecord | None = None

    def __enter__(self) -> TemporaryNeighbours:
        self._record = WorkRecord(f"a check of lab {self._lab}")
        try:
            for node, entries in self._entries.items():
                self._omit_existing(node, entries)
                texts = [[preset.at.dev, str(preset.ip), entry.mac] for preset, entry in entries.items()]
                self._record.note(RECORD_KIND, lab=self._lab, node=node, entries=texts)
                for preset, entry in entries.items():
                    message = messages.neighbour(entry, self._index(preset.at))
                    message[6:8] = messages.CREATE_FLAGS.to_bytes(2, sys.byteorder)  # add only, never replace
                    self._channels[node].queue(message, preset)
                for refusal in self._channels[node].flush():
                    if refusal.errno == errno.EEXIST:
                        del entries[refusal.tag]
                self.entry_count += len(entries)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._record is not None
        try:
            self._record.finish(self._remove_entries)
        finally:
            for channel in self._channels.values():
                channel.close()
            for sock in self._sockets.values():
                sock.close()

    def _remove_entries(self) -> None:
        for node, entries in self._entries.items():
            for preset, entry in entries.items():
                self._channels[node].queue(messages.neighbour(entry, self._index(preset.at), delete=True), preset)
            self._channels[node].flush()  # a refused removal means that the entry was gone already

    def _omit_existing(self, node: str, entries: dict[Preset, Neighbour]) -> None:
        """Forget the entries that exist already: they are not this check's to remove."""
        found = {(one.index, one.ip) for one in dump.neighbours(self._channels[node])}
        for preset in [preset for preset in entries if (self._index(preset.at), preset.ip) in found]:
            del entries[preset]

    def _open(self, node: str) -> socket.socket | None:
        if node not in self._sockets:
            path = paths.netns_path(self._lab, node)
            if not path.exists():
                return None
            self._channels[node] = self._thread.run(path, Channel)
            self._sockets[node] = self._thread.run(None, socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        return self._sockets[node]

    def _mac(self, interface: Interface) -> str | None:
        if interface not in self._macs:
            sock = self._open(interface.ns)
            self._macs[interface] = device_state.mac(sock, interface.dev) if sock is not None else None
        return self._macs[interface]

    def _index(self, interface: Interface) -> int:
        if interface not in self._indices:
            sock = self._open(interface.ns)
            self._indices[interface] = device_state.ifindex(sock, interface.dev) if sock is not None else 0
        return self._indices[interface]


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

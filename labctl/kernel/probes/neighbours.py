"""Temporary neighbour entries during a check of many pairs: added where there is none, and removed at the end.

An existing entry is never changed, right or wrong: the check must find a wrong one.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterable

from labctl.core.neighbour_presets import Preset
from labctl.core.resources import Interface, Neighbour
from labctl.kernel.host import paths
from labctl.kernel.namespaces import device_state
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import messages
from labctl.kernel.netlink.rtnetlink import Channel


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

    def __enter__(self) -> TemporaryNeighbours:
        try:
            for node, entries in self._entries.items():
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
        for node, entries in self._entries.items():
            for preset, entry in entries.items():
                self._channels[node].queue(messages.neighbour(entry, self._index(preset.at), delete=True), preset)
            self._channels[node].flush()  # a refused removal means that the entry was gone already
        for channel in self._channels.values():
            channel.close()
        for sock in self._sockets.values():
            sock.close()

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

"""The indexes of a lab's links, by name: observed ones and newly chosen ones."""

from __future__ import annotations

import errno
import itertools
import os
from typing import TYPE_CHECKING

from labctl.core.resources import Interface
from labctl.errors import KernelError
from labctl.kernel.host.modules import TUNNEL_MODULES

if TYPE_CHECKING:
    from labctl.kernel.observe.snapshot import Snapshot


class DeviceNotReady(Exception):
    """In a repair: the device does not exist yet; the next round will find it."""


class Indexes:
    """The index of each device. New indexes are chosen here, so that nothing has to be looked up.

    Lab indexes (`next_lab_index`) are unique in the lab; a free index (`next_free_index`) is the lowest free one of its
    namespace. With a snapshot of the existing links (a repair), a missing device raises DeviceNotReady; without one, it
    is an error.
    """

    def __init__(self, snapshot: Snapshot | None) -> None:
        self.repairing = snapshot is not None
        self._index: dict[tuple[str, str], int] = {}
        self._used: dict[str, set[int]] = {}
        for ns, links in (snapshot.links if snapshot is not None else {}).items():
            self._used[ns] = set(links)
            for link in links.values():
                self._index[ns, link.name] = link.index
        highest = max((index for used in self._used.values() for index in used), default=1)
        self._first = 2 if not any(os.path.exists(f"/sys/module/{name}") for name in TUNNEL_MODULES) else 32
        self._lab_indexes = itertools.count(max(highest + 1, self._first))

    def find(self, ns: str, dev: str) -> int:
        """The index of a device. For an unknown device it raises DeviceNotReady in a repair, else KernelError."""
        index = self._index.get((ns, dev))
        if index is None:
            if self.repairing:
                raise DeviceNotReady
            raise KernelError(f"no device {dev} in {ns}", "use a device that the scenario creates", errno.ENODEV)
        return index

    def get(self, ns: str, dev: str) -> int | None:
        """The index of a device, or None if it is not known."""
        return self._index.get((ns, dev))

    def remove(self, at: Interface) -> int | None:
        """Forget a device that is being removed; returns its index, or None if it was not known."""
        return self._index.pop((at.ns, at.dev), None)

    def next_lab_index(self, at: Interface, created_in: str | None = None) -> int:
        """A new index that no earlier call returned for this lab, and that is free in the device's namespace.

        `created_in` is the namespace from which the device is created, if that is another one. Older kernels (6.1) look
        there for a device with the index, and refuse the new one with EEXIST; so the index is kept free there, too.
        """
        taken = [self._used.setdefault(ns, {1}) for ns in dict.fromkeys((at.ns, created_in or at.ns))]
        index = next(index for index in self._lab_indexes if not any(index in used for used in taken))
        for used in taken:
            used.add(index)
        return self.assign(at, index)

    def next_free_index(self, at: Interface) -> int:
        """The lowest index that is free in the device's namespace."""
        used = self._used.setdefault(at.ns, {1})
        return self.assign(at, next(index for index in itertools.count(self._first) if index not in used))

    def assign(self, at: Interface, index: int) -> int:
        """Record a device's index, and return it."""
        self._index[at.ns, at.dev] = index
        self._used.setdefault(at.ns, {1}).add(index)
        return index

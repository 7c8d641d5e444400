"""Write the sysctls of a plan: settings of IPv4 devices by rtnetlink, all others as files below /proc/sys.

The first file of a namespace that is opened below /proc/sys costs 0.4 ms, because the kernel makes the tree of settings
of that namespace then. A namespace that needs only settings of devices never gets one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from labctl.core.diff import same
from labctl.core.resources import Sysctl
from labctl.errors import KernelError, LimitError
from labctl.kernel.apply.ifindex import Indexes
from labctl.kernel.host import ping_group_range
from labctl.kernel.host.thread_pool import Call
from labctl.kernel.namespaces.lab_namespaces import NamespaceSet
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import messages, netconf
from labctl.kernel.netlink.errors import fail, fail_sysctl
from labctl.kernel.netlink.rtnetlink import flush_all
from labctl.kernel.observe import sysctl_values
from labctl.kernel.observe.proc_sys import ProcSys

# the kernel does more than set the value if these are written as files
_WITH_EFFECTS = frozenset({"forwarding", "mc_forwarding", "promote_secondaries"})


class SysctlWriter:
    """Writes sysctls of a lab. A namespace that does not exist is left out."""

    def __init__(self, namespaces: NamespaceSet, indexes: Indexes) -> None:
        self._namespaces, self._indexes = namespaces, indexes
        self._early: Call[None] | None = None
        self._begun: frozenset[int] = frozenset()  # what `_early` writes, by identity

    @contextmanager
    def writing(self, items: Iterable[Sysctl]) -> Iterator[None]:
        """While links are made: write the settings that no link changes in a second thread, if there are many. `write`
        waits for its end."""
        early = [item for item in items if item.ns in self._namespaces.channels and _is_independent(item)]
        if not self._namespaces.is_worth_second_thread(len({item.ns for item in early})):
            yield
            return
        with NetnsThread() as second:
            try:
                self._early = second.begin(None, self._write_early, early)
                self._begun = frozenset(map(id, early))
            except LimitError:
                pass  # `write` does it
            try:
                yield
            except BaseException:
                self._namespaces.stopped = True
                raise

    def write(self, items: Iterable[Sysctl]) -> None:
        """Write all, in their order. Raises KernelError for the first one that the kernel refuses or makes another
        value of."""
        here = [item for item in items if item.ns in self._namespaces.channels and id(item) not in self._begun]
        rest = [item for item in here if not self._is_queued(item) and not self._is_as_wanted(item)]
        refused = flush_all(self._namespaces.channels.values())
        if self._early is not None:
            self._early.result()
        with ProcSys() as files:
            for item in (*rest, *(refusal.tag[1] for refusal in refused)):
                self._namespaces.enter(item.ns)
                _write_file(item, files)

    def _write_early(self, items: Iterable[Sysctl]) -> None:
        current = None
        with ProcSys() as files:
            for item in items:
                if self._namespaces.stopped:
                    raise KernelError("interrupted before all sysctls were set")
                if item.ns != current:
                    self._namespaces.enter_in_second_thread(item.ns)
                    current = item.ns
                _write_file(item, files)

    def _is_queued(self, item: Sysctl) -> bool:
        """Whether the setting of a device goes by a message that is queued now."""
        device, name = sysctl_values.ipv4_conf(item.name)
        number = sysctl_values.IPV4_NUMBERS.get(name)
        if number is None or name in _WITH_EFFECTS or device in sysctl_values.GENERAL or not item.value.isdecimal():
            return False
        index = self._indexes.get(item.ns, device)
        if index is None:
            return False
        self._namespaces.channels[item.ns].queue(
            messages.ipv4_setting(index, number + 1, int(item.value)), ("set", item)
        )
        return True

    def _is_as_wanted(self, item: Sysctl) -> bool:
        """Whether forwarding of IPv4 is already as wanted: for all devices, and for new ones."""
        if item.name != "net.ipv4.ip_forward":
            return False
        channel = self._namespaces.channels[item.ns]
        found = (netconf.ipv4_conf(channel, number).get("forwarding") for number in sysctl_values.GENERAL.values())
        return all(str(value) == item.value for value in found)


def _is_independent(item: Sysctl) -> bool:
    """Whether neither a device changes this setting, nor the setting a device: one of IPv4 or IPv6 as a whole, as
    `net.ipv4.ping_group_range`."""
    return item.name.count(".") == 2 and item.name.startswith("net.ip") and item.name != "net.ipv4.ip_forward"


def _write_file(item: Sysctl, files: ProcSys) -> None:
    try:
        fd = files.open(item.ns, item.name, os.O_WRONLY)
        try:
            os.write(fd, ping_group_range.to_kernel(item.name, item.value).encode())
        finally:
            os.close(fd)
    except OSError as error:
        fail_sysctl(item, error)
    found = next(sysctl_values.read_sysctls([item], files), None)
    if found is None:
        fail(item, "this sysctl can be written but not read", "remove it: it is not a setting", verb="set")
    if not same(item, found):
        fail(item, f"the kernel made {found.value} of it", f"write {found.value}", verb="set")

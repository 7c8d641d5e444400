"""Write the firewall of several namespaces while links are made, where the rules do not need these links.

Rules name devices by name, so they can be there first. There are two ways. Programs of a few namespaces run beside the
work of this thread, which then only waits for them. For many namespaces, a second thread does all of it: the kernel
makes links one after the other, so a processor is free.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from labctl.core.diff import Change
from labctl.core.resources import Chain, NftObject
from labctl.errors import KernelError, LimitError
from labctl.kernel.host.thread_pool import Call
from labctl.kernel.namespaces.lab_namespaces import NamespaceSet
from labctl.kernel.namespaces.thread import NetnsThread

if TYPE_CHECKING:
    from labctl.kernel.firewall.chains import ChainWriter

MAX_CHAIN_WRITERS = 2 * (os.cpu_count() or 1)  # namespaces in which chains are written at the same time


class FirewallChanges:
    """The changes of chains and of objects of nft, carried out with `writer`. A context manager: leaving it after an
    error ends the second thread's work.

    `start_early` may begin, `start` begins what has not begun, and `finish` waits for the end of all.
    """

    def __init__(self, namespaces: NamespaceSet, writer: ChainWriter | None, changes: Sequence[Change]) -> None:
        self._namespaces, self._writer = namespaces, writer
        self._changes: dict[str, list[Change]] = {}
        if writer is not None:
            for change in changes:
                self._changes.setdefault(change.subject.ns, []).append(change)
        self._running: deque[str] = deque()  # namespaces in which programs run
        self._has_begun = not self._changes
        self._second = NetnsThread()
        self._call: Call[None] | None = None  # what the second thread does

    def __enter__(self) -> FirewallChanges:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None and self._call is not None:
            self._namespaces.stopped = True
        self._second.close()

    def start_early(self) -> None:
        """Begin in a new lab that has no links yet, unless rules can need what is not there: nft needs the devices that
        an object names by number."""
        changes = (change for found in self._changes.values() for change in found)
        if self._has_begun or any(isinstance(change.subject, NftObject) for change in changes):
            return
        if len(self._changes) <= MAX_CHAIN_WRITERS:
            self.start()
        elif self._namespaces.can_share_work():
            try:
                self._call = self._second.begin(None, self._write_all)
                self._has_begun = True
            except LimitError:
                pass  # this thread does it later

    def start(self) -> None:
        """Begin what has not begun yet: in several namespaces at the same time, first where most rules are written.
        Raises KernelError, MissingError."""
        if not self._has_begun:
            self._has_begun = True
            self._start_all(self._namespaces.enter)

    def finish(self) -> None:
        """Wait until all is written. Raises KernelError, which names the refused rule, and MissingError."""
        if self._call is not None:
            self._call.result()
        self._finish(0, self._namespaces.enter)

    def _write_all(self) -> None:
        """All of it, in the second thread."""
        self._start_all(self._enter_second)
        self._finish(0, self._enter_second)

    def _enter_second(self, ns: str) -> None:
        if self._namespaces.stopped:
            raise KernelError("interrupted before all rules were written")
        self._namespaces.enter_in_second_thread(ns)

    def _start_all(self, enter: Callable[[str], None]) -> None:
        assert self._writer is not None
        for ns in sorted(self._changes, key=lambda ns: -sum(map(_size, self._changes[ns]))):
            if ns in self._namespaces.channels:
                enter(ns)
                self._writer.start(ns, self._changes[ns])
                self._running.append(ns)
                self._finish(MAX_CHAIN_WRITERS, enter)

    def _finish(self, left: int, enter: Callable[[str], None]) -> None:
        """Wait for programs, until they run in at most `left` namespaces."""
        while len(self._running) > left:
            assert self._writer is not None
            ns = self._running.popleft()
            enter(ns)
            self._writer.finish(ns)


def _size(change: Change) -> int:
    """How many rules or entries a change writes."""
    want = change.want
    return len(want.rules) if isinstance(want, Chain) else len(want.entries) if isinstance(want, NftObject) else 0

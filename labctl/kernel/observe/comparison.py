"""Compare a large lab with its plan in two processes: each reads and compares the namespaces that it gets.

Both take the next few namespaces from one queue until none is left, so both end at about the same time, whatever the
namespaces contain. Then they exchange the names and indexes of all links, which peers need. A namespace in which
nothing differs is not mentioned again; of the others, the second process sends all objects.

Nothing is concluded from a missing answer: if the second process ends early, there is no result.
"""

from __future__ import annotations

import marshal
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import cast

from labctl.core.diff import diff
from labctl.core.iptables import Backend
from labctl.core.resources import Attachment, Plan, Process, Resource
from labctl.kernel.host.limits import SPARE_FILES, widen_file_table
from labctl.kernel.host.second_process import Pipe, can_fork, second_process
from labctl.kernel.host.signals import ignore_signals
from labctl.kernel.namespaces.lab_namespaces import FILES_PER_NAMESPACE, NamespaceSet
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.observe.lab_reader import LabReader

TAKEN = 8  # namespaces that a process takes from the queue at once, if that are not too many numbers
COMPARED = 64  # namespaces that are compared at once: their objects are in memory meanwhile
NUMBER_BYTES = 2  # of a number in the queue
MAX_NUMBERS = 2048  # in the queue: even the smallest pipe holds a page of 4 KiB


class UndecidedError(Exception):
    """Two processes cannot compare this lab. One process can, or says why not."""


def is_possible(plan: Plan) -> bool:
    """Whether two processes can compare a lab. What CNI plugins made is recorded for the lab as a whole."""
    return can_fork() and not any(isinstance(item, Attachment) for item in plan)


def compare(lab: str, plan: Plan, nodes: Sequence[str], backend: Backend) -> tuple[Plan, Plan]:
    """The wanted and the observed objects of all namespaces in which something differs; of other namespaces, nothing.

    Raises UndecidedError, and what `LabReader` raises.
    """
    wanted: dict[str, list[Resource]] = {}
    for item in plan:
        wanted.setdefault(item.ns, []).append(item)
    widen_file_table(FILES_PER_NAMESPACE * len(nodes) + SPARE_FILES)  # each process may read most of them
    with _queue(nodes) as queue:

        def share(pipe: Pipe) -> None:
            _Part(lab, plan, wanted, backend).compare(queue, pipe, is_second=True)

        try:
            with second_process(share) as pipe:
                part = _Part(lab, plan, wanted, backend)
                differing = part.compare(queue, pipe, is_second=False)
                differing |= _loaded(pipe.receive())
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise UndecidedError from None
    absent = wanted.keys() - part.seen
    return (
        tuple(item for item in plan if item.ns in differing or item.ns in absent),
        tuple(item for ns in sorted(differing) for item in differing[ns]),
    )


class _Part:
    """What one of the two processes does."""

    def __init__(self, lab: str, plan: Plan, wanted: dict[str, list[Resource]], backend: Backend) -> None:
        self._lab, self._plan, self._wanted, self._backend = lab, plan, wanted, backend
        self.seen: set[str] = set()  # the namespaces that one of the two has read

    def compare(self, queue: Callable[[], Sequence[str]], pipe: Pipe, *, is_second: bool) -> dict[str, list[Resource]]:
        """The observed objects of the namespaces that this process has read and that differ. The second process also
        sends them."""
        namespaces, thread = NamespaceSet(self._lab), NetnsThread()
        try:
            return thread.run(None, self._compare, namespaces, queue, pipe, is_second)
        finally:
            if not is_second:  # that one ends, and its files with it
                with ignore_signals():
                    thread.close()  # after an interrupt, it still works
                namespaces.close()

    def _compare(
        self, namespaces: NamespaceSet, queue: Callable[[], Sequence[str]], pipe: Pipe, is_second: bool
    ) -> dict[str, list[Resource]]:
        with LabReader(namespaces, self._plan, self._backend, complete=True) as reader:
            while nodes := queue():
                reader.read(nodes)
            self._exchange(namespaces, reader, pipe, is_second)
            found_processes: dict[str, list[Process]] = {}
            if any(isinstance(item, Process) for item in self._plan):
                from labctl.kernel import processes

                for process in processes.find(self._lab, reader.nodes):
                    found_processes.setdefault(process.ns, []).append(process)
            differing: dict[str, list[Resource]] = {}
            for start in range(0, len(reader.nodes), COMPARED):
                nodes = reader.nodes[start : start + COMPARED]
                found = [*reader.resources(nodes), *(one for node in nodes for one in found_processes.get(node, ()))]
                want = [item for node in nodes for item in self._wanted.get(node, ())]
                for ns in {change.subject.ns for change in diff(tuple(want), tuple(found))}:
                    differing[ns] = [item for item in found if item.ns == ns]
            if is_second:
                pipe.send(_dumped(differing))
            return differing

    def _exchange(self, namespaces: NamespaceSet, reader: LabReader, pipe: Pipe, is_second: bool) -> None:
        """Send the other process the links and namespaces that this one has read, and receive those of the other. The
        second process sends first: two that both send could wait for each other."""
        mine = marshal.dumps((reader.snapshot.summary(), namespaces.inodes()))
        if is_second:
            pipe.send(mine)
        links, inodes = marshal.loads(pipe.receive())
        if not is_second:
            pipe.send(mine)
        if not inodes.isdisjoint(namespaces.inodes()):
            raise UndecidedError  # two names of one namespace
        reader.snapshot.add_summary(links)
        self.seen = {*reader.nodes, *links}


@contextmanager
def _queue(nodes: Sequence[str]) -> Iterator[Callable[[], Sequence[str]]]:
    """A function that takes the next few namespaces, in whichever process it is called. Nothing is left if it returns
    none. The queue is a pipe with all numbers in it, which both processes read."""
    taken = max(TAKEN, -(-len(nodes) // MAX_NUMBERS))
    numbers = range(-(-len(nodes) // taken))
    read, write = os.pipe()
    try:
        try:
            os.write(write, b"".join(number.to_bytes(NUMBER_BYTES, "big") for number in numbers))
        finally:
            os.close(write)

        def take() -> Sequence[str]:
            number = os.read(read, NUMBER_BYTES)
            start = int.from_bytes(number, "big") * taken
            return nodes[start : start + taken] if number else ()

        yield take
    finally:
        os.close(read)


def _dumped(differing: dict[str, list[Resource]]) -> bytes:
    if not differing:
        return b""
    import pickle  # only where something differs

    return pickle.dumps(differing)


def _loaded(data: bytes) -> dict[str, list[Resource]]:
    if not data:
        return {}
    import pickle

    return cast("dict[str, list[Resource]]", pickle.loads(data))

"""Read the namespaces of a lab, in two steps: what each of them says, then what that means together.

The peer of a veth, and the lower device of some links, are in another namespace. So their names are known only when the
links of all namespaces have been read; a part of them can be read by another process (`add_links`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack

from labctl.core.iptables import Backend
from labctl.core.resources import Chain, Link, NftObject, Plan, Resource, Sysctl
from labctl.kernel.firewall import chains
from labctl.kernel.namespaces.lab_namespaces import NamespaceSet
from labctl.kernel.netlink import dump
from labctl.kernel.observe import snapshot, sysctl_values
from labctl.kernel.observe.proc_sys import ProcSys

MAX_CHAIN_READERS = 2 * (os.cpu_count() or 1)  # namespaces in which chains are read at the same time


class LabReader:
    """Reads the namespaces of one lab. A context manager: leaving it ends the programs that still read rules.

    `plan` decides which sysctls to read, which firewall families and which fallback devices of modules (that are down)
    to include. Without a `backend`, no firewall is read. `complete` says that all namespaces of the lab are read.
    """

    def __init__(self, namespaces: NamespaceSet, plan: Plan, backend: Backend | None, *, complete: bool) -> None:
        self.snapshot = snapshot.Snapshot(complete=complete)
        self.nodes: list[str] = []  # that were read, in order
        self._namespaces, self._backend = namespaces, backend
        self._found: dict[str, list[Resource]] = {}
        self._held = ExitStack()
        self._reading: deque[tuple[str, Callable[[], Iterable[Resource]], ExitStack]] = deque()
        self._files = self._held.enter_context(ProcSys())
        self._sysctls: dict[str, list[Sysctl]] = {}
        self._chains: dict[str, list[Chain | NftObject]] = {}
        self._down: dict[str, list[str]] = {}
        for item in plan:
            if isinstance(item, Sysctl):
                self._sysctls.setdefault(item.ns, []).append(item)
            elif isinstance(item, (Chain, NftObject)):
                self._chains.setdefault(item.ns, []).append(item)
            elif isinstance(item, Link) and not item.up:
                self._down.setdefault(item.ns, []).append(item.at.dev)
        if backend is not None:
            from labctl.kernel.netlink.netfilter_state import NetfilterReader

            self._netfilter = NetfilterReader()

    def __enter__(self) -> LabReader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def read(self, nodes: Iterable[str]) -> None:
        """Read these namespaces; those that do not exist are left out. Call it in the thread that enters namespaces.
        Raises KernelError, MissingError, LimitError, OSError."""
        for node in self._namespaces.visit(nodes):
            self.nodes.append(node)
            channel, sysctls = self._namespaces.channels[node], self._sysctls.get(node, ())
            self.snapshot.add(node, dump.links(channel), self._down.get(node, ()))
            links = self.snapshot.links[node].values()
            self._found[node] = [
                snapshot.netns(node),
                *sysctl_values.read_known(sysctls, links, channel, self._files),
                *sysctl_values.differing_forwarding(node, links, sysctls),
            ]
            if self._backend is not None:
                self._start_reading_chains(node, self._backend)

    def _start_reading_chains(self, node: str, backend: Backend) -> None:
        tables, sets = self._netfilter.read(node)
        self._found[node] += sets
        wanted = self._chains.get(node, ())
        if chains.may_exist(tables, wanted):
            held = self._held.enter_context(ExitStack())
            self._reading.append((node, chains.start_reading(node, wanted, backend, held, tables), held))
            self._finish_chains(MAX_CHAIN_READERS)

    def _finish_chains(self, left: int) -> None:
        while len(self._reading) > left:
            node, read, held = self._reading.popleft()
            self._found[node] += read()
            held.close()  # at once: a large lab would need too many open files

    def resources(self, nodes: Sequence[str]) -> list[Resource]:
        """What was read in these namespaces, in the plan's types. Only once for each. Raises as `read` does."""
        self._finish_chains(0)
        found = [item for node in nodes for item in self._found.pop(node)]
        for node in nodes:
            found += snapshot.links(self.snapshot, node, self._nsid)
            found += snapshot.tables(self._namespaces.channels[node], self.snapshot, node, self._nsid)
        return found

    def _nsid(self, node: str, other: str) -> int | None:
        """The kernel's id (nsid) in `node` for another namespace, which another process may have read."""
        if other not in self._namespaces.channels:
            for _ in self._namespaces.visit([other]):
                pass
        return self._namespaces.nsid(node, other) if other in self._namespaces.channels else None

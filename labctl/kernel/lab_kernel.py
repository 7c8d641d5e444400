"""One lab in the kernel: observe, apply and destroy it. All work runs in the one thread that enters namespaces."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import ExitStack
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from labctl.core.iptables import Backend
from labctl.core.observations import Flow
from labctl.core.resources import Attachment, Chain, IpSet, Link, Netns, NftObject, Plan, Process, Resource, Sysctl
from labctl.dataclass import replace
from labctl.errors import LimitError
from labctl.kernel.firewall import backend, chains
from labctl.kernel.host import lab_state, paths
from labctl.kernel.host.signals import ignore_signals
from labctl.kernel.namespaces import lab_namespaces, occupants
from labctl.kernel.namespaces.entry import returning
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import dump
from labctl.kernel.observe import snapshot, sysctl_values

if TYPE_CHECKING:
    from labctl.core.diff import Change

MAX_CHAIN_READERS = 2 * (os.cpu_count() or 1)  # namespaces in which chains are read at the same time


class KernelLab:
    """The kernel objects of one lab. A context manager: it holds file descriptors and a thread."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.thread = NetnsThread()
        self.namespaces = lab_namespaces.NamespaceSet(lab)
        self.snapshot: snapshot.Snapshot | None = None

    @cached_property
    def backend(self) -> Backend:
        """The firewall backend of the lab: legacy or nft."""
        return backend.backend_of(self.lab)

    def __enter__(self) -> KernelLab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.thread.close()
        else:
            self.namespaces.stopped = True
            with ignore_signals():
                self.thread.close()
        self.namespaces.close()

    def nodes(self) -> tuple[str, ...]:
        """The lab's named namespaces that exist now, by node name."""
        return paths.labs().get(self.lab, ())

    def observe(self, plan: Plan = (), nodes: Iterable[str] | None = None, *, chains: bool = True) -> Plan:
        """The current state, in the plan's types.

        `plan` decides which sysctls to read, which firewall families and which fallback devices of modules (that are
        down) to include, and whether to include processes. `nodes` limits it to some namespaces; peers in other
        namespaces then have no name. With `chains=False` no firewall is read.

        If no thread can be started, the calling thread reads the namespaces itself.
        """
        existing = tuple(nodes if nodes is not None else self.nodes())
        try:
            self.thread.start()
        except LimitError:
            with returning():
                try:
                    return self._observe(plan, existing, chains, nodes is None)
                finally:
                    self.namespaces.forget_thread()
        return self.thread.run(None, self._observe, plan, existing, chains, nodes is None)

    def apply(self, changes: Sequence[Change]) -> None:
        """Carry out changes. After `observe` they repair the observed lab; otherwise they build a new one.

        Raises KernelError if the kernel refuses a change, MissingError if a tool or a kernel feature is missing.
        """
        self.thread.run(None, self._apply, changes)

    def create_connections(self, flows: Iterable[Flow]) -> None:
        """Create entries of conntrack, each in its namespace. Raises KernelError if the kernel refuses one."""
        from labctl.kernel.netlink import conntrack_entries

        for flow in flows:
            self.thread.run(paths.netns_path(self.lab, flow.node), conntrack_entries.create, flow)

    def delete_connections(self, flows: Iterable[Flow]) -> tuple[Flow, ...]:
        """Delete entries of conntrack; returns those that existed, none of a namespace that is gone."""
        from labctl.kernel.netlink import conntrack_entries

        run = self.thread.run
        present = [flow for flow in flows if flow.node in self.nodes()]
        return tuple(
            flow for flow in present if run(paths.netns_path(self.lab, flow.node), conntrack_entries.delete, flow)
        )

    def kernel_spelling(
        self, plan: Plan, keys: Container[tuple[Any, ...]] | None = None
    ) -> dict[tuple[Any, ...], Chain | NftObject]:
        """The chains and the objects of nft of a plan in the spelling of this machine's kernel and tools, by key: those
        with one of these keys, or all. What it cannot spell is left out."""
        from labctl.kernel.firewall.kernel_spelling import kernel_spelling, nft_spelling

        native = [item for item in plan if isinstance(item, NftObject)]
        spelled_natively: dict[tuple[Any, ...], Chain | NftObject] = {}
        for ns in dict.fromkeys(item.ns for item in native if keys is None or item.key in keys):
            here = nft_spelling(ns, [item for item in native if item.ns == ns])
            spelled_natively |= {key: item for key, item in here.items() if keys is None or key in keys}
        sets = [item for item in plan if isinstance(item, IpSet)]
        chains = [item for item in plan if isinstance(item, Chain)]
        wanted = [item for item in chains if keys is None or item.key in keys]
        places = {(item.ns, item.family, item.table, rule.target) for item in wanted for rule in item.rules}
        others = [item for item in chains if (item.ns, item.family, item.table, item.name) in places]
        empty = {item.key: replace(item, rules=()) for item in others}  # what the rules jump to must exist
        every = empty | {item.key: item for item in wanted}
        spelled = kernel_spelling(every.values(), sets, self.backend)
        return spelled_natively | {item.key: spelled[item.key] for item in wanted if item.key in spelled}

    def destroy(self) -> tuple[str, ...]:
        """Remove every namespace of the lab; only their names are needed. Returns the nodes that were removed.

        First it ends all processes inside, because a process keeps its namespace alive.
        """
        nodes = self.nodes()
        pids = occupants.find(paths.netns_path(self.lab, node) for node in nodes)
        from labctl.kernel import processes

        occupants.terminate({*pids, *processes.find_anywhere(self.lab)})
        self.namespaces.close()
        self.snapshot = None
        for node in nodes:
            lab_namespaces.unbind(paths.netns_path(self.lab, node))
        return nodes

    def _observe(self, plan: Plan, nodes: tuple[str, ...], with_chains: bool, complete: bool) -> Plan:
        namespaces, opened = self.namespaces, []
        planned_sysctls: dict[str, list[Sysctl]] = {}
        planned_chains: dict[str, list[Chain | NftObject]] = {}
        down_devices: dict[str, list[str]] = {}
        for item in plan:
            if isinstance(item, Sysctl):
                planned_sysctls.setdefault(item.ns, []).append(item)
            elif isinstance(item, (Chain, NftObject)):
                planned_chains.setdefault(item.ns, []).append(item)
            elif isinstance(item, Link) and not item.up:
                down_devices.setdefault(item.ns, []).append(item.at.dev)
        firewall_backend = self.backend if with_chains else "legacy"
        if with_chains:
            from labctl.kernel.netlink.netfilter_state import NetfilterReader

            netfilter = NetfilterReader()
        current = snapshot.Snapshot(complete=complete)
        found: list[Resource] = []
        with ExitStack() as held:
            reading: deque[tuple[Callable[[], Iterable[Resource]], ExitStack]] = deque()

            def finish(left: int) -> None:
                while len(reading) > left:
                    read, held_by_node = reading.popleft()
                    found.extend(read())
                    held_by_node.close()  # at once: a large lab would need too many open files

            for node in namespaces.visit(nodes):
                opened.append(node)
                found.append(snapshot.netns(node))
                current.add(node, dump.links(namespaces.channels[node]), down_devices.get(node, ()))
                sysctls = planned_sysctls.get(node, ())
                found += sysctl_values.read_known(sysctls, current.links[node].values(), namespaces.channels[node])
                found += sysctl_values.differing_forwarding(node, current.links[node].values(), sysctls)
                if with_chains:
                    tables, sets = netfilter.read(node)
                    found += sets
                    wanted = planned_chains.get(node, ())
                    if chains.may_exist(tables, wanted):
                        held_by_node = held.enter_context(ExitStack())
                        read = chains.start_reading(node, wanted, firewall_backend, held_by_node, tables)
                        reading.append((read, held_by_node))
                        finish(MAX_CHAIN_READERS)
            for node in opened:  # their peers are known only now
                found += snapshot.links(current, node, namespaces.nsid)
                found += snapshot.tables(namespaces.channels[node], current, node, namespaces.nsid)
            finish(0)
        if any(isinstance(item, Attachment) for item in plan):
            from labctl.kernel.cni import attachment_records

            devices = frozenset(f"{node}/{link.name}" for node in opened for link in current.links[node].values())
            found += attachment_records.live_attachments(self.lab, plan, devices)
        if not plan or any(isinstance(item, Process) for item in plan):
            from labctl.kernel import processes

            found += processes.find(self.lab, opened)
        self.snapshot = current
        return tuple(found)

    def _apply(self, changes: Sequence[Change]) -> None:
        lab_namespaces.prepare_netns_dir()
        lock = lab_state.xtables_lock(self.lab)

        from labctl.kernel.apply.builder import Builder  # reading a lab does not need it

        self.namespaces.require_room(sum(isinstance(change.want, Netns) for change in changes if change.have is None))
        with chains.ChainWriter(lock, self.backend) as writer:
            Builder(self.namespaces, writer, self.snapshot).apply(changes)

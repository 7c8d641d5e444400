"""One lab in the kernel: observe, apply and destroy it. All work runs in the one thread that enters namespaces."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING, Any

from labctl.core.iptables import Backend
from labctl.core.resources import Attachment, Chain, IpSet, Netns, NftObject, Plan, Process
from labctl.errors import LimitError
from labctl.kernel.firewall import backend, chains
from labctl.kernel.host import lab_state, paths
from labctl.kernel.host.limits import SPARE_FILES, widen_file_table
from labctl.kernel.host.signals import ignore_signals
from labctl.kernel.namespaces import lab_namespaces, occupants
from labctl.kernel.namespaces.entry import returning
from labctl.kernel.namespaces.thread import NetnsThread

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.observations import Flow
    from labctl.kernel.observe.snapshot import Snapshot

MANY = 100  # namespaces that are worth a second process


class KernelLab:
    """The kernel objects of one lab. A context manager: it holds file descriptors and a thread."""

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.thread = NetnsThread()
        self.namespaces = lab_namespaces.NamespaceSet(lab)
        self.snapshot: Snapshot | None = None
        self._compared: Plan = ()  # what two processes have compared the lab with

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
        self._widen_file_table(len(existing))
        try:
            self.thread.start()
        except LimitError:
            with returning():
                try:
                    return self._observe(plan, existing, chains, nodes is None)
                finally:
                    self.namespaces.forget_thread()
        return self.thread.run(None, self._observe, plan, existing, chains, nodes is None)

    def differences(self, plan: Plan) -> tuple[Change, ...]:
        """The changes that bring the lab to a plan: `diff` of it and what `observe` finds. A large lab is compared in
        two processes. Raises what `observe` raises."""
        from labctl.core.diff import diff

        nodes = self.nodes()
        if len(nodes) >= MANY:
            from labctl.kernel.observe import comparison

            with suppress(comparison.UndecidedError, LimitError):
                if comparison.is_possible(plan):
                    want, have = comparison.compare(self.lab, plan, nodes, self.backend)
                    self.snapshot, self._compared = None, plan
                    return diff(want, have) if want or have else ()
        return diff(plan, self.observe(plan))

    def apply(self, changes: Sequence[Change]) -> None:
        """Carry out changes. After `observe` or `differences` they repair that lab; otherwise they build a new one.

        Raises KernelError if the kernel refuses a change, MissingError if a tool or a kernel feature is missing.
        """
        if self._compared and self.snapshot is None:
            self.observe(self._compared, chains=False)  # the links that exist
        self._widen_file_table(sum(isinstance(change.want, Netns) for change in changes if change.have is None))
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

    def _widen_file_table(self, namespaces: int) -> None:
        """Before the thread opens so many namespaces."""
        widen_file_table(lab_namespaces.FILES_PER_NAMESPACE * namespaces + SPARE_FILES)

    def _observe(self, plan: Plan, nodes: tuple[str, ...], with_chains: bool, complete: bool) -> Plan:
        from labctl.kernel.observe.lab_reader import LabReader

        with LabReader(self.namespaces, plan, self.backend if with_chains else None, complete=complete) as reader:
            reader.read(nodes)
            found = reader.resources(reader.nodes)
        current, opened = reader.snapshot, reader.nodes
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

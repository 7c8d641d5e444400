"""Everything that observes a probe, set up before it is sent and removed afterwards: taps, tracing, rule reports.

Only the taps are required. If the kernel refuses anything else, `unknown` reports it and the trace continues without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.core.iptables_save import ChainCounters
from labctl.core.observations import Flow
from labctl.errors import LabError
from labctl.kernel.capture.tap import Taps
from labctl.kernel.firewall import backend, chains
from labctl.kernel.host import counters, modules, paths
from labctl.kernel.host.signals import ignore_signals
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import conntrack
from labctl.kernel.probes import trace_probes
from labctl.kernel.rule_trace import nflog
from labctl.kernel.rule_trace.cleanup import TraceRecord, instance
from labctl.kernel.rule_trace.nft_mark import ProbeMarkTable
from labctl.kernel.rule_trace.nft_trace import NftLog
from labctl.kernel.rule_trace.tracefs import Tracing

if TYPE_CHECKING:
    from labctl.tracing.evidence import Question

T = TypeVar("T")
PORT_PROTOCOLS = {"tcp": 6, "udp": 17}  # the numbers of the protocols that have ports
MODULES = ("nf_tables", "nfnetlink_log", "nf_conntrack_netlink")  # needed for the reports of rules and connections
MAX_FIREWALL_NAMESPACES = 64  # namespaces with a firewall whose rules are watched at most


class Instruments:
    """The instruments of one trace. A context manager; on exit it removes them all."""

    def __init__(
        self, lab: str, nodes: Iterable[str], question: Question, identity: bytes, warn: Callable[[str], None]
    ) -> None:
        self.lab, self.nodes, self.question, self.warn = lab, tuple(nodes), question, warn
        self.backend = backend.backend_of(lab)
        self.instance = instance(lab)
        self.unknown: list[str] = []
        self.thread = NetnsThread()
        self.cleanup_record = TraceRecord(lab)
        self.taps: Taps | None = None
        self._pool = ThreadPoolExecutor(1, "tracing")
        self._tracing_start: Future[None] | None = None
        self.tracing: Tracing | None = None
        self.rule_logs: dict[str, nflog.NfLog | NftLog] = {}
        self.nft_tables: dict[str, ProbeMarkTable] = {}
        self.nflog_settings: dict[str, dict[str, str]] = {}
        self.flows_before: list[Flow] = []
        self.counters_before: dict[str, dict[str, int]] = {}
        self.chains_before: dict[str, tuple[ChainCounters, ...]] = {}
        self.chains_after: dict[str, tuple[ChainCounters, ...]] = {}
        version = question.address.version
        self._matches = trace_probes.matches(question.protocol, version, identity)
        self._lengths = trace_probes.lengths(
            question.protocol, version, question.size or trace_probes.DEFAULT_PAYLOAD_BYTES
        )

    def __enter__(self) -> Instruments:
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with ignore_signals():
            if self._tracing_start is not None:
                wait([self._tracing_start])  # also after an interruption, the set-up must be finished and undone
            closing = self._pool.submit(self._stop_tracing)
            self._unwatch_rules()
            if self.taps is not None:
                self.taps.close()
            closing.result()
            self._pool.shutdown()
            self.thread.close()
            self.cleanup_record.__exit__()

    def read_flows(self) -> None:
        """Read the entries of conntrack, if the probe has a chosen source port: only then an earlier one can be its."""
        if self.question.sport is None:
            return
        for node in self.nodes:
            with suppress(OSError):
                found = self.run(node, conntrack.flows, node, self.question.address.version)
                self.flows_before += [flow for flow in found if flow.protocol == PORT_PROTOCOLS[self.question.protocol]]

    def run(self, node: str, function: Callable[..., T], *args: Any) -> T:
        """Call a function inside a node. Raises OSError if the node does not exist."""
        return self.thread.run(paths.netns_path(self.lab, node), function, *args)

    def _set_up(self) -> None:
        self.cleanup_record.note("instance", self.instance)
        self._tracing_start = self._pool.submit(self._start_tracing)
        self.taps = Taps(self.lab, self.nodes, self.thread)
        self._watch_rules()
        self._tracing_start.result()
        for node in self.nodes:
            with suppress(OSError):
                self.counters_before[node] = self.run(node, counters.read_counters)

    def _start_tracing(self) -> None:
        """Set up tracefs. Runs in a second thread, because it takes as long as all the rest."""
        try:
            self.tracing = Tracing(self.instance, self._lengths)
        except OSError as error:
            self.unknown.append(f"the kernel's drops cannot be observed: {error.strerror or error}")
            return
        if not self.tracing.has_reasons:
            self.unknown.append("this kernel reports where it dropped a packet, but not why (Linux 5.17 and later do)")

    def _watch_rules(self) -> None:
        """Where a namespace has a firewall: read the counters, and get reports of all rules that the probe meets."""
        filtering = [node for node in self.nodes if self._has_firewall(node)]
        if len(filtering) > MAX_FIREWALL_NAMESPACES:
            self.unknown.append(f"the rules of {len(filtering)} namespaces were not watched: these are too many")
            return
        if filtering:
            modules.load(MODULES, self.warn)
        before: dict[str, dict[str, str]] = {}
        for node in filtering:
            with suppress(OSError, LabError):
                self.chains_before[node] = self.run(node, chains.read_chain_counters, node, self.backend)
                before[node] = self.run(node, nflog.read_loggers) if self.backend == "legacy" else {}
        self.nflog_settings = before
        self.cleanup_record.note("logs", {node: setting for node, setting in before.items() if setting})
        self.cleanup_record.note("tables", list(before))
        for node in before:
            try:
                self.rule_logs[node] = self.run(node, self._open_rule_log)
                self.nft_tables[node] = self.run(node, ProbeMarkTable, self._matches, self.instance)
            except OSError as error:
                why = error.strerror or error
                self.unknown.append(f"the rules that the probe met in {node} are known only by their counters: {why}")

    def _open_rule_log(self) -> nflog.NfLog | NftLog:
        return nflog.NfLog() if self.backend == "legacy" else NftLog(self.instance)

    def _has_firewall(self, node: str) -> bool:
        try:
            return bool(self.run(node, chains.has_tables))
        except OSError:
            return False

    def _stop_tracing(self) -> None:
        if self.tracing is not None:
            self.tracing.close()

    def _unwatch_rules(self) -> None:
        for table in self.nft_tables.values():
            table.close()
        for log in self.rule_logs.values():
            log.close()
        for node, before in self.nflog_settings.items():
            with suppress(OSError):
                self.run(node, nflog.restore_loggers, before)

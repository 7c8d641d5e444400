"""Everything that observes a probe, set up before it is sent and removed afterwards: taps, tracing, rule reports.

Only the taps are required. If the kernel refuses anything else, `unknown` reports it and the trace continues without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.core.iptables_save import Counted
from labctl.errors import LabError
from labctl.kernel.capture.tap import Taps
from labctl.kernel.firewall import backend, chains
from labctl.kernel.host import counters, modules, paths
from labctl.kernel.host.signals import undisturbed
from labctl.kernel.namespaces.thread import Inside
from labctl.kernel.probes import trace_probes
from labctl.kernel.rule_trace import nflog
from labctl.kernel.rule_trace.cleanup import Record, instance
from labctl.kernel.rule_trace.nft_mark import NfTrace
from labctl.kernel.rule_trace.nft_trace import NftLog
from labctl.kernel.rule_trace.tracefs import Tracing

if TYPE_CHECKING:
    from labctl.tracing.evidence import Question

T = TypeVar("T")
MODULES = ("nf_tables", "nfnetlink_log", "nf_conntrack_netlink")  # needed for the reports of rules and connections
RULED = 64  # namespaces with a firewall whose rules are watched at most


class Armed:
    """The instruments of one trace. A context manager; on exit it removes them all."""

    def __init__(
        self, lab: str, nodes: Iterable[str], question: Question, identity: bytes, say: Callable[[str], None]
    ) -> None:
        self.lab, self.nodes, self.question, self.say = lab, tuple(nodes), question, say
        self.firewall = backend.of(lab)
        self.name = instance(lab)
        self.unknown: list[str] = []
        self.inside = Inside()
        self.record = Record(lab)
        self.taps: Taps | None = None
        self._pool = ThreadPoolExecutor(1, "tracing")
        self._opening: Future[None] | None = None
        self.tracing: Tracing | None = None
        self.logs: dict[str, nflog.NfLog | NftLog] = {}
        self.tables: dict[str, NfTrace] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.before: dict[str, dict[str, int]] = {}
        self.counted: dict[str, tuple[Counted, ...]] = {}
        self.after: dict[str, tuple[Counted, ...]] = {}
        version = question.address.version
        self._matches = trace_probes.matches(question.protocol, version, identity)
        self._lengths = trace_probes.lengths(question.protocol, version, question.size or trace_probes.USUAL)

    def __enter__(self) -> Armed:
        try:
            self._arm()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with undisturbed():
            if self._opening is not None:
                wait([self._opening])  # also after an interruption, the set-up must be finished and undone
            closing = self._pool.submit(self._disarm_tracing)
            self._disarm_rules()
            if self.taps is not None:
                self.taps.close()
            closing.result()
            self._pool.shutdown()
            self.inside.close()
            self.record.__exit__()

    def run(self, node: str, function: Callable[..., T], *words: Any) -> T:
        """Call a function inside a node. Raises OSError if the node does not exist."""
        return self.inside.run(paths.netns_path(self.lab, node), function, *words)

    def _arm(self) -> None:
        self.record.note("instance", self.name)
        self._opening = self._pool.submit(self._arm_tracing)
        self.taps = Taps(self.lab, self.nodes, self.inside)
        self._arm_rules()
        self._opening.result()
        for node in self.nodes:
            with suppress(OSError):
                self.before[node] = self.run(node, counters.read)

    def _arm_tracing(self) -> None:
        """Set up tracefs. Runs in a second thread, because it takes as long as all the rest."""
        try:
            self.tracing = Tracing(self.name, self._lengths)
        except OSError as error:
            self.unknown.append(f"the kernel's drops cannot be observed: {error.strerror or error}")
            return
        if not self.tracing.reasons:
            self.unknown.append("this kernel reports where it dropped a packet, but not why (Linux 5.17 and later do)")

    def _arm_rules(self) -> None:
        """Where a namespace has a firewall: read the counters, and get reports of all rules that the probe meets."""
        filtering = [node for node in self.nodes if self._filters(node)]
        if len(filtering) > RULED:
            self.unknown.append(f"the rules of {len(filtering)} namespaces were not watched: these are too many")
            return
        if filtering:
            modules.load(MODULES, self.say)
        before: dict[str, dict[str, str]] = {}
        for node in filtering:
            with suppress(OSError, LabError):
                self.counted[node] = self.run(node, chains.counted, node, self.firewall)
                before[node] = self.run(node, nflog.settings) if self.firewall == "legacy" else {}
        self.settings = before
        self.record.note("logs", {node: setting for node, setting in before.items() if setting})
        self.record.note("tables", list(before))
        for node in before:
            try:
                self.logs[node] = self.run(node, self._log)
                self.tables[node] = self.run(node, NfTrace, self._matches, self.name)
            except OSError as error:
                why = error.strerror or error
                self.unknown.append(f"the rules that the probe met in {node} are known only by their counters: {why}")

    def _log(self) -> nflog.NfLog | NftLog:
        return nflog.NfLog() if self.firewall == "legacy" else NftLog(self.name)

    def _filters(self, node: str) -> bool:
        try:
            return bool(self.run(node, chains.filters))
        except OSError:
            return False

    def _disarm_tracing(self) -> None:
        if self.tracing is not None:
            self.tracing.close()

    def _disarm_rules(self) -> None:
        for table in self.tables.values():
            table.close()
        for log in self.logs.values():
            log.close()
        for node, before in self.settings.items():
            with suppress(OSError):
                self.run(node, nflog.restore, before)

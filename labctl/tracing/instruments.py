"""Everything that observes a probe, set up before it is sent and removed afterwards: taps, tracing, rule reports.

Only the taps are required. If the kernel refuses anything else, `unknown` reports it and the trace continues without.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from labctl.core.iptables import LEGACY_FAMILIES
from labctl.core.iptables_save import ChainCounters
from labctl.core.observations import Flow
from labctl.core.sentence import sentence
from labctl.errors import KernelError, MissingError
from labctl.kernel.capture.tap import Taps
from labctl.kernel.firewall import backend, chains
from labctl.kernel.host import counters, modules, paths
from labctl.kernel.host.signals import ignore_signals
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import conntrack, nft_tables
from labctl.kernel.probes import trace_probes
from labctl.kernel.rule_trace import nflog
from labctl.kernel.rule_trace.nft_mark import ProbeMarkTable

if TYPE_CHECKING:
    from labctl.kernel.rule_trace.nft_trace import NftLog
    from labctl.kernel.rule_trace.trace_setup import TraceSetup
    from labctl.kernel.rule_trace.tracefs import Tracing
    from labctl.tracing.evidence import Question

T = TypeVar("T")
PORT_PROTOCOLS = {"tcp": 6, "udp": 17}  # the numbers of the protocols that have ports
MODULES = ("nf_tables", "nfnetlink_log", "nf_conntrack_netlink")  # needed for the reports of rules and connections
LEGACY = tuple(LEGACY_FAMILIES.values())
READ_AT_ONCE = 8  # namespaces whose firewall is read at the same time
MAX_FIREWALL_NAMESPACES = 64  # namespaces with a firewall whose rules are watched at most


def import_what_follows() -> None:
    """Import what is needed after the probe. Called where this process waits: for the kernel, for the firewall's
    programs."""
    import labctl.kernel.lab_kernel
    import labctl.tracing.diagnosis  # noqa: F401


class Instruments:
    """The instruments of one trace. A context manager; on exit it begins to remove them all, and `setup` waits for the
    end of that."""

    def __init__(
        self,
        setup: TraceSetup,
        lab: str,
        nodes: Iterable[str],
        question: Question,
        identity: bytes,
        warn: Callable[[str], None],
    ) -> None:
        self.setup, self.lab, self.nodes, self.question, self.warn = setup, lab, tuple(nodes), question, warn
        self.backend = backend.backend_of(lab)
        self.unknown: list[str] = []
        self.thread = NetnsThread()
        self.taps: Taps | None = None
        self.rule_logs: dict[str, list[nflog.NfLog | NftLog]] = {}
        self.nft_tables: dict[str, ProbeMarkTable] = {}
        self.nflog_settings: dict[str, dict[str, str]] = {}
        self.flows_before: list[Flow] = []
        self.counters_before: dict[str, dict[str, int]] = {}
        self.chains_before: dict[str, tuple[ChainCounters, ...]] = {}
        self.rules_traced = False
        version = question.address.version
        self._matches = trace_probes.matches(question.protocol, version, identity)
        self._lengths = trace_probes.lengths(
            question.protocol, version, question.size or trace_probes.DEFAULT_PAYLOAD_BYTES
        )

    @property
    def tracing(self) -> Tracing | None:
        """The tracing instance while it records; None if there is none."""
        return self.setup.tracing

    def __enter__(self) -> Instruments:
        try:
            self._set_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        with ignore_signals():
            self.thread.spare_files = 0  # what is removed opens no file that stays open
            self.setup.remove_tracing()
            self.unwatch_rules()
            self.remove_taps()
            self.thread.close()

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
        self.taps = Taps(self.lab, self.nodes, self.thread)
        self._watch_rules()
        for node in self.nodes:
            with suppress(OSError):
                self.counters_before[node] = self.run(node, counters.read_counters)
        self._watch_drops()

    def _watch_drops(self) -> None:
        """Watch what the kernel drops. The last step, because the kernel needs time to create the tracing instance."""
        if not self.setup.is_configured:
            import_what_follows()
        self.setup.watch_drops(self._lengths)
        if self.tracing is None:
            text = sentence("the kernel's drops cannot be observed: {problem}", problem=self.setup.problem)
            self.unknown.append(text)
        elif not self.tracing.has_reasons:
            self.unknown.append(
                sentence("this kernel reports where it dropped a packet, but not why (Linux 5.17 and later do)")
            )

    def _watch_rules(self) -> None:
        """Where a namespace has a firewall: read the counters, and get reports of all rules that the probe meets."""
        filtering = [node for node in self.nodes if self._has_firewall(node)]
        self.rules_traced = len(filtering) <= MAX_FIREWALL_NAMESPACES
        if not self.rules_traced:
            text = sentence(
                "the rules of {number} namespaces were not watched: these are too many", number=len(filtering)
            )
            self.unknown.append(text)
            return
        if filtering:
            modules.load(MODULES, self.warn)
        self.chains_before = self.read_chains(filtering)
        before: dict[str, dict[str, str]] = {}
        for node in self.chains_before:
            with suppress(OSError):
                before[node] = self.run(node, nflog.read_loggers) if self._has_legacy(node) else {}
        self.nflog_settings = before
        for node in before:
            self.setup.record.note("nft_table", lab=self.lab, node=node, name=self.setup.name)
            if before[node]:
                self.setup.record.note("nf_log", lab=self.lab, node=node, before=before[node])
            try:
                self.run(node, self._watch_rules_of, node)
            except OSError as error:
                text = sentence(
                    "the rules that the probe met in {node} are known only by their counters: {reason}",
                    node=node,
                    reason=error.strerror or error,
                )
                self.unknown.append(text)
        self.rules_traced = len(self.nft_tables) == len(self.chains_before)

    def read_chains(self, nodes: Iterable[str]) -> dict[str, tuple[ChainCounters, ...]]:
        """The chains of these nodes with their counters; without the nodes where they cannot be read."""
        found: dict[str, tuple[ChainCounters, ...]] = {}
        nodes = list(nodes)
        for at in range(0, len(nodes), READ_AT_ONCE):
            with ExitStack() as held:
                reading: dict[str, Callable[[], tuple[ChainCounters, ...]]] = {}
                for node in nodes[at : at + READ_AT_ONCE]:
                    with suppress(OSError, KernelError, MissingError):
                        reading[node] = self.run(node, chains.start_reading_counters, node, self.backend, held)
                if reading:
                    import_what_follows()
                for node, read in reading.items():
                    with suppress(OSError, KernelError, MissingError):
                        found[node] = read()
        return found

    def _has_legacy(self, node: str) -> bool:
        """Whether the reports of legacy rules are wanted: of the lab's, or of those that a stranger made."""
        return self.backend == "legacy" or any(one.chain.family in LEGACY for one in self.chains_before[node])

    def _watch_rules_of(self, node: str) -> None:
        """Get reports of the rules of a node, in its namespace: of legacy tables, and of those of nf_tables."""
        logs = self.rule_logs.setdefault(node, [])
        if self._has_legacy(node):
            logs.append(nflog.NfLog())
        named = {(one.chain.family, one.chain.table) for one in self.chains_before[node]}
        iptables = named if self.backend == "nft" else {one for one in named if one[0] == "bridge"}
        native = [table for table in nft_tables.tables() if table not in iptables]
        bridge, devices = False, []
        if native or self.backend == "nft":
            from labctl.kernel.netlink import nft_chains
            from labctl.kernel.rule_trace.nft_trace import NftLog

            ebtables = {one for one in named if one[0] == "bridge"}
            logs.append(NftLog(self.setup.name, iptables - ebtables, ebtables))
            bases = [chain for chain in nft_chains.base_chains() if (chain.family, chain.table) in native]
            bridge = any(chain.family in ("bridge", "netdev") for chain in bases)
            devices = sorted({device for chain in bases if chain.hook == "ingress" for device in chain.devices})
        self.nft_tables[node] = ProbeMarkTable(self._matches, self.setup.name, bridge, devices)
        for family in self.nft_tables[node].missing:
            text = sentence(
                "the rules of the family {family} in {node} are not traced: the kernel refused it",
                family=family,
                node=node,
            )
            self.unknown.append(text)

    def _has_firewall(self, node: str) -> bool:
        try:
            return bool(self.run(node, chains.has_tables))
        except OSError:
            return False

    def remove_taps(self) -> None:
        """Begin to close the taps. Call it when their frames have been read."""
        taps, self.taps = self.taps, None
        if taps is not None:
            self.setup.beside(taps.close)

    def unwatch_rules(self) -> None:
        """Begin to remove all that reports the rules. Call it when the reports and the chains have been read."""
        tables, self.nft_tables = self.nft_tables, {}
        for table in tables.values():
            self.setup.beside(table.close)
        settings, self.nflog_settings = self.nflog_settings, {}
        for node, before in settings.items():
            with suppress(OSError):
                self.run(node, nflog.restore_loggers, before)
        logs, self.rule_logs = self.rule_logs, {}
        for log in (one for some in logs.values() for one in some):
            self.setup.beside(log.close)

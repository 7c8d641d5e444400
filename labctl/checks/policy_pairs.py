"""A matrix of policies, measured: a connection for each pair of pods, from the pod itself to the pod itself.

A silent pair may be a pair that a rule denies, or one of which a packet is late. The counters of the rules say which:
if they dropped and rejected exactly as many packets as there are pairs without a connection, nothing is late. Counters
that say more prove nothing: other packets were dropped too, and one of those can be in the place of a late one. (A
kernel limits how many ICMP errors it sends to one address, so of many rejected packets some are silent.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack

from labctl.core.iptables_save import ChainCounters, counter_increases
from labctl.core.resources import Chain, NftObject
from labctl.core.scenario_types import Lab
from labctl.core.sentence import sentence
from labctl.kernel.firewall import chains, nft_program
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.probes.port_pairs import PortPairs, in_turns
from labctl.kubernetes.policies.policy_matrix import Measured, PolicyMatrix
from labctl.lab.cni_attach import with_pod_addresses

DENIALS = ("DROP", "REJECT")
FAMILIES = {4: "ip", 6: "ip6"}
BY_RULES = sentence(
    "the rules of the nodes counted as many dropped and rejected packets as there are pairs without a connection"
)


def measure(lab: Lab, matrix: PolicyMatrix) -> PolicyMatrix:
    """The matrix with what a connection met, for each of its pairs. The lab must run. Raises KernelError."""
    lab = with_pod_addresses(lab)
    namespaces = {one.name: one.netns_of or one.name for one in lab.machines}
    addresses = {one.name: one.addresses for one in lab.machines}
    results: dict[tuple[str, str], tuple[Measured, str]] = {}
    sources = [one.machine for one in matrix.sources]
    targets = [(one.machine, addresses[one.machine][0]) for one in matrix.targets if addresses.get(one.machine)]
    with NetnsThread() as thread, PortPairs(lab.name, matrix.protocol.lower(), matrix.port, thread) as pairs:
        requests = (
            (namespaces[source], namespaces[target], address)
            for source, target, address in in_turns(sources, targets)
            if namespaces[source] != namespaces[target]
        )
        answers = pairs.ask(requests, DroppedPackets(lab, thread, {address.version for _, address in targets}))
    for cell in matrix:
        pair = cell.source.machine, cell.target.machine
        ends = namespaces[pair[0]], namespaces[pair[1]]
        results[pair] = answers.get(ends, ("unknown", sentence("they share one network namespace")))
        if not addresses.get(pair[1]):
            results[pair] = ("unknown", sentence("{pair} has no address", pair=pair[1]))
    return matrix.measured(results)


class DroppedPackets:
    """The packets of these IP versions that firewall rules of the lab dropped or rejected since `begin`."""

    def __init__(self, lab: Lab, thread: NetnsThread, versions: Collection[int]) -> None:
        self._lab, self._thread = lab, thread
        self._families = frozenset(FAMILIES[version] for version in versions)
        dropping = (item for item in lab.plan if isinstance(item, Chain) and item.family in self._families)
        self._nodes = tuple(
            dict.fromkeys(one.ns for one in dropping if any(rule.target in DENIALS for rule in one.rules))
        )
        self._tables = _denying_tables(lab, {*self._families, "inet"})
        self._before: dict[str, tuple[ChainCounters, ...]] = {}
        self._denied_before = 0

    def begin(self) -> None:
        """Only packets from now on are counted."""
        self._before, self._denied_before = self._read(), self._denied_by_nft()

    def explain(self, without_connection: int) -> str:
        """Why so many pairs have no connection; "" if the rules dropped and rejected another number of packets."""
        if not self._nodes and not self._tables:
            return ""
        now = self._read()
        dropped = sum(_dropped(self._before[node], now[node], self._families) for node in self._nodes)
        dropped += self._denied_by_nft() - self._denied_before
        return BY_RULES if dropped == without_connection else ""

    def _read(self) -> dict[str, tuple[ChainCounters, ...]]:
        """The counters of all nodes with such rules; the programs that read them run at the same time."""
        reading: dict[str, Callable[[], tuple[ChainCounters, ...]]] = {}
        with ExitStack() as held:
            for node in self._nodes:
                path = paths.netns_path(self._lab.name, node)
                reading[node] = self._thread.run(path, chains.start_reading_counters, node, self._lab.firewall, held)
            return {node: read() for node, read in reading.items()}

    def _denied_by_nft(self) -> int:
        """What the rules of the lab's tables of nft have dropped and rejected so far."""
        with ExitStack() as held:
            paths_of = {node: paths.netns_path(self._lab.name, node) for node in self._tables}
            counting = [
                self._thread.run(paths_of[node], nft_program.start_counting_denied, tables, held)
                for node, tables in self._tables.items()
            ]
            return sum(count() for count in counting)


def _denying_tables(lab: Lab, families: Collection[str]) -> dict[str, tuple[nft_program.Table, ...]]:
    """The tables of nft with rules that drop or reject, by node."""
    found: dict[str, dict[nft_program.Table, None]] = {}
    for item in lab.plan:
        if isinstance(item, NftObject) and item.kind == "chain":
            family, _, name = item.table.partition(" ")
            if family in families and any(_denies(entry) for entry in item.entries):
                found.setdefault(item.ns, {})[family, name] = None
    return {node: tuple(tables) for node, tables in found.items()}


def _denies(entry: str) -> bool:
    words = entry.partition(" comment ")[0].split()
    return "drop" in words or "reject" in words


def _dropped(before: tuple[ChainCounters, ...], after: tuple[ChainCounters, ...], families: Collection[str]) -> int:
    """The packets that rules and policies with the targets DROP and REJECT counted in between."""
    return sum(
        packets
        for chain, number, packets in counter_increases(before, after)
        if chain.family in families and (chain.rules[number - 1].target if number else chain.policy) in DENIALS
    )

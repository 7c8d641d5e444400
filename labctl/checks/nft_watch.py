"""Which rule of a node's own nft tables ended a probe that is expected to get no answer.

The rules of iptables count what they drop (see `drop_counters`); those of nft do not. So while such a probe is under
way, the kernel reports the verdicts on it in the namespaces that may end it: the target's, and the source's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labctl.checks.context import CheckContext
from labctl.core.iptables import TERMINATING_TARGETS
from labctl.core.observations import ProbeMatch
from labctl.core.probe_kinds import probe_kind
from labctl.core.scenario_types import Check
from labctl.core.sentence import sentence
from labctl.kernel.host import paths
from labctl.kernel.rule_trace.nft_drops import NftDrop, NftDrops, has_native_tables

NUMBERS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "ipv6-icmp": 58}
ECHO_REQUEST = {4: b"\x08", 6: b"\x80"}
DESTINATION_PORT = 2  # its offset in the headers of TCP and UDP


class NftWatch:
    """The watches in some namespaces. A namespace without tables of nft gets none, and neither does one where the
    kernel refuses it: then nothing is known of its rules."""

    def __init__(self, context: CheckContext, check: Check, version: int, nodes: Iterable[str]) -> None:
        self._context = context
        self._watches: dict[str, NftDrops] = {}
        protocol = NUMBERS[probe_kind(check).ip_protocol(version)]
        match = (
            ProbeMatch(protocol, 0, ECHO_REQUEST[version])
            if check.port is None
            else ProbeMatch(protocol, DESTINATION_PORT, check.port.to_bytes(2, "big"))
        )
        for node in dict.fromkeys(nodes):
            try:
                watch = context.thread.run(paths.netns_path(context.lab, node), _begin, match)
            except OSError:
                continue
            if watch is not None:
                self._watches[node] = watch

    def drops(self, node: str) -> tuple[str, ...]:
        """What ended packets of the probe in a namespace since the last reading, as sentences."""
        return tuple(_drop_text(node, one) for one in self._read(node))

    def rejects(self, node: str) -> tuple[str, ...]:
        """The rules that rejected packets of the probe there since the last reading."""
        return tuple(_drop_text(node, one) for one in self._read(node) if one.is_reject)

    def _read(self, node: str) -> Iterator[NftDrop]:
        watch = self._watches.get(node)
        if watch is not None:
            try:
                yield from self._context.thread.run(paths.netns_path(self._context.lab, node), watch.read)
            except OSError:
                return

    def close(self) -> None:
        """End all watches."""
        watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.close()


def _begin(match: ProbeMatch) -> NftDrops | None:
    """The watch of the namespace of this thread; None if it has no tables of nft."""
    return NftDrops([match]) if has_native_tables() else None


def _drop_text(node: str, drop: NftDrop) -> str:
    done = TERMINATING_TARGETS["REJECT" if drop.is_reject else "DROP"]
    rule = f"nft rule {drop.family} {drop.table} {drop.chain} {drop.rule}"
    if not drop.rule:
        rule = f"nft chain {drop.family} {drop.table} {drop.chain} (policy drop)"
    return sentence("{dropped} in {node} by {rule}", dropped=done, node=node, rule=rule)

"""Which pods reach which on one port: the verdict of the policies for each pair, and what was measured. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from labctl.core.names import did_you_mean, summarize_names
from labctl.errors import UsageError
from labctl.kubernetes.api.api_objects import Protocol
from labctl.kubernetes.api.cluster_state import ClusterState
from labctl.kubernetes.api.policy_objects import Pod
from labctl.kubernetes.policies.policy_oracle import PolicyOracle, Verdict

# what a connection met: an answer, a refusal (RST or ICMP) of whom it reached or of a firewall, silence
Measured: TypeAlias = Literal["connected", "refused", "unreachable", "timeout", "unknown"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One pair. `measured` is None if nothing was measured, else what a connection met, with the `detail` of it."""

    source: Pod
    target: Pod
    verdict: Verdict
    measured: Measured | None = None
    detail: str = ""

    @property
    def passes(self) -> bool:
        """Whether the connection passes: as measured, else as the policies say."""
        return self.verdict.allowed if self.measured in (None, "unknown") else self.measured == "connected"

    @property
    def differs(self) -> bool:
        """Whether what was measured is not what the policies say."""
        return self.measured not in (None, "unknown") and self.passes != self.verdict.allowed


@dataclass(frozen=True)
class PolicyMatrix:
    """The verdicts for each source and each target, in the order of their namespaces."""

    protocol: Protocol
    port: int
    sources: tuple[Pod, ...]
    targets: tuple[Pod, ...]
    cells: Mapping[tuple[str, str], Cell] = field(repr=False, default_factory=dict)
    live: bool = False
    notes: tuple[str, ...] = ()

    def cell(self, source: Pod, target: Pod) -> Cell:
        """The cell of two pods."""
        return self.cells[source.machine, target.machine]

    def __iter__(self) -> Iterator[Cell]:
        """The cells of different pods, row by row."""
        for source in self.sources:
            for target in self.targets:
                if source.machine != target.machine:
                    yield self.cell(source, target)

    @property
    def differences(self) -> tuple[Cell, ...]:
        """The cells in which the packets do not do what the policies say."""
        return tuple(one for one in self if one.differs)

    @property
    def unmeasured(self) -> tuple[Cell, ...]:
        """The cells of a live matrix that could not be measured."""
        return tuple(one for one in self if one.measured == "unknown")

    def measured(self, results: Mapping[tuple[str, str], tuple[Measured, str]], *notes: str) -> PolicyMatrix:
        """The matrix with what was measured for each pair of names in the lab."""
        cells = {
            key: replace(cell, measured=results[key][0], detail=results[key][1]) if key in results else cell
            for key, cell in self.cells.items()
        }
        return replace(self, cells=cells, live=True, notes=(*self.notes, *notes))


def policy_matrix(
    state: ClusterState,
    protocol: Protocol,
    port: int,
    sources: Collection[str] = (),
    targets: Collection[str] = (),
) -> PolicyMatrix:
    """The verdicts of the policies on one port. `sources` and `targets` choose pods, as `choose` reads them; without
    any, all. Raises UsageError."""
    oracle = PolicyOracle.of(state)
    rows, columns = choose(state, sources), choose(state, targets)
    cells = {
        (one.machine, other.machine): Cell(one, other, oracle.verdict(one, other, protocol, port))
        for one in rows
        for other in columns
    }
    return PolicyMatrix(protocol, port, rows, columns, cells)


def filters(state: ClusterState) -> tuple[str, ...]:
    """Every name that `choose` reads, for completion and suggestions; labels are not here."""
    pods = [name for one in state.pods for name in (one.machine, str(one))]
    return tuple(dict.fromkeys([*(one.namespace for one in state.pods), *pods]))


def choose(state: ClusterState, wanted: Collection[str]) -> tuple[Pod, ...]:
    """The pods that any of the texts means, by namespace: a namespace, a pod, or a label `key=value`. Without any, all
    pods. Raises UsageError for a text that means none."""
    pods = sorted(state.pods, key=lambda one: one.namespace)
    chosen: dict[str, None] = {}
    for text in wanted:
        found = [one for one in pods if _is_meant(one, text)]
        if not found:
            known = filters(state)
            hint = did_you_mean(text, known) or f"namespaces and pods are {summarize_names(known, 8)}"
            raise UsageError(f"no pod is meant by {text!r}", hint)
        chosen.update(dict.fromkeys(one.machine for one in found))
    return tuple(one for one in pods if not wanted or one.machine in chosen)


def _is_meant(pod: Pod, text: str) -> bool:
    key, equals, value = text.partition("=")
    if equals:
        return pod.labels.get(key) == value
    return text in (pod.namespace, pod.machine, str(pod))

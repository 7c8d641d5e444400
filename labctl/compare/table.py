"""The questions of a comparison, in the order of its table, and the table with the answers. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from labctl.compare import cost, ingress, placement, visibility
from labctl.compare.cell import Cell
from labctl.compare.measurements import Column, Measurements, Skipped


@dataclass(frozen=True, slots=True)
class Row:
    """One question: its key for programs, its title, and its group in the table. The answers of a `timed` row differ
    from run to run."""

    key: str
    title: str
    group: str
    answer: Callable[[Measurements], Cell]
    timed: bool = False


PLACEMENT, VISIBILITY, REACHABILITY = "where a pod sits", "how others see a pod", "who reaches a pod"
PATHS, COST, TIMING = "from pod to pod", "what it takes", "how fast it is"
SERVICES = "with Services and policies on top"
ROWS = (
    Row("namespace", "a namespace per pod", PLACEMENT, placement.namespaces),
    Row("bridge", "the pods' bridge", PLACEMENT, placement.bridge),
    Row("subnet", "a pod's address is from", PLACEMENT, placement.subnet),
    Row("gateway", "a pod's gateway", PLACEMENT, placement.gateway),
    Row("peer", "seen by other pods as", VISIBILITY, visibility.seen_by_pods),
    Row("own_node", "by its own node", VISIBILITY, partial(visibility.seen_as, key="own_node")),
    Row("other_node", "by another node", VISIBILITY, partial(visibility.seen_as, key="other_node")),
    Row("vm", "by a vm beside the nodes", VISIBILITY, partial(visibility.seen_as, key="vm")),
    Row("leaving", "leaving for the internet", VISIBILITY, visibility.source_at_node_exit),
    Row("internet", "by the internet", VISIBILITY, partial(visibility.seen_as, key="internet")),
    Row("from_vm", "the vm reaches a pod", REACHABILITY, partial(visibility.reach_of_pod, key="from_vm")),
    Row(
        "from_internet", "the internet reaches it", REACHABILITY, partial(visibility.reach_of_pod, key="from_internet")
    ),
    Row("same_node", "between pods of one node", PATHS, lambda facts: visibility.path(facts, "mate")),
    Row("same_node_ttl", "TTL on one node, from 64", PATHS, lambda facts: visibility.ttl(facts, "mate")),
    Row("cross_node", "between nodes", PATHS, lambda facts: visibility.path(facts, "far", "mate_far")),
    Row("cross_node_ttl", "TTL across nodes", PATHS, lambda facts: visibility.ttl(facts, "far", "mate_far")),
    Row("beyond", "across a router", PATHS, lambda facts: visibility.path(facts, "beyond")),
    Row("pod_mtu", "a pod's MTU", PATHS, placement.pod_mtu),
    Row("path_mtu", "path MTU across nodes", PATHS, visibility.path_mtu),
    Row("cluster_ip", "ClusterIP: pod seen as", SERVICES, partial(visibility.service_source, key="cluster_ip")),
    Row(
        "node_port",
        "nodePort: vm seen as",
        SERVICES,
        partial(visibility.service_source, key="node_port"),
    ),
    Row(
        "node_port_local",
        "nodePort, policy Local",
        SERVICES,
        partial(visibility.service_source, key="node_port_local"),
    ),
    Row("wrong_port", "ClusterIP, another port gets", SERVICES, visibility.wrong_port),
    Row("node_port_loopback", "nodePort at 127.0.0.1", SERVICES, visibility.loopback_port),
    Row("ingress_instance", "Ingress, mode instance", SERVICES, partial(ingress.hops, key="ingress_instance")),
    Row("ingress_ip", "Ingress, mode ip", SERVICES, partial(ingress.hops, key="ingress_ip")),
    Row("refusal", "TCP that is denied gets", SERVICES, visibility.refusal),
    Row("node_objects", "a node holds", COST, cost.node_objects),
    Row("pod_adds", "one pod adds to a node", COST, cost.pod_objects),
    Row("pod_adds_elsewhere", "and outside the node", COST, cost.pod_objects_elsewhere),
    Row("round_trip", "round trip across nodes", TIMING, cost.round_trip, timed=True),
    Row("stream", "TCP across nodes", TIMING, cost.stream, timed=True),
)
# what costs much to measure, and only some rows need: another lab with one more pod or with Services, and times
Need: TypeAlias = Literal["extra pod", "services", "times"]
NEEDS: frozenset[Need] = frozenset(("extra pod", "services", "times"))
UNITS = {"round_trip": "us", "stream": "Gbit/s"}


@dataclass(frozen=True, slots=True)
class Table:
    """A comparison: its labs, and for each lab the answers, in the order of `rows`."""

    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    cells: tuple[tuple[Cell, ...], ...]  # by column
    seconds: float = 0.0

    @property
    def inconclusive(self) -> bool:
        """Whether evidence was lost for any answer."""
        return any(cell.state == "inconclusive" for column in self.cells for cell in column)


def needs_of(key: str) -> frozenset[Need]:
    """What the row of this key needs."""
    row = next(row for row in ROWS if row.key == key)
    needs: dict[Need, bool] = {
        "extra pod": row.answer in (cost.pod_objects, cost.pod_objects_elsewhere),
        "services": row.group == SERVICES,
        "times": row.timed,
    }
    return frozenset(need for need, is_needed in needs.items() if is_needed)


def table(columns: Sequence[Column], seconds: float = 0.0) -> Table:
    """Answer every question for every lab."""
    cells = [[answer(row, column) for row in ROWS] for column in columns]
    for number, row in enumerate(ROWS):
        if row.timed:
            _relate(row.key, cells, number)
    return Table(ROWS, tuple(columns), tuple(map(tuple, cells)), seconds)


def answer(row: Row, column: Column) -> Cell:
    """One lab's answer to one question."""
    if isinstance(column, Skipped):
        return Cell("skipped", "skipped")
    return row.answer(column)


def _relate(key: str, cells: list[list[Cell]], number: int) -> None:
    """Express times relative to the first lab that has one."""
    first = next((column[number].number for column in cells if column[number].number), None)
    if not first:
        return
    for column in cells:
        cell = column[number]
        if cell.number is None:
            continue
        ratio = cell.number / first
        is_base = cell.number == first
        text = f"1 (about {_rough(cell.number)} {UNITS[key]})" if is_base else f"about {_ratio(ratio)}"
        column[number] = replace(cell, text=text, ratio=round(ratio, 2), number=round(cell.number, 2))


def _rough(number: float) -> str:
    """Two digits: a single run is not more precise."""
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def _ratio(number: float) -> str:
    return f"{number:.1f}" if number >= 0.1 else f"{number:.1g}"

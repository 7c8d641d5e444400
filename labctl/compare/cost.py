"""The cost of a model: kernel objects on a node, objects that one more pod adds, and times. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from labctl.compare.cell import Cell, absent
from labctl.compare.measurements import ExtraPod, Measurements, node_namespaces
from labctl.core.resources import Address, Chain, Fdb, Link, Neighbour, NftObject, Plan, Route, Rule

KINDS = ("link", "route", "routing rule", "firewall rule", "neighbour", "forwarding entry")
DEFAULT_RULE_PREFS = (0, 32766, 32767)  # the preferences of the rules that every namespace has
ALWAYS_SHOWN = KINDS[:2] + KINDS[3:4]  # reported even if the number is 0


def node_objects(measurements: Measurements) -> Cell:
    """The objects on the first pod's node, including its other namespaces that are not pods."""
    namespaces = node_namespaces(measurements.lab.machines, measurements.roles.node)
    counts = count(measurements.plan, namespaces)
    return Cell(_counts_text(counts, ALWAYS_SHOWN), counts=counts, evidence=(f"in {', '.join(sorted(namespaces))}",))


def pod_objects(measurements: Measurements) -> Cell:
    """The objects that one more pod adds on its node."""
    more = measurements.extra_pod
    if isinstance(more, str):
        return absent(more)
    counts = _increase(measurements.plan, more.plan, _node_namespaces(measurements, more))
    return Cell(
        _counts_text(counts), counts=counts, evidence=(f"the same lab was built with {more.pod} added on {more.node}",)
    )


def pod_objects_elsewhere(measurements: Measurements) -> Cell:
    """The objects that one more pod adds outside its node and itself."""
    more = measurements.extra_pod
    if isinstance(more, str):
        return absent(more)
    excluded = {*_node_namespaces(measurements, more), more.pod}
    namespaces = dict.fromkeys(item.ns for item in (*measurements.plan, *more.plan) if item.ns not in excluded)
    increases = {
        name: counts for name in namespaces if any((counts := _increase(measurements.plan, more.plan, {name})).values())
    }
    texts = [f"{_namespace_text(measurements, name)}: {_counts_text(counts)}" for name, counts in increases.items()]
    total = {kind: sum(counts[kind] for counts in increases.values()) for kind in KINDS}
    return Cell("; ".join(dict.fromkeys(texts)) or "nothing", counts=total, evidence=tuple(sorted(increases)))


def _node_namespaces(measurements: Measurements, more: ExtraPod) -> frozenset[str]:
    """The namespaces of the node with the additional pod, before and after."""
    return node_namespaces(measurements.lab.machines, more.node) | node_namespaces(more.machines, more.node)


def round_trip(measurements: Measurements) -> Cell:
    """The round trip between pods of two nodes, in microseconds; `table` sets the ratio when all are known."""
    return _timing_cell(measurements, lambda seconds: None if seconds is None else seconds * 1e6, "round_trip_s")


def stream(measurements: Measurements) -> Cell:
    """The rate of a TCP stream between pods of two nodes, in Gbit/s; `table` sets the ratio when all are known."""
    return _timing_cell(measurements, lambda bits_per_s: None if bits_per_s is None else bits_per_s / 1e9, "bits_per_s")


def _timing_cell(measurements: Measurements, scale: Callable[[float | None], float | None], name: str) -> Cell:
    timings = measurements.timings
    if isinstance(timings, str):
        return absent(timings)
    number = scale(getattr(timings, name))
    return absent(timings.error or "not measured") if number is None else Cell("", number=number)


def count(plan: Plan, namespaces: Iterable[str]) -> dict[str, int]:
    """The number of objects of each kind in these namespaces, without loopbacks, learned entries, the kernel's table
    of local addresses and link-local addresses. A chain counts with the number of its rules, also one of nft."""
    selected = frozenset(namespaces)
    counts = dict.fromkeys(KINDS, 0)
    for item in plan:
        if item.ns in selected and (kind := _kind(item)):
            rules = item.rules if isinstance(item, Chain) else item.entries if isinstance(item, NftObject) else (item,)
            counts[kind] += len(rules)
    return counts


def _kind(item: object) -> str:
    if isinstance(item, Link):
        return "" if item.kind == "loopback" else "link"
    if isinstance(item, Address):
        ip, is_host_address = item.addr.ip, item.addr.network.prefixlen == item.addr.max_prefixlen
        return "" if is_host_address or not item.connected or ip.is_loopback or ip.is_link_local else "route"
    if isinstance(item, Rule) and item.pref in DEFAULT_RULE_PREFS and not _selects(item):
        return ""  # one of the kernel's default rules
    if isinstance(item, Neighbour):
        return "neighbour" if item.proxy or item.state == "permanent" else ""  # others are the kernel's own
    if isinstance(item, NftObject):
        return "firewall rule" if item.kind == "chain" else ""
    kinds = {Route: "route", Rule: "routing rule", Chain: "firewall rule", Fdb: "forwarding entry"}
    return kinds.get(type(item), "")


def _selects(rule: Rule) -> bool:
    """Whether a routing rule selects only some packets."""
    return any(criterion is not None for criterion in (rule.src, rule.dst, rule.iif, rule.oif, rule.mark))


def _increase(before: Plan, after: Plan, namespaces: Iterable[str]) -> dict[str, int]:
    selected = frozenset(namespaces)
    old, new = count(before, selected), count(after, selected)
    return {kind: new[kind] - old[kind] for kind in KINDS}


def _namespace_text(measurements: Measurements, name: str) -> str:
    """A description of a namespace that means the same in every lab."""
    machine = measurements.machines.get(measurements.node_of(name))
    if machine is None:
        return name
    return "each other node" if machine.role in ("node", "host") else f"the {machine.role}"


def _counts_text(counts: dict[str, int], always: tuple[str, ...] = ()) -> str:
    texts = [_count_text(number, kind) for kind, number in counts.items() if number or kind in always]
    return ", ".join(texts) or "nothing"


def _count_text(number: int, kind: str) -> str:
    if number == 1:
        return f"1 {kind}"
    return f"{number} {kind[:-1]}ies" if kind.endswith("entry") else f"{number} {kind}s"

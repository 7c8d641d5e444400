"""The machines of a lab in one line each, for `show` without a name. Pure: from what was read in each namespace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from labctl.core.resources import IP, Address, Chain, Link, NftObject, Plan, Resource, Route
from labctl.report.node_view import trim
from labctl.report.table_section import TableSection

if TYPE_CHECKING:
    from labctl.core.scenario_types import Lab, Machine
    from labctl.report.node_view import NodeView

GONE = "gone"
MAX_ADDRESSES = 2  # addresses in a line
MAX_SOCKETS = 3  # listening ports in a line
COLUMNS = ("name", "role", "on", "addresses", "state", "rules", "conntrack", "listens")


@dataclass(frozen=True, slots=True)
class MachineSummary:
    """A machine now. Without labctl's record of the lab, only namespaces are known, and they have no `role`.

    `within` is the machine that shares its namespace with it: all that follows is of that one. `problems` are devices
    that are down or lack carrier, or `gone` if there is no such namespace; none means up. `rules` are the firewall's.
    """

    name: str
    role: str
    on: str | None
    within: str | None
    addresses: tuple[IP, ...] = ()
    problems: tuple[str, ...] = ()
    routes: int = 0
    rules: int = 0
    connections: int = 0
    sockets: tuple[str, ...] = ()


def summaries(views: Iterable[NodeView], lab: Lab | None) -> Iterator[MachineSummary]:
    """The machines of a lab in the order of its definition, then the other namespaces."""
    found = {view.node: view for view in views}
    machines = lab.machines if lab is not None else ()
    for machine in machines:
        yield _summary(machine.name, machine, found.get(machine.netns_of or machine.name))
    named = {machine.name for machine in machines}
    yield from (_summary(node, None, view) for node, view in found.items() if node not in named)


def _summary(name: str, machine: Machine | None, view: NodeView | None) -> MachineSummary:
    role, on = (machine.role, machine.on) if machine is not None else ("", None)
    within = machine.netns_of if machine is not None else None
    if view is None:
        return MachineSummary(name, role, on, within, problems=(GONE,))
    wanted = machine.addresses if machine is not None else ()
    state = view.state
    return MachineSummary(
        name,
        role,
        on,
        within,
        _addresses(view.plan, wanted, only_wanted=within is not None),
        tuple(_problems(view)),
        sum(isinstance(item, Route) for item in view.plan) + len(state.connected_routes),
        sum(map(_rules, view.plan)),
        state.connections,
        tuple(dict.fromkeys(f"{one.port}/{one.protocol}" for one in state.sockets)),
    )


def _rules(item: Resource) -> int:
    """The number of rules of a chain of iptables or nft; 0 for anything else."""
    if isinstance(item, Chain):
        return len(item.rules)
    return len(item.entries) if isinstance(item, NftObject) and item.kind == "chain" else 0


def _addresses(plan: Plan, wanted: tuple[IP, ...], *, only_wanted: bool) -> tuple[IP, ...]:
    """The addresses that it has, the main ones of its definition first, without those that every machine has."""
    present = [item.addr.ip for item in plan if isinstance(item, Address)]
    main = [ip for ip in wanted if ip in present]
    rest = [ip for ip in present if not ip.is_loopback and not (ip.version == 6 and ip.is_link_local)]
    return tuple(dict.fromkeys(main if only_wanted else (*main, *rest)))


def _problems(view: NodeView) -> Iterator[str]:
    for link in view.plan:
        if isinstance(link, Link) and not link.up:
            yield f"{link.at.dev} down"
    yield from (f"{name} no carrier" for name in view.state.no_carrier)


def overview(machines: Iterable[MachineSummary]) -> TableSection:
    """One line for each machine. A column in which nothing stands is left out."""
    rows = [
        (
            one.name,
            one.role,
            one.on or (f"in {one.within}" if one.within else ""),
            _shortened([str(ip) for ip in one.addresses], MAX_ADDRESSES),
            ", ".join(one.problems) or "up",
            str(one.rules or ""),
            str(one.connections or ""),
            _shortened(one.sockets, MAX_SOCKETS),
        )
        for one in machines
    ]
    return trim("", COLUMNS, rows, 5)


def _shortened(words: Iterable[str], most: int) -> str:
    """The words, at most so many, and how many more there are."""
    all_words = list(words)
    more = [f"+{len(all_words) - most}"] if len(all_words) > most else []
    return " ".join((*all_words[:most], *more))


def summary_json(one: MachineSummary) -> Mapping[str, object]:
    """A machine in the document of `show`."""
    return {
        "name": one.name,
        "role": one.role or None,
        "on": one.on,
        "within": one.within,
        "addresses": [str(ip) for ip in one.addresses],
        "up": not one.problems,
        "problems": list(one.problems),
        "routes": one.routes,
        "rules": one.rules,
        "connections": one.connections,
        "listens": list(one.sockets),
    }

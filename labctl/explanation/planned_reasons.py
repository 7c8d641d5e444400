"""The reasons of objects that were read from the kernel: those of the planned objects with the same keys. Pure.

An object or a rule that no plan has gets no sentence of a component: it says that the lab does not make it.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from labctl.core.iptables import FirewallRule
from labctl.core.kernel_defaults import kernel_default_addresses
from labctl.core.observations import RouteLookup
from labctl.core.resources import Address, Chain, Neighbour, NftObject, Resource, Route
from labctl.core.scenario_types import Lab
from labctl.explanation.explanation import Explainer, Subject, find_reason

FOREIGN = "Nothing in the definition of the lab makes it."
LEARNED = "The kernel has learned it from packets."
BUILT_IN = "The kernel makes it in every namespace."
ROUTE_PROTO_KERNEL = 2


class PlannedReasons:
    """The reasons of one lab, for what was found in it: each as one text, with the component."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self._explainer = lab, Explainer(lab)

    def of(self, item: Resource) -> str:
        """The reason of an object."""
        planned = self._by_key.get(item.key)
        if planned is not None:
            return self._text(Subject(planned))
        if isinstance(item, Route) and item.proto == ROUTE_PROTO_KERNEL:
            return self._of_connected_route(item.ns, item.dev)
        if isinstance(item, Neighbour) and item.state != "permanent" and not item.proxy:
            return LEARNED
        if isinstance(item, Address) and _is_built_in(item):
            return BUILT_IN
        return FOREIGN

    def of_chain(self, chain: Chain | NftObject) -> str:
        """The reason of a chain; "" for a built-in chain, which every namespace has."""
        planned = self._by_key.get(chain.key, chain)
        if find_reason(Subject(planned)) is None:
            return FOREIGN
        return "" if planned.why is None else self._text(Subject(planned))

    def of_rule(self, chain: Chain | NftObject, rule: FirewallRule | str) -> str:
        """The reason of a rule, if the planned chain with this key has it."""
        planned = self._by_key.get(chain.key)
        if not isinstance(planned, (Chain, NftObject)):
            return FOREIGN
        rules: tuple[object, ...] = planned.rules if isinstance(planned, Chain) else planned.entries
        if rule not in rules:
            return FOREIGN
        if find_reason(Subject(planned, rule)) is None and isinstance(planned, NftObject):
            return self.of(planned)
        return self._text(Subject(planned, rule))

    def of_lookup(self, lookup: RouteLookup) -> str:
        """The reason of the route that the kernel chose: the planned one of this table with the longest prefix."""
        if lookup.error:
            return ""
        found = [
            item
            for item in self._routes.get((lookup.node, lookup.table), ())
            if item.dst.version == lookup.dst.version and lookup.dst in item.dst
        ]
        best = max(found, key=lambda item: (item.dst.prefixlen, -item.metric), default=None)
        if best is not None and _agrees(best, lookup):
            return self._text(Subject(best))
        near = any(
            item.at.ns == lookup.node and item.at.dev == lookup.dev and lookup.dst in item.addr.network
            for item in self._addresses
        )
        return self._of_connected_route(lookup.node, lookup.dev) if lookup.via is None and near else ""

    def _of_connected_route(self, ns: str, dev: str | None) -> str:
        address = next((one for one in self._addresses if one.at.ns == ns and one.at.dev == dev), None)
        if address is None:
            return FOREIGN
        return f"The kernel makes it with the address {address.addr}: {address.addr.network} is at {dev} itself."

    def _text(self, subject: Subject) -> str:
        reasoned = self._explainer.why(subject)
        return f"{reasoned.sentence} [{reasoned.component}]" if reasoned.component else reasoned.sentence

    @cached_property
    def _by_key(self) -> dict[tuple[Any, ...], Resource]:
        return {item.key: item for item in self.lab.plan}

    @cached_property
    def _addresses(self) -> tuple[Address, ...]:
        return tuple(item for item in self.lab.plan if isinstance(item, Address))

    @cached_property
    def _routes(self) -> dict[tuple[str, int], list[Route]]:
        found: dict[tuple[str, int], list[Route]] = {}
        for item in self.lab.plan:
            if isinstance(item, Route):
                found.setdefault((item.ns, item.table), []).append(item)
        return found


def _is_built_in(address: Address) -> bool:
    defaults = kernel_default_addresses(address.ns, address.addr.version)
    return any(address.key == one.key for one in defaults)


def _agrees(route: Route, lookup: RouteLookup) -> bool:
    """Whether a planned route can be the one that the kernel chose."""
    if route.nexthops or route.kind != "unicast":
        return True
    return route.via == lookup.via and route.dev in (None, lookup.dev)

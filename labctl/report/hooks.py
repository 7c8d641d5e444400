"""The output of `show --hooks`: the chains that the kernel calls at each hook of a node, in their order. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from labctl.core.iptables import Backend
from labctl.core.netfilter_hooks import (
    CalledChain,
    HookChain,
    Path,
    call_order,
    priority_text,
    with_listed_order,
)
from labctl.core.resources import Chain, NftObject, Plan
from labctl.core.sentence import sentence
from labctl.report.table_section import TableSection
from labctl.translation.language import gettext

LAYERS: dict[Path, str] = {
    "device": sentence("devices"), "bridge": sentence("bridges"), "arp": "ARP", "ip": "IP",
}  # fmt: skip
WHOSE = {"lab": sentence("lab"), "stranger": sentence("stranger"), "": ""}
COLUMNS = (
    sentence("priority"), sentence("chain"), sentence("policy"), sentence("rules"), sentence("whose"),
)  # fmt: skip
CONNTRACK_NOTE = sentence(
    "At -400 the kernel joins fragments and at -200 it asks conntrack, in prerouting and output, if a rule needs it."
)
LISTED_NOTE = sentence("The order is the kernel's own (nft list hooks).")
DERIVED_NOTE = sentence(
    "The order follows from the priorities; of chains with one priority, the one that was made last is called first."
)
UNCERTAIN_NOTE = sentence(
    "?: another table has a chain with this priority, and the kernel does not say which was made last; `labctl trace`"
    " shows the order that a packet meets."
)


@dataclass(frozen=True, slots=True)
class NodeHooks:
    """The chains of a node by hook, in order; `is_listed` if the kernel itself said the order. `plan` is that of the
    lab, None if its definition is lost."""

    node: str
    order: dict[tuple[Path, str], tuple[CalledChain, ...]]
    is_listed: bool
    plan: Plan | None
    backend: Backend = "legacy"


def node_hooks(
    node: str, chains: Iterable[HookChain], listed: str, plan: Plan | None, backend: Backend = "legacy"
) -> NodeHooks:
    """The hooks of a node, from its chains and from what `nft list hooks` printed."""
    order = call_order(chains)
    return NodeHooks(node, with_listed_order(order, listed) if listed else order, bool(listed), plan, backend)


def whose(node: str, chain: HookChain, plan: Plan | None, backend: Backend) -> str:
    """`lab` for a chain in a table that the lab has, `stranger` for another one, "" if the definition is lost."""
    if plan is None:
        return ""
    for item in plan:
        if isinstance(item, NftObject) and item.ns == node and not chain.tool:
            if item.table == f"{chain.family} {chain.table}":
                return "lab"
        elif isinstance(item, Chain) and item.ns == node:
            is_legacy = backend == "legacy" and item.family != "bridge"
            if (item.family, item.table) == (chain.family, chain.table) and bool(chain.tool) == is_legacy:
                return "lab"
    return "stranger"


def hook_sections(hooks: NodeHooks) -> Iterator[TableSection]:
    """A table for each hook: priority, chain, policy, number of rules, lab or stranger."""
    for (path, hook), called in hooks.order.items():
        rows = tuple(_row(hooks, one) for one in called)
        yield TableSection(f"{gettext(LAYERS[path])}: {hook}", tuple(gettext(name) for name in COLUMNS), rows)


def _row(hooks: NodeHooks, one: CalledChain) -> tuple[str, ...]:
    chain = one.chain
    name = priority_text(chain.priority, chain.family)
    number = str(chain.priority) if name == str(chain.priority) else f"{chain.priority} {name}"
    return (
        number if one.certain else f"{number} ?",
        " ".join((f"{chain_name(chain)}", *(f"@{device}" for device in chain.devices))),
        chain.policy,
        str(chain.rules),
        gettext(WHOSE[whose(hooks.node, chain, hooks.plan, hooks.backend)]),
    )


def chain_name(chain: HookChain) -> str:
    """`inet fw input`; of iptables `iptables filter INPUT`."""
    return f"{chain.tool or chain.family} {chain.table} {chain.name}"


def notes(hooks: NodeHooks) -> Iterator[str]:
    """What the order is derived from, and where it cannot be known."""
    called = [one for chains in hooks.order.values() for one in chains]
    if not called:
        yield sentence("{node} has no chain at any hook", node=hooks.node)
        return
    yield LISTED_NOTE if hooks.is_listed else DERIVED_NOTE
    if any(not one.certain for one in called):
        yield UNCERTAIN_NOTE
    if any(path == "ip" and hook in ("prerouting", "output") for path, hook in hooks.order):
        yield CONNTRACK_NOTE


def hooks_document(lab: str, nodes: Iterable[NodeHooks]) -> dict[str, Any]:
    """`show --hooks --json`."""
    return {"lab": lab, "nodes": [_node_document(one) for one in nodes]}


def _node_document(hooks: NodeHooks) -> dict[str, Any]:
    return {
        "node": hooks.node,
        "order": "kernel" if hooks.is_listed else "derived",
        "hooks": [
            {
                "layer": path,
                "hook": hook,
                "chains": [
                    {
                        "firewall": one.chain.tool or "nft",
                        "family": one.chain.family,
                        "table": one.chain.table,
                        "chain": one.chain.name,
                        "type": one.chain.type,
                        "priority": one.chain.priority,
                        "priority_name": priority_text(one.chain.priority, one.chain.family),
                        "policy": one.chain.policy,
                        "devices": list(one.chain.devices),
                        "rules": one.chain.rules,
                        "whose": whose(hooks.node, one.chain, hooks.plan, hooks.backend) or None,
                        "certain": one.certain,
                    }
                    for one in called
                ],
            }
            for (path, hook), called in hooks.order.items()
        ],
    }

"""Faults of nft tables: priorities, accepts that another table overrules, missing elements, dumps restored over rules.

The order between tables is what they share: an accept ends one base chain, and a priority decides what a chain sees.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network, ip_network

from labctl.core import nft_objects
from labctl.core.diff import Change
from labctl.core.nft_ruleset import hook_of
from labctl.core.resources import NftObject
from labctl.core.sentence import sentence
from labctl.faults.claimed_paths import ClaimedPath, claimed_paths, namespaces_by_role, paths_through, probes
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects
from labctl.faults.source_nat import KEPT_KINDS, expect_kept_source

STRANGER = "inet strict"  # the table of the fault that overrules an accept
CONNTRACK, DESTINATION_NAT = -200, -100  # priorities
_PRIORITY = re.compile(r" priority [^;]+;")
_SOURCE = re.compile(r"\bip saddr (\d[\d.]+/\d+)")
_JUMP = re.compile(r"\b(?:jump|goto) ([\w./-]+)")


def _objects_of(objects: LabObjects, ns: str, table: str) -> tuple[NftObject, ...]:
    return tuple(item for item in objects.all(NftObject, ns) if item.table == table)


def _tables(objects: LabObjects) -> Iterator[tuple[str, str]]:
    """Every machine with tables of nft of the plan, and the tables, nodes and hosts first."""
    for ns in namespaces_by_role(objects):
        for table in dict.fromkeys(item.table for item in objects.all(NftObject, ns)):
            yield ns, table


def _base_chains(objects: LabObjects, ns: str, table: str, hook: str) -> Iterator[tuple[NftObject, int]]:
    """The base chains of a table at a hook, with their priorities."""
    for item in _objects_of(objects, ns, table):
        at = hook_of(item)
        if at is not None and at[0] == hook:
            yield item, at[1]


def _published(objects: LabObjects, ns: str) -> tuple[ClaimedPath, ...]:
    """The claimed probes from elsewhere to a published port of a machine, over IPv4."""
    return tuple(
        one
        for one in claimed_paths(objects)
        if one.server is not None and ns in one.namespaces and one.target_ns == ns and one.source != ns
        and not objects.is_leaf(one.source) and one.target_ip.version == 4
    )  # fmt: skip


def _server_addresses(objects: LabObjects, one: ClaimedPath) -> frozenset[str]:
    name = one.server[0] if one.server is not None else ""
    return frozenset(str(ip) for ip in objects.topology.possible_addresses(name))


def _wrong_priority(objects: LabObjects) -> Iterator[Fault]:
    """A chain that protects addresses before destination NAT is called after it: then published ports are dropped."""
    for ns, table in _tables(objects):
        for chain, priority in _base_chains(objects, ns, table, "prerouting"):
            drops = [rule for rule in chain.entries if " daddr " in f" {rule}" and re.search(r"\bdrop\b", rule)]
            if priority >= DESTINATION_NAT or not drops:
                continue
            paths = [
                one
                for one in _published(objects, ns)
                if any(re.search(rf"daddr {ip}\b", rule) for ip in _server_addresses(objects, one) for rule in drops)
            ]
            if traffic := probes(paths):
                moved = _PRIORITY.sub(" priority filter;", chain.header[0])
                change = Change(replace(chain, header=(moved, *chain.header[1:])), chain)
                causes = (ExpectedCause(("rule",), (ns, f"{table}/{chain.name}")),)
                yield Fault("nft-wrong-priority", _name(chain), (change,), causes, traffic)


def _accept_overruled(objects: LabObjects) -> Iterator[Fault]:
    """A stranger's table drops what the lab's table has accepted at the same hook."""
    for ns, table in _tables(objects):
        family = table.partition(" ")[0]
        for chain, priority in _base_chains(objects, ns, table, "forward"):
            if family not in ("ip", "inet") or "type filter" not in chain.header[0]:
                continue
            traffic = probes(one for one in paths_through(objects, ns, "routed"))
            if not traffic:
                continue
            stranger = nft_objects.base_chain(
                ns, STRANGER, "forward", ("ct state established,related accept", "ct state new drop"),
                type="filter", hook="forward", priority=f"{priority + 10}",
            )  # fmt: skip
            changes = (Change(nft_objects.table(ns, STRANGER), None), Change(stranger, None))
            causes = (ExpectedCause(("rule",), (ns, f"{STRANGER}/forward")),)
            yield Fault("nft-accept-overruled", _name(chain), changes, causes, traffic)
            break


def _element_missing(objects: LabObjects) -> Iterator[Fault]:
    """A map has lost the element that leads the packets of a bridge to their masquerade."""
    for ns, table in _tables(objects):
        chains = {item.name: item for item in _objects_of(objects, ns, table) if item.kind == "chain"}
        for item in _objects_of(objects, ns, table):
            if item.kind != "map" or table.partition(" ")[0] == "ip6" or not _is_asked_for_source(chains, item.name):
                continue
            for element in item.entries:
                jump = _JUMP.search(element)
                rules = chains[jump[1]].entries if jump is not None and jump[1] in chains else ()
                bridge = re.match(r'"([^"]+)"', element)
                if bridge is None or not any(re.search(r"\bmasquerade\b", rule) for rule in rules):
                    continue
                if pairs := _outward(objects, ns, bridge[1]):
                    kept = tuple(one for one in item.entries if one != element)
                    causes, symptoms = expect_kept_source(objects, ns, pairs[0][0])
                    traffic = objects.traffic_of(pairs)
                    change = Change(replace(item, entries=kept), item)
                    yield Fault(
                        "nft-element-missing", f"{_name(item)}/{bridge[1]}", (change,), causes, traffic, symptoms
                    )


def _is_asked_for_source(chains: dict[str, NftObject], name: str) -> bool:
    """Whether a base chain at postrouting asks a map by the device that a packet came in by."""
    return any(
        (hook_of(chain) or ("",))[0] == "postrouting" and any(rule == f"iifname vmap @{name}" for rule in chain.entries)
        for chain in chains.values()
    )


def _outward(objects: LabObjects, ns: str, bridge: str | None = None) -> tuple[tuple[str, str], ...]:
    """Containers behind a bridge of the machine (or any), each with a machine outside."""
    found = []
    for source, target in objects.pairs(ns):
        links = objects.topology.links.get(source, ())
        ends = (objects.link(link.peer) for link in links if link.peer is not None)
        is_behind = objects.is_leaf(source) and any(
            end is not None and end.master is not None and end.master == (bridge or end.master) for end in ends
        )
        if is_behind and objects.topology.role(target) == "internet":
            found.append((source, target))
    return tuple(found)


def _flushed(objects: LabObjects) -> Iterator[Fault]:
    """A table is gone: the dump that was restored over the rules began with `flush ruleset`, and did not have it."""
    for ns, table in _tables(objects):
        items = _objects_of(objects, ns, table)
        rules = [rule for item in items if item.kind == "chain" for rule in item.entries]
        if not any(re.search(r"\bmasquerade\b", rule) for rule in rules):
            continue
        networks = [ip_network(found) for rule in rules for found in _SOURCE.findall(rule)]
        pairs = [pair for pair in _outward(objects, ns) if _is_inside(objects, pair[0], networks)]
        if pairs:
            _, symptoms = expect_kept_source(objects, ns, pairs[0][0])
            address = objects.topology.address_of(pairs[0][0], 4)
            causes = (
                ExpectedCause(KEPT_KINDS, (str(address),)), ExpectedCause(("answered",), ("source unchanged",)),
            )  # fmt: skip
            changes = tuple(Change(None, item) for item in items)
            own = [pair for pair in pairs if pair[0] == pairs[0][0]]
            yield Fault("nft-table-flushed", f"{ns}/{table}", changes, causes, objects.traffic_of(own), symptoms)


def _is_inside(objects: LabObjects, name: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    ip = objects.topology.address_of(name, 4)
    return ip is not None and any(ip in network for network in networks)


def _doubled(objects: LabObjects) -> Iterator[Fault]:
    """A dump was restored without removing what was there: nft adds its rules to the same chains."""
    for ns, table in _tables(objects):
        chains = [item for item in _objects_of(objects, ns, table) if item.kind == "chain" and item.entries]
        changes = tuple(Change(replace(item, entries=(*item.entries, *item.entries)), item) for item in chains)
        if changes:
            yield Fault("nft-rules-doubled", f"{ns}/{table}", changes, (), probes(paths_through(objects, ns, "routed")))


def _name(item: NftObject) -> str:
    return f"{item.ns}/{item.table}/{item.name}"


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "nft-wrong-priority",
        sentence(
            "A base chain that must be called before destination NAT has the priority of filters, so it is after it."
        ),
        sentence("It sees the address of the container in every packet to a published port, and drops it."),
        _wrong_priority,
    ),
    FaultKind(
        "nft-accept-overruled",
        sentence("Another table drops new connections at the hook forward, with a later priority."),
        sentence("The lab's own table accepts the packets, and they end in the other one all the same."),
        _accept_overruled,
    ),
    FaultKind(
        "nft-element-missing",
        sentence(
            "A verdict map lacks the element of a network, so its packets do not come to the chain that masquerades."
        ),
        sentence("Packets of its containers leave with the address of the container."),
        _element_missing,
    ),
    FaultKind(
        "nft-table-flushed",
        sentence(
            "A table of nft is gone, as after a dump that begins with `flush ruleset` was restored over the rules."
        ),
        sentence("Packets of containers leave with the address of the container, and no rule of the table filters."),
        _flushed,
    ),
    FaultKind(
        "nft-rules-doubled",
        sentence("Every rule of a table of nft is there twice, as after its own dump was restored over it."),
        sentence("The rules decide as before; only the list of rules shows it."),
        _doubled,
        unnoticed=sentence("The first of two equal rules decides, so no packet has another fate."),
    ),
)

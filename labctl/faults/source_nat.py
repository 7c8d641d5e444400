"""Faults of source NAT: MASQUERADE and SNAT that are missing, too wide, too narrow or too early, or a wrong source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_network

from labctl.core.diff import Change
from labctl.core.iptables import FirewallRule, rule
from labctl.core.resources import Chain, IpSet
from labctl.faults.chain_changes import insert_rule, rules_with_target, with_rule, without_rule
from labctl.faults.claimed_paths import ClaimedPath, paths_through, probes, text_of, unused_address
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects

SOURCE_NAT = ("MASQUERADE", "SNAT")
OUTSIDE = ("internet", "vm", "node", "host")  # the roles of machines that see a pod with its node's address
KEPT_KINDS = ("source-kept", "not-translated", "no-route-back", "no-route", "rule", "rp-filter", "martian", "neighbour")
_NEGATED = re.compile(r"(?:-m set )?! --?[\w-]+ \S+(?: (?:src|dst))?\s*")


def _translations(objects: LabObjects) -> Iterator[tuple[Chain, int, FirewallRule]]:
    """The rules that translate the source of forwarded packets, those of nodes and hosts first."""
    names = sorted(objects.topology.namespaces, key=lambda ns: objects.topology.role(ns) not in ("node", "host"))
    for ns in names:
        for chain, number in rules_with_target(objects, ns, "nat", "POSTROUTING", lambda one: one.target in SOURCE_NAT):
            found = chain.rules[number]
            if found.option("--mark") is None:  # rules for marked packets translate only what was published
                yield chain, number, found


def _translated(objects: LabObjects, ns: str, found: FirewallRule) -> tuple[ClaimedPath, ...]:
    """The claimed probes that such a rule translates: from pods to the outside, of its source and destination."""
    return paths_through(objects, ns, "routed", keep=lambda one: _fits(objects, ns, found, one))


def _fits(objects: LabObjects, ns: str, found: FirewallRule, one: ClaimedPath) -> bool:
    if not objects.is_leaf(one.source) or one.server is not None or one.probe != "ping":
        return False
    at = objects.topology.machines[one.source].on
    role = objects.topology.role(one.target_ns)
    if role not in OUTSIDE or (objects.topology.role(ns) in ("node", "host") and at != ns):
        return False
    source = objects.topology.address_of(one.source, 4)
    for flag, address in (("-s", source), ("-d", one.target_ip)):
        option = found.option(flag)
        if option is not None and (address in ip_network(option.values[0])) == option.negated:
            return False
    return role == "internet" or not found.option("-o") or objects.topology.role(ns) in ("node", "host")


def _object_name(chain: Chain, number: int) -> str:
    return f"{chain.ns}/nat/{chain.name}/{number + 1}"


def _kept(objects: LabObjects, paths: tuple[ClaimedPath, ...], *names: str) -> tuple[ExpectedCause, ...]:
    """The causes where a source is not translated: no way back to it, or it arrives as it is."""
    return (
        ExpectedCause(KEPT_KINDS, names),
        ExpectedCause(("answered",), ("source unchanged",)),
        ExpectedCause(("answered",), ("source rewritten",)),  # by another machine, further on
    )


def _sources(objects: LabObjects, paths: tuple[ClaimedPath, ...]) -> str:
    return text_of(objects, paths[0].source).partition("/")[0]


def _masquerade_faults(
    kind: str, change: Callable[[LabObjects, Chain, int, ClaimedPath], Change | None]
) -> Callable[[LabObjects], Iterator[Fault]]:
    """A kind of fault in which the source of packets to the outside stays as it is."""

    def find(objects: LabObjects) -> Iterator[Fault]:
        for chain, number, found in _translations(objects):
            paths = _translated(objects, chain.ns, found)
            if not paths:
                continue
            changed = change(objects, chain, number, paths[0])
            if changed is None:
                continue
            wanted = _kept(objects, paths, _sources(objects, paths))
            yield Fault(kind, _object_name(chain, number), (changed,), wanted, probes(paths))

    return find


def _exempt(objects: LabObjects, chain: Chain, number: int, one: ClaimedPath) -> Change:
    network = ip_network(f"{one.target_ip}/24", strict=False)
    return insert_rule(objects, chain.ns, "nat", chain.name, f"-d {network} -j RETURN", before=number)


def _accept_first(objects: LabObjects, chain: Chain, number: int, one: ClaimedPath) -> Change:
    return insert_rule(objects, chain.ns, "nat", "POSTROUTING", f"-s {text_of(objects, one.source)} -j ACCEPT")


def _wrong_address(objects: LabObjects) -> Iterator[Fault]:
    """SNAT to an address of the same network that nothing has."""
    for chain, number, found in _translations(objects):
        paths = _translated(objects, chain.ns, found)
        own = next((one.addr.ip for one in objects.addresses(chain.ns) if not one.addr.ip.is_loopback), None)
        if not paths or own is None or own.version != 4:
            continue
        address = unused_address(objects, own)
        words = str(found)[: str(found).index(f"-j {found.target}")]
        change = with_rule(chain, number, f"{words} -j SNAT --to-source {address}")
        causes = (
            ExpectedCause(("no-route-back", "neighbour", "no-address", "no-route", "rp-filter"), (str(address),)),
            ExpectedCause(("answered",), (str(address),)),  # another machine rewrites it again, and knows the way back
        )
        yield Fault("snat-unused-address", _object_name(chain, number), (change,), causes, probes(paths))


def _to_pods(objects: LabObjects, ns: str) -> tuple[ClaimedPath, ...]:
    """Claimed probes from the pods of a node to pods of other nodes, which keep their source."""
    machines = objects.topology.machines

    def keep(one: ClaimedPath) -> bool:
        both = objects.is_leaf(one.source) and objects.is_leaf(one.target_ns)
        return both and machines[one.source].on == ns and machines[one.target_ns].on != ns and one.server is None

    return paths_through(objects, ns, "routed", keep=keep)


def _too_wide(objects: LabObjects) -> Iterator[Fault]:
    """The exemptions in front of the rule, and the negated matches of the rule itself, are gone."""
    for chain, number, found in _translations(objects):
        paths = _to_pods(objects, chain.ns)
        if not paths or chain.family != "ip":
            continue
        wide = rule(_NEGATED.sub("", str(found)))
        before = tuple(one for one in chain.rules[:number] if one.target not in ("RETURN", "ACCEPT"))
        rules = (*before, wide, *chain.rules[number + 1 :])
        if rules != chain.rules:
            change = Change(replace(chain, rules=rules), chain)
            causes = (ExpectedCause(("answered",), ("source rewritten",)),)
            yield Fault("masquerade-too-wide", _object_name(chain, number), (change,), causes, probes(paths))


def _too_early(objects: LabObjects) -> Iterator[Fault]:
    for ns in dict.fromkeys(chain.ns for chain, _, _ in _translations(objects)):
        if paths := _to_pods(objects, ns):
            text = f"-s {text_of(objects, paths[0].source)} -j MASQUERADE"
            change = insert_rule(objects, ns, "nat", "POSTROUTING", text)
            causes = (ExpectedCause(("answered",), ("source rewritten",)),)
            traffic = probes(one for one in paths if one.source == paths[0].source)
            yield Fault("masquerade-too-early", f"{ns}/nat/POSTROUTING", (change,), causes, traffic)


def _ipset_member_missing(objects: LabObjects) -> Iterator[Fault]:
    """A member that the claimed traffic of the node needs."""
    for one in objects.all(IpSet):
        if not _is_used(objects, one):
            continue
        for member in one.members:
            paths = _paths_of_member(objects, one.ns, member)
            if not paths:
                continue
            broken = replace(one, members=tuple(other for other in one.members if other != member))
            causes = (
                ExpectedCause(("rule",), (one.ns,)),
                *_kept(objects, paths, _sources(objects, paths)),
            )
            yield Fault(
                "ipset-member-missing", f"{one.ns}/{one.name}/{member}", (Change(broken, one),), causes, probes(paths)
            )


def _is_used(objects: LabObjects, wanted: IpSet) -> bool:
    return any(wanted.name in item.args for chain in objects.all(Chain, wanted.ns) for item in chain.rules)


def _paths_of_member(objects: LabObjects, ns: str, member: str) -> tuple[ClaimedPath, ...]:
    """Claimed probes with an end, or a node of an end, in this member. A source there has to be on this node."""
    network = ip_network(member, strict=False)
    machines = objects.topology.machines

    def inside(name: str) -> bool:
        machine = machines.get(name)
        on = machines.get(machine.on) if machine is not None and machine.on is not None else None
        addresses = (*(machine.addresses if machine else ()), *(on.addresses if on is not None else ()))
        return any(ip.version == network.version and ip in network for ip in addresses)

    def keep(one: ClaimedPath) -> bool:
        source = machines.get(one.source)
        return objects.is_leaf(one.source) and source is not None and source.on == ns and any(map(inside, one.ends))

    found = paths_through(objects, ns, "routed", "filtered", keep=keep)
    return tuple(sorted(found, key=lambda one: objects.topology.role(one.target_ns) not in OUTSIDE))


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "masquerade-missing",
        "A MASQUERADE or SNAT rule is missing.",
        "Packets leave with the address of their pod, which machines outside cannot answer.",
        _masquerade_faults("masquerade-missing", lambda objects, chain, number, one: without_rule(chain, number)),
    ),
    FaultKind(
        "masquerade-too-narrow",
        "A rule before MASQUERADE exempts a network outside from it.",
        "Packets to that network keep the address of their pod; all others are translated.",
        _masquerade_faults("masquerade-too-narrow", _exempt),
    ),
    FaultKind(
        "nat-accept-first",
        "An ACCEPT at the beginning of nat/POSTROUTING ends the way through the table.",
        "The rules behind it never see the pod's packets, so their source is not translated.",
        _masquerade_faults("nat-accept-first", _accept_first),
    ),
    FaultKind(
        "masquerade-too-wide",
        "MASQUERADE has lost its exemptions, so it translates packets between pods, too.",
        "Pods are reached, but see the address of a node instead of the pod's: network policies and logs are wrong.",
        _too_wide,
    ),
    FaultKind(
        "masquerade-too-early",
        "A MASQUERADE rule stands before the rules that exempt the pods' networks.",
        "A pod's packets to other pods get the address of its node.",
        _too_early,
    ),
    FaultKind(
        "snat-unused-address",
        "Source NAT gives packets an address that no machine has.",
        "Requests arrive, and their replies go to nobody.",
        _wrong_address,
    ),
    FaultKind(
        "ipset-member-missing",
        "A member of an IP set is missing, so the rules that match the set treat its packets differently.",
        "Packets are dropped, or translated though they should not be, or the other way round.",
        _ipset_member_missing,
    ),
)

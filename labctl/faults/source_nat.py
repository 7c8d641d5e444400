"""Faults of source NAT: MASQUERADE and SNAT that are missing, too wide, too narrow or too early, or a wrong source."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from ipaddress import ip_network

from labctl.core.diff import Change
from labctl.core.iptables import FirewallRule, rule
from labctl.core.resources import Chain, IpSet
from labctl.core.sentence import sentence
from labctl.faults.chain_changes import insert_rule, with_rule, without_rule
from labctl.faults.claimed_paths import (
    ClaimedPath,
    namespaces_by_role,
    paths_through,
    probes,
    text_of,
    unused_address,
)
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects
from labctl.faults.rule_walk import source_nat_rule

OUTSIDE = ("internet", "vm", "node", "host")  # the roles of machines that see a pod with its node's address
# the causes that can be the effect of a source which nothing translated
KEPT_KINDS = (
    "no-route", "no-route-back", "reject-route", "rp-filter", "neighbour", "loop", "ttl", "reply-elsewhere", "rule",
)  # fmt: skip
_NEGATED = re.compile(r"(?:-m set ! --match-set \S+ \S+|! -[sdo] \S+)\s*")


@dataclass(frozen=True, slots=True)
class _Translation:
    """A rule that translates the source of pods' packets to the outside, and the claimed probes that it translates."""

    chain: Chain
    number: int
    paths: tuple[ClaimedPath, ...]

    @property
    def rule(self) -> FirewallRule:
        return self.chain.rules[self.number]

    @property
    def ns(self) -> str:
        return self.chain.ns

    @property
    def name(self) -> str:
        """The object of a fault on it: `node1/nat/POSTROUTING/1`."""
        return f"{self.ns}/nat/{self.chain.name}/{self.number + 1}"


@lru_cache(maxsize=8)
def _translations(objects: LabObjects) -> tuple[_Translation, ...]:
    """Every such rule of the lab, those of nodes and hosts first."""
    found: dict[tuple[str, str, int], list[ClaimedPath]] = {}
    for ns in namespaces_by_role(objects):
        if objects.chain(ns, "nat", "POSTROUTING") is None:
            continue
        for one in paths_through(objects, ns, "routed", keep=partial(_is_outward, objects)):
            way = objects.paths.path(one.source, one.target_ip)
            if way.arrives and ns not in way.namespaces:
                continue  # connected with the way of the packet, but not on it
            at = source_nat_rule(objects, ns, one)
            if at is not None:
                found.setdefault((ns, at[0].name, at[1]), []).append(one)
    return tuple(
        _Translation(chain, number, tuple(paths))
        for (ns, name, number), paths in found.items()
        if (chain := objects.chain(ns, "nat", name)) is not None
    )


def _is_outward(objects: LabObjects, one: ClaimedPath) -> bool:
    """Whether a probe is a ping from a pod to a machine that is no pod."""
    return objects.is_leaf(one.source) and not objects.is_leaf(one.target_ns) and one.probe == "ping"


def _address(objects: LabObjects, name: str) -> str:
    return text_of(objects, name).partition("/")[0]


def expect_kept_source(
    objects: LabObjects, ns: str, source: str
) -> tuple[tuple[ExpectedCause, ...], tuple[ExpectedCause, ...]]:
    """The causes, and the symptoms, where a machine does not translate a source: there is no way back to it, or a
    machine refuses it, and the machine that kept it is the cause."""
    address = _address(objects, source)
    causes = (
        ExpectedCause(KEPT_KINDS, (ns, "kept the source")),
        ExpectedCause(("answered",), ("source unchanged",)),
        ExpectedCause(("answered",), (f"source rewritten: {address}",)),  # by another machine, further on
    )
    on = objects.topology.machines[source].on
    node = objects.topology.possible_addresses(on) if on is not None and on != ns else ()
    own = objects.topology.possible_addresses(source)  # a container on two networks has one in each
    kept = sorted(str(one) for one in {*own, *node})  # a node before may have given it its own address
    symptoms = tuple(ExpectedCause(KEPT_KINDS, (one,)) for one in kept)
    return causes, (*symptoms, ExpectedCause(("rule",), ("reply",)))


def _masquerade_faults(
    kind: str, change: Callable[[LabObjects, _Translation], Change]
) -> Callable[[LabObjects], Iterator[Fault]]:
    """A kind of fault in which the source of packets to the outside stays as it is."""

    def find(objects: LabObjects) -> Iterator[Fault]:
        for one in _translations(objects):
            source = one.paths[0].source
            paths = tuple(path for path in one.paths if kind != "masquerade-shadowed" or path.source == source)
            causes, symptoms = expect_kept_source(objects, one.ns, source)
            yield Fault(kind, one.name, (change(objects, one),), causes, probes(paths), symptoms)

    return find


def _missing(objects: LabObjects, one: _Translation) -> Change:
    return without_rule(one.chain, one.number)


def _exempt(objects: LabObjects, one: _Translation) -> Change:
    network = ip_network(f"{one.paths[0].target_ip}/24", strict=False)
    return insert_rule(objects, one.ns, "nat", one.chain.name, f"-d {network} -j RETURN", before=one.number)


def _accept_first(objects: LabObjects, one: _Translation) -> Change:
    machine = objects.topology.machines[one.paths[0].source]
    near = machine.on == one.ns or objects.topology.role(one.ns) in ("node", "host")
    source = f"-s {text_of(objects, machine.name)} " if near else ""  # further on it may be translated already
    return insert_rule(objects, one.ns, "nat", "POSTROUTING", f"{source}-j ACCEPT")


def _wrong_address(objects: LabObjects) -> Iterator[Fault]:
    """SNAT to an address of the same network that nothing has."""
    for one in _translations(objects):
        own = next((item.addr.ip for item in objects.addresses(one.ns) if not item.addr.ip.is_loopback), None)
        if own is None or own.version != 4:
            continue
        address = str(unused_address(objects, own))
        words = str(one.rule)
        change = with_rule(
            one.chain, one.number, f"{words[: words.index(f'-j {one.rule.target}')]} -j SNAT --to-source {address}"
        )
        causes = (
            ExpectedCause((*KEPT_KINDS, "no-address"), (one.ns, "rewrote the source", address)),
            ExpectedCause(("answered",), (address,)),  # another machine rewrites it again, and knows the way back
        )
        symptoms = (ExpectedCause((*KEPT_KINDS, "no-address"), (address,)), ExpectedCause(("rule",), ()))
        yield Fault("snat-unused-address", one.name, (change,), causes, probes(one.paths), symptoms)


def _to_pods(objects: LabObjects, ns: str) -> tuple[ClaimedPath, ...]:
    """Claimed probes from the pods of a node to pods of other nodes, which keep their source."""
    machines = objects.topology.machines

    def keep(one: ClaimedPath) -> bool:
        both = objects.is_leaf(one.source) and objects.is_leaf(one.target_ns)
        return both and machines[one.source].on == ns and machines[one.target_ns].on != ns and one.server is None

    return paths_through(objects, ns, "routed", keep=keep)


def _rewritten(ns: str) -> tuple[ExpectedCause, ...]:
    """The causes where a machine rewrites a source: the packet is delivered, or the new address is the reason why it
    is lost."""
    return (
        ExpectedCause(("answered",), ("source rewritten",)),
        ExpectedCause(KEPT_KINDS, (ns, "rewrote the source")),
    )


def _too_wide(objects: LabObjects) -> Iterator[Fault]:
    """The exemptions in front of the rule, and the negated matches of the rule itself, are gone."""
    for one in _translations(objects):
        paths = _to_pods(objects, one.ns)
        if not paths:
            continue
        wide = rule(_NEGATED.sub("", str(one.rule)))
        before = tuple(item for item in one.chain.rules[: one.number] if item.target not in ("RETURN", "ACCEPT"))
        rules = (*before, wide, *one.chain.rules[one.number + 1 :])
        if rules != one.chain.rules:
            change = Change(replace(one.chain, rules=rules), one.chain)
            yield Fault("masquerade-too-wide", one.name, (change,), _rewritten(one.ns), probes(paths))


def _too_early(objects: LabObjects) -> Iterator[Fault]:
    for ns in dict.fromkeys(one.ns for one in _translations(objects)):
        if paths := _to_pods(objects, ns):
            text = f"-s {text_of(objects, paths[0].source)} -j MASQUERADE"
            change = insert_rule(objects, ns, "nat", "POSTROUTING", text)
            traffic = probes(one for one in paths if one.source == paths[0].source)
            yield Fault("masquerade-too-early", f"{ns}/nat/POSTROUTING", (change,), _rewritten(ns), traffic)


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
            causes, symptoms = expect_kept_source(objects, one.ns, paths[0].source)
            causes = (ExpectedCause(("rule",), (one.ns,)), *causes)
            name = f"{one.ns}/{one.name}/{member}"
            yield Fault("ipset-member-missing", name, (Change(broken, one),), causes, probes(paths), symptoms)


def _is_used(objects: LabObjects, wanted: IpSet) -> bool:
    """Whether rules of the nat table match the set. Sets of policies are not meant."""
    chains = (one for one in objects.all(Chain, wanted.ns) if one.table == "nat")
    return any(wanted.name in item.args for chain in chains for item in chain.rules)


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
        sentence("A MASQUERADE or SNAT rule is missing."),
        sentence("Packets leave with the address of their pod, which machines outside cannot answer."),
        _masquerade_faults("masquerade-missing", _missing),
    ),
    FaultKind(
        "masquerade-too-narrow",
        sentence("A rule before MASQUERADE exempts a network outside from it."),
        sentence("Packets to that network keep the address of their pod; all others are translated."),
        _masquerade_faults("masquerade-too-narrow", _exempt),
    ),
    FaultKind(
        "masquerade-shadowed",
        sentence(
            "An ACCEPT at the beginning of nat/POSTROUTING takes the packets of a pod before MASQUERADE or SNAT"
            " sees them."
        ),
        sentence("The rule is there, but the pod's packets keep their source."),
        _masquerade_faults("masquerade-shadowed", _accept_first),
    ),
    FaultKind(
        "masquerade-too-wide",
        sentence("MASQUERADE has lost its exemptions, so it translates packets between pods, too."),
        sentence(
            "Pods are reached, but see the address of a node instead of the pod's: network policies and logs are wrong."
        ),
        _too_wide,
    ),
    FaultKind(
        "masquerade-too-early",
        sentence("A MASQUERADE rule stands before the rules that exempt the pods' networks."),
        sentence("A pod's packets to other pods get the address of its node."),
        _too_early,
    ),
    FaultKind(
        "snat-unused-address",
        sentence("Source NAT gives packets an address that no machine has."),
        sentence("Requests arrive, and their replies reach no machine."),
        _wrong_address,
    ),
    FaultKind(
        "ipset-member-missing",
        sentence("A member of an IP set is missing, so the rules that match the set treat its packets differently."),
        sentence("Packets are dropped, or translated though they should not be, or the other way round."),
        _ipset_member_missing,
    ),
)

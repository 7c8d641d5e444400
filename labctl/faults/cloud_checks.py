"""Faults of the cloud's network: source checks that do not know a pod's address, interfaces that may not forward,
firewalls that do not let connections out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from ipaddress import ip_network

from labctl.core.diff import Change
from labctl.core.resources import Chain, Link, Route
from labctl.core.sentence import sentence
from labctl.faults.chain_changes import insert_rule, without_rule
from labctl.faults.claimed_paths import ClaimedPath, claimed_paths, probes
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects

ACCEPTING = ("RETURN", "ACCEPT")


def _address_not_allowed(kind: str, flags: tuple[str, ...], objects: LabObjects) -> Iterator[Fault]:
    """An address of a pod, or its range, is missing among those that an interface may send from (or receive)."""
    source = "--ip-src" in flags
    for chain in objects.all(Chain):
        if objects.topology.role(chain.ns) != "fabric" or not _ends_in_drop(chain):
            continue
        for number, one in enumerate(chain.rules):
            option = next((found for flag in flags if (found := one.option(flag)) is not None), None)
            if one.target not in ACCEPTING or option is None:
                continue
            network = ip_network(option.values[0])
            paths = [path for path in claimed_paths(objects) if _concerns(objects, network, source, path)]
            if traffic := probes(paths):
                broken = replace(chain, rules=chain.rules[:number] + chain.rules[number + 1 :])
                causes = (ExpectedCause(("rule",), (chain.ns, chain.name)),)
                name = f"{chain.ns}/{chain.name}/{option.values[0]}"
                yield Fault(kind, name, (Change(broken, chain),), causes, traffic)


def _ends_in_drop(chain: Chain) -> bool:
    """Whether the chain is a list of what is allowed: what no rule before accepts is dropped."""
    return any(one.target == "DROP" for one in chain.rules[1:])


def _concerns(objects: LabObjects, network: object, source: bool, one: ClaimedPath) -> bool:
    """Whether a path leaves a node with a pod's own address in the network (or comes to such a pod)."""
    name = one.source if source else one.target_ns
    address = objects.topology.address_of(name, 4)
    machines = objects.topology.machines
    pods = objects.is_leaf(one.source) and objects.is_leaf(one.target_ns) and one.server is None
    apart = pods and machines[one.source].on != machines[one.target_ns].on
    return apart and address is not None and address in network  # type: ignore[operator]


def _forwarding_not_allowed(objects: LabObjects) -> Iterator[Fault]:
    """An interface of a node that is the next hop of a route to pods may send from its own address only."""
    for link in objects.all(Link):
        peer = link.peer
        if objects.topology.role(link.at.ns) != "fabric" or peer is None or link.master is not None:
            continue
        if objects.topology.role(peer.ns) != "node":
            continue
        own = objects.topology.address_of(peer.ns, 4)
        ranges = [one for one in objects.all(Route, link.at.ns) if one.via == own and one.dst.prefixlen < 32]
        if own is None or not ranges:
            continue
        paths = [
            one
            for one in claimed_paths(objects)
            if _concerns(objects, ranges[0].dst, True, one) and objects.topology.machines[one.source].on == peer.ns
        ]
        if not paths:
            continue
        text = f"-i {link.at.dev} ! -s {own} -j DROP"
        raw = objects.chain(link.at.ns, "raw", "PREROUTING")
        table, chain = ("raw", "PREROUTING") if raw is not None else ("filter", "FORWARD")
        causes = (ExpectedCause(("rule",), (link.at.ns, chain)),)
        change = insert_rule(objects, link.at.ns, table, chain, text)
        yield Fault("nic-forwarding-off", f"{peer.ns}/{peer.dev}", (change,), causes, probes(paths))


def _connection_not_allowed(objects: LabObjects) -> Iterator[Fault]:
    """A firewall on the way out has no rule for connections to a port, so its last rule drops them."""
    for chain in objects.all(Chain):
        last = chain.rules[-1] if chain.rules else None
        if (chain.table, chain.name) != ("filter", "FORWARD") or last is None or last.args != ("-j", "DROP"):
            continue
        for number, one in enumerate(chain.rules):
            protocol, port = one.option("-p"), one.option("--dport")
            if (
                one.target != "ACCEPT"
                or protocol is None
                or port is None
                or objects.topology.role(chain.ns) != "machine"
            ):
                continue
            allowed = (protocol.values[0], port.values[0])
            paths = [
                path
                for path in claimed_paths(objects)
                if (path.probe, str(path.port)) == allowed and objects.topology.role(path.target_ns) == "internet"
            ]
            if traffic := probes(paths, protocols=("tcp", "udp")):
                causes = (ExpectedCause(("rule",), (chain.ns, "FORWARD")),)
                name = f"{chain.ns}/FORWARD/{':'.join(allowed)}"
                yield Fault("firewall-rule-missing", name, (without_rule(chain, number),), causes, traffic)


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "source-check",
        sentence(
            "The cloud does not know a pod's address at its node's interface (source/destination check, alias range)."
        ),
        sentence("The cloud drops what the node sends with that source address."),
        partial(_address_not_allowed, "source-check", ("--ip-src", "-s")),
    ),
    FaultKind(
        "destination-check",
        sentence("The cloud does not know a pod's address at the interface that gets its packets."),
        sentence("The cloud drops packets to that address at the interface."),
        partial(_address_not_allowed, "destination-check", ("--ip-dst",)),
    ),
    FaultKind(
        "nic-forwarding-off",
        sentence(
            "IP forwarding is off at a node's interface in the cloud (Azure: IP forwarding, Google Cloud:"
            " canIpForward)."
        ),
        sentence("The cloud drops what the node sends with the address of a pod."),
        _forwarding_not_allowed,
    ),
    FaultKind(
        "firewall-rule-missing",
        sentence("The firewall on the cluster's way out lacks the rule that allows connections to a port."),
        sentence("It drops these connections by its last rule; those to other ports leave."),
        _connection_not_allowed,
    ),
)

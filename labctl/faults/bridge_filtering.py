"""Faults of firewalls on bridges: ebtables rules, and bridged frames that pass iptables."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from labctl.core.diff import Change
from labctl.core.resources import Sysctl
from labctl.core.sentence import sentence
from labctl.faults.chain_changes import insert_rule
from labctl.faults.claimed_paths import BRIDGE_NF, ClaimedPath, paths_through, probes
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects

# on a wire that carries a tunnel, the rule drops questions for MAC addresses inside it as well
UNANSWERED = (ExpectedCause(("neighbour",), ("gets no answer",)),)


def _bridged(objects: LabObjects, ns: str) -> tuple[ClaimedPath, ...]:
    return paths_through(objects, ns, "bridged", "filtered")


def _answers_arp(objects: LabObjects, ns: str) -> bool:
    """Whether ebtables itself answers or drops ARP there, so that no ARP request crosses the bridge."""
    chains = (objects.chain(ns, "nat", "PREROUTING", "bridge"), objects.chain(ns, "filter", "FORWARD", "bridge"))
    rules = [one for chain in chains if chain is not None for one in chain.rules]
    return any("ARP" in one.args and one.target in ("arpreply", "DROP") for one in rules)


def _forward(kind: str, text: str, objects: LabObjects) -> Iterator[Fault]:
    for ns in objects.topology.namespaces:
        paths = _bridged(objects, ns)
        if paths and not (text.startswith("-p ARP") and _answers_arp(objects, ns)):
            change = insert_rule(objects, ns, "filter", "FORWARD", text, family="bridge")
            causes = (ExpectedCause(("rule",), (ns, "FORWARD")),)
            yield Fault(kind, f"{ns}/ebtables/filter/FORWARD", (change,), causes, probes(paths), UNANSWERED)


def _input(objects: LabObjects) -> Iterator[Fault]:
    """Frames from a port of a bridge to the machine itself: what it routes, and what it receives."""
    for ns in objects.topology.namespaces:
        own = {item.at.dev for item in objects.addresses(ns)}  # a bridge with an address is the gateway of its ports
        links = objects.topology.links.get(ns, ())
        bridges = {link.at.dev for link in links if link.kind == "bridge" and link.at.dev in own}
        if not bridges:
            continue
        paths = paths_through(
            objects, ns, "routed", "received", keep=partial(_enters_by_bridge, objects, ns, frozenset(bridges))
        )
        if paths:
            change = insert_rule(objects, ns, "filter", "INPUT", "-p IPv4 -j DROP", family="bridge")
            causes = (ExpectedCause(("rule",), (ns, "INPUT")),)
            yield Fault(
                "ebtables-drop-input", f"{ns}/ebtables/filter/INPUT", (change,), causes, probes(paths), UNANSWERED
            )


def _enters_by_bridge(objects: LabObjects, ns: str, bridges: frozenset[str], one: ClaimedPath) -> bool:
    """Whether the sender's cable ends at a port of a bridge there."""
    links = objects.topology.links.get(ns, ())
    return any(link.peer is not None and link.peer.ns == one.source and link.master in bridges for link in links)


def _bridge_nf(objects: LabObjects) -> Iterator[Fault]:
    """A rule of iptables between two ports of one bridge, which counts because bridged frames pass iptables."""
    name = BRIDGE_NF[4]
    for ns in objects.topology.namespaces:
        paths = _bridged(objects, ns)
        links = objects.topology.links.get(ns, ())
        bridge = next(
            (
                link.master
                for one in paths
                for link in links
                if link.peer is not None and link.peer.ns in one.ends and link.master is not None
            ),
            None,
        )
        if bridge is None:
            continue
        rule = insert_rule(objects, ns, "filter", "FORWARD", f"-i {bridge} -o {bridge} -j DROP")
        planned = objects.sysctl(ns, name)
        on = Change(Sysctl(ns, name, "1"), planned)
        changes = (rule,) if planned is not None and planned.value == "1" else (on, rule)
        causes = (ExpectedCause(("rule",), (ns, "FORWARD")),)
        yield Fault("bridge-nf-call-iptables", f"{ns}/{bridge}", changes, causes, probes(paths), UNANSWERED)


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "ebtables-drop-ipv4",
        sentence("A rule of ebtables in FORWARD drops IPv4 frames between the ports of bridges."),
        sentence("Machines on one bridge find each other by ARP, but get no packet through."),
        partial(_forward, "ebtables-drop-ipv4", "-p IPv4 -j DROP"),
    ),
    FaultKind(
        "ebtables-drop-arp",
        sentence("A rule of ebtables in FORWARD drops ARP between the ports of bridges."),
        sentence("Machines on one bridge cannot learn each other's MAC addresses."),
        partial(_forward, "ebtables-drop-arp", "-p ARP -j DROP"),
    ),
    FaultKind(
        "ebtables-drop-input",
        sentence("A rule of ebtables in INPUT drops IPv4 frames from ports of bridges to the machine itself."),
        sentence("Machines on the bridge do not reach their gateway; they still reach each other."),
        _input,
    ),
    FaultKind(
        "bridge-nf-call-iptables",
        sentence("Bridged frames pass iptables (bridge-nf-call-iptables is 1), and a rule there drops them."),
        sentence("Machines on one bridge do not reach each other, though no router is between them."),
        _bridge_nf,
    ),
)

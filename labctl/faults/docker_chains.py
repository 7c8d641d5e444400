"""Faults of Docker's own chains: rules that are lost, and one in DOCKER-USER that drops."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain
from labctl.core.sentence import sentence
from labctl.faults.chain_changes import insert_rule, without_rule
from labctl.faults.claimed_paths import ClaimedPath, paths_through, probes
from labctl.faults.fault import ExpectedCause, Fault, FaultKind
from labctl.faults.lab_objects import LabObjects


def _lost(
    kind: str, chain: str, wanted: Callable[[FirewallRule], bool], culprit: str, objects: LabObjects
) -> Iterator[Fault]:
    """A rule of one of Docker's chains is lost; `culprit` is the chain that then drops."""
    for ns in objects.topology.namespaces:
        found = objects.chain(ns, "filter", chain)
        if found is None or objects.chain(ns, "filter", "DOCKER-USER") is None:
            continue
        for number, one in enumerate(found.rules):
            if not wanted(one):
                continue
            paths = paths_through(objects, ns, "routed", keep=partial(_of_device, objects, one))
            if traffic := probes(paths):
                causes = (ExpectedCause(("rule",), (ns, culprit)),) if culprit else ()
                name = f"{ns}/filter/{chain}/{number + 1}"
                yield Fault(kind, name, (without_rule(found, number),), causes, traffic)


def _of_device(objects: LabObjects, found: FirewallRule, one: ClaimedPath) -> bool:
    """Whether a path begins (or, for `-o`, has its reply) at a container behind the bridge that the rule names."""
    bridge = found.option("-i") or found.option("-o")
    if not objects.is_leaf(one.source) or one.probe != "ping":
        return False
    ports = objects.topology.links.get(one.source, ())
    masters = {link.master for port in ports if port.peer is not None and (link := objects.link(port.peer)) is not None}
    return bridge is None or bridge.values[0] in masters


def _user_drop(objects: LabObjects) -> Iterator[Fault]:
    for chain in objects.all(Chain):
        if (chain.table, chain.name, chain.family) == ("filter", "DOCKER-USER", "ip"):
            change = insert_rule(objects, chain.ns, "filter", "DOCKER-USER", "-j DROP")
            causes = (ExpectedCause(("rule",), (chain.ns, "DOCKER-USER")),)
            if traffic := probes(paths_through(objects, chain.ns, "routed", "filtered")):
                yield Fault("docker-user-drop", f"{chain.ns}/filter/DOCKER-USER", (change,), causes, traffic)


def _isolation(one: FirewallRule) -> bool:
    return one.target == "DOCKER-ISOLATION-STAGE-1"


KINDS: tuple[FaultKind, ...] = (
    FaultKind(
        "docker-forward-missing",
        sentence("FORWARD has lost its jump to DOCKER-FORWARD."),
        sentence("No rule of Docker accepts packets, so the policy DROP of FORWARD ends them."),
        partial(
            _lost, "docker-forward-missing", "FORWARD", lambda one: one.target == "DOCKER-FORWARD", "policy of FORWARD"
        ),
    ),
    FaultKind(
        "docker-accept-missing",
        sentence("DOCKER-FORWARD has lost the rule that accepts what comes from a bridge."),
        sentence("Containers of that bridge do not reach the outside: the policy DROP of FORWARD ends their packets."),
        partial(
            _lost,
            "docker-accept-missing",
            "DOCKER-FORWARD",
            lambda one: one.target == "ACCEPT" and one.option("-i") is not None and one.option("-o") is None,
            "policy of FORWARD",
        ),
    ),
    FaultKind(
        "docker-ct-missing",
        sentence("DOCKER-CT has lost the rule that accepts the packets of established connections."),
        sentence("Requests of containers arrive outside, and their replies end at the host."),
        partial(_lost, "docker-ct-missing", "DOCKER-CT", lambda one: one.target == "ACCEPT", "DOCKER"),
    ),
    FaultKind(
        "docker-isolation-missing",
        sentence("DOCKER-FORWARD has lost its jump to DOCKER-ISOLATION-STAGE-1."),
        sentence("Packets between two networks of Docker are no longer dropped there."),
        partial(_lost, "docker-isolation-missing", "DOCKER-FORWARD", _isolation, ""),
        unnoticed=sentence(
            "The chain DOCKER drops the same packets, because they do not come from the network's own bridge."
        ),
    ),
    FaultKind(
        "docker-user-drop",
        sentence("A rule in DOCKER-USER drops all packets."),
        sentence("The host forwards nothing for its containers, before any rule of Docker is asked."),
        _user_drop,
    ),
)

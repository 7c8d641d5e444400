"""A random exercise: a scenario with one fault of the catalogue, as `--set` would write it. Pure.

The seed decides the fault, so the same seed gives the same exercise. Faults that no check can notice, and those that
are only an entry of conntrack, are left out: nothing would show them, or their repair.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

from labctl.core.left_out import object_names
from labctl.core.scenario_types import Lab
from labctl.errors import UsageError
from labctl.faults.catalogue import applicable, kinds, subjects
from labctl.faults.fault import Fault, FaultKind
from labctl.faults.lab_objects import Traffic

LEVELS = (1, 2, 3)
DEFAULT_PORT = 8080  # of a TCP or UDP probe that the catalogue gives none
SCENARIOS = ("docker-bridge", "docker-publish", "kubenet", "azure-cni-overlay", "azure-cni-transparent", "services")
# 1: one command shows it (`ip link`, `ip route`, `iptables -S`)
EASY = frozenset({
    "route-missing", "udr-missing", "route-blackhole", "route-unreachable", "route-prohibit", "forwarding-off",
    "interface-down", "carrier-lost", "address-missing", "bridge-port-down", "bridge-down", "port-detached",
    "drop-forward", "reject-forward", "drop-input", "reject-input", "drop-output", "reject-output",
    "policy-drop-forward", "policy-drop-input", "policy-drop-output", "masquerade-missing", "dnat-missing",
    "listener-missing", "docker-forward-missing", "docker-user-drop",
})  # fmt: skip
# 3: it shows only for some packets, or away from its place
HARD = frozenset({
    "route-more-specific", "policy-rule-missing", "routing-loop", "rp-filter-strict", "martian-source",
    "asymmetric-route", "duplicate-mac", "duplicate-address", "prefix-too-short", "neighbour-stale", "arp-ignore",
    "arp-off", "proxy-arp-off", "hairpin-off", "fdb-stale", "promiscuous-double", "mtu-sender", "mtu-router",
    "mtu-tunnel", "mtu-far-end", "mtu-bridge-port", "mtu-underlay", "vxlan-wrong-id", "vxlan-wrong-port",
    "vxlan-fdb-missing", "vxlan-wrong-remote", "vxlan-own-remote", "vxlan-neighbour-missing", "vxlan-neighbour-stale",
    "drop-replies", "drop-frag-needed", "drop-neighbour-solicitation", "drop-neighbour-advertisement",
    "ebtables-drop-arp", "bridge-nf-call-iptables", "masquerade-too-narrow", "masquerade-shadowed",
    "masquerade-too-wide", "masquerade-too-early", "snat-unused-address", "ipset-member-missing", "dnat-shadowed",
    "dnat-to-loopback", "notrack-replies", "notrack-source", "drop-invalid", "conntrack-stale", "conntrack-stale-dnat",
    "snat-ports-used", "source-check", "destination-check", "docker-ct-missing", "docker-isolation-missing",
})  # fmt: skip


def level_of(kind: str) -> int:
    """How hard a kind of fault is to find: 1, 2 or 3."""
    return 1 if kind in EASY else 3 if kind in HARD else 2


def random_scenario(seed: int) -> str:
    """The scenario of a seed, for a random exercise that names none."""
    return random.Random(seed).choice(SCENARIOS)


def choose_fault(lab: Lab, seed: int, level: int | None) -> Fault:
    """The fault of a seed, among those of a level that this lab can have. First the kind is drawn, then the object.
    Raises UsageError if none fits."""
    found = [faults for kind, faults in _candidates(lab) if level is None or level_of(kind.name) == level]
    if not found:
        what = "no fault" if level is None else f"no fault of level {level}"
        raise UsageError(f"{what} fits the scenario {lab.name}", "use another --level or scenario")
    generator = random.Random(seed)
    return generator.choice(generator.choice(found))


def _candidates(lab: Lab) -> Iterator[tuple[FaultKind, tuple[Fault, ...]]]:
    for kind, faults in applicable(lab):
        good = tuple(fault for fault in faults if fault.changes and fault.traffic)
        if good and not kind.unnoticed:
            yield kind, good


def exercise_name(scenario: str, seed: int, level: int | None) -> str:
    """The name of a random exercise in records: `random-kubenet-7`, with a level `random-kubenet-7-level-2`."""
    return f"random-{scenario}-{seed}" + ("" if level is None else f"-level-{level}")


def overrides(fault: Fault, scenario: str) -> tuple[str, ...]:
    """The values to set in a scenario, so that it becomes the exercise."""
    return (
        f"break={json.dumps([{fault.kind: fault.on}])}",
        f"exercise={json.dumps(_section(fault, scenario))}",
    )


def _section(fault: Fault, scenario: str) -> dict[str, Any]:
    kind = kinds()[fault.kind]
    probe = _probe(fault.traffic[0])
    return {
        "title": f"An incident in {scenario}",
        "level": level_of(fault.kind),
        "topic": "incidents",
        "text": (
            f"Something was changed in this lab, and no record says what. A user reports a problem with"
            f" {_ticket(probe)}."
            " Some faults hurt only some packets: other machines, protocols and sizes may work.\n\n"
            "Find the change, and undo it: nothing else may differ from the scenario at the end."
        ),
        "tasks": [
            {
                "say": "Where is the change? Answer with the machine and the object: node1/eth0, node1/10.244.1.0/24,"
                " node1/filter/FORWARD.",
                "locate": probe,
                "points": 4,
                "solve": _place(fault),
            },
            {"say": "Undo the change. All checks of the lab must pass.", "fix": "lab", "points": 4, "solve": []},
        ],
        "hints": [
            {"say": f"The subject is: {subjects()[fault.kind]}.", "cost": 1},
            {"say": f"The change is in {fault.machine}.", "cost": 2},
        ],
        "explain": f"{fault.kind} on {fault.on}. {kind.summary} {kind.effect}",
    }


def _place(fault: Fault) -> str:
    """The place of a fault as an answer names it: with the object that it changes, if the catalogue names a machine."""
    if "/" in fault.on:
        return fault.on
    names = (name for change in fault.changes for name in object_names(change.subject))
    return next(names, fault.on)


def _probe(traffic: Traffic) -> dict[str, Any]:
    protocol = traffic.protocols[0]
    if protocol == "icmp":
        found: dict[str, Any] = {"ping": f"{traffic.source} -> {traffic.target}"}
        return found if traffic.size is None or traffic.fragment else {**found, "size": max(24, traffic.size)}
    sport = "" if traffic.sport is None else f":{traffic.sport}"
    target = f"[{traffic.target}]" if ":" in traffic.target else traffic.target
    found = {protocol: f"{traffic.source}{sport} -> {target}:{traffic.port or DEFAULT_PORT}"}
    server = None if traffic.server is None else f"{traffic.server[0]}:{traffic.server[1]}"
    return {**found, "listen": server or traffic.listen}


def _ticket(probe: dict[str, Any]) -> str:
    """The packet of a probe as a user reports it."""
    name, ends = next((key, value) for key, value in probe.items() if key in ("ping", "tcp", "udp"))
    source, _, target = str(ends).partition(" -> ")
    if name == "ping":
        size = f" with {probe['size']} bytes" if "size" in probe else ""
        return f"pings{size} from {source} to {target}"
    host, _, port = target.rpartition(":")
    return f"{name.upper()} from {source.partition(':')[0]} to {host.strip('[]')} port {port}"

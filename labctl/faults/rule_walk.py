"""Which rule of nat/POSTROUTING translates the source of a probe, by the plan alone. Pure.

Only what models write is understood: addresses, devices, sets, local addresses. A match that is not understood (a mark,
a state) is taken as one that an ordinary packet of a pod does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_network

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_parts import RuleOption
from labctl.core.resources import IP, Chain, IpSet
from labctl.faults.claimed_paths import ClaimedPath
from labctl.faults.lab_objects import LabObjects

ENDS = ("ACCEPT", "DROP", "MASQUERADE", "SNAT")
IGNORED = (
    "--comment",
    "--random-fully",
    "--to-source",
    "--reject-with",
    "--limit-iface-out",
    "--set-xmark",
    "--to-ports",
)


@dataclass(frozen=True, slots=True)
class _Packet:
    """What rules see of the packet; the address sets have several elements where it may be translated already."""

    objects: LabObjects
    ns: str
    srcs: frozenset[IP]
    dst: IP
    oifs: frozenset[str]


def source_nat_rule(objects: LabObjects, ns: str, one: ClaimedPath) -> tuple[Chain, int] | None:
    """The MASQUERADE or SNAT rule that translates the request of a claimed probe in a namespace: its chain and its
    number from 0. None if no rule of the plan does."""
    machine = objects.topology.machines.get(one.source)
    srcs = set(objects.topology.addresses(one.source))
    if machine is not None and machine.on is not None and machine.on != ns:
        srcs |= objects.topology.possible_addresses(machine.on)  # its node may have translated it
    links = objects.topology.links.get(ns, ())
    onward = set(one.namespaces) - {ns, one.source}
    oifs = {link.at.dev for link in links if link.peer is not None and link.peer.ns in onward}
    first = objects.chain(ns, "nat", "POSTROUTING")
    if first is None:
        return None
    found = _walk(_Packet(objects, ns, frozenset(srcs), one.target_ip, frozenset(oifs)), first, 0)
    if found is None or found[0].rules[found[1]].target not in ("MASQUERADE", "SNAT"):
        return None
    return found


def _walk(packet: _Packet, chain: Chain, depth: int) -> tuple[Chain, int] | None:
    """The rule that ends the packet's way through the chain; None at the end of the chain."""
    for number, one in enumerate(chain.rules):
        if one.target is None or not _matches(packet, one):
            continue
        if one.target in ENDS:
            return chain, number
        if one.target == "RETURN":
            return None
        jumped = packet.objects.chain(chain.ns, chain.table, one.target)
        if jumped is not None and depth < 8 and (found := _walk(packet, jumped, depth + 1)) is not None:
            return found
    return None


def _matches(packet: _Packet, one: FirewallRule) -> bool:
    options = (*one.head, *(option for part in one.matches for option in part.options))
    return all(_option(packet, option) != option.negated for option in options if option.flag not in IGNORED)


def _option(packet: _Packet, option: RuleOption) -> bool:
    """Whether the option, without its negation, fits."""
    flag, value = option.flag, option.values[0] if option.values else ""
    if flag == "-s":
        return any(ip.version == 4 and ip in ip_network(value) for ip in packet.srcs)
    if flag == "-d":
        return packet.dst in ip_network(value)
    if flag == "-o":
        prefix = value.removesuffix("+")
        return any(dev.startswith(prefix) if value.endswith("+") else dev == value for dev in packet.oifs)
    if flag in ("--dst-type", "--src-type"):
        local = packet.objects.topology.possible_addresses(packet.ns)
        return value == "LOCAL" and (packet.dst in local if flag == "--dst-type" else bool(packet.srcs & local))
    if flag == "--match-set":
        members = next((one.members for one in packet.objects.all(IpSet, packet.ns) if one.name == value), ())
        addresses = packet.srcs if option.values[-1].startswith("src") else frozenset((packet.dst,))
        return any(ip in ip_network(member) for ip in addresses for member in members if ip.version == 4)
    return False

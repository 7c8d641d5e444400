"""The ports that an SNAT or MASQUERADE rule may give to connections, and how many of them are in use. Pure.

A rule with a range of ports (`--to-source 203.0.113.50:1024-2047`) gives each connection one of them. Connections to
different destinations may have the same port. If all are in use towards one destination, the kernel finds none for
another connection: it drops its first packet, without any rule that drops.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from labctl.core.iptables import FirewallRule
from labctl.core.observations import Flow
from labctl.core.resources import IP, Chain
from labctl.core.scenario_types import PortRange
from labctl.core.sentence import Sentence, sentence

PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17}


@dataclass(frozen=True, slots=True)
class SnatPorts:
    """The source ports that a rule gives, at one address (SNAT) or at those of the device (MASQUERADE: `address` is
    None)."""

    ports: PortRange
    address: IP | None = None

    def __str__(self) -> str:
        if self.address is None:
            return f"{self.ports}"
        return f"[{self.address}]:{self.ports}" if self.address.version == 6 else f"{self.address}:{self.ports}"


@dataclass(frozen=True, slots=True)
class PortUse:
    """How many ports of a rule in the namespace `node` are in use towards one destination: `used` of `size`."""

    node: str
    chain: str
    number: int
    rule: str
    protocol: str
    dst: IP
    dport: int
    ports: str
    used: int
    size: int

    @property
    def exhausted(self) -> bool:
        """Whether no port is left for another connection to that destination."""
        return self.used >= self.size

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> Sentence:
        """How many ports are in use, as a sentence."""
        return sentence(
            "{used} of the {size} ports of {ports} are in use by {protocol} connections to {end}",
            used=self.used,
            size=self.size,
            ports=self.ports,
            protocol=self.protocol,
            end=self.end,
        )

    @property
    def end(self) -> str:
        """The destination with its port, as text."""
        return f"[{self.dst}]:{self.dport}" if self.dst.version == 6 else f"{self.dst}:{self.dport}"


def snat_ports(rule: FirewallRule) -> SnatPorts | None:
    """The ports that a rule may give to a connection; None if it does not restrict them to a range of one address."""
    flag = {"SNAT": "--to-source", "MASQUERADE": "--to-ports"}.get(rule.target or "")
    option = rule.option(flag) if flag is not None else None
    if option is None or len(option.values) != 1:
        return None
    address, _, ports = option.values[0].rpartition(":") if rule.target == "SNAT" else ("", "", option.values[0])
    first, dash, last = ports.partition("-")
    if not first.isdecimal() or (dash and not last.isdecimal()):
        return None
    try:
        where = ip_address(address.strip("[]")) if address else None
    except ValueError:  # a range of addresses
        return None
    return SnatPorts(PortRange(int(first), int(last if dash else first)), where)


def port_use(
    node: str, chain: str, number: int, rule: FirewallRule, protocol: str, end: tuple[IP, int], flows: Iterable[Flow]
) -> PortUse | None:
    """How many ports of a rule are in use towards `end`, by the connections of its namespace; None without a range."""
    given = snat_ports(rule)
    if given is None or protocol not in PROTOCOL_NUMBERS:
        return None
    used = {
        flow.reply_dport
        for flow in flows
        if flow.protocol == PROTOCOL_NUMBERS[protocol]
        and (flow.reply_src, flow.reply_sport) == end
        and flow.reply_dport in given.ports
        and given.address in (None, flow.reply_dst)
    }
    return PortUse(node, chain, number, str(rule), protocol, *end, str(given), len(used), len(given.ports))


def matching_rules(chains: Iterable[Chain], source: IP, protocol: str) -> Iterator[tuple[Chain, int, FirewallRule]]:
    """The rules of nat/POSTROUTING with a range of ports that match a source and a protocol, as far as these say."""
    for chain in chains:
        if (chain.table, chain.name) != ("nat", "POSTROUTING"):
            continue
        for number, rule in enumerate(chain.rules, 1):
            if snat_ports(rule) is not None and _matches(rule, source, protocol):
                yield chain, number, rule


def _matches(rule: FirewallRule, source: IP, protocol: str) -> bool:
    src, kind = rule.option("-s"), rule.option("-p")
    if src is not None and (source in ip_network(src.values[0], strict=False)) == src.negated:
        return False
    return kind is None or (kind.values == (protocol,)) != kind.negated

"""What the filter table of a plan does with a packet, as the kernel would: jumps, returns, marks, sets. Pure.

Only what policy engines write is understood. Another match or target is an error, so that none is taken for a match.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from ipaddress import IPv4Address, IPv4Network
from typing import TypeAlias

from labctl.core.ipset_members import parse_member
from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain, IpSet, Resource

Match: TypeAlias = tuple[str, bool, tuple[str, ...]]
ReadRule: TypeAlias = tuple[list[Match], str | None, dict[str, tuple[str, ...]], bool]
ENDS = ("ACCEPT", "DROP", "REJECT")
NO_EFFECT = ("NFLOG",)


@dataclass(frozen=True)
class WalkedPacket:
    """A packet in a node: its addresses and port, the devices, and whether it is a frame that a bridge forwards."""

    src: IPv4Address
    dst: IPv4Address
    protocol: str
    dport: int
    iif: str
    oif: str
    bridged: bool = False
    state: str = "NEW"
    mark: int = 0


@dataclass(frozen=True)
class NodeFilter:
    """The filter table and the IP sets of a node. `local` are its own addresses."""

    chains: dict[str, Chain]
    sets: dict[str, tuple[str, tuple[str, ...]]]
    local: frozenset[IPv4Address] = field(default_factory=frozenset)

    @classmethod
    def of(cls, plan: Iterable[Resource], node: str, local: Iterable[IPv4Address] = ()) -> NodeFilter:
        """That of a node of a plan."""
        own = [one for one in plan if one.ns == node]
        chains = {
            one.name: one for one in own if isinstance(one, Chain) and (one.family, one.table) == ("ip", "filter")
        }
        sets = {one.name: (one.kind, one.members) for one in own if isinstance(one, IpSet)}
        return cls(chains, sets, frozenset(local))

    def verdict(self, hook: str, packet: WalkedPacket) -> str:
        """ACCEPT, DROP or REJECT: what becomes of the packet in a built-in chain."""
        chain = self.chains.get(hook)
        if chain is None:
            return "ACCEPT"
        found, _ = self._walk(chain, packet)
        return found or chain.policy or "ACCEPT"

    def _walk(self, chain: Chain, packet: WalkedPacket) -> tuple[str, WalkedPacket]:
        for matches, target, options, goto in self._rules(chain):
            if target is None or not self._match_all(matches, packet):
                continue
            if target in ENDS:
                return target, packet
            if target == "RETURN":
                break
            if target == "MARK":
                value, mask = (int(word, 16) for word in options["--set-xmark"][0].split("/"))
                packet = replace(packet, mark=(packet.mark & ~mask) ^ value)
            elif target not in NO_EFFECT:
                verdict, packet = self._walk(self.chains[target], packet)
                if verdict or goto:
                    return verdict, packet
        return "", packet

    def _rules(self, chain: Chain) -> list[ReadRule]:
        """The rules of a chain, read once."""
        known = self._read.get(chain.name)
        if known is None or known[0] is not chain:
            known = self._read[chain.name] = (chain, [*map(read, chain.rules)])
        return known[1]

    @cached_property
    def _read(self) -> dict[str, tuple[Chain, list[ReadRule]]]:
        return {}

    def _match_all(self, matches: list[Match], packet: WalkedPacket) -> bool:
        for name, negated, values in matches:  # noqa: SIM110 (many thousand calls: a generator takes twice as long)
            if not self._matches(name, negated, values, packet):
                return False
        return True

    def _matches(self, name: str, negated: bool, values: tuple[str, ...], packet: WalkedPacket) -> bool:
        return (
            self._in_set(values, packet)
            if name == "--match-set"
            else self._test(name, values[0] if values else "", packet)
        ) != negated

    def _in_set(self, values: tuple[str, ...], packet: WalkedPacket) -> bool:
        kind, members = self.sets[values[0]]
        if kind == "hash:ip,port":
            assert values[1] == "dst,dst", values
            return f"{packet.dst},{packet.protocol}:{packet.dport}" in members
        ip = {"src": packet.src, "dst": packet.dst}[values[1]]
        best = max(
            ((net.prefixlen, not nomatch) for net, nomatch in networks(kind, members) if ip in net), default=(0, False)
        )
        return best[1]

    def _test(self, name: str, value: str, packet: WalkedPacket) -> bool:
        if name in ("--src-type", "--dst-type"):
            assert value == "LOCAL"
            return (packet.src if name == "--src-type" else packet.dst) in self.local
        return TESTS[name](value, packet)


@lru_cache(maxsize=4096)
def networks(kind: str, members: tuple[str, ...]) -> tuple[tuple[IPv4Network, bool], ...]:
    """The networks of a set, each with whether it is an exception."""
    found = (parse_member(one, kind) for one in members)
    return tuple((one.network, one.nomatch) for one in found if isinstance(one.network, IPv4Network))


@cache
def network(text: str) -> IPv4Network:
    return IPv4Network(text)


@lru_cache(maxsize=65536)
def read(one: FirewallRule) -> ReadRule:
    """The matches of a rule, its target with the options, and whether it goes there without coming back."""
    matches = [(option.flag, option.negated, tuple(option.values)) for option in one.head]
    options: dict[str, tuple[str, ...]] = {}
    goto = False
    for part in one.parts:
        for option in part.options:
            if part.flag == "-m":
                matches.append((option.flag, option.negated, tuple(option.values)))
            else:
                options[option.flag] = tuple(option.values)
        goto = goto or part.flag == "-g"
    return matches, one.target, options, goto


def _mark(value: str, packet: WalkedPacket) -> bool:
    wanted, _, mask = value.partition("/")
    return packet.mark & int(mask or "0xffffffff", 16) == int(wanted, 16)


def _device(value: str, name: str) -> bool:
    return name.startswith(value[:-1]) if value.endswith("+") else name == value


def _port(value: str, port: int) -> bool:
    return any(
        int(first) <= port <= int(last or first) for first, _, last in (one.partition(":") for one in value.split(","))
    )


def _ports(value: str, packet: WalkedPacket) -> bool:
    assert len(value.replace(":", ",").split(",")) <= 15, f"multiport has at most 15 ports: {value}"
    return _port(value, packet.dport)


TESTS: dict[str, Callable[[str, WalkedPacket], bool]] = {
    "-s": lambda value, packet: packet.src in network(value),
    "-d": lambda value, packet: packet.dst in network(value),
    "-i": lambda value, packet: _device(value, packet.iif),
    "-o": lambda value, packet: _device(value, packet.oif),
    "-p": lambda value, packet: value == packet.protocol,
    "--comment": lambda value, packet: True,
    "--limit": lambda value, packet: True,
    "--limit-burst": lambda value, packet: True,
    "--ctstate": lambda value, packet: packet.state in value.split(","),
    "--mark": _mark,
    "--dports": _ports,
    "--dport": lambda value, packet: _port(value, packet.dport),
    "--icmp-type": lambda value, packet: False,
    "--physdev-is-bridged": lambda value, packet: packet.bridged,
}

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
from labctl.core.iptables_parts import RuleOption
from labctl.core.resources import Chain, IpSet, Resource

Test: TypeAlias = "Callable[[NodeFilter, WalkedPacket], bool]"
# the matches of a rule, its target, value and mask of a target MARK, and whether it goes there without coming back
ReadRule: TypeAlias = tuple[tuple[Test, ...], str, tuple[int, int], bool]
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

    def marked(self, mark: int) -> WalkedPacket:
        """The packet with this mark: for each mark the same one, because thousands of walks set the same."""
        found = self._marked.get(mark)
        if found is None:
            found = self._marked[mark] = replace(self, mark=mark)
        return found

    @cached_property
    def _marked(self) -> dict[int, WalkedPacket]:
        return {}

    @cached_property
    def src_number(self) -> int:
        return int(self.src)

    @cached_property
    def dst_number(self) -> int:
        return int(self.dst)


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
        for tests, target, (value, mask), goto in self._rules(chain):
            for test in tests:  # no `all`: many thousand calls, and a generator takes twice as long
                if not test(self, packet):
                    break
            else:
                if target in ENDS:
                    return target, packet
                if target == "RETURN":
                    break
                if target == "MARK":
                    packet = packet.marked((packet.mark & ~mask) ^ value)
                elif target and target not in NO_EFFECT:
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


@lru_cache(maxsize=4096)
def networks(kind: str, members: tuple[str, ...]) -> tuple[tuple[int, int, int, bool], ...]:
    """The networks of a set, each by its length, mask and address, with whether it is an exception."""
    found = (parse_member(one, kind) for one in members)
    return tuple(
        (one.network.prefixlen, int(one.network.netmask), int(one.network.network_address), one.nomatch)
        for one in found
        if isinstance(one.network, IPv4Network)
    )


@cache
def network(text: str) -> tuple[int, int]:
    """The mask and the address of a network."""
    found = IPv4Network(text)
    return int(found.netmask), int(found.network_address)


@lru_cache(maxsize=65536)
def read(one: FirewallRule) -> ReadRule:
    """What a rule asks, read once."""
    tests = [_test(option) for option in one.head]
    value = mask = 0
    goto = False
    for part in one.parts:
        for option in part.options:
            if part.flag == "-m":
                tests.append(_test(option))
            elif option.flag == "--set-xmark":
                value, mask = (int(word, 16) for word in option.values[0].split("/"))
        goto = goto or part.flag == "-g"
    return tuple(one for one in tests if one is not _always), one.target or "", (value, mask), goto


def _test(option: RuleOption) -> Test:
    """A match of a rule."""
    test = TESTS[option.flag](*option.values)
    return (lambda node, packet: not test(node, packet)) if option.negated else test


def _always(node: NodeFilter, packet: WalkedPacket) -> bool:
    return True


def _never(node: NodeFilter, packet: WalkedPacket) -> bool:
    return False


def _source(value: str) -> Test:
    mask, number = network(value)
    return lambda node, packet: packet.src_number & mask == number


def _destination(value: str) -> Test:
    mask, number = network(value)
    return lambda node, packet: packet.dst_number & mask == number


def _in_set(name: str, way: str) -> Test:
    def test(node: NodeFilter, packet: WalkedPacket) -> bool:
        kind, members = node.sets[name]
        if kind == "hash:ip,port":
            assert way == "dst,dst", way
            return f"{packet.dst},{packet.protocol}:{packet.dport}" in members
        ip = {"src": packet.src_number, "dst": packet.dst_number}[way]
        fitting = [(length, not nomatch) for length, mask, net, nomatch in networks(kind, members) if ip & mask == net]
        return max(fitting, default=(0, False))[1]

    return test


def _type(side: str) -> Callable[[str], Test]:
    def read_type(value: str) -> Test:
        assert value == "LOCAL"
        return lambda node, packet: getattr(packet, side) in node.local

    return read_type


def _mark(value: str) -> Test:
    wanted, _, mask = value.partition("/")
    number, bits = int(wanted, 16), int(mask or "0xffffffff", 16)
    return lambda node, packet: packet.mark & bits == number


def _device(value: str, name: str) -> bool:
    return name.startswith(value[:-1]) if value.endswith("+") else name == value


def _port(value: str) -> Test:
    words = [one.partition(":") for one in value.split(",")]
    ranges = [(int(first), int(last or first)) for first, _, last in words]
    return lambda node, packet: any(first <= packet.dport <= last for first, last in ranges)


def _ports(value: str) -> Test:
    assert len(value.replace(":", ",").split(",")) <= 15, f"multiport has at most 15 ports: {value}"
    return _port(value)


TESTS: dict[str, Callable[..., Test]] = {
    "-s": _source,
    "-d": _destination,
    "-i": lambda value: lambda node, packet: _device(value, packet.iif),
    "-o": lambda value: lambda node, packet: _device(value, packet.oif),
    "-p": lambda value: lambda node, packet: value == packet.protocol,
    "--comment": lambda value: _always,
    "--limit": lambda value: _always,
    "--limit-burst": lambda value: _always,
    "--ctstate": lambda value: lambda node, packet: packet.state in value.split(","),
    "--mark": _mark,
    "--dports": _ports,
    "--dport": _port,
    "--icmp-type": lambda value: _never,
    "--physdev-is-bridged": lambda: lambda node, packet: packet.bridged,
    "--match-set": _in_set,
    "--src-type": _type("src"),
    "--dst-type": _type("dst"),
}

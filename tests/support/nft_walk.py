"""What the tables of nft of a plan do with a packet at one hook, as the kernel would. Pure.

Only the statements that policy engines write are understood. Another one is an error, so that none is taken for a
match. An accept ends one table; a drop or reject ends the packet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, cached_property, lru_cache
from ipaddress import IPv4Address
from typing import TypeAlias

from labctl.core.nft_ruleset import hook_of, policy_of
from labctl.core.resources import NftObject, Resource
from tests.support.iptables_walk import WalkedPacket, network

Test: TypeAlias = "Callable[[NftTables, str, WalkedPacket], bool]"
# its verb or the device of a lookup, the target or the map, and the bits of the mark that it keeps and sets
Statement: TypeAlias = tuple[str, str, int, int]
ReadRule: TypeAlias = tuple[tuple[Test, ...], tuple[Statement, ...]]
ENDS = ("accept", "drop", "reject")
_COMMENT = re.compile(r' comment "[^"]*"$')
# what a rule may say, each with the words that follow; a statement is what is left when all matches are taken away
_MATCHES = (
    ("mark", re.compile(r"meta mark & (0x\w+) (==|!=) (0x\w+)")),
    ("ports set", re.compile(r"ip daddr \. meta l4proto \. th dport @(\S+)")),
    ("address", re.compile(r"ip ([sd])addr (!= )?(\S+)")),
    ("protocol", re.compile(r"meta l4proto (\w+)")),
    ("ports", re.compile(r"(tcp|udp|sctp) dport (\{[^}]*\}|\S+)")),
    ("device", re.compile(r'([io])ifname "([^"]*)"')),
    ("state", re.compile(r"ct state (\S+)")),
    ("status", re.compile(r"ct status (!= )?dnat")),
    ("local", re.compile(r"fib ([sd])addr type local")),
    ("icmp", re.compile(r"icmp type \S+")),
    ("limit", re.compile(r"limit rate 10/minute burst 10 packets")),
)
_LOOKUP = re.compile(r"([io])ifname vmap @(\S+)")
_MARK = re.compile(r"meta mark set meta mark(?: & (0x\w+))?(?: \| (0x\w+))?")
_NO_EFFECT = ("counter", "log group 100", "continue")


def nft_objects_of(plan: Iterable[Resource], node: str) -> list[NftObject]:
    """The objects of nft of a node of a plan."""
    return [one for one in plan if isinstance(one, NftObject) and one.ns == node]


@dataclass(frozen=True)
class NftTables:
    """The tables of the family ip of a node. `local` are the node's own addresses."""

    objects: dict[tuple[str, str, str], NftObject]
    local: frozenset[IPv4Address] = field(default_factory=frozenset)

    @classmethod
    def of(cls, plan: Iterable[Resource], node: str, local: Iterable[IPv4Address] = ()) -> NftTables:
        """Those of a node of a plan."""
        own = (one for one in nft_objects_of(plan, node) if one.table.startswith("ip "))
        return cls({(one.table, one.kind, one.name): one for one in own}, frozenset(local))

    def verdict(self, hook: str, packet: WalkedPacket) -> tuple[str, WalkedPacket]:
        """`accept`, `drop` or `reject` after all chains at the hook, and the packet with its mark."""
        for chain in self._called.get(hook, ()):
            found, packet = self._walk(chain, packet)
            if (found or policy_of(chain)) != "accept":
                return found or policy_of(chain), packet
        return "accept", packet

    @cached_property
    def _called(self) -> dict[str, list[NftObject]]:
        """The chains at each hook, in the order of their priorities."""
        found: dict[str, list[NftObject]] = {}
        placed = [(place, one) for one in self.objects.values() if (place := hook_of(one))]
        for (hook, _), chain in sorted(placed, key=lambda one: one[0][1]):
            found.setdefault(hook, []).append(chain)
        return found

    def _walk(self, chain: NftObject, packet: WalkedPacket) -> tuple[str, WalkedPacket]:
        table = chain.table
        for tests, statements in self._rules(chain):
            for test in tests:  # no `all`: many thousand calls, and a generator takes twice as long
                if not test(self, table, packet):
                    break
            else:
                for verb, word, kept, added in statements:
                    if verb == "mark":
                        packet = packet.marked(packet.mark & kept | added)
                        continue
                    target = word
                    if verb in ("iif", "oif"):
                        found = self._lookup(table, word, packet.iif if verb == "iif" else packet.oif)
                        if found is None:
                            break  # the rule does not match
                        verb, _, target = found.partition(" ")
                    if verb in ENDS:
                        return verb, packet
                    if verb == "return":
                        return "", packet
                    assert verb in ("jump", "goto"), chain.entries
                    verdict, packet = self._walk(self.objects[table, "chain", target], packet)
                    if verdict or verb == "goto":
                        return verdict, packet
        return "", packet

    def _rules(self, chain: NftObject) -> list[ReadRule]:
        """The rules of a chain, read once."""
        known = self._read.get((chain.table, chain.name))
        if known is None or known[0] is not chain:
            known = self._read[chain.table, chain.name] = (chain, [*map(read, chain.entries)])
        return known[1]

    @cached_property
    def _read(self) -> dict[tuple[str, str], tuple[NftObject, list[ReadRule]]]:
        return {}

    def _lookup(self, table: str, name: str, device: str) -> str | None:
        elements = (one.partition(" : ") for one in self.objects[table, "map", name].entries)
        return next((verdict for key, _, verdict in elements if key.strip('"') == device), None)


def _always(tables: NftTables, table: str, packet: WalkedPacket) -> bool:
    return True


def _test(name: str, words: tuple[str, ...]) -> Test:
    """A match of a rule."""
    first = words[0] if words else ""
    if name == "mark":
        bits, number, equal = int(first, 16), int(words[2], 16), words[1] == "=="
        return lambda tables, table, packet: (packet.mark & bits == number) == equal
    if name == "ports set":
        return lambda tables, table, packet: (
            f"{packet.dst} . {packet.protocol} . {packet.dport}" in tables.objects[table, "set", first].entries
        )
    if name == "address":
        return _address("src_number" if first == "s" else "dst_number", bool(words[1]), words[2])
    if name == "protocol":
        return lambda tables, table, packet: packet.protocol == first
    if name == "ports":
        ranges = [(int(low), int(high or low)) for low, high in _ranges(words[1])]
        return lambda tables, table, packet: (
            first == packet.protocol and any(low <= packet.dport <= high for low, high in ranges)
        )
    if name == "device":
        side, text = "iif" if first == "i" else "oif", words[1]
        if text.endswith("*"):
            return lambda tables, table, packet: getattr(packet, side).startswith(text[:-1])
        return lambda tables, table, packet: getattr(packet, side) == text
    if name == "state":
        return lambda tables, table, packet: packet.state.lower() in first.split(",")
    if name == "status":  # the packet is not translated
        return lambda tables, table, packet: bool(first)
    if name == "local":
        side = "src" if first == "s" else "dst"
        return lambda tables, table, packet: getattr(packet, side) in tables.local
    assert name in ("icmp", "limit"), name
    return _always if name == "limit" else lambda tables, table, packet: False


def _address(side: str, negated: bool, text: str) -> Test:
    if text.startswith("@"):

        def is_in_set(tables: NftTables, table: str, packet: WalkedPacket) -> bool:
            ip, elements = getattr(packet, side), tables.objects[table, "set", text[1:]].entries
            return any(ip & mask == number for mask, number in _networks(elements)) != negated

        return is_in_set
    mask, number = network(text)
    return lambda tables, table, packet: (getattr(packet, side) & mask == number) != negated


def _statement(text: str) -> Statement:
    """A statement of a rule, for the walk."""
    if (lookup := _LOOKUP.fullmatch(text)) is not None:
        return f"{lookup[1]}if", lookup[2], 0, 0
    if (mark := _MARK.fullmatch(text)) is not None:
        return "mark", "", int(mark[1] or "0xffffffff", 16), int(mark[2] or "0x0", 16)
    verb, _, target = text.partition(" ")
    return verb, target, 0, 0


@lru_cache(maxsize=65536)
def read(entry: str) -> ReadRule:
    """The matches of a rule, and its statements in order."""
    text = _COMMENT.sub("", entry).strip()
    matches = []
    while found := next(((name, one) for name, each in _MATCHES if (one := each.match(text))), None):
        matches.append(_test(found[0], tuple(word or "" for word in found[1].groups())))
        text = text[found[1].end() :].strip()
    statements = []
    while text:
        one = next((each for each in _NO_EFFECT if text == each or text.startswith(f"{each} ")), None)
        whole = one or next((each[0] for each in (_LOOKUP.match(text), _MARK.match(text)) if each), None)
        if whole is None:
            words = text.split()
            whole = " ".join(words[: 2 if words[0] in ("jump", "goto") else 1])
            assert words[0] in ("jump", "goto", "return", *ENDS), entry
        statements.append(whole.strip())
        text = text[len(whole) :].strip()
    effective = (one for one in statements if one not in _NO_EFFECT)
    return tuple(one for one in matches if one is not _always), tuple(map(_statement, effective))


@cache
def _ranges(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((one[0], one[2]) for each in text.strip("{ }").split(",") if (one := each.strip().partition("-")))


@lru_cache(maxsize=4096)
def _networks(elements: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    return tuple(map(network, elements))

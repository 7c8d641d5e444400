"""What the tables of nft of a plan do with a packet at one hook, as the kernel would. Pure.

Only the statements that policy engines write are understood. Another one is an error, so that none is taken for a
match. An accept ends one table; a drop or reject ends the packet.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, lru_cache
from ipaddress import IPv4Address, IPv4Network

from labctl.core.nft_ruleset import hook_of, policy_of
from labctl.core.resources import NftObject, Resource
from tests.support.iptables_walk import WalkedPacket, network

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
        for entry in chain.entries:
            matches, statements = read(entry)
            if not all(self._matches(chain.table, name, words, packet) for name, words in matches):
                continue
            for statement in statements:
                if statement in _NO_EFFECT:
                    continue
                if (lookup := _LOOKUP.fullmatch(statement)) is not None:
                    found = self._lookup(chain.table, lookup[2], packet.iif if lookup[1] == "i" else packet.oif)
                    if found is None:
                        break  # the rule does not match
                    statement = found
                if statement in ENDS:
                    return statement, packet
                if statement == "return":
                    return "", packet
                if (mark := _MARK.fullmatch(statement)) is not None:
                    kept, added = int(mark[1] or "0xffffffff", 16), int(mark[2] or "0x0", 16)
                    packet = replace(packet, mark=packet.mark & kept | added)
                    continue
                verb, _, target = statement.partition(" ")
                assert verb in ("jump", "goto"), entry
                verdict, packet = self._walk(self.objects[chain.table, "chain", target], packet)
                if verdict or verb == "goto":
                    return verdict, packet
        return "", packet

    def _lookup(self, table: str, name: str, device: str) -> str | None:
        elements = (one.partition(" : ") for one in self.objects[table, "map", name].entries)
        return next((verdict for key, _, verdict in elements if key.strip('"') == device), None)

    def _matches(self, table: str, name: str, words: tuple[str, ...], packet: WalkedPacket) -> bool:
        if name == "address":
            ip = packet.src if words[0] == "s" else packet.dst
            if words[2].startswith("@"):
                elements = self.objects[table, "set", words[2][1:]].entries
                return any(ip in one for one in _networks(elements)) != bool(words[1])
            return (ip in network(words[2])) != bool(words[1])
        if name == "ports set":
            wanted = f"{packet.dst} . {packet.protocol} . {packet.dport}"
            return wanted in self.objects[table, "set", words[0]].entries
        if name == "local":
            return (packet.src if words[0] == "s" else packet.dst) in self.local
        return _test(name, words, packet)


def _test(name: str, words: tuple[str, ...], packet: WalkedPacket) -> bool:
    if name == "mark":
        return (packet.mark & int(words[0], 16) == int(words[2], 16)) == (words[1] == "==")
    if name == "protocol":
        return words[0] == packet.protocol
    if name == "ports":
        return words[0] == packet.protocol and any(
            int(first) <= packet.dport <= int(last or first) for first, last in _ranges(words[1])
        )
    if name == "device":
        device = packet.iif if words[0] == "i" else packet.oif
        return device.startswith(words[1][:-1]) if words[1].endswith("*") else device == words[1]
    if name == "state":
        return packet.state.lower() in words[0].split(",")
    if name == "status":
        return bool(words[0])  # the packet is not translated
    assert name in ("icmp", "limit"), name
    return name == "limit"


@lru_cache(maxsize=65536)
def read(entry: str) -> tuple[tuple[tuple[str, tuple[str, ...]], ...], tuple[str, ...]]:
    """The matches of a rule, and its statements in order."""
    text = _COMMENT.sub("", entry).strip()
    matches = []
    while found := next(((name, one) for name, each in _MATCHES if (one := each.match(text))), None):
        matches.append((found[0], tuple(word or "" for word in found[1].groups())))
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
    return tuple(matches), tuple(statements)


@cache
def _ranges(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((one[0], one[2]) for each in text.strip("{ }").split(",") if (one := each.strip().partition("-")))


@lru_cache(maxsize=4096)
def _networks(elements: tuple[str, ...]) -> tuple[IPv4Network, ...]:
    return tuple(map(IPv4Network, elements))

"""Firewall rules as data: one iptables rule is a tuple of words, in the order that iptables-save prints them.

Models write rules as the sources of the real systems do, `-s 172.17.0.0/16 ! -o docker0 -j
MASQUERADE`, and the kernel's rules are read back as the same words, so that equal rules are equal data.
A rule with several spellings (`--set-mark 1`, `-p tcp --dport 80` without `-m tcp`) is converted to the one that
the tools print; `labctl.core.iptables_forms` has those, and `labctl.core.iptables_parts` splits a rule's
words into its parts.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from labctl.core.iptables_forms import (
    ALIASES,
    IMPLIED,
    bridge_address,
    bridge_protocol,
    normalize_bridge_part,
    normalize_part,
    protocol,
)
from labctl.core.iptables_parts import (
    BRIDGE_HEAD_FLAGS,
    FREE_TEXT_OPTIONS,
    HEAD_FLAGS,
    RuleOption,
    RulePart,
    head_options,
    part_positions,
    split_parts,
    target_position,
)

Backend: TypeAlias = Literal["legacy", "nft"]  # the one of the kernel's two firewalls that has a lab's rules
BACKENDS: tuple[Backend, ...] = ("legacy", "nft")

# a chain's family -> the tool that its rules are written for; legacy ones in a lab of the nft back end are strays
CHAIN_TOOLS = {
    "ip": "iptables", "ip6": "ip6tables", "bridge": "ebtables", "legacy": "iptables-legacy",
    "legacy6": "ip6tables-legacy", "nft": "nft",
}  # fmt: skip

# targets that end the way of a packet, and what they do to it
TERMINATING_TARGETS = {"DROP": "dropped", "REJECT": "rejected", "TARPIT": "held"}

BUILTIN: dict[tuple[str, str], tuple[str, ...]] = {
    ("ip", "filter"): ("INPUT", "FORWARD", "OUTPUT"),
    ("ip", "nat"): ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    ("ip", "mangle"): ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    ("ip", "raw"): ("PREROUTING", "OUTPUT"),
    ("ip", "security"): ("INPUT", "FORWARD", "OUTPUT"),
    ("bridge", "filter"): ("INPUT", "FORWARD", "OUTPUT"),
    ("bridge", "nat"): ("PREROUTING", "OUTPUT", "POSTROUTING"),
}
BUILTIN |= {("ip6", table): chains for (family, table), chains in BUILTIN.items() if family == "ip"}
# the legacy tables in a lab with the nft back end: no plan has them, but they can exist
LEGACY_FAMILIES = {"ip": "legacy", "ip6": "legacy6"}
BUILTIN |= {
    (LEGACY_FAMILIES[family], table): chains for (family, table), chains in BUILTIN.items() if family in LEGACY_FAMILIES
}

_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED = re.compile(r"\\(.)")
_LONG = {
    "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i",
    "--out-interface": "-o", "--protocol": "-p", "--proto": "-p", "--match": "-m", "--jump": "-j",
    "--goto": "-g", "--fragment": "-f",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FirewallRule:
    """One rule: its words in canonical form, without the chain's name."""

    args: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(quote(word) for word in self.args)

    @classmethod
    def from_text(cls, text: str) -> FirewallRule:
        """The rule in a text that `str` or iptables-save made. `rule` reads other spellings, too."""
        return cls(tuple(split_words(text)))

    @property
    def target(self) -> str | None:
        """The chain or target of the rule (-j or -g), or None for a rule that only counts."""
        position = target_position(self.args)
        return None if position is None else self.args[position + 1]

    @property
    def part_names(self) -> tuple[tuple[str, str], ...]:
        """The matches and the target as (`-m`, `-j` or `-g`, name), in order. Cheaper than `parts`. ebtables does not
        name its matches."""
        args = self.args
        return tuple([(args[at], args[at + 1]) for at in part_positions(args)])

    @property
    def matches(self) -> tuple[RulePart, ...]:
        """The matches with their options, in order; for ebtables, one part without a name that has all of them."""
        return tuple(part for part in self.parts if part.flag not in ("-j", "-g"))

    @property
    def head(self) -> tuple[RuleOption, ...]:
        """The source, destination, interfaces and protocol, in the order of the words."""
        return tuple(head_options(self.args))

    @property
    def parts(self) -> tuple[RulePart, ...]:
        """The matches and the target with their options, in the order of the words."""
        return split_parts(self.args)

    def option(self, flag: str) -> RuleOption | None:
        """The first option with this flag, at the head (`-s`) or of a match or the target (`--comment`)."""
        if flag not in self.args:
            return None
        options = (*self.head, *(option for part in self.parts for option in part.options))
        return next((option for option in options if option.flag == flag), None)

    def without_match(self, name: str) -> FirewallRule:
        """The rule without all matches of this name."""
        words = [word for option in self.head for word in option.args]
        for part in self.parts:
            words += part.args if (part.flag, part.name) != ("-m", name) else ()
        return FirewallRule(tuple(words))


def quote(word: str) -> str:
    """A word as iptables-save prints it: in double quotes if it contains blanks, quotes or backslashes."""
    if word and not any(letter in word for letter in " \t\"'\\"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def split_words(line: str) -> list[str]:
    """A line's words, by the quoting rules of iptables-save (not the shell's)."""
    if '"' not in line:
        return line.split()
    return [_ESCAPED.sub(r"\1", found[1]) if found[2] is None else found[2] for found in _WORD.finditer(line)]


def rule(text: str | Iterable[str], family: str = "ip") -> FirewallRule:
    """Parse one rule in the syntax of iptables (ebtables for the bridge family), with or without `-A CHAIN`.

    Sorts sources, destinations, interfaces and the protocol into iptables-save's order, writes addresses in
    its form (`10.0.0.1` -> `10.0.0.1/32`), moves options to the match they belong to, and converts values with
    several spellings to the printed one. Unknown words stay as written.

    Raises ValueError for a flag without its value or given twice, an unclosed quote, an option without
    a match, an invalid address, or a word with a control character (a line break).
    """
    args = shlex.split(text) if isinstance(text, str) else list(text)
    for word in args:
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in word):
            raise ValueError(f"a rule cannot contain the control character in {word!r}")
    if args[:1] and args[0] in ("-A", "--append"):
        args = args[2:]
    parts = _RuleParser(family)
    position = 0
    while position < len(args):
        position = parts.parse_flag(args, position)
    return FirewallRule(tuple(parts.args()))


@dataclass(slots=True)
class _RuleParser:
    """The parts of a rule: head flags (-s, -d, ...), the matches with their options, the target with its options."""

    family: str
    head: dict[str, list[str]] = field(default_factory=dict)
    matches: list[list[str]] = field(default_factory=list)
    target: list[str] = field(default_factory=list)
    current: list[str] | None = None  # the part that the next plain word belongs to

    def parse_flag(self, args: list[str], position: int) -> int:
        """Take the flag at `position` with its values; returns the position of the next flag."""
        negated = args[position] == "!"
        at = position + negated
        if at >= len(args):
            raise ValueError("a rule cannot end with !")
        flag = _LONG.get(args[at], args[at])
        if flag in (BRIDGE_HEAD_FLAGS if self.family == "bridge" else HEAD_FLAGS):
            return self._parse_head(flag, args, at, negated)
        if flag in ("-m", "-j", "-g"):
            return self._parse_match_or_target(flag, args, at)
        if flag.startswith("-"):
            return self._parse_option(flag, args, at, negated)
        if self.current is None or (negated and self.family != "bridge"):
            raise ValueError(f"{args[at]!r} is where a flag was expected (! goes before the flag)")
        self.current += args[position : at + 1]
        return at + 1

    def _parse_head(self, flag: str, args: list[str], at: int, negated: bool) -> int:
        if flag in self.head:
            raise ValueError(f"{flag} is given twice in one rule")
        if flag == "-f":
            self.head[flag] = ["!", flag] if negated else [flag]
            return at + 1
        if self.family == "bridge" and args[at + 1 : at + 2] == ["!"]:
            negated, at = True, at + 1
        if at + 1 >= len(args):
            raise ValueError(f"{flag} needs a value")
        value = self._canonical_value(flag, args[at + 1])
        if value is not None or negated:
            negation = ["!"] if negated else []
            text = [value or args[at + 1]]
            self.head[flag] = [flag, *negation, *text] if self.family == "bridge" else [*negation, flag, *text]
        return at + 2

    def _parse_match_or_target(self, flag: str, args: list[str], at: int) -> int:
        if at + 1 >= len(args):
            raise ValueError(f"{flag} needs a value")
        self.current = [flag, args[at + 1]]
        if flag == "-m":
            self.matches.append(self.current)
        elif self.target:
            raise ValueError("a rule has one target (-j or -g), this one has two")
        else:
            self.target = self.current
        return at + 2

    def _parse_option(self, flag: str, args: list[str], at: int, negated: bool) -> int:
        if self.family == "bridge":
            if self.current is None:
                self.current = []
                self.matches.append(self.current)
            self.current += [flag, "!"] if negated else [flag]
            return at + 1
        flag, *values = ALIASES.get(flag, (flag,))
        self.current = self._match_for(flag)
        self.current += ["!", flag, *values] if negated else [flag, *values]
        if flag in FREE_TEXT_OPTIONS and at + 1 < len(args):
            self.current.append(args[at + 1])
            return at + 2
        return at + 1

    def _match_for(self, flag: str) -> list[str]:
        """The match or target that an option belongs to: the one before it, or the match that -p implies."""
        if flag in IMPLIED and (self.current is None or self.current[1] not in IMPLIED[flag]):
            name = {"ipv6-icmp": "icmp6"}.get(protocol_name := self.head.get("-p", [""])[-1], protocol_name)
            if name in IMPLIED[flag]:
                for part in self.matches:
                    if part[1] == name:
                        return part
                self.matches.append(["-m", name])
                return self.matches[-1]
        if self.current is None:
            raise ValueError(f"{flag} belongs to no match (-m), target (-j) or protocol (-p)")
        return self.current

    def _canonical_value(self, flag: str, value: str) -> str | None:
        """The value of a head flag in its printed form; None if it matches everything (`-s 0.0.0.0/0`, `-i +`)."""
        if self.family == "bridge":
            shaper = {"-p": bridge_protocol, "-s": bridge_address, "-d": bridge_address}.get(flag)
            return shaper(value) if shaper else value
        if flag == "-p":
            return protocol(value)
        if flag in ("-s", "-d"):
            return address(value, self.family)
        return None if value == "+" else value

    def args(self) -> Iterable[str]:
        """The words of the whole rule, in the order and the forms of iptables-save."""
        bridge = self.family == "bridge"
        for flag in BRIDGE_HEAD_FLAGS if bridge else HEAD_FLAGS:
            yield from self.head.get(flag, ())
        for part in self.matches:
            yield from normalize_bridge_part(part) if bridge else normalize_part(part, self.family)
        if self.target:
            yield from normalize_bridge_part(self.target) if bridge else normalize_part(self.target, self.family)
        elif bridge:
            yield from ("-j", "CONTINUE")


def address(value: str, family: str) -> str | None:
    """An address or prefix as iptables-save prints it, or None for all addresses. Raises ValueError."""
    from ipaddress import IPv4Network, IPv6Network

    network = (IPv6Network if family == "ip6" else IPv4Network)(value, strict=False)
    return str(network) if network.prefixlen else None

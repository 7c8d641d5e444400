"""Parse a rule in the syntax of iptables or ebtables into the words that their save programs print.

`labctl.core.iptables` has the rules as data; this module has what the tools accept: where a ! may stand, which match an
option belongs to, what a shortened option means, and which words belong to the tools and not to a rule.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from labctl.core import iptables_extensions
from labctl.core.iptables_extensions import InvalidRule
from labctl.core.iptables_forms import (
    ALIASES,
    IMPLIED,
    bridge_address,
    bridge_protocol,
    normalize_bridge_part,
    normalize_part,
    protocol,
)
from labctl.core.iptables_parts import BRIDGE_HEAD_FLAGS, FREE_TEXT_OPTIONS, HEAD_FLAGS
from labctl.core.iptables_values import address_text, network_problem, split_network

_COUNTERS = re.compile(r"\[[0-9]+:[0-9]+\]")
# a word as iptables-save prints it: plain, or in double quotes without an escaped letter, with blanks behind it
_WORD = re.compile(r"""(?:([!#-&(-\[\]-~]+)|"([^"\\]*)")(?: +|$)""")
_LONG = {
    "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i",
    "--out-interface": "-o", "--protocol": "-p", "--proto": "-p", "--match": "-m", "--jump": "-j",
    "--goto": "-g", "--fragment": "-f",
}  # fmt: skip


def parse_rule(text: str | Iterable[str], family: str) -> Iterator[tuple[str, ...]]:
    """The words of a rule in canonical form, once for each pair of its sources and destinations. Raises ValueError,
    InvalidRule."""
    args = shell_words(text) if isinstance(text, str) else list(text)
    for word in args:
        if not word.isprintable() and any(ord(letter) < 32 or ord(letter) == 127 for letter in word):
            raise ValueError(f"a rule cannot contain the control character in {word!r}")
    _, args = split_append(args)
    parts = _RuleParser(family)
    position = 0
    while position < len(args):
        position = parts.parse_flag(args, position)
    return parts.rules()


def split_append(args: list[str]) -> tuple[str | None, list[str]]:
    """The chain of a rule that begins with `-A CHAIN` (None without), and the words after that. Counters before it, as
    `iptables-save -c` prints them, are left out."""
    if args[:1] and _COUNTERS.fullmatch(args[0]):
        args = args[1:]
    if args[:1] and args[0] in ("-A", "--append"):
        if len(args) < 2:
            raise InvalidRule(f"{args[0]} needs the name of a chain", args[0])
        return args[1], args[2:]
    return None, args


def shell_words(text: str) -> list[str]:
    """The words of a line, as a shell has them. Raises ValueError for an unclosed quote. What iptables-save prints is
    read here, which takes a tenth of the time of `shlex`: kube-proxy writes a comment in each of its rules."""
    if '"' not in text and "'" not in text and "\\" not in text:
        return text.split()
    words: list[str] = []
    position = len(text) - len(text.lstrip(" "))
    while position < len(text):
        word = _WORD.match(text, position)
        if word is None:
            return shlex.split(text)
        words.append(word[2] if word[1] is None else word[1])
        position = word.end()
    return words


@dataclass(slots=True)
class _RuleParser:
    """The parts of a rule: head flags (-s, -d, ...), the matches with their options, the target with its options."""

    family: str
    head: dict[str, list[str]] = field(default_factory=dict)
    addresses: dict[str, list[list[str]]] = field(default_factory=dict)  # for -s and -d with several addresses
    matches: list[list[str]] = field(default_factory=list)
    target: list[str] = field(default_factory=list)
    current: list[str] | None = None  # the part that the next plain word belongs to

    def parse_flag(self, args: list[str], position: int) -> int:
        """Take the flag at `position` with its values; returns the position of the next flag."""
        negated = args[position] == "!"
        at = position + negated
        if at >= len(args):
            raise ValueError("a rule cannot end with !")
        if args[at].startswith("--") and "=" in args[at]:
            args[at : at + 1] = args[at].split("=", 1)
        flag = args[at] if self._is_option(args[at]) else _LONG.get(args[at], args[at])
        if flag in (BRIDGE_HEAD_FLAGS if self.family == "bridge" else HEAD_FLAGS):
            return self._parse_head(flag, args, at, negated)
        if flag == "-j" or (flag in ("-m", "-g") and self.family != "bridge"):
            return self._parse_match_or_target(flag, args, at)
        if flag in ("-c", "--set-counters"):
            return _end_of_counters(args, at)
        if flag.startswith("-") and flag != "-":
            return self._parse_option(flag, args, at, negated)
        if self.current is None or (negated and self.family != "bridge"):
            hint = f"write ! before the flag, as in ! {args[position - 1]} {args[at]}" if negated and position else ""
            raise InvalidRule(f"{args[at]!r} is where a flag was expected", args[at], hint)
        self.current += args[position : at + 1]
        return at + 1

    def _is_option(self, word: str) -> bool:
        """Whether a word that also is a long form of the head's flags belongs to the match before it: `--proto` of
        policy."""
        return (
            word in _LONG
            and self.current is not None
            and self.family != "bridge"
            and word in self._extension(self.current).options
        )

    def _parse_head(self, flag: str, args: list[str], at: int, negated: bool) -> int:
        if flag in self.head or flag in self.addresses:
            raise InvalidRule(f"{flag} is given twice in one rule", args[at])
        if flag == "-f":
            self.head[flag] = ["!", flag] if negated else [flag]
            return at + 1
        if args[at + 1 : at + 2] == ["!"]:
            if self.family != "bridge":
                hint = f"write ! {flag} {' '.join(args[at + 2 : at + 3])}"
                raise InvalidRule(f"the ! is after {flag}, which iptables does not accept", args[at], hint)
            negated, at = True, at + 1
        if at + 1 >= len(args):
            raise InvalidRule(f"{flag} needs a value", args[at])
        text = args[at + 1]
        if flag in ("-s", "-d") and "," in text and self.family != "bridge":
            if negated:
                raise InvalidRule(
                    f"! is not possible with the several addresses of {flag}", text, "write several rules"
                )
            self.addresses[flag] = [[flag, one] if one else [] for one in self._addresses(flag, text)]
            return at + 2
        value = self._canonical_value(flag, text)
        if value is not None or negated:
            negation = ["!"] if negated else []
            words = [value or text]
            self.head[flag] = [flag, *negation, *words] if self.family == "bridge" else [*negation, flag, *words]
        return at + 2

    def _addresses(self, flag: str, text: str) -> Iterable[str | None]:
        return dict.fromkeys(self._canonical_value(flag, one) for one in text.split(","))

    def _parse_match_or_target(self, flag: str, args: list[str], at: int) -> int:
        if at + 1 >= len(args):
            raise InvalidRule(f"{flag} needs a value", args[at])
        name = args[at + 1]
        self.current = [flag, iptables_extensions.match_name(name) if flag == "-m" else name]
        if flag == "-m":
            self.matches.append(self.current)
        elif self.target:
            raise InvalidRule("a rule has one target (-j or -g), this one has two", name)
        else:
            self.target = self.current
        return at + 2

    def _parse_option(self, flag: str, args: list[str], at: int, negated: bool) -> int:
        if self.family == "bridge":
            flag = self._bridge_option(flag)
            assert self.current is not None
            known = iptables_extensions.bridge_match_options().options.get(flag)
            after = ["!", flag] if known is not None and not known.types else [flag, "!"]  # as ebtables-save prints it
            self.current += after if negated else [flag]
        else:
            flag, *values = ALIASES.get(flag, (flag,))
            self.current, flag = self._part_of(flag)
            self.current += ["!", flag, *values] if negated else [flag, *values]
        if flag in FREE_TEXT_OPTIONS:
            if at + 1 >= len(args):
                raise InvalidRule(f"{flag} needs a value", args[at])
            self.current.append(args[at + 1])
            return at + 2
        return at + 1

    def _bridge_option(self, flag: str) -> str:
        """The full name of an option of ebtables; `current` becomes the part that it belongs to."""
        target = iptables_extensions.targets("bridge").get(self.target[1]) if self.target else None
        if target is not None and flag in target.options:
            self.current = self.target
            return flag
        flag = iptables_extensions.full_flag(flag, iptables_extensions.bridge_match_options())
        if not self.matches:
            self.matches.append([])
        self.current = self.matches[0]
        return flag

    def _part_of(self, flag: str) -> tuple[list[str], str]:
        """The match or target that an option belongs to, and the option's full name: the part before it, the match
        that -p implies, or any other part of the rule that has it."""
        if flag in IMPLIED and (self.current is None or self.current[1] not in IMPLIED[flag]):
            name = {"ipv6-icmp": "icmp6"}.get(protocol_name := self.head.get("-p", [""])[-1], protocol_name)
            if name in IMPLIED[flag]:
                for part in self.matches:
                    if part[1] == name:
                        return part, flag
                self.matches.append(["-m", name])
                return self.matches[-1], flag
        if self.current is None:
            if flag not in iptables_extensions.all_flags():  # a command or an option of iptables itself
                iptables_extensions.full_flag(flag, iptables_extensions.Extension("iptables"))
            hint = "it needs -p tcp or -p udp before it" if flag in ("--dport", "--sport") else ""
            raise InvalidRule(f"{flag} belongs to no match (-m), target (-j) or protocol (-p)", flag, hint)
        extension = self._extension(self.current)
        if flag not in extension.options:
            for part in reversed([*self.matches, *([self.target] if self.target else [])]):
                if flag in self._extension(part).options:
                    return part, flag
        return self.current, iptables_extensions.full_flag(flag, extension)

    def _extension(self, part: list[str]) -> iptables_extensions.Extension:
        kind = iptables_extensions.matches if part[0] == "-m" else iptables_extensions.targets
        return kind(self.family).get(part[1]) or iptables_extensions.Extension(part[1], known=False)

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

    def rules(self) -> Iterator[tuple[str, ...]]:
        """The words of the rule, once for each pair of its addresses."""
        if self.addresses and any(self.head.get(flag, ("",))[0] == "!" for flag in ("-s", "-d")):
            raise InvalidRule("! is not possible in a rule with several addresses", "!", "write several rules")
        for source in self.addresses.get("-s", [self.head.get("-s", [])]):
            for destination in self.addresses.get("-d", [self.head.get("-d", [])]):
                yield tuple(self._args({**self.head, "-s": source, "-d": destination}))

    def _args(self, head: dict[str, list[str]]) -> Iterable[str]:
        """The words of a whole rule, in the order and the forms of iptables-save."""
        bridge = self.family == "bridge"
        for flag in BRIDGE_HEAD_FLAGS if bridge else HEAD_FLAGS:
            yield from head.get(flag, ())
        for part in self.matches:
            yield from normalize_bridge_part(part) if bridge else normalize_part(part, self.family)
        if self.target:
            yield from normalize_bridge_part(self.target) if bridge else normalize_part(self.target, self.family)
        elif bridge:
            yield from ("-j", "CONTINUE")


def address(value: str, family: str) -> str | None:
    """An address or prefix as iptables-save prints it, or None for all addresses. Raises InvalidRule."""
    network = split_network(value, family)
    if network is None:
        raise InvalidRule(f"{value!r} {network_problem(value, family)}", value)
    base, mask = network
    if mask == 0:
        return None
    bits = 128 if family == "ip6" else 32
    size = mask.bit_count()
    text = address_text(base & mask, family)
    contiguous = mask == (1 << bits) - (1 << (bits - size))
    return f"{text}/{size if contiguous else address_text(mask, family)}"


def _end_of_counters(args: list[str], at: int) -> int:
    """Where the counters end that begin with a -c at `at`: `-c 10 600` or `-c 10,600`. Raises InvalidRule."""
    one = args[at + 1 : at + 2]
    if one and re.fullmatch("[0-9]+,[0-9]+", one[0]):
        return at + 2
    if all(word.isdigit() for word in args[at + 1 : at + 3]) and len(args) >= at + 3:
        return at + 3
    raise InvalidRule(f"{args[at]} needs the numbers of packets and bytes", args[at], "such as -c 10 600")

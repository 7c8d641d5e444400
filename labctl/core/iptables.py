"""Firewall rules as data: one iptables rule is a tuple of words, in the order that iptables-save prints them.

Models write rules as the sources of the real systems do, `-s 172.17.0.0/16 ! -o docker0 -j
MASQUERADE`, and the kernel's rules are read back as the same words, so that equal rules are equal data.
A rule with several spellings (`--set-mark 1`, `-p tcp --dport 80` without `-m tcp`) is converted to the one that
the tools print; `labctl.core.iptables_forms` has those, and `labctl.core.iptables_parts` splits a rule's
words into its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from labctl.core.iptables_parser import parse_rule
from labctl.core.iptables_parts import (
    RuleOption,
    RulePart,
    head_options,
    split_parts,
    target_position,
)
from labctl.core.sentence import sentence

Backend: TypeAlias = Literal["legacy", "nft"]  # the one of the kernel's two firewalls that has a lab's rules
BACKENDS: tuple[Backend, ...] = ("legacy", "nft")

# a chain's family -> the tool that its rules are written for; legacy ones in a lab of the nft back end are strays
CHAIN_TOOLS = {
    "ip": "iptables", "ip6": "ip6tables", "bridge": "ebtables", "legacy": "iptables-legacy",
    "legacy6": "ip6tables-legacy", "nft": "nft",
}  # fmt: skip

# targets that end the way of a packet, and what they do to it
TERMINATING_TARGETS = {"DROP": sentence("dropped"), "REJECT": sentence("rejected"), "TARPIT": sentence("held")}

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

UNSHOWN = "a rule of nft's that iptables cannot show"  # stands for the matches of such a rule

_ACCOUNTING = "--nfacct-name"
_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_QUOTED = frozenset(" \t\"'\\")
_ESCAPED = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class FirewallRule:
    """One rule: its words in canonical form, without the chain's name."""

    args: tuple[str, ...]

    def __str__(self) -> str:
        return join_words(self.args)

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


def accounting_objects(rules: Iterable[FirewallRule]) -> tuple[str, ...]:
    """The objects of nfacct(8) that rules name, each once: the kernel refuses a rule without its object."""
    options = (one.option(_ACCOUNTING) for one in rules if _ACCOUNTING in one.args)
    return tuple(dict.fromkeys(option.values[0] for option in options if option is not None and option.values))


def unshown_rule(shown: FirewallRule) -> FirewallRule:
    """What labctl says of a rule that `nft` wrote and iptables shows as another one: `shown` has the right target, but
    not all conditions. It is equal to no rule of a plan."""
    position = target_position(shown.args)
    return FirewallRule((UNSHOWN, *(() if position is None else shown.args[position:])))


def quote(word: str) -> str:
    """A word as iptables-save prints it: in double quotes if it contains blanks, quotes or backslashes."""
    if word and _QUOTED.isdisjoint(word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def join_words(words: Sequence[str]) -> str:
    """A rule's words as one text, as iptables-save prints them."""
    text = " ".join(words)
    is_plain = '"' not in text and "'" not in text and "\\" not in text and "\t" not in text
    if is_plain and text.count(" ") == len(words) - 1 and "" not in words:
        return text  # fast: most rules have nothing to quote
    return " ".join([quote(word) for word in words])


def split_words(line: str) -> list[str]:
    """A line's words, by the quoting rules of iptables-save (not the shell's)."""
    if '"' not in line:
        return line.split()
    return [_ESCAPED.sub(r"\1", found[1]) if found[2] is None else found[2] for found in _WORD.finditer(line)]


def rule(text: str | Iterable[str], family: str = "ip") -> FirewallRule:
    """Parse one rule in the syntax of iptables (ebtables for the bridge family), with or without `-A CHAIN`.

    Sorts sources, destinations, interfaces and the protocol into iptables-save's order, writes addresses in
    its form (`10.0.0.1` -> `10.0.0.1/32`), moves options to the match they belong to, completes shortened options
    (`--to` of DNAT), and converts values with several spellings to the printed one. Counters (`-c 10 600`, or
    `[10:600]` before the rule) are left out: the rules of a lab count the lab's packets.

    Raises ValueError for a flag without its value or given twice, an unclosed quote, an option without
    a match, an invalid address, several addresses (see `rules`), or a word with a control character (a line break);
    InvalidRule, which is a ValueError, for an option that the match or target does not have, in particular for the
    options and commands of the tools themselves.
    """
    found = rules(text, family)
    if len(found) > 1:
        raise ValueError("several addresses after -s or -d are several rules")
    return found[0]


def rules(text: str | Iterable[str], family: str = "ip") -> tuple[FirewallRule, ...]:
    """Parse a rule as `rule` does. One with several addresses (`-s 10.0.0.1,10.0.0.2`) becomes several rules, in the
    order in which iptables adds them. Raises ValueError, InvalidRule."""
    return tuple(FirewallRule(args) for args in parse_rule(text, family))

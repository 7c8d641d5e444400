"""The language of firewall rules: one iptables rule as words, in the order iptables-save prints them.

Models write rules as the sources of the real systems show them, `-s 172.17.0.0/16 ! -o docker0 -j
MASQUERADE`, and the kernel's are read back in the same words, so that equal rules are equal data.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import dataclass

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

_HEAD = ("-s", "-d", "-i", "-o", "-p")  # what iptables-save prints first, in this order
_LONG = {
    "--source": "-s", "--src": "-s", "--destination": "-d", "--dst": "-d", "--in-interface": "-i",
    "--out-interface": "-o", "--protocol": "-p", "--proto": "-p", "--match": "-m", "--jump": "-j",
    "--goto": "-g",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class FirewallRule:
    """One rule: its words, canonical, without the chain it stands in."""

    args: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(quote(word) for word in self.args)

    @property
    def target(self) -> str | None:
        """The chain or target that the rule jumps to, or None for a rule that only counts."""
        for flag in ("-j", "-g"):
            if flag in self.args:
                return self.args[self.args.index(flag) + 1]
        return None


def quote(word: str) -> str:
    """A word as iptables-save prints it: in double quotes where it holds blanks or quotes."""
    if word and not any(letter in word for letter in " \t\"'\\"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def rule(text: str | Iterable[str], family: str = "ip") -> FirewallRule:
    """Parse one rule in iptables' own words, with or without a leading `-A CHAIN`.

    Brings sources, destinations, interfaces and the protocol into iptables-save's order and addresses
    into its form (`10.0.0.1` -> `10.0.0.1/32`). For the bridge family (ebtables) the words stay as they are.

    Raises ValueError for a flag without its value, an unclosed quote, or an address that is none.
    """
    words = shlex.split(text) if isinstance(text, str) else list(text)
    if words[:1] and words[0] in ("-A", "--append"):
        words = words[2:]
    if family == "bridge":
        return FirewallRule(tuple(words))
    head: dict[str, list[str]] = {}
    rest: list[str] = []
    position, matching = 0, False
    while position < len(words):
        negated = words[position] == "!"
        at = position + negated
        flag = _LONG.get(words[at], words[at]) if at < len(words) else ""
        if flag in _HEAD and flag not in head and not matching:
            if at + 1 >= len(words):
                raise ValueError(f"{flag} needs a value")
            head[flag] = (["!"] if negated else []) + [flag, _value(flag, words[at + 1], family)]
            position = at + 2
            continue
        if flag in ("-m", "-j", "-g"):
            if at + 1 >= len(words):
                raise ValueError(f"{flag} needs a value")
            matching = flag != "-m"  # after the target, words are the target's own
            rest += [flag, words[at + 1]]
            position = at + 2
            continue
        rest.append(words[position])
        position += 1
    return FirewallRule(tuple(word for flag in _HEAD for word in head.get(flag, ())) + tuple(rest))


def _value(flag: str, value: str, family: str) -> str:
    if flag not in ("-s", "-d"):
        return value
    from ipaddress import IPv4Network, IPv6Network

    network = IPv6Network if family == "ip6" else IPv4Network
    return str(network(value, strict=False))

"""What a rule of nft says of addresses, devices and ports, as the placeholders of a sentence name it. Pure."""

from __future__ import annotations

import re
from functools import cache

_VALUE = r"(?:[!=<>]= )?(\{[^}]*\}|\"[^\"]*\"|\S+)"
_EXPRESSIONS = {
    "src": rf"\b(?:ip6?|arp) saddr(?: ip6?)? {_VALUE}",
    "dst": rf"\b(?:ip6?|arp) daddr(?: ip6?)? {_VALUE}",
    "iif": rf"\biif(?:name)? {_VALUE}",
    "oif": rf"\boif(?:name)? {_VALUE}",
    "proto": r"\b(tcp|udp|sctp|dccp|icmpv6|icmp|ipv6-icmp)\b",
    "sport": rf"\bsport {_VALUE}",
    "dport": rf"\bdport {_VALUE}",
    "to": r"\b(?:dnat|snat)(?: ip6?)?(?: prefix)? to (\S+)",
    "mark": r"\bmark (?:set )?(?:[&|^!=]+ )?(0x[0-9a-f]+)",
    "set": r"@([\w-]+)",
    "mac": rf"\bether saddr {_VALUE}",
    "comment": r'\bcomment "([^"]*)"',
    "target": r"\b((?:jump|goto) \S+|accept|drop|reject|return|continue|queue|masquerade|redirect|dnat|snat)\b",
}


@cache
def _expression(name: str) -> re.Pattern[str] | None:
    return re.compile(_EXPRESSIONS[name]) if name in _EXPRESSIONS else None


def value(rule: str, name: str) -> str | None:
    """What a rule says of one of the placeholders; None if nothing. A name is without its quotes, a set of values is
    without its braces, the chain of a jump is the target."""
    expression = _expression("dport" if name == "dports" else name)
    found = expression.search(rule) if expression is not None else None
    if found is None:
        return None
    text = found[1].removeprefix("jump ").removeprefix("goto ")
    return text.strip('{}" ').replace('"', "")

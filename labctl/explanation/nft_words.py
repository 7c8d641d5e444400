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
    "target": r"\b((?:jump|goto) \S+|(?:accept|drop|reject|return|continue|queue|masquerade|redirect|dnat|snat)\b)",
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


_KUBE_PROXY_NAME = re.compile(r"\b[a-z]+-[A-Z2-7]{8}-([\w.-]+/[\w.-]+)/(?:tcp|udp|sctp)/([a-z0-9-]*?)(?=__|[\s,}]|$)")
_SERVICE_COMMENT = re.compile(r'comment "([\w.-]+/[\w.:-]+)"')


def service(text: str) -> str:
    """The Service that a rule, an element or a name of kube-proxy is about, as `default/web:http`; "" if none."""
    comment = _SERVICE_COMMENT.search(text)
    if comment is not None:
        return comment[1]
    found = _KUBE_PROXY_NAME.search(text)
    return "" if found is None else f"{found[1]}:{found[2]}" if found[2] else found[1]


def element_value(element: str, name: str) -> str | None:
    """What an element of a set or map says of a placeholder: its address, protocol, port, and where it leads."""
    key, _, verdict = element.partition(" : ")
    key = key.partition(" comment ")[0].partition(" timeout ")[0]
    parts = key.split(" . ")
    if name == "target":
        return verdict.removeprefix("jump ").removeprefix("goto ") or None
    if name == "proto":
        return next((one for one in parts if one in ("tcp", "udp", "sctp", "icmp", "ipv6-icmp")), None)
    if name in ("dport", "dports"):
        return next((one for one in reversed(parts) if one.isdecimal()), None)
    if name in ("src", "dst"):
        return next((one for one in parts if re.fullmatch(r"[0-9a-f:.]*[.:][0-9a-f:.]*(/\d+)?", one)), None)
    return None

"""The comment by which Felix recognises its rules: `-m comment --comment cali:HASH`, the first match of a rule. Pure.

The hash covers the chain's name and every rule up to this one, in Felix's spelling. So it depends on the rule's
position as well as on its text.

Follows projectcalico/calico 3.31: felix/generictables/rules.go, felix/iptables/match_builder.go and actions.go.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha224

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_parts import head_length
from labctl.models.lib import primitives

HASH_LENGTH = 16
APPEND_SUFFIX = "*appends*"  # follows a built-in chain's name in the hash of rules at its end, not of rules at its head
_COMMENT = re.compile(r'-m comment --comment "[^"]*"')
_SPELLINGS = tuple(
    (re.compile(pattern), text)
    for pattern, text in (
        (r"-p udp -m udp ", "-p udp "),
        (r"-p udp (?=-m)", "-p 17 "),
        (r"-p ipencap\b", "-p 4"),
        (r"--dports ", "--destination-ports "),
        (r"--validmark --invert", "--invert --validmark"),
        (r"-j CT --notrack", "-j NOTRACK"),
        (r"--set-xmark ", "--set-mark "),
        (r"-mark 0x0/", "-mark 0/"),
        (r"-mark 0x00/", "-mark 0x0/"),  # Felix writes so where it sets some of the bits that it clears
        (r"--protocol ", "-p "),  # a protocol that Felix gives by its name
        (r"(?<!\S)-i ", "--in-interface "),
        (r"(?<!\S)-o ", "--out-interface "),
        (r"(?<!\S)-j ", "--jump "),
        (r"(?<!\S)-g ", "--goto "),
    )
)


def with_hash_comments(chain: str, rules: Iterable[str]) -> Iterator[FirewallRule]:
    """The rules of a chain, each with its `cali:HASH` comment."""
    digest = sha224(chain.encode()).digest()
    for text in rules:
        digest = sha224(digest + f"-A {chain} HASH {felix_spelling(text)}".encode()).digest()
        rule_hash = urlsafe_b64encode(digest).decode()[:HASH_LENGTH]
        head, tail = _around_comment(text)
        yield FirewallRule((*head, f"cali:{rule_hash}", *tail))


@lru_cache(maxsize=4096)
def _around_comment(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words of a rule before and after the text of the comment. Most rules of a pod's chain are in those of all."""
    args = primitives.parse_rule(text).args
    at = head_length(args)
    return (*args[:at], "-m", "comment", "--comment"), args[at:]


@lru_cache(maxsize=4096)
def felix_spelling(text: str) -> str:
    """A rule as Felix passes it to iptables-restore: comments first, then matches, then the action."""
    rest = " ".join(_COMMENT.sub("", text).split())
    for pattern, spelling in _SPELLINGS:
        rest = pattern.sub(spelling, rest)
    return " ".join([*_COMMENT.findall(text), *([rest] if rest else [])])

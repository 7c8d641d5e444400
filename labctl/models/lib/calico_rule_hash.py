"""The mark by which Felix knows a rule again: `-m comment --comment cali:HASH`, first of what the rule matches. Pure.

The hash is of the chain's name and of every rule up to this one, in Felix's own spelling, so that it tells a rule's
place as well as its words.

Follows projectcalico/calico 3.31: felix/generictables/rules.go, felix/iptables/match_builder.go and actions.go.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator
from functools import lru_cache
from hashlib import sha224

from labctl.core.iptables import FirewallRule
from labctl.models.lib import primitives

LENGTH = 16
APPENDED = "*appends*"  # follows the name of the kernel's own chain for rules at its end; those at its head go by it
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
        (r"(?<!\S)-i ", "--in-interface "),
        (r"(?<!\S)-o ", "--out-interface "),
        (r"(?<!\S)-j ", "--jump "),
        (r"(?<!\S)-g ", "--goto "),
    )
)


def marked(chain: str, rules: Iterable[str]) -> Iterator[FirewallRule]:
    """The rules of a chain, each with its mark."""
    digest = sha224(chain.encode()).digest()
    for text in rules:
        digest = sha224(digest + f"-A {chain} HASH {spelled(text)}".encode()).digest()
        mark = urlsafe_b64encode(digest).decode()[:LENGTH]
        words = primitives.words(text).args
        at = next((place for place, word in enumerate(words) if word in ("-m", "-j", "-g")), len(words))
        yield FirewallRule((*words[:at], "-m", "comment", "--comment", f"cali:{mark}", *words[at:]))


@lru_cache(maxsize=4096)
def spelled(text: str) -> str:
    """A rule as Felix hands it to iptables-restore: what it says of itself first, then its matches, then its action."""
    rest = " ".join(_COMMENT.sub("", text).split())
    for pattern, spelling in _SPELLINGS:
        rest = pattern.sub(spelling, rest)
    return " ".join([*_COMMENT.findall(text), *([rest] if rest else [])])

"""What a rule or an element of nft names, and what it does, found by nft's words. Pure."""

from __future__ import annotations

import re

_QUOTED = re.compile(r'"[^"]*"')
_COMMENT = re.compile(r'(?:^| )comment "[^"]*"$')
_COUNTER = re.compile(r"(?<!\S)counter(?: packets \d+ bytes \d+)?(?= |$)")
_JUMP = re.compile(r"\b(?:jump|goto) ([^\s,}]+)")
_SET = re.compile(r"@([A-Za-z_][\w./-]*)")


def referred_names(entry: str) -> frozenset[str]:
    """The chains, sets and maps that a rule or an element names: where it jumps or goes to, and what it looks up."""
    text = _QUOTED.sub('""', _COMMENT.sub("", entry))
    return frozenset((*_JUMP.findall(text), *_SET.findall(text)))


def without_comment(rule: str) -> str:
    """A rule without its comment and its counter: what it does."""
    return " ".join(_COUNTER.sub(" ", _COMMENT.sub("", rule)).split())

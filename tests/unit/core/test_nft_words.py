"""The names in rules and elements of nft, and what a rule does."""

from __future__ import annotations

import pytest

from labctl.core.nft_words import referred_names, without_comment


@pytest.mark.parametrize(
    ("entry", "names"),
    [
        ("ip saddr @pods counter jump NET", {"pods", "NET"}),
        ('"br0" : goto NET-1', {"NET-1"}),
        ("tcp dport vmap { 80 : jump A, 443 : goto B/c }", {"A", "B/c"}),
        ("iifname vmap @a.b", {"a.b"}),
        ('counter accept comment "jump NET"', set()),
        ("@th,16,16 0x50 accept", {"th"}),
    ],
)
def test_which_objects_an_entry_names(entry: str, names: set[str]) -> None:
    assert referred_names(entry) == names


@pytest.mark.parametrize(
    "rule", ["ip saddr 10.0.0.1 drop", 'ip saddr 10.0.0.1 counter drop comment "x"', "ip saddr 10.0.0.1 counter drop"]
)
def test_what_a_rule_does_is_without_comment_and_counter(rule: str) -> None:
    assert without_comment(rule) == "ip saddr 10.0.0.1 drop"

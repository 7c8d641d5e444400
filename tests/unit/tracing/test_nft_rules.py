"""What a rule of nft did to a packet: the target, the element that decided, the translation, and the order of hooks."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from labctl.core.observations import NftMatch
from labctl.core.resources import NftObject
from labctl.tracing.evidence import RuleHit
from labctl.tracing.hook_order import hooks_note, leading_rules, merged, undone_accept, visit_note
from labctl.tracing.nft_rules import (
    PacketKeys,
    deciding_element,
    only_some_sources,
    passing_states,
    target_of,
    translation_of,
)

PACKET = PacketKeys(
    ip_address("10.0.1.2"), ip_address("10.96.0.10"), 6, 40000, 80, "eth0", "br0", 0x4000, {"state": "new"}
)


@pytest.mark.parametrize(
    ("text", "verdict", "target"),
    [
        ("tcp dport 80 drop", "drop", "DROP"),
        ("tcp dport 80 reject with tcp reset", "drop", "REJECT"),
        ('counter drop comment "no reject here"', "drop", "DROP"),
        ("oifname vmap @m", "jump x", "x"),
        ("ip saddr vmap @m", "drop", "DROP"),
        ("", "drop", "DROP"),
        ("dnat to 10.0.0.1", "accept", "DNAT"),
        ("tcp dport 80 redirect to :8080", "accept", "REDIRECT"),
        ("masquerade fully-random", "accept", "MASQUERADE"),
        ("meta mark set meta mark | 0x00004000", "continue", "MARK"),
        ('counter comment "dnat"', "continue", ""),
        ("notrack", "continue", "NOTRACK"),
        ("accept", "accept", "ACCEPT"),
        ("return", "return", "RETURN"),
    ],
)
def test_the_target_is_that_of_iptables(text: str, verdict: str, target: str) -> None:
    assert target_of(text, verdict) == target


def _objects(kind: str, *elements: str) -> dict[tuple[str, str], NftObject]:
    return {(kind, "x"): NftObject("r", "ip t", kind, "x", ("type any",), elements)}


@pytest.mark.parametrize(
    ("text", "verdict", "kind", "elements", "found"),
    [
        ("ip saddr @x drop", "drop", "set", ("10.0.1.0/24", "10.0.2.0/24"), "10.0.1.0/24"),
        ("ip saddr @x drop", "drop", "set", ("10.0.1.1-10.0.1.9", "10.0.2.1"), "10.0.1.1-10.0.1.9"),
        ("ip daddr . meta l4proto . th dport vmap @x", "goto svc", "map",
         ("10.96.0.10 . tcp . 80 : goto svc", "10.96.0.10 . udp . 80 : goto svc", "10.96.0.11 . tcp . 80 : goto svc"),
         "10.96.0.10 . tcp . 80 : goto svc"),
        ("numgen random mod 2 vmap @x", "goto b", "map", ("0 : goto a", "1 : goto b"), "1 : goto b"),
        ("numgen random mod 2 vmap @x", "goto b", "map", ("0 : goto b", "1 : goto b"), ""),  # not certain
        ("fib daddr type . tcp dport @x drop", "drop", "set", ("local . 80", "local . 81"), ""),  # a part is unknown
        ("iifname vmap @x", "jump j", "map", ('"eth*" : jump j', '"wg0" : jump j'), '"eth*" : jump j'),
        ("tcp dport map @x", "accept", "map", ('80 : 10.0.0.1 comment "a : b"',), '80 : 10.0.0.1 comment "a : b"'),
        ("ip saddr vmap @x", "drop", "map", ("10.9.9.9 : accept", "* : drop"), "* : drop"),
        ("ct state vmap @x", "accept", "map", ("established : accept", "new : accept"), "new : accept"),
        ("meta mark @x drop", "drop", "set", ("0x00004000", "0x00008000"), "0x00004000"),
        ("ip saddr @x timeout drop", "drop", "set", ("10.0.1.2 timeout 1h", "10.0.1.3"), "10.0.1.2 timeout 1h"),
        ("ip saddr != @x drop", "drop", "set", ("10.0.1.2",), ""),  # no element decided
        ("ip saddr vmap { 10.0.1.2 : drop, 10.0.1.3 : accept }", "drop", "set", (), "10.0.1.2 : drop"),
        ("tcp dport { 80, 90 } drop", "drop", "set", (), ""),  # the text shows it
    ],
)  # fmt: skip
def test_an_element_is_named_only_if_it_is_certain(
    text: str, verdict: str, kind: str, elements: tuple[str, ...], found: str
) -> None:
    assert deciding_element(text, verdict, _objects(kind, *elements), PACKET) == found


@pytest.mark.parametrize(
    ("text", "element", "found"),
    [
        ("dnat to 10.0.0.1:8080", "", ("10.0.0.1", 8080)),
        ("dnat ip to 10.0.0.1", "", ("10.0.0.1", None)),
        ("tcp dport 80 redirect to :8080", "", ("", 8080)),
        ("dnat ip6 to [fd00::2]:80", "", ("fd00::2", 80)),
        ("dnat ip to tcp dport map @m", "80 : 10.0.2.77 . 8080", ("10.0.2.77", 8080)),
        ("dnat to 10.0.0.1-10.0.0.9", "", ("", None)),
        ("meta l4proto tcp accept", "", ("", None)),
    ],
)
def test_the_translation_is_that_of_the_text_or_of_the_element(
    text: str, element: str, found: tuple[str, int | None]
) -> None:
    assert translation_of(text, element) == found


def test_what_passes_before_a_drop_is_read_from_the_rules_before_it() -> None:
    rules = ("ct state established,related accept", "ip saddr 10.0.0.0/8 accept", "drop")

    assert passing_states(rules, 3) == ("ESTABLISHED",)
    assert passing_states(("ct state != new drop",), 1) == ("NEW",)
    assert only_some_sources(rules, 3)
    assert only_some_sources(("ip saddr != 10.0.0.0/8 drop",), 1)
    assert not only_some_sources(rules[:1], 2)


def _hit(hook: int, target: str, priority: int | None = None, table: str = "filter", chain: str = "c") -> RuleHit:
    """A rule of iptables, or of nft if it has a priority."""
    ip = ip_address("10.0.1.2")
    hooks = ("prerouting", "input", "forward", "output", "postrouting")
    hit = RuleHit("r", "request", "ip", hook, table, chain, "rule", 1, ip, ip, target=target)
    if priority is None:
        return hit
    return replace(hit, nft=NftMatch(3, target.lower(), "c", hooks[hook], priority, "filter", element='"b" : jump x'))


def test_rules_of_both_firewalls_are_merged_by_hook_and_priority() -> None:
    legacy = [(_hit(0, "MARK", table="mangle"), 64), (_hit(2, "ACCEPT"), 63), (_hit(4, "MASQUERADE", table="nat"), 63)]
    native = [(_hit(0, "DNAT", -100, "n"), 64), (_hit(2, "ACCEPT", -5, "n"), 63), (_hit(2, "DROP", 5, "n"), 63)]

    found = merged(legacy, native)

    assert [hit.target for hit in found] == ["MARK", "DNAT", "ACCEPT", "ACCEPT", "DROP", "MASQUERADE"]
    assert [hit.nft is None for hit in found] == [True, False, False, True, False, True]


def test_a_packet_that_comes_round_again_meets_the_chains_again() -> None:
    legacy = [(_hit(2, "ACCEPT"), 63), (_hit(2, "ACCEPT"), 62)]
    native = [(_hit(0, "MARK", -150, "n"), 64), (_hit(4, "MARK", 0, "n"), 63), (_hit(4, "MARK", 0, "n"), 62)]

    assert [hit.hook for hit in merged(legacy, native)] == [0, 2, 4, 2, 4]


def test_an_accept_that_another_base_chain_undid_is_found() -> None:
    accepted, other, dropped = _hit(2, "ACCEPT", -5, "user"), _hit(0, "ACCEPT", 0, "pre"), _hit(2, "DROP", 5, "n")

    assert undone_accept((other, accepted, dropped), dropped) is accepted
    assert undone_accept((other, dropped), dropped) is None  # at another hook
    assert undone_accept((_hit(2, "ACCEPT"), _hit(2, "DROP", table="security")), dropped) is None
    (note,) = hooks_note((other, accepted, dropped), dropped)
    assert note.text == "r: forward: ip user/c (-5) accept, ip n/c (5) drop"
    (visit,) = visit_note((other, accepted, dropped))
    assert visit.text == "prerouting: ip pre/c (0) accept; forward: ip user/c (-5) accept, ip n/c (5) drop"
    assert visit_note((_hit(2, "ACCEPT"),)) == []


def test_the_map_that_led_to_a_rule_is_found() -> None:
    jump, dropped = _hit(2, "x", 0, "n"), replace(_hit(2, "DROP", 0, "n"), chain="x")

    assert leading_rules((jump, dropped), dropped) == [jump]

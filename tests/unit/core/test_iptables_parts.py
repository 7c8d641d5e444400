"""The parts of a firewall rule: every rule of the recorded plans is split, and its parts joined again are the rule."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labctl.core.iptables import FirewallRule, rule, split_words
from labctl.core.iptables_parts import HEAD_FLAGS, RuleOption, part_names, part_positions, protocol_position
from tests.support.paths import GOLDEN

PATHS = sorted([*(GOLDEN / "daemons").glob("*.txt"), *(GOLDEN / "plans").glob("*.txt")])
FAMILIES = {"(IPv6)": "ip6", "(ebtables)": "bridge"}
WORD = st.sampled_from(
    ("-s", "-d", "-i", "-o", "-p", "-f", "!", "-m", "-j", "-g", "--logical-in", "--comment", "--dport", "--log-prefix",
     "tcp", "eth0", "ACCEPT", "10.0.0.0/8", "", "a b", "-x")
)  # fmt: skip


def recorded(path: Path) -> Iterator[tuple[str, FirewallRule]]:
    """The rules of one recorded plan or daemon, each with its family."""
    family = "ip"
    for line in path.read_text().splitlines():
        words = split_words(line.strip())
        if words and words[0].startswith("*"):
            family = FAMILIES.get(words[-1], "ip")
        elif words[:1] == ["-A"]:
            yield family, FirewallRule(tuple(words[2:]))


def joined(one: FirewallRule) -> tuple[str, ...]:
    """The words of all parts and of all their options, one after another."""
    found = [word for option in one.head for word in option.args]
    for part in one.parts:
        found += [part.flag, part.name] if part.flag else []
        found += [word for option in part.options for word in option.args]
    return tuple(found)


def respelled(option: RuleOption, family: str) -> tuple[str, ...]:
    """The words of an option, made of its flag, its values and its negation."""
    negation = ("!",) if option.negated else ()
    if family == "bridge":
        return (option.flag, *negation, *option.values)
    return (*negation, option.flag, *option.values)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_parts_of_every_recorded_rule_are_the_rule(path: Path) -> None:
    for family, one in recorded(path):
        assert joined(one) == one.args
        options = (*one.head, *(option for part in one.parts for option in part.options))
        assert all(respelled(option, family) == option.args for option in options)
        assert all(option.flag in HEAD_FLAGS or family == "bridge" for option in one.head)
        assert [*dict.fromkeys((part.flag, part.name) for part in one.parts if part.flag)] == [*part_names([one.args])]
        assert one.target == next((part.name for part in one.parts if part.flag in ("-j", "-g")), None)
        assert FirewallRule.from_text(str(one)) == one


def test_rules_of_iptables_and_ebtables_are_recorded() -> None:
    found = {family for path in PATHS for family, _ in recorded(path)}
    assert {"ip", "bridge"} <= found


@given(st.lists(WORD))
def test_no_word_of_any_rule_is_lost(words: list[str]) -> None:
    one = FirewallRule(tuple(words))
    assert joined(one) == one.args
    assert [*dict.fromkeys((part.flag, part.name) for part in one.parts if part.flag)] == [*part_names([one.args])]
    targets = [part.name for part in one.parts if part.flag in ("-j", "-g")]
    if len(targets) < 2:  # no rule has two
        assert one.target == (targets[0] if targets else None)
    position = protocol_position(one.args)
    option = next((option for option in one.head if option.flag == "-p"), None)
    assert (None if position is None else one.args[position]) == (
        option.values[-1] if option and option.values else None
    )


@given(st.lists(st.lists(WORD)))
def test_the_parts_of_many_rules_are_those_of_each(rules: list[list[str]]) -> None:
    each = [FirewallRule(tuple(words)) for words in rules]
    names = [(part.flag, part.name) for one in each for part in one.parts if part.flag]
    assert [*part_names(rules)] == [*dict.fromkeys(names)]


@given(st.text("-jmgp! \\\"'", max_size=6), st.text("-jmgp", min_size=1, max_size=2))
def test_a_value_that_looks_like_a_flag_is_a_value(comment: str, device: str) -> None:
    one = FirewallRule(("-i", device, "-p", "tcp", "-m", "comment", "--comment", comment, "-j", "DROP"))
    (interface, protocol), (match, target) = one.head, one.parts
    assert (interface.values, protocol.values, match.options[0].values) == ((device,), ("tcp",), (comment,))
    assert (match.name, target.name, one.target) == ("comment", "DROP", "DROP")
    assert [*part_names([one.args])] == [("-m", "comment"), ("-j", "DROP")]
    assert [one.args[position] for position in part_positions(one.args)] == ["-m", "-j"]
    assert FirewallRule.from_text(str(one)) == one


def test_the_parts_of_a_rule() -> None:
    one = rule('! -s 10.0.0.0/8 -p tcp -m comment --comment "-j a" -m tcp --dport 80 ! --tcp-flags SYN,RST SYN -g MINE')
    assert [(option.flag, option.negated, option.values) for option in one.head] == [
        ("-s", True, ("10.0.0.0/8",)),
        ("-p", False, ("tcp",)),
    ]
    assert [(part.flag, part.name) for part in one.parts] == [("-m", "comment"), ("-m", "tcp"), ("-g", "MINE")]
    assert [(option.flag, option.negated, option.values) for option in one.parts[1].options] == [
        ("--dport", False, ("80",)),
        ("--tcp-flags", True, ("SYN,RST", "SYN")),
    ]
    assert one.option("--comment") == RuleOption(("--comment", "-j a"))
    assert (one.option("-d"), one.option("--sport")) == (None, None)
    assert str(one.without_match("comment")) == (
        "! -s 10.0.0.0/8 -p tcp -m tcp --dport 80 ! --tcp-flags SYN,RST SYN -g MINE"
    )
    only_counts = rule("-p tcp")
    assert (only_counts.parts, only_counts.target) == ((), None)


def test_the_parts_of_an_ip6tables_rule() -> None:
    one = rule("! -d fd00::/8 -p icmpv6 --icmpv6-type echo-request", "ip6")
    assert [(option.flag, option.values) for option in one.head] == [("-d", ("fd00::/8",)), ("-p", ("ipv6-icmp",))]
    assert [part.args for part in one.parts] == [("-m", "icmp6", "--icmpv6-type", "128")]


def test_the_parts_of_an_ebtables_rule() -> None:
    one = rule(
        "-p IPv4 ! -i eth0 --logical-in br0 --ip-src ! 10.0.0.1 --ip-proto tcp -j dnat --to-dst 2:0:0:0:0:1", "bridge"
    )
    assert [(option.flag, option.negated, option.values) for option in one.head] == [
        ("-p", False, ("IPv4",)),
        ("-i", True, ("eth0",)),
        ("--logical-in", False, ("br0",)),
    ]
    match, target = one.parts
    assert (match.flag, match.name) == ("", "")
    assert [(option.flag, option.negated, option.values) for option in match.options] == [
        ("--ip-src", True, ("10.0.0.1",)),
        ("--ip-proto", False, ("tcp",)),
    ]
    assert (target.flag, target.name, one.target) == ("-j", "dnat", "dnat")


def test_an_option_can_be_given_twice() -> None:
    """As the match `set` prints it for two sets."""
    one = rule("-m set --match-set a src -m set ! --match-set b dst -j DROP")
    assert [option.values for part in one.parts for option in part.options] == [("a", "src"), ("b", "dst")]
    assert one.option("--match-set") == RuleOption(("--match-set", "a", "src"))


def test_the_matches_of_a_rule_have_names_and_options() -> None:
    one = rule('-p tcp -m tcp --dport 80 -m comment --comment "-j DROP" -j ACCEPT')

    assert [part.name for part in one.matches] == ["tcp", "comment"]
    assert [option.args for option in one.matches[1].options] == [("--comment", "-j DROP")]
    assert one.target == "ACCEPT"
    assert [part.name for part in rule("-p ARP --arp-ip-src 10.0.0.1 -j DROP", "bridge").matches] == [""]

"""The language of firewall rules and the tools' save text: parsing alone, no kernel."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from labctl.core.diff import Change
from labctl.core.iptables import FirewallRule, quote, rule
from labctl.core.iptables_parser import shell_words
from labctl.core.iptables_save import (
    TableEdit,
    edits_by_table,
    incompatible_tables,
    parse_save,
    restore_script,
    split_words,
)
from labctl.core.resources import Chain, Netns
from tests.support.rule_forms import SPELLINGS


@pytest.mark.parametrize(("written", "printed"), SPELLINGS, ids=[one for one, _ in SPELLINGS])
def test_a_rule_is_brought_to_the_printed_form(written: str, printed: str) -> None:
    assert str(rule(written)) == printed
    assert rule(printed) == rule(written)
    assert rule(rule(written).args) == rule(written)


PIECES = ("-m", "a:b/c", "#", "ü", " ", "  ", "\t", '"', "'", "\\", '"b c"', '""')


@settings(max_examples=1000)
@example('"\\"')
@example('--comment "a\\\\ b" -j x')
@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_the_words_of_a_rule_are_those_of_a_shell(text: str) -> None:
    try:
        wanted = shlex.split(text)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            shell_words(text)
    else:
        assert shell_words(text) == wanted


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        ("-s fd00:0::1 -j REJECT", "-s fd00::1/128 -j REJECT --reject-with icmp6-port-unreachable"),
        ("-s ::/0 -p icmpv6 --icmpv6-type 128", "-p ipv6-icmp -m icmp6 --icmpv6-type 128"),
    ],
)
def test_ipv6_rules(written: str, printed: str) -> None:
    assert str(rule(written, "ip6")) == printed


@pytest.mark.parametrize(
    ("written", "printed"),
    [
        (
            "--ip-src 10.244.0.0/24 -p 0x0800 -o veth+ -s 0A:58:a:f4:0:1 -j DROP",
            "-p IPv4 -s 0a:58:0a:f4:00:01 -o veth+ --ip-src 10.244.0.0/24 -j DROP",
        ),
        ("-i ! eth0 -d broadcast", "-d Broadcast -i ! eth0 -j CONTINUE"),
        ("! -i eth0 -j ACCEPT", "-i ! eth0 -j ACCEPT"),
        ("-p arp ! --arp-op Request -j DROP", "-p ARP --arp-op ! Request -j DROP"),
        (
            "-s unicast -o eth0 -j snat --snat-arp --to-source 0:D:3a:1:2:3",
            "-s Unicast -o eth0 -j snat --to-src 00:0d:3a:01:02:03 --snat-arp --snat-target ACCEPT",
        ),
        (
            "-p ARP --arp-opcode 1 --arp-ip-dst 10.0.0.4 -j arpreply --arpreply-mac 2:0:0:0:0:1 --arpreply-target DROP",
            "-p ARP --arp-op Request --arp-ip-dst 10.0.0.4 -j arpreply --arpreply-mac 02:00:00:00:00:01",
        ),
        (
            "-p ARP -j arpreply --arpreply-target ACCEPT",
            "-p ARP -j arpreply --arpreply-mac 00:00:00:00:00:00 --arpreply-target ACCEPT",
        ),
        (
            "-p IPv4 -i eth0 --ip-destination 10.0.0.5 -j dnat --dnat-target DROP --to-dst FF:ff:ff:ff:ff:ff",
            "-p IPv4 -i eth0 --ip-dst 10.0.0.5 -j dnat --to-dst ff:ff:ff:ff:ff:ff --dnat-target DROP",
        ),
        ("-i az+ -j redirect --redirect-target ACCEPT", "-i az+ -j redirect"),
    ],
)
def test_bridge_rules(written: str, printed: str | None) -> None:
    assert str(rule(written, "bridge")) == (printed or written)
    assert rule(rule(written, "bridge").args, "bridge") == rule(written, "bridge")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("-s", "-s needs a value"),
        ("-j", "-j needs a value"),
        ("-j ACCEPT !", "cannot end with !"),
        ("-s 10.0.0.1 -s 10.0.0.2", "-s is given twice"),
        ("-j ACCEPT -j DROP", "this one has two"),
        ("--to-source 1.2.3.4", "belongs to no match"),
        ("ACCEPT", "where a flag was expected"),
        ("-s 10.0.0.300", "10.0.0.300"),
        ("-s fd00::1", "fd00::1"),
        ("-m comment --comment 'open", "No closing quotation"),
        (["-m", "comment", "--comment", "a\nCOMMIT"], "control character"),
    ],
)
def test_what_is_no_rule_says_so(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        rule(text)


def test_the_option_of_an_unknown_target_stays_as_written() -> None:
    assert str(rule("-m owner --uid-owner 0 -j NEWTARGET --deep 3")) == "-m owner --uid-owner 0 -j NEWTARGET --deep 3"
    assert str(rule("-j MARK --set-mark soup")) == "-j MARK --set-mark soup"


@pytest.mark.parametrize(
    ("text", "family"),
    [("-j NFLOG --nflog-prefix", "ip"), ("-m comment --comment", "ip6"), ("--nflog-p", "bridge")],
)
def test_an_option_of_free_text_without_its_value_is_an_error(text: str, family: str) -> None:
    with pytest.raises(ValueError, match="needs a value"):
        rule(text, family)


def test_an_unknown_option_names_the_tool_that_lacks_it() -> None:
    with pytest.raises(ValueError, match=r"^iptables has no option --soup"):
        rule("--soup 3")
    with pytest.raises(ValueError, match=r"^ebtables has no option --soup"):
        rule("--soup 3", "bridge")


def test_the_target_of_a_rule() -> None:
    assert rule("-p tcp -j DOCKER").target == "DOCKER"
    assert rule("-g X").target == "X"
    assert rule("-p tcp").target is None
    assert FirewallRule(("-j",)).target is None


@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1), max_size=6))
def test_quoted_words_are_read_back(words: list[str]) -> None:
    assert split_words(" ".join(quote(word) for word in words)) == words


@given(st.text(max_size=60))
def test_any_text_is_a_rule_or_a_value_error(text: str) -> None:
    for family in ("ip", "ip6", "bridge"):
        try:
            once = rule(text, family)
        except ValueError:
            continue
        assert rule(once.args, family) == once


SAVED = """# Generated by iptables-save
*nat
:PREROUTING ACCEPT [7:420]
:DOCKER - [0:0]
[3:180] -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
[0:0] -A DOCKER -m comment --comment "it\\'s \\"here\\"" -j RETURN
COMMIT
*filter
:FORWARD DROP [0:0]
COMMIT
"""


def test_saved_text_becomes_chains_with_counters() -> None:
    first, second, third = parse_save("node1", "ip", SAVED)
    assert first.chain == Chain(
        "node1", "nat", "PREROUTING", (rule("-m addrtype --dst-type LOCAL -j DOCKER"),), "ACCEPT"
    )
    assert (first.rule_counters, first.policy_counter) == (((3, 180),), (7, 420))
    assert second.chain.policy is None
    assert second.chain.rules[0].args == ("-m", "comment", "--comment", 'it\'s "here"', "-j", "RETURN")
    assert third.chain == Chain("node1", "filter", "FORWARD", (), "DROP")


@pytest.mark.parametrize(
    ("family", "older", "newer"),
    [
        ("ip", "! -i eth0 -p ipencap -m comment --comment -p", "! -i eth0 -p 4 -m comment --comment -p"),
        ("ip", "! -p gre -j ACCEPT", "! -p 47 -j ACCEPT"),
        ("ip6", "-s fd00::1/128 -p ipv6-icmp", "-s fd00:0::1/128 -p 58"),
        ("bridge", "-d Broadcast -i ! eth0 -j ACCEPT", "-d Broadcast ! -i eth0 -j ACCEPT"),
        ("bridge", "-p ARP --arp-op ! Request -j DROP", "-p ARP ! --arp-op Request -j DROP"),
        ("bridge", "-o ! veth+ -j mark --mark-set 0x5", "! -o veth+ -j mark --mark-set 0x5"),
        ("bridge", '--log-prefix "-p hi" -j DROP', '--log-prefix "-p hi" -j DROP'),
    ],
)
def test_what_releases_of_the_tools_print_differently_is_one_rule(family: str, older: str, newer: str) -> None:
    one, other = (list(parse_save("n", family, f"*filter\n:MINE -\n-A MINE {text}\n")) for text in (older, newer))
    assert one == other
    assert one[0].chain.rules == (rule(split_words(older), family),)


def test_a_users_ebtables_chain_has_a_policy() -> None:
    chains = [one.chain for one in parse_save("n", "bridge", "*filter\n:FORWARD ACCEPT\n:MINE ACCEPT\n:OTHER DROP\n")]
    assert [(chain.name, chain.policy) for chain in chains] == [
        ("FORWARD", "ACCEPT"),
        ("MINE", "ACCEPT"),
        ("OTHER", "DROP"),
    ]


def test_edits_gather_by_table_and_pass_over_other_objects() -> None:
    one, two, old = Chain("n", "nat", "A"), Chain("n", "filter", "B"), Chain("n", "nat", "OLD")
    changes = [Change(None, old), Change(Netns("n"), None), Change(one, old), Change(two, None)]
    assert edits_by_table(changes) == (TableEdit("ip", "nat", (one,), (old,)), TableEdit("ip", "filter", (two,), ()))


def test_a_script_gives_protocols_by_number() -> None:
    texts = ("! -p ethernet -j ACCEPT", "-p tcp -m tcp --dport 80", "-m comment --comment -p -j gre", "-p 253")
    chain = Chain("n", "filter", "MINE", tuple(rule(text) for text in texts))
    written = restore_script([TableEdit("ip", "filter", (chain,), ())]).lines
    assert [line.removeprefix("-A MINE ") for line in written if line.startswith("-A")] == [
        "! -p 143 -j ACCEPT",
        "-p 6 -m tcp --dport 80",
        "-m comment --comment -p -j gre",
        "-p 253",
    ]
    bridge = Chain("n", "filter", "MINE", (rule("-p ipv6", "bridge"),), family="bridge")
    assert "-A MINE -p IPv6 -j CONTINUE" in restore_script([TableEdit("bridge", "filter", (bridge,), ())]).lines


def test_a_script_empties_fills_and_deletes_in_this_order() -> None:
    put = (
        Chain("n", "filter", "FORWARD", (rule("-j NEW"),), "DROP"),
        Chain("n", "filter", "NEW", (rule('-m comment --comment "a b" -j RETURN'),)),
    )
    drop = (Chain("n", "filter", "OLD"), Chain("n", "filter", "INPUT", (rule("-j OLD"),), "DROP"))
    work = restore_script([TableEdit("ip", "filter", put, drop)])
    assert work.lines == (
        "*filter",
        ":FORWARD DROP [0:0]",
        ":NEW - [0:0]",
        "-F FORWARD",
        "-F OLD",
        ":INPUT ACCEPT [0:0]",
        "-F INPUT",
        "-A FORWARD -j NEW",
        '-A NEW -m comment --comment "a b" -j RETURN',
        "-X OLD",
        "COMMIT",
    )
    assert work.subject_of_line(8) == (put[0], put[0].rules[0])
    assert work.subject_of_line(1) is work.subject_of_line(11) is work.subject_of_line(99) is None


def test_tables_that_hold_more_than_iptables_wrote_are_told_by_its_own_save() -> None:
    said = (
        "# Table `filter' contains incompatible base-chains, use 'nft' tool to list them.\n"
        "*filter\n:FORWARD DROP [0:0]\nCOMMIT\n# Table `nat' is incompatible, use 'nft' tool.\n"
        '*raw\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -m comment --comment "# Table `raw\' is incompatible"\nCOMMIT\n'
    )
    assert incompatible_tables(said) == ("filter", "nat")

"""What reaches the tools of the firewall, and what is read of rules that others wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from labctl.core.diff import Change, diff
from labctl.core.iptables import BACKENDS, UNSHOWN, Backend, FirewallRule, rule, rules
from labctl.core.resources import Chain
from labctl.errors import KernelError
from labctl.kernel.firewall import chains, commands, kernel_spelling
from labctl.kernel.netlink import nft_rules as kernel_rules
from tests.support import kernels, nft_rules
from tests.support.firewall_rules import DrawnRule, attempt, firewall_rules, impossible
from tests.support.rule_forms import creations

pytestmark = [pytest.mark.kernel, pytest.mark.skipif(bool(kernels.backend_problem("nft")), reason="no iptables-nft")]
Run = Callable[..., Any]
BOTH = [pytest.param("legacy", marks=kernels.LEGACY), "nft"]
MANY = tuple(rule(f"-p tcp --dport {port} -j DROP") for port in range(1, chains.MAX_IPTC_RULES + 2))


def inbound(*found: FirewallRule, family: str = "ip", policy: str = "ACCEPT") -> Chain:
    return Chain("n", "filter", "INPUT", found, policy, family)


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize(
    "words", [("-V",), ("-h",), ("--modprobe=/bin/x",), ("-6",), ("-j", "a\nCOMMIT"), ("--pol", "x")]
)
def test_a_rule_that_is_made_without_the_parser_does_not_reach_the_tools(
    fresh: Run, backend: Backend, words: tuple[str, ...]
) -> None:
    for before in ((), MANY):
        wanted = inbound(*before, FirewallRule(("-p", "tcp", *words)))
        with pytest.raises(KernelError, match="cannot be part of a rule"):
            fresh(chains.write, "n", creations((wanted,)), None, backend)
        assert fresh(chains.read_chains, "n", (), backend) == ()


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize(
    ("word", "says"),
    [("-V", "cannot write iptables rule"), ("-h", "cannot write iptables rule"), ("-6", "rules are missing")],
)
def test_a_tool_that_ends_well_and_writes_nothing_is_an_error(
    fresh: Run, backend: Backend, word: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "stray_word", lambda *_: None)
    wanted = inbound(*(FirewallRule((*one.args, word)) for one in MANY))
    with pytest.raises(KernelError, match=says):
        fresh(chains.write, "n", creations((wanted,)), None, backend)
    with pytest.raises(KernelError):
        kernel_spelling.kernel_spelling((wanted,), (), backend)


def test_a_chain_that_lost_its_rules_is_no_other_spelling(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = inbound(rule("-p tcp --dport 80 -j DROP"))
    monkeypatch.setattr(kernel_spelling, "read_chains", lambda *_: (replace(wanted, rules=()),))
    assert kernel_spelling.kernel_spelling((wanted,), (), "nft") == {}


@pytest.mark.parametrize("backend", BOTH)
def test_several_large_rules_are_counted(fresh: Run, backend: Backend) -> None:
    large = rule("-m u32 --u32 '0x6&0xff=0x1' -m u32 ! --u32 '0x6&0xff=0x1' -j DROP")
    wanted = inbound(*(large,) * 3)
    fresh(chains.write, "n", creations((wanted,)), None, backend)
    assert diff((wanted,), fresh(chains.read_chains, "n", (), backend)) == ()
    if backend == "nft":
        assert fresh(kernel_rules.rule_counts, "ip", "filter", {"INPUT"}) == {"INPUT": 3}


@pytest.mark.parametrize("limit", [100, 1])
def test_rules_are_counted_by_chain_and_by_table(fresh: Run, monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(kernel_rules, "MAX_CHAIN_REQUESTS", limit)
    wanted = [
        Chain("n", "filter", name, (rule("-j DROP"),) * number) for name, number in (("A", 2), ("B", 3), ("C", 4))
    ]
    fresh(chains.write, "n", creations(wanted), None, "nft")
    assert fresh(kernel_rules.rule_counts, "ip", "filter", {"A", "B", "NONE"}) == {"A": 2, "B": 3}
    assert fresh(kernel_rules.rule_counts, "ip", "nat", {"A", "B"}) == {}


def test_rules_that_a_program_has_not_written_are_missed(fresh: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """iptables-nft-restore as if it had ended early, with exit status 0: of one chain among many."""
    present = [Chain("n", "filter", f"CHAIN-{number}", (rule("-j DROP"),)) for number in range(200)]
    fresh(chains.write, "n", creations(present), None, "nft")
    more = Chain("n", "filter", "CHAIN-7", (rule("-j DROP"), rule("-j ACCEPT")))
    monkeypatch.setattr(commands, "find", lambda program: "/bin/true")
    with pytest.raises(KernelError, match="iptables-nft-restore ended without an error, but 1 rules are missing"):
        fresh(chains.write, "n", [Change(more, present[7])], None, "nft")


@pytest.mark.parametrize(
    ("add", "words"),
    [
        (nft_rules.add_set_rule, ("192.0.2.1", "192.0.2.2")),
        (nft_rules.add_range_rule, ("192.0.2.1", "192.0.2.9")),
        (nft_rules.add_length_rule, (80,)),
        (nft_rules.add_twice_rule, ("192.0.2.1", "192.0.2.2")),
    ],
    ids=["set", "range", "length", "twice"],
)
def test_a_rule_of_nft_that_iptables_shows_as_another_is_named(fresh: Run, add: Any, words: tuple[Any, ...]) -> None:
    lying = "-j DROP -s 192.0.2.9 -j DROP -s 192.0.2.2 -j DROP"
    planned = inbound(rule("-s 10.0.0.1 -j ACCEPT"), rule("-j DROP"))
    fresh(chains.write, "n", creations((planned,)), None, "nft")
    fresh(add, "filter", "INPUT", *words)
    (found,) = (one for one in fresh(chains.read_chains, "n", (), "nft") if one.name == "INPUT")
    assert found.rules == (*planned.rules, FirewallRule((UNSHOWN, "-j", "DROP")))
    assert found.rules[-1].target == "DROP"
    assert str(found.rules[-1]).startswith(f'"{UNSHOWN}"')
    assert str(found.rules[-1]) not in lying
    counted = {one.chain.name: one for one in fresh(chains.read_chain_counters, "n", "nft")}
    assert counted["INPUT"].chain == found
    changes = diff((planned,), (found,))
    assert len(changes) == 1
    fresh(chains.write, "n", changes, None, "nft")
    assert diff((planned,), fresh(chains.read_chains, "n", (), "nft")) == ()


def test_rules_of_iptables_itself_are_shown(fresh: Run) -> None:
    texts = [
        "-s 10.0.0.1 -d 10.0.0.0/8 -p tcp --sport 1000:2000 --dport 80 --tcp-flags SYN,ACK SYN -j ACCEPT",
        "! -s 10.0.0.0/8 ! -i eth0 -p udp ! --dport 1000: -j DROP",
        "-s 10.0.0.0/255.0.0.255 -f -j DROP",
        "-p icmp --icmp-type 3/1 -j DROP",
        "-m ttl --ttl-lt 5 -m length --length 10:20 -m dscp --dscp 5 -j DROP",
        "-m multiport -p tcp --ports 1,2,3:4 -m mark --mark 1/3 -m pkttype --pkt-type broadcast",
        "-m iprange --src-range 10.0.0.1-10.0.0.9 -m mac --mac-source 02:00:00:00:00:01 -m limit --limit 5/s",
        "-m conntrack --ctorigsrc 10.0.0.0/8 --ctorigdstport 80:90 -m u32 --u32 '6 & 0xFF = 1' -j LOG --log-prefix x",
    ]
    wanted = inbound(*(one for text in texts for one in rules(text)))
    fresh(chains.write, "n", creations((wanted,)), None, "nft")
    assert fresh(kernel_rules.unshown_rules, "ip", "filter") == {}


def test_the_policy_of_every_chain_of_ebtables_is_read_and_written(fresh: Run) -> None:
    def wanted(*policies: str) -> tuple[Chain, ...]:
        own = (Chain("n", "filter", name, (rule("-p ARP -j ACCEPT", "bridge"),), policy, "bridge")
               for name, policy in zip("ABC", policies, strict=True))  # fmt: skip
        return (Chain("n", "filter", "FORWARD", (rule("-j A", "bridge"),), policies[0], "bridge"), *own)

    fresh(chains.write, "n", creations(wanted("ACCEPT", "RETURN", "DROP")))
    assert diff(wanted("ACCEPT", "RETURN", "DROP"), fresh(chains.read_chains, "n")) == ()
    for policies in (("DROP", "ACCEPT", "RETURN"), ("ACCEPT", "DROP", "ACCEPT")):
        changes = diff(wanted(*policies), fresh(chains.read_chains, "n"))
        assert len(changes) == 4 or policies[0] == "ACCEPT"
        fresh(chains.write, "n", changes)
        found = fresh(chains.read_chains, "n")
        assert diff(wanted(*policies), found) == ()
        assert [one.policy for one in found if one.name in "ABC"] == list(policies)
    unstated = tuple(replace(one, policy=None) for one in wanted("ACCEPT", "ACCEPT", "ACCEPT"))
    fresh(chains.write, "n", diff(unstated, fresh(chains.read_chains, "n")))
    assert diff(unstated, fresh(chains.read_chains, "n")) == ()


def test_a_rule_that_counts_in_an_accounting_object_has_it(fresh: Run) -> None:
    if reason := kernels.missing_text(("-m nfacct",)):
        pytest.skip(reason)
    for backend in BACKENDS:
        if kernels.backend_problem(backend):
            continue
        wanted = inbound(rule("-m nfacct --nfacct-name some -j DROP"), *MANY)
        fresh(chains.write, "n", creations((wanted,)), None, backend)
        assert diff((wanted,), fresh(chains.read_chains, "n", (), backend)) == ()
        fresh(chains.write, "n", [Change(None, wanted)], None, backend)


@pytest.mark.parametrize(
    ("families", "backend"),
    [
        pytest.param(("ip", "ip6"), "legacy", marks=kernels.LEGACY),
        (("ip", "ip6"), "nft"),
        (("bridge",), "nft"),
    ],
    ids=["legacy", "nft", "ebtables"],
)
def test_rules_of_the_whole_grammar_are_built_as_they_say_or_refused(
    families: tuple[str, ...], backend: Backend
) -> None:
    built = 0

    @settings(derandomize=True, database=None, deadline=None, max_examples=60, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(firewall_rules(families))
    def build(drawn: DrawnRule) -> None:
        nonlocal built
        if not impossible(drawn, backend):
            found = attempt(drawn, backend)
            assert found.refusal or not (found.tool_refusal or found.drift), (str(drawn), found)
            built += not found.refusal

    build()
    assert built > 10

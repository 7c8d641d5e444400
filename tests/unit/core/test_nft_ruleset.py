"""Tables of nft as text: their chains, what differs, and the script that restores it."""

from __future__ import annotations

from labctl.core.diff import Change, diff
from labctl.core.iptables import FirewallRule
from labctl.core.nft_ruleset import is_table_item, parse_table, restore_script, table_item, table_key
from labctl.core.resources import Chain, Netns, Plan
from labctl.render.plan_json import resource_from_json, resource_json
from labctl.render.resources import change_lines

TEXT = """table ip ports {
	comment "braces { in a text"
	set few {
		type ipv4_addr
		elements = { 192.0.2.1, 192.0.2.2,
			192.0.2.3 }
	}

	chain pods {
		tcp dport 8080 dnat to 10.244.0.2:80 comment "a {"
		ip saddr { 192.0.2.1, 192.0.2.2,
			192.0.2.3 } drop
	}

	chain empty {
	}

	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		fib daddr type local jump pods
	}
}
"""
OWN, PODS, EMPTY, HOOK = FOUND = tuple(parse_table("n", "ip", "ports", TEXT))
TABLE = table_item("n", "ip", "ports")
WHOLE: Plan = (Netns("n"), TABLE, *FOUND)


def lines(want: Plan, have: Plan) -> list[str]:
    return [line for change in diff(want, have) for line in change_lines(change)]


def changed(chain: Chain, *rules: str) -> Chain:
    return Chain(chain.ns, chain.table, chain.name, tuple(FirewallRule((rule,)) for rule in rules), family="nft")


def test_the_chains_of_a_table_are_read_line_by_line() -> None:
    assert [chain.name for chain in FOUND] == ["", "pods", "empty", "prerouting"]
    assert [rule.args[0].split("\n")[0] for rule in OWN.rules] == ['comment "braces { in a text"', "set few {"]
    assert [len(chain.rules) for chain in FOUND] == [2, 2, 0, 2]
    assert "192.0.2.3 } drop" in PODS.rules[1].args[0]
    assert [table_key(chain) for chain in (TABLE, PODS)] == [("n", "ip", "ports")] * 2
    assert [is_table_item(chain) for chain in (TABLE, OWN, PODS)] == [True, False, False]
    assert (
        list(parse_table("n", "ip", "ports", ""))
        == list(parse_table("n", "ip", "ports", "table ip ports {\n}\n"))
        == []
    )


def test_a_record_of_them_is_read_as_it_was_written() -> None:
    assert [resource_from_json(resource_json(chain)) for chain in FOUND] == list(FOUND)


def test_a_difference_is_reported_rule_by_rule() -> None:
    assert lines(WHOLE, WHOLE) == []
    assert lines(WHOLE, (Netns("n"), TABLE, OWN, changed(PODS, PODS.rules[0].args[0], "drop"), EMPTY, HOOK)) == [
        "extra nft ip ports pods: drop",
        "missing nft ip ports pods: ip saddr { 192.0.2.1, 192.0.2.2, 192.0.2.3 } drop",
    ]
    assert lines(WHOLE, (Netns("n"), TABLE, OWN, PODS, HOOK)) == ["missing nft chain ip ports empty"]
    reordered = changed(PODS, *(rule.args[0] for rule in PODS.rules[::-1]))
    assert lines((Netns("n"), PODS), (Netns("n"), reordered)) == [
        "changed nft ip ports pods: the rules are in another order"
    ]
    assert lines(WHOLE, (Netns("n"),))[:3] == [
        "missing nft table ip ports",
        'missing nft ip ports: comment "braces { in a text"',
        "missing nft ip ports: set few { type ipv4_addr elements = { 192.0.2.1, 192.0.2.2, 192.0.2.3 } }",
    ]


def test_a_foreign_table_is_one_line() -> None:
    assert lines((Netns("n"),), WHOLE) == [
        "extra nft table ip ports (not this lab's: nft, or iptables of the other back end, created it)"
    ]


def test_what_is_missing_is_written_again_and_what_is_extra_goes() -> None:
    assert restore_script([Change(None, TABLE)]) == ""
    assert (
        restore_script([Change(PODS, None)])
        == "table ip ports {\nchain pods {\n" + "\n".join(rule.args[0] for rule in PODS.rules) + "\n}\n}\n"
    )
    assert restore_script([Change(None, PODS)]) == "flush chain ip ports pods\ndelete chain ip ports pods\n"
    assert restore_script([Change(EMPTY, changed(EMPTY, "drop"))]) == "flush chain ip ports empty\n" + restore_script(
        [Change(EMPTY, None)]
    )
    assert restore_script([Change(OWN, OWN)]).startswith("flush set ip ports few\ntable ip ports {\ncomment ")


def test_a_chain_with_another_hook_is_made_again() -> None:
    other = changed(HOOK, HOOK.rules[0].args[0].replace("accept", "drop"), HOOK.rules[1].args[0])
    script = restore_script([Change(HOOK, other)])
    assert script.startswith("flush chain ip ports prerouting\ndelete chain ip ports prerouting\ntable ip ports {\n")
    same_hook = changed(HOOK, HOOK.rules[0].args[0])
    assert "delete" not in restore_script([Change(HOOK, same_hook)])


def test_all_flushes_come_first_so_that_no_jump_is_left_to_a_chain_that_goes() -> None:
    script = restore_script([Change(None, PODS), Change(changed(HOOK, HOOK.rules[0].args[0]), HOOK)])
    assert [line.split()[0] for line in script.splitlines()[:3]] == ["flush", "flush", "delete"]

"""Rulesets of nft as text: what is read, what differs, and the script that carries out the differences."""

from __future__ import annotations

from dataclasses import replace

from labctl.core import nft_objects
from labctl.core.diff import Change, diff, same
from labctl.core.nft_changes import change_script, needs_present
from labctl.core.nft_ruleset import hook_of, parse_ruleset, policy_of, ruleset_text
from labctl.core.resources import Netns, NftObject, Plan, assemble
from labctl.render.plan_json import resource_from_json, resource_json
from labctl.render.resources import change_lines

TEXT = """table ip ports { # a comment
	comment "braces { in # a text"
	set few {
		type ipv4_addr
		flags interval
		elements = { 192.0.2.1, 192.0.2.2-192.0.2.9,
			198.51.100.0/24 }
	}

	map jumps {
		type ifname : verdict
		elements = { "docker0" : jump pods, "br, {" : drop }
	}

	chain pods {
		tcp dport 8080 counter packets 7 bytes 420 dnat to 10.244.0.2:80 comment "a {; b"
		ip saddr { 192.0.2.1, 192.0.2.2,
			192.0.2.3 } drop
	}

	chain empty {
	}

	chain prerouting {
		type nat hook prerouting priority dstnat - 10; policy drop;
		fib daddr type local jump pods
	}
}
"""
FOUND: Plan = tuple(parse_ruleset("n", TEXT))
WHOLE: Plan = (Netns("n"), *FOUND)


def found(name: str) -> NftObject:
    return next(item for item in FOUND if isinstance(item, NftObject) and item.name == name)


def lines(want: Plan, have: Plan) -> list[str]:
    return [line for change in diff(want, have) for line in change_lines(change)]


def test_the_objects_of_a_table_are_read_in_order_without_counts() -> None:
    assert [(item.kind, item.name) for item in FOUND if isinstance(item, NftObject)] == [
        ("table", ""), ("set", "few"), ("map", "jumps"), ("chain", "pods"), ("chain", "empty"), ("chain", "prerouting"),
    ]  # fmt: skip
    assert found("").header == ('comment "braces { in # a text"',)
    assert found("few").header == ("type ipv4_addr", "flags interval")
    assert found("few").entries == ("192.0.2.1", "192.0.2.2-192.0.2.9", "198.51.100.0/24")
    assert found("jumps").entries == ('"docker0" : jump pods', '"br, {" : drop')
    assert found("pods").entries == (
        'tcp dport 8080 counter dnat to 10.244.0.2:80 comment "a {; b"',
        "ip saddr { 192.0.2.1, 192.0.2.2, 192.0.2.3 } drop",
    )


def test_what_is_written_is_read_again() -> None:
    assert tuple(parse_ruleset("n", ruleset_text(FOUND))) == FOUND  # type: ignore[arg-type]


def test_base_chains_may_be_written_in_one_line_or_several() -> None:
    one = "table inet x { chain c { type filter hook input priority 0; policy drop; accept; }; }"
    two = "table inet x {\nchain c {\n type filter hook input priority 0\n policy drop\n accept\n}\n}"
    assert tuple(parse_ruleset("n", one)) == tuple(parse_ruleset("n", two))
    chain = tuple(parse_ruleset("n", one))[1]
    assert (hook_of(chain), policy_of(chain), chain.entries) == (("input", 0), "drop", ("accept",))


def test_priorities_are_numbers_of_their_family() -> None:
    assert hook_of(found("prerouting")) == ("prerouting", -110)
    assert hook_of(found("pods")) is None
    bridge = nft_objects.base_chain("n", "bridge x", "c", type="filter", hook="forward", priority="filter")
    assert hook_of(bridge) == ("forward", -200)


def test_a_priority_is_the_same_by_its_name_and_its_number() -> None:
    named = nft_objects.base_chain("n", "ip x", "c", type="nat", hook="output", priority="dstnat")
    number = nft_objects.base_chain("n", "ip x", "c", type="nat", hook="output", priority="-100")
    table = NftObject("n", "ip x", "table")
    assert not diff((Netns("n"), table, named), (Netns("n"), table, number))
    # nft 1.0.6 refuses the name at this hook
    assert "hook output priority -100; policy accept;" in change_script([Change(named, None)])
    assert "hook output priority dstnat;" in ruleset_text([named])


def test_differences_are_told_rule_by_rule_and_element_by_element() -> None:
    have = tuple(
        replace(item, entries=item.entries[1:]) if item.key in (found("few").key, found("pods").key) else item
        for item in FOUND
        if isinstance(item, NftObject) and item.name != "empty"
    )
    assert lines(WHOLE, (Netns("n"), *have)) == [
        "missing nft element ip ports few { 192.0.2.1 }",
        'missing nft rule ip ports pods tcp dport 8080 counter dnat to 10.244.0.2:80 comment "a {; b"',
        "missing nft chain ip ports empty",
    ]


def test_the_order_of_rules_matters_and_that_of_elements_does_not() -> None:
    turned = tuple(replace(item, entries=item.entries[::-1]) if isinstance(item, NftObject) else item for item in FOUND)
    assert lines(WHOLE, (Netns("n"), *turned)) == ["changed nft chain ip ports pods: the rules are in another order"]


def test_packets_may_add_elements_to_a_dynamic_set() -> None:
    want = nft_objects.set_("n", "ip x", "s", type="ipv4_addr", settings=("flags dynamic,timeout",))
    table = NftObject("n", "ip x", "table")
    assert not diff((Netns("n"), table, want), (Netns("n"), table, replace(want, entries=("192.0.2.1 timeout 3h",))))


def test_a_strange_table_is_one_difference_and_goes_at_once() -> None:
    changes = diff((Netns("n"),), WHOLE)
    assert len(changes) == 1
    assert "nft table ip ports" in change_lines(changes[0])[0]
    assert change_script(changes) == "delete table ip ports\n"


def test_only_differing_elements_are_written() -> None:
    have = replace(found("few"), entries=("192.0.2.1", "203.0.113.1"))
    assert change_script([Change(found("few"), have)]) == (
        "delete element ip ports few { 203.0.113.1 }\n"
        "add element ip ports few { 192.0.2.2-192.0.2.9, 198.51.100.0/24 }\n"
    )


def test_a_policy_is_changed_and_a_hook_makes_the_chain_again() -> None:
    chain = found("prerouting")
    policy = replace(chain, header=(chain.header[0].replace("drop", "accept"),))
    hook = replace(chain, header=(chain.header[0].replace("- 10", "+ 5"),))
    assert not needs_present([Change(chain, policy)])
    assert "delete" not in change_script([Change(chain, policy)])
    assert needs_present([Change(chain, hook)])
    assert "delete chain ip ports prerouting\n" in change_script([Change(chain, hook)])


def test_what_refers_to_an_object_that_is_made_again_is_written_again() -> None:
    users = tuple(parse_ruleset("n", "table ip x {\nset s {\ntype ipv4_addr\n}\nchain c {\nip saddr @s drop\n}\n}"))
    table, one, chain = users
    other = replace(one, header=("type ipv4_addr", "flags interval"))
    script = change_script([Change(other, one)], users)
    assert script.index("flush chain ip x c") < script.index("delete set ip x s") < script.index("ip saddr @s drop")
    assert table.kind == "table"
    assert chain.entries == ("ip saddr @s drop",)


def test_a_model_may_yield_a_chain_in_parts() -> None:
    plan = assemble([
        Netns("n"),
        nft_objects.base_chain("n", "ip x", "c", ["one"], type="filter", hook="input", priority="filter"),
        nft_objects.chain("n", "ip x", "c", ["two"]),
    ])  # fmt: skip
    assert [(item.kind, item.entries) for item in plan if isinstance(item, NftObject)] == [
        ("table", ()), ("chain", ("one", "two")),
    ]  # fmt: skip


def test_json_and_back() -> None:
    assert tuple(resource_from_json(resource_json(item)) for item in FOUND) == FOUND


def test_elements_with_a_timeout_go_by_themselves() -> None:
    brief = "192.0.2.1 timeout 5m"
    want = nft_objects.set_("n", "ip x", "s", [brief, "192.0.2.2"], type="ipv4_addr", settings=("flags timeout",))
    assert same(want, replace(want, entries=("192.0.2.2",)))
    assert not same(want, replace(want, entries=(brief,)))
    assert not same(want, replace(want, entries=(*want.entries, "192.0.2.3")))
    every = replace(want, header=(*want.header, "timeout 1h"))
    assert same(every, replace(every, entries=()))


def test_a_table_that_goes_takes_its_objects_along() -> None:
    table = NftObject("n", "inet x", "table")
    chain = NftObject("n", "inet x", "chain", "c", (), ("accept",))
    mapped = NftObject("n", "inet x", "map", "m", ("type ifname : verdict",), ('"a" : jump c',))

    script = change_script([Change(None, table), Change(None, chain), Change(None, mapped)])

    assert script == "delete table inet x\n"

"""A text in nft's language, as `nft list ruleset` prints it or as people write it, is accepted as it is."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labctl.core.nft_ruleset import hook_of, parse_ruleset, ruleset_text
from labctl.core.resources import NftObject
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from tests.support.nft_dumps import NFT_DUMPS, REAL, scenario


def objects(text: str) -> tuple[NftObject, ...]:
    plan = parse_and_compile(scenario(text), "pasted.yaml")[1].plan
    return tuple(item for item in plan if isinstance(item, NftObject))


def found(text: str, name: str) -> NftObject:
    return next(item for item in objects(text) if item.name == name)


def test_there_is_a_text_of_each_kind() -> None:
    assert len(REAL) == 4
    assert {"etc-nftables.conf", "commands"} <= set(NFT_DUMPS)


@pytest.mark.parametrize("name", REAL)
def test_what_nft_printed_prints_itself_again(name: str) -> None:
    text = re.sub(r",\n\s+", ", ", re.sub(r"(?m)^#.*\n", "", NFT_DUMPS[name]))
    assert sorted(objects(text), key=str) == sorted(parse_ruleset("node", text), key=str)
    assert ruleset_text(objects(text)) == text
    assert {item.key for item in objects(text)} == {item.key for item in objects(ruleset_text(objects(text)))}


@pytest.mark.parametrize("name", NFT_DUMPS)
def test_no_statement_gets_lost(name: str) -> None:
    made = objects(NFT_DUMPS[name])
    assert sum(len(item.entries) for item in made if item.kind == "chain") >= 8
    again = objects(ruleset_text(made))
    assert [(item.key, item.header, item.entries) for item in again] == [
        (item.key, item.header, item.entries) for item in made
    ]


def test_a_file_with_definitions() -> None:
    text = NFT_DUMPS["etc-nftables.conf"]
    chain = found(text, "input")
    assert chain.header == ("type filter hook input priority filter; policy drop;",)
    assert chain.entries[3] == "ip saddr { 192.0.2.10, 192.0.2.11 } tcp dport { 22, 80, 443 } ct state new jump limited"
    assert chain.entries[5].endswith("nd-router-advert, echo-request } accept")
    assert chain.entries[6] == 'counter name "dropped" log prefix "input; dropped # " level info'
    assert found(text, "limited").entries[1:] == ('log prefix "too many: "', "reject with icmpx type admin-prohibited")
    assert found(text, "tried").header[1:] == ("size 1024", "flags dynamic,timeout", "timeout 10m")
    assert found(text, "forwards").entries == ("8080 : 192.0.2.20 . 80", "8443 : 192.0.2.20 . 443")
    assert found(text, "postrouting").header == ("type nat hook postrouting priority srcnat; policy accept;",)


def test_commands_are_carried_out_in_their_order() -> None:
    text = NFT_DUMPS["commands"]
    assert found(text, "in").entries == (
        'iifname "lo" accept',
        "meta mark 7 return",
        "ip saddr @clients tcp dport vmap @verdicts",
    )
    assert found(text, "in").header == ("type filter hook input priority filter - 5; policy accept;", 'comment "first"')
    assert found(text, "clients").entries == ("192.0.2.0/28", "192.0.2.64-192.0.2.70")
    assert found(text, "right").entries == ("oif lo counter",)
    assert {item.table for item in objects(text)} == {"inet shop", "ip side"}
    assert next(item for item in objects(text) if item.kind == "table").header == ('comment "made by hand"',)


@pytest.mark.parametrize(
    ("text", "priority"),
    [
        ("type filter hook input priority 7; policy accept;", "filter + 7"),
        ("type nat hook prerouting priority -90;", "dstnat + 10"),
        ("type filter hook output priority -100;", "-100"),
        ("type filter hook output priority dstnat;", "dstnat"),
        ("type filter hook forward priority filter+1;", "filter + 1"),
        ("type filter hook forward priority 33;", "33"),
    ],
)
def test_a_priority_has_the_name_that_nft_prints(text: str, priority: str) -> None:
    chain = found(f"table ip t {{ chain c {{ {text} accept; }} }}", "c")
    assert f" priority {priority}; policy accept;" in chain.header[0]
    assert hook_of(chain) is not None


def test_every_rule_knows_its_line() -> None:
    from labctl.core.why import reason_of, reason_of_rule

    text = "table ip t {\n  chain c {\n    accept\n    counter drop\n  }\n}"
    chain = found(text, "c")
    lines = scenario(text).split("\n")
    why, rule = reason_of(chain), reason_of_rule(chain, "counter drop")
    assert why is not None
    assert rule is not None
    assert (lines[why.source.line - 1].strip(), lines[rule.source.line - 1].strip()) == ("chain c {", "counter drop")


STRUCTURED = """
name: x
model: raw
namespaces: [h]
links: [{bridge: h/eth0}]
nftables:
  h:
    - inet filter:
        comment: mine
        chains:
          in:
            type: filter
            hook: input
            priority: -5
            policy: drop
            rules:
              - iifname eth0 tcp dport vmap @ports
              - meta l4proto { tcp,udp } th dport 53 accept
          web: [counter accept]
          early: {type: filter, hook: ingress, device: eth0, rules: [ip saddr @every drop]}
        maps:
          ports: {type: "inet_service : verdict", elements: {80: jump web, 81: drop}}
        sets:
          every: {type: ipv4_addr, flags: [interval], auto-merge: true, elements: [10.9.0.0/16, 10.8.0.0-10.8.0.9]}
        counters: [a]
        quotas: {q: over 100 mbytes}
    - |
      add rule inet filter web counter name a drop
"""


def test_tables_as_a_mapping_are_the_same_as_their_text() -> None:
    plan = parse_and_compile(STRUCTURED, "x.yaml")[1].plan
    made = [item for item in plan if isinstance(item, NftObject)]
    assert ruleset_text(made) == (
        "table inet filter {\n"
        '\tcomment "mine"\n'
        "\tcounter a {\n\t}\n\n"
        "\tquota q {\n\t\tover 100 mbytes\n\t}\n\n"
        "\tset every {\n\t\ttype ipv4_addr\n\t\tflags interval\n\t\tauto-merge\n"
        "\t\telements = { 10.9.0.0/16, 10.8.0.0-10.8.0.9 }\n\t}\n\n"
        "\tmap ports {\n\t\ttype inet_service : verdict\n\t\telements = { 80 : jump web, 81 : drop }\n\t}\n\n"
        "\tchain in {\n\t\ttype filter hook input priority filter - 5; policy drop;\n"
        "\t\tiifname eth0 tcp dport vmap @ports\n\t\tmeta l4proto { tcp, udp } th dport 53 accept\n\t}\n\n"
        "\tchain web {\n\t\tcounter accept\n\t\tcounter name a drop\n\t}\n\n"
        '\tchain early {\n\t\ttype filter hook ingress device "eth0" priority filter; policy accept;\n'
        "\t\tip saddr @every drop\n\t}\n}\n"
    )


@settings(derandomize=True, deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_text_is_refused_in_its_place_or_still_valid(data: st.DataObject) -> None:
    lines = scenario(NFT_DUMPS[data.draw(st.sampled_from(sorted(NFT_DUMPS)))]).split("\n")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(10, len(lines) - 2))
        column = data.draw(st.integers(4, max(4, len(lines[at]))))
        word = data.draw(st.sampled_from(("", " ", '"', "-", "!", "{", "}", ";", "$", "\\", ",", "/", "@", "é", "#")))
        cut = data.draw(st.integers(0, 9))
        lines[at] = lines[at][:column] + word + lines[at][column + cut :]
    try:
        parse_and_compile("\n".join(lines), "x.yaml")
    except ScenarioError as error:
        for problem in error.problems:
            assert 1 <= problem.line <= len(lines)
            assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1
            assert (problem.what + problem.hint).isprintable()
            assert not re.search(r"Traceback|object at 0x", str(problem))

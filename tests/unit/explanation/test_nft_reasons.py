"""`explain` for objects of nft: their names, the rules of their chains, and what a sentence fills in from a rule."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labctl.core.resources import NftObject
from labctl.core.scenario_types import Lab
from labctl.explanation import nft_words
from labctl.explanation.explanation import Explainer, Explanation
from labctl.explanation.placeholders import Placeholders
from labctl.explanation.selection import find_subjects
from labctl.kubernetes.services.kube_proxy_nft_reasons import TABLES
from labctl.scenario.definition import parse_and_compile
from tests.support.kube_proxy_saved import saved_cases
from tests.support.paths import GOLDEN
from tests.support.reasons import problems

PROXY_CASES = saved_cases(GOLDEN / "kube-proxy", "nftables")
SCENARIO = """
model: docker-bridge
release: "29"
firewall_backend: nftables
userland_proxy: false
networks: {back: {internal: true, bridge: back}}
hosts: {host1: {containers: {c1: , web: {publish: ["8080:80", "127.0.0.1:53:53/udp"]}, db: {networks: [back]}}}}
"""


def lab() -> Lab:
    return parse_and_compile(SCENARIO, "t.yaml")[1]


def explain(words: str) -> Explanation:
    """The explanation of the only object that the words mean."""
    (found,) = find_subjects(lab(), words.split())
    return Explainer(lab()).explain(found)


def test_everything_has_a_reason() -> None:
    assert [*problems(lab())] == []


def test_a_rule_without_a_reason_is_found() -> None:
    chain = next(item for item in lab().plan if isinstance(item, NftObject) and item.kind == "chain")
    foreign = replace(chain, entries=("tcp dport 1 drop",))
    assert [*problems(replace(lab(), plan=(foreign,)))] == [
        "host1: nft rule ip docker-bridges filter-FORWARD tcp dport 1 drop: no reason"
    ]


def test_a_rule_is_explained_with_its_machines_and_its_command() -> None:
    found = explain("host1 tcp dport 8080")

    assert found.reasoned.sentence == (
        "It is the published port 8080: packets to it go to 172.17.0.3:80 instead, the container web."
    )
    rule = 'tcp dport 8080 counter dnat to 172.17.0.3:80 comment "DNAT"'
    assert found.commands == (f"nft add rule ip docker-bridges nat-prerouting-and-output '{rule}'",)
    assert (found.reasoned.subject.noun, found.runs_in) == ("firewall rule", "host1")


def test_a_chain_is_explained_without_its_rules() -> None:
    header = "type filter hook prerouting priority -300; policy accept;"
    assert explain("host1 ip docker-bridges raw-PREROUTING").commands == (
        f"nft add chain ip docker-bridges raw-PREROUTING '{{ {header} }}'",
    )


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("docker-bridges", ["table ip docker-bridges", "table ip6 docker-bridges"]),
        ("ip docker-bridges/nat-OUTPUT", ["chain ip docker-bridges nat-OUTPUT"]),
        ("filter-forward-in-jumps", [f"map {one} docker-bridges filter-forward-in-jumps" for one in ("ip", "ip6")]),
    ],
)
def test_which_objects_the_words_mean(words: str, wanted: list[str]) -> None:
    found = [one.text for one in find_subjects(lab(), ("host1", *words.split()))]
    assert found == [f"nft object {text}" for text in wanted]


@pytest.mark.parametrize(
    ("rule", "values"),
    [
        (
            'iifname != "docker0" ip daddr 10.0.0.1 tcp dport 80 counter dnat to [fd00::2]:80 comment "a b"',
            {
                "iif": "docker0",
                "dst": "10.0.0.1",
                "dport": "80",
                "to": "[fd00::2]:80",
                "comment": "a b",
                "target": "dnat",
            },
        ),
        (
            "ip6 saddr { fd00::1, fd00::2 } oif eth0 udp sport 53 jump next",
            {"src": "fd00::1, fd00::2", "oif": "eth0", "proto": "udp", "sport": "53", "target": "next", "dport": None},
        ),
        ("meta mark & 0x00004000 == 0x00004000 masquerade", {"mark": "0x00004000", "target": "masquerade"}),
        ("ip daddr @cluster-ips drop", {"set": "cluster-ips", "target": "drop", "src": None, "nothing": None}),
    ],
)
def test_what_a_rule_says(rule: str, values: dict[str, str | None]) -> None:
    assert {name: nft_words.value(rule, name) for name in values} == values


@pytest.mark.parametrize(
    ("element", "values"),
    [
        (
            "10.96.10.1 . tcp . 80 : goto service-PFISGYVC-default/web/tcp/",
            {"dst": "10.96.10.1", "dport": "80", "proto": "tcp", "target": "service-PFISGYVC-default/web/tcp/"},
        ),
        ('udp . 30053 comment "a/b" : drop', {"dst": None, "dport": "30053", "proto": "udp", "target": "drop"}),
        ("fd00::/64", {"dst": "fd00::/64", "dport": None, "target": None, "comment": None}),
    ],
)
def test_what_an_element_says(element: str, values: dict[str, str | None]) -> None:
    assert {name: nft_words.element_value(element, name) for name in values} == values


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("goto external-PFISGYVC-default/web/tcp/", "default/web"),
        ("endpoint-LJ24RL4S-kube-system/kube-dns/udp/dns__10.244.0.5/53", "kube-system/kube-dns:dns"),
        ('10.96.10.1 . tcp . 80 comment "shop/web:http" : drop', "shop/web:http"),
        ("ip saddr 10.244.0.0/16 accept", ""),
    ],
)
def test_the_service_of_a_text(text: str, service: str) -> None:
    assert nft_words.service(text) == service


def test_every_rule_and_element_of_kube_proxy_has_a_reason() -> None:
    """In each situation that was recorded, of each release and family: affinity, source ranges, node ports, ..."""
    placeholders = Placeholders(parse_and_compile(SCENARIO, "t.yaml")[1])
    seen: set[NftObject] = set()
    missing = set()
    for case, _ in PROXY_CASES.values():
        for (family, kind, name), lines in case.modelled.items():
            entries = tuple(one for one in lines if not one.startswith("is "))
            item = NftObject("node", f"{family} kube-proxy", kind, name, (), entries)
            if item in seen:
                continue
            seen.add(item)
            for entry, why in ((None, TABLES.of_chain(item)), *((one, TABLES(item, one)) for one in entries)):
                if why is None or not placeholders.fill(why, item, entry).endswith("."):
                    missing.add(f"{kind} {name}: {entry}")
    assert not missing
    assert len(seen) > 150

"""The firewall of a Docker host, word by word: what iptables-save shows of each release and each variant.

The blocks are those of moby's own documentation (integration/network/bridge/iptablesdoc/generated), which the
engine's tests write from a running daemon, and of a host with 20.10.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from labctl.core.iptables import BUILTIN
from labctl.core.resources import Chain, Link, Sysctl
from labctl.core.scenario_types import Lab
from labctl.models.lib.docker_iptables import CHAINS_OF_RELEASE
from labctl.scenario.definition import parse_and_compile
from tests.support.paths import GOLDEN
from tests.support.rule_tables import Tables, parse_tables

DAEMONS = GOLDEN / "daemons"
WEB = 'networks: [bridge1], publish: ["8080:80"]'


def lab(web: str = WEB, net: str = "", more: str = "", c1: str = "c1: {}") -> Lab:
    """docker0 with a container c1, and bridge1 with a container web."""
    text = (
        f"model: docker-bridge\n{more}\nnetworks: {{bridge1: {{bridge: bridge1, subnet: 192.0.2.0/24, {net}}}}}\n"
        f"hosts: {{host1: {{containers: {{{c1}, web: {{{web}}}}}}}}}\n"
    )
    return parse_and_compile(text, "t.yaml")[1]


def saved(built: Lab, family: str = "ip") -> Tables:
    """A host's rules by table and chain; a built-in chain without rules and with policy ACCEPT is not there."""
    tables: Tables = {}
    for item in built.plan:
        if isinstance(item, Chain) and item.ns == "host1" and item.family == family:
            policy = [f"-P {item.policy}"] if item.policy == "DROP" else []
            rules = [*policy, *map(str, item.rules)]
            if rules or item.name not in BUILTIN[family, item.table]:
                tables.setdefault(item.table, {})[item.name] = rules
    return tables


def changed(before: Tables, after: Tables) -> set[str]:
    """How one set of rules differs from another, as lines of a diff: chains with the same rules are left out."""
    lines = set()
    for mark, one, other in (("-", before, after), ("+", after, before)):
        for table, chains in one.items():
            for name, rules in chains.items():
                there = other.get(table, {}).get(name)
                lines |= {f"{mark}{table} {name} {rule}" for rule in rules if there is None or rule not in there}
                lines |= {f"{mark}{table} {name}"} if there is None else set()
    return lines


RULES_28 = """
*raw
-A PREROUTING -d 172.17.0.2/32 ! -i docker0 -j DROP
-A PREROUTING -d 192.0.2.2/32 ! -i bridge1 -j DROP
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 192.0.2.0/24 ! -o bridge1 -j MASQUERADE
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A DOCKER -i bridge1 -j RETURN
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i bridge1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.0.2.2:80
*filter
:FORWARD DROP [0:0]
:DOCKER - [0:0]
:DOCKER-BRIDGE - [0:0]
:DOCKER-CT - [0:0]
:DOCKER-FORWARD - [0:0]
:DOCKER-ISOLATION-STAGE-1 - [0:0]
:DOCKER-ISOLATION-STAGE-2 - [0:0]
:DOCKER-USER - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER -d 192.0.2.2/32 ! -i bridge1 -o bridge1 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER ! -i docker0 -o docker0 -j DROP
-A DOCKER ! -i bridge1 -o bridge1 -j DROP
-A DOCKER-BRIDGE -o docker0 -j DOCKER
-A DOCKER-BRIDGE -o bridge1 -j DOCKER
-A DOCKER-CT -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-CT -o bridge1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A DOCKER-FORWARD -j DOCKER-CT
-A DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1
-A DOCKER-FORWARD -j DOCKER-BRIDGE
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-FORWARD -i bridge1 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -i bridge1 ! -o bridge1 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-2 -o bridge1 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
"""
RULES_2010 = """
*nat
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE
-A DOCKER -i docker0 -j RETURN
-A DOCKER ! -i docker0 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 172.17.0.2:80
*filter
:FORWARD DROP [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-ISOLATION-STAGE-1
-A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A FORWARD -o docker0 -j DOCKER
-A FORWARD -i docker0 ! -o docker0 -j ACCEPT
-A FORWARD -i docker0 -o docker0 -j ACCEPT
-A DOCKER -d 172.17.0.2/32 ! -i docker0 -o docker0 -p tcp -m tcp --dport 80 -j ACCEPT
-A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
-A DOCKER-ISOLATION-STAGE-1 -j RETURN
-A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
-A DOCKER-ISOLATION-STAGE-2 -j RETURN
-A DOCKER-USER -j RETURN
"""


def test_28_writes_its_whole_rule_set() -> None:
    assert saved(lab()) == parse_tables(RULES_28)


@pytest.mark.parametrize("release", ["20.10", "26"])
def test_20_10_writes_its_whole_rule_set(release: str) -> None:
    hosts = "{host1: {containers: {c1: {publish: ['8080:80']}}}}"
    text = f"model: docker-bridge\nrelease: {release}\nhosts: {hosts}\n"
    assert saved(parse_and_compile(text, "t.yaml")[1]) == parse_tables(RULES_2010)


@pytest.mark.parametrize("record", sorted(DAEMONS.glob("*.txt")), ids=lambda file: str(file.stem))
def test_the_rules_are_those_that_a_daemon_wrote(record: Path) -> None:
    """tests/fidelity/test_docker.py recorded them, of hosts with every kind of network and of published port; and those
    of `publish` and `noproxy` are of a host with Docker 29.7.2 and its iptables backend."""
    name, dot, _ = record.stem.partition(".ip6")
    scenario, release = name.split("-")
    built = parse_and_compile((DAEMONS / f"{scenario}.yaml").read_text() + f"release: {release}\n", "t.yaml")[1]
    assert saved(built, "ip6" if dot else "ip") == parse_tables(record.read_text())


def test_29_writes_its_whole_rule_set() -> None:
    """28's, without its isolation stages, and with published ports that serve neighbours."""
    whole = parse_tables(RULES_28)
    whole["nat"]["DOCKER"] = whole["nat"]["DOCKER"][2:]
    filters = {name: rules for name, rules in whole["filter"].items() if "STAGE" not in name} | {"DOCKER-INTERNAL": []}
    jumps = ["-j DOCKER-CT", "-j DOCKER-INTERNAL", "-j DOCKER-BRIDGE"]
    filters["DOCKER-FORWARD"] = [*jumps, "-i docker0 -j ACCEPT", "-i bridge1 -j ACCEPT"]
    assert saved(lab(more="release: 29")) == {**whole, "filter": filters}


@pytest.mark.parametrize("release", CHAINS_OF_RELEASE)
def test_a_daemon_that_found_forwarding_on_leaves_the_policy_alone(release: str) -> None:
    before, after = (saved(lab(more=f"release: '{release}'\nforward_policy: {word}")) for word in ("DROP", "ACCEPT"))
    assert changed(before, after) == {"-filter FORWARD -P DROP"}


def test_20_10_puts_a_newer_network_before_docker0() -> None:
    filters = saved(lab(more="release: '20.10'"))["filter"]
    assert filters["FORWARD"][2:] == [
        "-j DOCKER-ISOLATION-STAGE-1",
        *(rule.replace("docker0", "bridge1") for rule in parse_tables(RULES_2010)["filter"]["FORWARD"][3:]),
        *parse_tables(RULES_2010)["filter"]["FORWARD"][3:],
    ]
    assert [rule.split()[1] for rule in filters["DOCKER-ISOLATION-STAGE-1"][:2]] == ["bridge1", "docker0"]
    assert [rule.split()[1] for rule in filters["DOCKER-ISOLATION-STAGE-2"][:2]] == ["bridge1", "docker0"]


STAGES = {
    "-filter DOCKER-ISOLATION-STAGE-1",
    "-filter DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2",
    "-filter DOCKER-ISOLATION-STAGE-1 -i bridge1 ! -o bridge1 -j DOCKER-ISOLATION-STAGE-2",
    "-filter DOCKER-ISOLATION-STAGE-2",
    "-filter DOCKER-ISOLATION-STAGE-2 -o bridge1 -j DROP",
    "-filter DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP",
}
# what --internal takes away, in every release from 28 on; bridge1 publishes nothing then
OUTWARD = {
    "-raw PREROUTING -d 192.0.2.2/32 ! -i bridge1 -j DROP",
    "-nat POSTROUTING -s 192.0.2.0/24 ! -o bridge1 -j MASQUERADE",
    "-nat DOCKER -i bridge1 -j RETURN",
    "-filter DOCKER ! -i bridge1 -o bridge1 -j DROP",
    "-filter DOCKER-BRIDGE -o bridge1 -j DOCKER",
    "-filter DOCKER-CT -o bridge1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    "-filter DOCKER-FORWARD -i bridge1 -j ACCEPT",
    "-filter DOCKER-ISOLATION-STAGE-1 -i bridge1 ! -o bridge1 -j DOCKER-ISOLATION-STAGE-2",
    "-filter DOCKER-ISOLATION-STAGE-2 -o bridge1 -j DROP",
}
CLOSED = ("! -s 192.0.2.0/24 -o bridge1 -j DROP", "! -d 192.0.2.0/24 -i bridge1 -j DROP")
DNAT = "nat DOCKER ! -i bridge1 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 192.0.2.2:80"
WITHOUT_PROXY = {
    "-nat OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER",
    "+nat OUTPUT -m addrtype --dst-type LOCAL -j DOCKER",
    "+nat POSTROUTING -o bridge1 -m addrtype --src-type LOCAL -j MASQUERADE",
    "+nat POSTROUTING -o docker0 -m addrtype --src-type LOCAL -j MASQUERADE",
    "+nat POSTROUTING -s 192.0.2.2/32 -d 192.0.2.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
    f"-{DNAT}",
    f"+{DNAT.replace(' ! -i bridge1', '')}",
}
RETURNS = {"-nat DOCKER -i bridge1 -j RETURN", "-nat DOCKER -i docker0 -j RETURN"}  # 29 has none anyway
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any], set[str]]] = {
    "29": (
        {},
        {"more": "release: 29"},
        {
            *STAGES,
            "-nat DOCKER -i bridge1 -j RETURN",
            "-nat DOCKER -i docker0 -j RETURN",
            "-filter DOCKER-FORWARD -j DOCKER-ISOLATION-STAGE-1",
            "+filter DOCKER-FORWARD -j DOCKER-INTERNAL",
            "+filter DOCKER-INTERNAL",
        },
    ),
    "icc off": (
        {},
        {"net": "icc: false"},
        {
            "-filter DOCKER-FORWARD -i bridge1 -j ACCEPT",
            "+filter DOCKER-FORWARD -i bridge1 -o bridge1 -j DROP",
            "+filter DOCKER-FORWARD -i bridge1 ! -o bridge1 -j ACCEPT",
        },
    ),
    "internal": (
        {"web": "networks: [bridge1]"},
        {"web": "networks: [bridge1]", "net": "internal: true"},
        {
            *OUTWARD,
            *(f"+filter DOCKER-ISOLATION-STAGE-1 {rule}" for rule in CLOSED),
            "+filter DOCKER-FORWARD -i bridge1 -o bridge1 -j ACCEPT",
        },
    ),
    "internal, icc off": (
        {"web": "networks: [bridge1]", "net": "internal: true"},
        {"web": "networks: [bridge1]", "net": "internal: true, icc: false"},
        {
            "-filter DOCKER-FORWARD -i bridge1 -o bridge1 -j ACCEPT",
            "+filter DOCKER-FORWARD -i bridge1 -o bridge1 -j DROP",
        },
    ),
    "internal in 29": (
        {"web": "networks: [bridge1]", "more": "release: 29"},
        {"web": "networks: [bridge1]", "more": "release: 29", "net": "internal: true"},
        {
            *(line for line in OUTWARD if "STAGE" not in line and "RETURN" not in line),
            *(f"+filter DOCKER-INTERNAL {rule}" for rule in CLOSED),
            "+filter DOCKER-FORWARD -i bridge1 -o bridge1 -j ACCEPT",
        },
    ),
    "userland-proxy=false": ({}, {"more": "userland_proxy: false"}, {*WITHOUT_PROXY, *RETURNS}),
    "at 127.0.0.1": (
        {},
        {"web": 'networks: [bridge1], publish: ["127.0.0.1:8080:80"]'},
        {
            f"-{DNAT}",
            f"+{DNAT.replace('DOCKER ', 'DOCKER -d 127.0.0.1/32 ', 1)}",
            "+raw PREROUTING -d 127.0.0.1/32 ! -i lo -p tcp -m tcp --dport 8080 -j DROP",
        },
    ),
    "at the host's address": (
        {},
        {"web": 'networks: [bridge1], publish: ["192.168.50.11:8080:80"]'},
        {f"-{DNAT}", f"+{DNAT.replace('DOCKER ', 'DOCKER -d 192.168.50.11/32 ', 1)}"},
    ),
    "udp": (
        {},
        {"web": 'networks: [bridge1], publish: ["8080:80/udp"]'},
        {
            f"-{DNAT}",
            f"+{DNAT.replace('tcp', 'udp')}",
            "-filter DOCKER -d 192.0.2.2/32 ! -i bridge1 -o bridge1 -p tcp -m tcp --dport 80 -j ACCEPT",
            "+filter DOCKER -d 192.0.2.2/32 ! -i bridge1 -o bridge1 -p udp -m udp --dport 80 -j ACCEPT",
        },
    ),
    "one port twice": (
        {},
        {"web": 'networks: [bridge1], publish: ["8080:80", "8081:80"]'},
        {f"+{DNAT.replace('8080', '8081')}"},
    ),
    "icc off in 29": (
        {"more": "release: 29"},
        {"more": "release: 29", "net": "icc: false"},
        {
            "-filter DOCKER-FORWARD -i bridge1 -j ACCEPT",
            "+filter DOCKER-FORWARD -i bridge1 -o bridge1 -j DROP",
            "+filter DOCKER-FORWARD -i bridge1 ! -o bridge1 -j ACCEPT",
        },
    ),
    "userland-proxy=false in 29": (
        {"more": "release: 29"},
        {"more": "release: 29\nuserland_proxy: false"},
        WITHOUT_PROXY,
    ),
    "userland-proxy=false in 20.10": (
        {"more": "release: '20.10'"},
        {"more": "release: '20.10'\nuserland_proxy: false"},
        {*(line for line in WITHOUT_PROXY if "-d 192.0.2.2/32 -p" not in line), *RETURNS},  # that one is always there
    ),
    "at 127.0.0.1 in 20.10": (  # nothing in raw: who routes 127.0.0.1 here is not kept out
        {"more": "release: '20.10'"},
        {"more": "release: '20.10'", "web": 'networks: [bridge1], publish: ["127.0.0.1:8080:80"]'},
        {f"-{DNAT}", f"+{DNAT.replace('DOCKER ', 'DOCKER -d 127.0.0.1/32 ', 1)}"},
    ),
    "internal in 20.10": (
        {"more": "release: '20.10'", "web": "networks: [bridge1]"},
        {"more": "release: '20.10'", "web": "networks: [bridge1]", "net": "internal: true"},
        {
            "-nat POSTROUTING -s 192.0.2.0/24 ! -o bridge1 -j MASQUERADE",
            "-nat DOCKER -i bridge1 -j RETURN",
            "-filter FORWARD -o bridge1 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
            "-filter FORWARD -o bridge1 -j DOCKER",
            "-filter FORWARD -i bridge1 ! -o bridge1 -j ACCEPT",
            "-filter DOCKER-ISOLATION-STAGE-1 -i bridge1 ! -o bridge1 -j DOCKER-ISOLATION-STAGE-2",
            "-filter DOCKER-ISOLATION-STAGE-2 -o bridge1 -j DROP",
            *(f"+filter DOCKER-ISOLATION-STAGE-1 {rule}" for rule in CLOSED),
        },
    ),
    "icc off in 20.10": (
        {"more": "release: '20.10'"},
        {"more": "release: '20.10'", "net": "icc: false"},
        {"-filter FORWARD -i bridge1 -o bridge1 -j ACCEPT", "+filter FORWARD -i bridge1 -o bridge1 -j DROP"},
    ),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_variant_differs_in_these_rules_and_no_others(variant: str) -> None:
    before, after, difference = VARIANTS[variant]
    assert changed(saved(lab(**before)), saved(lab(**after))) == difference


def test_what_a_variant_adds_stands_where_docker_puts_it() -> None:
    quiet = saved(lab(net="icc: false"))["filter"]["DOCKER-FORWARD"]
    assert quiet[-2:] == ["-i bridge1 -o bridge1 -j DROP", "-i bridge1 ! -o bridge1 -j ACCEPT"]
    closed = saved(lab(web="networks: [bridge1]", net="internal: true"))["filter"]["DOCKER-ISOLATION-STAGE-1"]
    assert closed == [*CLOSED, "-i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2"]
    old = saved(lab(net="icc: false", more="release: '20.10'"))["filter"]["FORWARD"]
    assert old[-1] == "-i bridge1 -o bridge1 -j DROP"
    new = saved(lab(more="release: 29"))["filter"]["DOCKER-FORWARD"]
    assert new[:3] == ["-j DOCKER-CT", "-j DOCKER-INTERNAL", "-j DOCKER-BRIDGE"]
    assert saved(lab(more="userland_proxy: false"))["nat"]["POSTROUTING"] == [
        "-o bridge1 -m addrtype --src-type LOCAL -j MASQUERADE",
        "-s 192.0.2.0/24 ! -o bridge1 -j MASQUERADE",
        "-o docker0 -m addrtype --src-type LOCAL -j MASQUERADE",
        "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "-s 192.0.2.2/32 -d 192.0.2.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
    ]
    two = saved(lab(web='networks: [bridge1], publish: ["8080:80", "8443:443"]'))["filter"]["DOCKER"]
    assert [rule.split()[12] for rule in two[:2]] == ["443", "80"]


def settings(built: Lab) -> dict[str, str]:
    return {item.name: item.value for item in built.plan if isinstance(item, Sysctl) and item.ns == "host1"}


@pytest.mark.parametrize(
    ("more", "net", "filtered", "loopback"),
    [
        ("", "", "0", False),
        ("", "icc: false", "1", False),
        ("icc: false", "", "1", False),
        ("userland_proxy: false", "", "1", True),
        ("release: 29\nuserland_proxy: false", "", "1", True),
        ("release: '20.10'\nuserland_proxy: false", "", "0", True),
        ("release: '20.10'", "icc: false", "1", False),
    ],
)
def test_settings_of_the_host_follow_icc_and_the_proxy(more: str, net: str, filtered: str, loopback: bool) -> None:
    built = lab(more=more, net=net)
    found = settings(built)
    assert found["net.bridge.bridge-nf-call-iptables"] == filtered
    routed = {f"net.ipv4.conf.{name}.route_localnet": "1" for name in ("docker0", "bridge1")}
    assert {name: value for name, value in found.items() if "localnet" in name} == (routed if loopback else {})
    ports = [item for item in built.plan if isinstance(item, Link) and item.master is not None]
    assert {port.hairpin for port in ports} == {loopback}


@pytest.mark.parametrize(("release", "of_address"), [("29", False), ("28", False), ("26", True), ("20.10", True)])
def test_a_mac_is_made_of_the_address_up_to_27(release: str, of_address: bool) -> None:
    macs = {item.at.ns: item.mac for item in lab(more=f"release: {release}").plan if isinstance(item, Link)}
    assert (macs["web"] == "02:42:c0:00:02:02") is of_address


def claims(options: str, containers: str = "c1, c2") -> list[tuple[str, str, str]]:
    """What a host of such options claims by itself: source, target and what comes of it."""
    text = f"model: docker-bridge\n{options}\nhosts: {{host1: {{containers: [{containers}]}}}}\n"
    return [(check.source, check.target, check.expect) for check in parse_and_compile(text, "t.yaml")[1].checks]


@pytest.mark.parametrize("release", ["20.10", "26", "28", "29"])
def test_what_a_host_claims_follows_from_its_options(release: str) -> None:
    with_release = f'release: "{release}"\n'
    meet, dropped = ("c1", "c2", "reply"), ("internet", "c1", "fail")
    assert claims(with_release) == [meet]
    assert claims(with_release + "routed: true") == [meet, dropped]
    assert claims(with_release + "icc: false") == [("c1", "c2", "fail")]
    assert claims(with_release + "routed: true", "c1") == [dropped]
    assert claims(with_release + "routed: true", "") == []
    policy = claims(with_release + "routed: true\nforward_policy: ACCEPT")
    assert policy == ([meet, dropped] if release in ("28", "29") else [meet])  # these have rules of their own


def test_a_stranger_is_only_claimed_where_it_could_get_in() -> None:
    """An internal network is closed whatever the policy, and a container without a network has no way."""
    built = lab(
        "networks: [bridge1]", "internal: true", "routed: true\nforward_policy: ACCEPT", "c1: {networks: [none]}"
    )
    assert [(check.probe, check.target) for check in built.checks] == [("tcp", "web")]
    built = lab("networks: [bridge1]", "", "routed: true", "c1: {networks: [none]}")
    assert [(check.target, str(check.sees[1].at)) for check in built.checks] == [("web", "host1/bridge1")]
    told = {
        release: [
            one.probe for one in lab(more=f'routed: true\nrelease: "{release}"').checks if one.source == "internet"
        ]
        for release in CHAINS_OF_RELEASE
    }
    assert told == {
        "20.10": ["ping"],
        "26": ["ping"],
        "28": ["ping", "tcp"],
        "29": ["ping", "tcp"],
    }  # at the port itself


@pytest.mark.parametrize("release", CHAINS_OF_RELEASE)
def test_only_29_serves_other_networks_without_a_proxy(release: str) -> None:
    """One claim per protocol, at an address that the source can reach, and none if no machine can."""
    web = 'networks: [bridge1], publish: ["127.0.0.1:80:80", "8080:80", "8081:80", "53:53/udp"]'
    for proxy in ("true", "false"):
        built = lab(web, more=f'release: "{release}"\nuserland_proxy: {proxy}')
        found = [(check.probe, check.source, check.port, check.expect) for check in built.checks]
        outcome = "reply" if proxy == "true" or release == "29" else "timeout"
        udp = [("udp", "c1", 53, outcome)] if release in ("28", "29") else []  # before, it answers from elsewhere
        assert found == [("tcp", "c1", 8080, outcome), *udp]
    assert lab(web, c1="c1: {networks: [none]}").checks == ()

"""The tables of a Docker host with the backend nftables, word by word and in order: what `nft list ruleset` shows.

The dumps in tests/golden/daemons/nftables are of real daemons; each says its version and command in its first lines.
The steps here are what was done to these daemons, in the words of a scenario.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from labctl.core.nft_ruleset import ruleset_text
from labctl.core.resources import Chain, NftObject, Sysctl
from labctl.core.scenario_types import Lab
from labctl.core.why import reason_of, reason_of_rule
from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile
from tests.support.paths import GOLDEN

DUMPS = GOLDEN / "daemons" / "nftables"


class Step(NamedTuple):
    """A case of a series of dumps: the networks and containers that it adds to those of the cases before."""

    name: str
    networks: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()


SERIES = (
    Step("29.7.2-00-daemon-only"),
    Step("29.7.2-10-two-containers", (), ("c1: {}", "c2: {}")),
    Step(
        "29.7.2-20-publish",
        (),
        (
            "web: {publish: ['8080:80']}",
            "weblo: {publish: ['127.0.0.1:8081:80']}",
            "webudp: {publish: ['5353:53/udp']}",
        ),
    ),
    Step(
        "29.7.2-30-user-defined-x2",
        ("net0: {bridge: net0}", "net1: {bridge: net1}"),
        (
            "u1: {networks: [net0]}",
            "u2: {networks: [net0], publish: ['8090:80']}",
            "v1: {networks: [net1], publish: ['192.168.50.11:8091:80']}",
        ),
    ),
    Step(
        "29.7.2-40-internal",
        ("int0: {bridge: int0, internal: true}",),
        ("i1: {networks: [int0]}", "i2: {networks: [int0]}"),
    ),
    Step(
        "29.7.2-50-icc-off",
        ("noicc: {bridge: noicc0, icc: false, subnet: 10.77.0.0/24}",),
        ("q1: {networks: [noicc]}", "q2: {networks: [noicc], publish: ['8092:80']}"),
    ),
    Step(
        "29.7.2-70-gateway-mode-routed",
        ("routed: {bridge: routed, gateway_mode_ipv4: routed, subnet: 172.29.0.0/24}",),
        ("r1: {networks: [routed], publish: ['8095:80']}",),
    ),
    Step(
        "29.7.2-71-gateway-mode-nat-unprotected",
        ("unprot: {bridge: unprot, gateway_mode_ipv4: nat-unprotected, subnet: 172.30.0.0/24}",),
        ("r2: {networks: [unprot], publish: ['8096:80']}",),
    ),
    Step(
        "29.7.2-72-gateway-mode-isolated",
        ("isol: {bridge: isol, internal: true, gateway_mode_ipv4: isolated, subnet: 172.31.0.0/24}",),
        ("s1: {networks: [isol]}",),
    ),
)
NOPROXY = Step(
    "29.7.2-20-publish-noproxy",
    ("net0: {bridge: net0}",),
    (
        "c1: {}",
        "web: {publish: ['8080:80', '127.0.0.1:8082:81']}",
        "u1: {networks: [net0], publish: ['8090:80', '5353:53/udp']}",
    ),
)
MASTER = (
    Step("master-nomasq", ("nomasq: {bridge: br-nomasq, enable_ip_masquerade: false, subnet: 172.23.0.0/16}",)),
    Step(
        "master-user-v6-ports",
        ("user: {bridge: br-user, subnet: 172.20.0.0/16, enable_ipv6: true, subnet_ipv6: 'fd00:20::/64'}",),
        ("c: {networks: [user], publish: ['8080:80', '172.30.0.11:5353:53/udp', '127.0.0.1:8081:81']}",),
    ),
    Step("master-user", ("user: {bridge: br-user, subnet: 172.20.0.0/16}",), ("c: {networks: [user]}",)),
)


def lab(networks: tuple[str, ...] = (), containers: tuple[str, ...] = (), more: str = "") -> Lab:
    """A host of Docker 29 with the backend nftables."""
    text = (
        f'model: docker-bridge\nrelease: "29"\nfirewall_backend: nftables\n{more}\n'
        f"networks: {{{', '.join(networks)}}}\nhosts: {{host1: {{containers: {{{', '.join(containers)}}}}}}}\n"
    )
    return parse_and_compile(text, "t.yaml")[1]


def tables(built: Lab) -> str:
    """The tables of host1 as nft lists them."""
    return ruleset_text(item for item in built.plan if isinstance(item, NftObject) and item.ns == "host1")


def recorded(name: str) -> str:
    """A dump of a daemon, without the lines that say where it is from."""
    lines = (DUMPS / f"{name}.txt").read_text().splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("#"))


def chain(built: Lab, name: str, family: str = "ip") -> tuple[str, ...]:
    """The rules of a chain of host1."""
    key = ("nft", "host1", f"{family} docker-bridges", "chain", name)
    return next(item.entries for item in built.plan if isinstance(item, NftObject) and item.key == key)


def cases() -> list[tuple[str, Lab]]:
    """Every recorded case with its scenario."""
    found: list[tuple[str, Lab]] = []
    networks: tuple[str, ...] = ()
    containers: tuple[str, ...] = ()
    for step in SERIES:
        networks, containers = (*networks, *step.networks), (*containers, *step.containers)
        found.append((step.name, lab(networks, containers)))
    found.append((NOPROXY.name, lab(NOPROXY.networks, NOPROXY.containers, "userland_proxy: false")))
    found += [(step.name, lab(step.networks, step.containers, "underlay: 172.30.0.0/24")) for step in MASTER]
    return [(name, built) for name, built in found if (DUMPS / f"{name}.txt").exists()]


@pytest.mark.parametrize(("name", "built"), cases(), ids=lambda one: one if isinstance(one, str) else "")
def test_the_tables_are_those_that_a_daemon_wrote(name: str, built: Lab) -> None:
    assert tables(built) == recorded(name)


def test_every_dump_is_compared() -> None:
    assert {name for name, _ in cases()} == {file.stem for file in DUMPS.glob("*.txt")}


def test_an_object_and_a_rule_say_why_they_are_there() -> None:
    built = lab(
        ("net: {bridge: net0, internal: true}", "apart: {bridge: net1, icc: false}"),
        ("web: {publish: ['8080:80', '127.0.0.1:8081:81']}", "one: {networks: [net]}"),
    )
    bare = lab((), ("web: {publish: ['8080:80']}",), "userland_proxy: false")
    objects = [item for made in (built, bare) for item in made.plan if isinstance(item, NftObject)]
    assert [item.key for item in objects if reason_of(item) is None] == []
    rules = [(item, rule) for item in objects if item.kind == "chain" for rule in item.entries]
    assert [(item.name, rule) for item, rule in rules if reason_of_rule(item, rule) is None] == []


def test_docker_does_not_switch_forwarding_on() -> None:
    built = lab()
    name = "net.ipv4.ip_forward"
    forwarding = next(
        item for item in built.plan if isinstance(item, Sysctl) and (item.ns, item.name) == ("host1", name)
    )
    why = reason_of(forwarding)
    assert forwarding.value == "1"
    assert why is not None
    assert "refuses to start while it is 0" in why.sentence


def test_there_is_no_chain_of_iptables() -> None:
    assert [item for item in lab((), ("c1: {}",)).plan if isinstance(item, Chain) and item.ns == "host1"] == []


@pytest.mark.parametrize("release", ["28", "26", "20.10"])
def test_only_29_has_the_backend(release: str) -> None:
    text = f'model: docker-bridge\nrelease: "{release}"\nfirewall_backend: nftables\nhosts: {{host1: {{}}}}\n'
    with pytest.raises(ScenarioError, match="has no nftables backend") as raised:
        parse_and_compile(text, "t.yaml")
    assert [one.hint for one in raised.value.problems] == ["set release: 29"]


def says(built: Lab) -> list[str]:
    """The checks that follow from the options."""
    return [str(check.say) for check in built.checks]


def test_an_internal_network_reaches_ports_that_are_published_everywhere() -> None:
    networks = ("inner: {internal: true}", "bound: {host_binding_ipv4: 127.0.0.1}", "open: {gateway_mode_ipv4: routed}")
    web = "web: {{networks: [{}], publish: ['{}80:80']}}"
    found = {
        place: [
            one for one in says(lab(networks, (web.format(*place), "db: {networks: [inner]}"))) if "internal" in one
        ]
        for place in (("bridge", ""), ("bridge", "0.0.0.0:"), ("bridge", "127.0.0.1:"), ("bound", ""), ("open", ""))
    }
    assert [place for place, checks in found.items() if checks] == [("bridge", ""), ("bridge", "0.0.0.0:")]


def test_a_routed_network_is_open_for_its_published_ports_only() -> None:
    built = lab(
        ("open: {gateway_mode_ipv4: routed}",), ("web: {networks: [open], publish: ['80:80']}",), "routed: true"
    )
    assert [(check.target, check.port, check.expect) for check in built.checks if check.probe == "tcp"] == [
        ("web", 80, "reply"),
        ("web", 81, "timeout"),
    ]


def test_who_is_seen_with_the_bridge_has_a_masqueraded_network() -> None:
    web, other = "web: {publish: ['80:80']}", "other: {networks: [net]}"
    with_port = [one for one in says(lab(("net: {}",), (web, other))) if "other networks reach" in one]
    routed = [one for one in says(lab(("net: {gateway_mode_ipv4: routed}",), (web, other))) if "other networks" in one]
    assert (len(with_port), routed) == (1, [])

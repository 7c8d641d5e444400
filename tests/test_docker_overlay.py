"""The model docker-overlay beyond its golden plan: who gets which cable and address, and what the peer table does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from labctl.checks import runner
from labctl.core.resources import Address, Fdb, Interface, Link, Neighbour, Netns, Route
from labctl.core.scenario_types import Scenario
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from labctl.models import compile_lab
from labctl.models.lib.docker_swarm import container_endpoints, overlay_networks
from labctl.render.resources import change_lines
from labctl.scenario.definition import parse_and_compile

NAME = "docker-overlay"
TWO = """
model: docker-overlay
networks: {front: , back: {internal: true, mtu: 1400}}
hosts:
  host1: {containers: {web: , app: {networks: [back, front]}}}
  host2: {containers: {db: {networks: [back]}}}
  host3: {containers: {db2: {networks: [back]}, idle: }}
"""


def scenario(text: str = TWO) -> Scenario:
    return parse_and_compile(text, "overlay.yaml")[0]


# ---- without a kernel --------------------------------------------------------------------------------


def test_addresses_are_a_swarms_with_room_for_each_hosts_load_balancer() -> None:
    nets = overlay_networks(scenario())
    assert [(name, str(net.subnet), net.vni, net.mtu) for name, net in nets.items()] == [
        ("front", "10.0.1.0/24", 4097, 1450),
        ("back", "10.0.2.0/24", 4098, 1350),
    ]
    placed = container_endpoints(scenario(), nets)
    ends = {
        (end.container, end.device): str(end.address) for all in placed.values() for at in all for end in at.endpoints
    }
    assert ends == {
        ("web", "eth0"): "10.0.1.2",
        ("app", "eth0"): "10.0.2.2",
        ("app", "eth1"): "10.0.1.4",
        ("db", "eth0"): "10.0.2.4",
        ("db2", "eth0"): "10.0.2.6",
        ("idle", "eth0"): "10.0.1.5",
    }


def test_the_way_out_is_the_cable_after_the_first_network_that_has_one() -> None:
    plan = compile_lab(scenario()).plan
    ways = {item.ns: item.dev for item in plan if isinstance(item, Route) and item.dst.prefixlen == 0 and item.via}
    assert (ways["web"], ways["app"], ways["idle"]) == ("eth1", "eth2", "eth1")
    assert "db" not in ways
    assert {item.at.dev for item in plan if isinstance(item, Link) and item.ns == "db"} == {"lo", "eth0"}


def test_a_host_has_the_namespaces_of_its_containers_networks_and_no_other() -> None:
    made = {item.name for item in compile_lab(scenario()).plan if isinstance(item, Netns)}
    rooms = {f"{host}-{name}" for host in ("host1", "host2", "host3") for name in ("front", "back")}
    assert made & rooms == {"host1-front", "host1-back", "host2-back", "host3-front", "host3-back"}


def test_every_host_knows_who_is_elsewhere_and_nobody_of_its_own() -> None:
    plan = compile_lab(scenario()).plan
    for kind in (Neighbour, Fdb):
        known = {item.at.ns: len([one for one in plan if isinstance(one, kind) and one.at == item.at])
                 for item in plan if isinstance(item, kind)}  # fmt: skip
        assert known == {"host1-front": 1, "host3-front": 2, "host1-back": 2, "host2-back": 2, "host3-back": 2}
    own = {(item.at.ns, item.addr.ip) for item in plan if isinstance(item, Address)}
    tables = [(item.at, item.ip) for item in plan if isinstance(item, Neighbour)]
    assert tables
    assert all(at == Interface(at.ns, "vxlan0") and (at.ns, ip) not in own for at, ip in tables)


def test_the_mesh_pings_only_addresses_that_their_network_reaches() -> None:
    mesh = next(check for check in compile_lab(scenario()).checks if check.probe == "mesh")
    assert mesh.groups == ((("web", "app", "idle"), ("web", "idle")), (("app", "db", "db2"), ("app", "db", "db2")))


def test_one_host_alone_has_no_tunnel_to_prove() -> None:
    compiled = compile_lab(scenario("model: docker-overlay\nhosts: {host1: {containers: [c1]}}\n"))
    assert compiled.checks == ()
    assert not [item for item in compiled.plan if isinstance(item, (Fdb, Neighbour))]


# ---- in the kernel -----------------------------------------------------------------------------------


@pytest.fixture
def up() -> Iterator[lifecycle.Definition]:
    """The built-in scenario, up, before any packet was sent in it."""
    definition = lifecycle.define(NAME)
    lifecycle.up(definition)
    yield definition
    lifecycle.down(NAME)


def there(node: str, *commands: str) -> None:
    for command in commands:
        words = ["ip", "netns", "exec", paths.netns_name(NAME, node), *command.split()]
        subprocess.run(words, check=True, capture_output=True)


def verdicts() -> dict[str, str]:
    """What the pings between containers say, each with little patience."""
    compiled = lifecycle.load_compiled_lab(NAME)
    pings = [check for check in compiled.checks if check.probe == "ping" and check.expect == "reply" and not check.size]
    hasty = tuple(replace(check, within=0.8) for check in pings)
    outcomes = runner.run(replace(compiled, checks=hasty)).outcomes
    return {f"{one.check.source} {one.check.target}": one.verdict for one in outcomes}


def drift() -> list[str]:
    return [
        line for change in lifecycle.status(NAME, lifecycle.load_compiled_lab(NAME)) for line in change_lines(change)
    ]


@pytest.mark.root
@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("bridge fdb del 02:42:0a:00:01:05 dev vxlan0 dst 192.168.50.12 self", "missing fdb entry 02:42:0a:00:01:05"),
        ("ip neigh del 10.0.1.5 dev vxlan0", "missing neighbour 10.0.1.5 dev vxlan0"),
    ],
)
def test_who_is_not_in_the_peer_table_is_out_of_reach_on_another_host_only(
    up: lifecycle.Definition, command: str, says: str
) -> None:
    there("host1-ov", command)
    assert any(line.startswith(says) for line in drift())
    assert verdicts() == {"c1 c3": "pass", "c1 c2": "fail", "c1 internet": "pass"}
    lifecycle.up(up)
    assert drift() == []
    assert verdicts() == {"c1 c3": "pass", "c1 c2": "pass", "c1 internet": "pass"}


@pytest.mark.root
def test_a_tunnel_that_was_made_where_it_is_leads_nowhere_and_is_made_anew(up: lifecycle.Definition) -> None:
    there(
        "host1-ov",
        "ip link del vxlan0",
        "ip link add vxlan0 mtu 1450 type vxlan id 4097 dstport 4789 learning proxy l2miss l3miss",
        "ip link set vxlan0 addrgenmode none",
        "ip link set vxlan0 master br0 up",
        "ip neigh add 10.0.1.5 lladdr 02:42:0a:00:01:05 dev vxlan0 nud permanent",
        "bridge fdb add 02:42:0a:00:01:05 dev vxlan0 dst 192.168.50.12 self permanent",
    )
    assert drift() == ["changed link vxlan0: born was none, should be host1"]
    assert verdicts()["c1 c2"] == "fail"
    lifecycle.up(up)
    assert drift() == []
    assert verdicts()["c1 c2"] == "pass"


@pytest.mark.root
def test_what_a_tunnel_learned_gives_way_to_what_was_planned(up: lifecycle.Definition) -> None:
    there("host1-ov", "bridge fdb del 02:42:0a:00:01:05 dev vxlan0 dst 192.168.50.12 self")
    there("c2", "ping -c 1 -W 1 10.0.1.2")  # whose answer finds its way by what the request taught
    shown = subprocess.run(
        ["bridge", "-n", paths.netns_name(NAME, "host1-ov"), "fdb", "show", "dev", "vxlan0"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "02:42:0a:00:01:05 dst 192.168.50.12" in shown
    assert len(drift()) == 1
    lifecycle.up(up)
    assert drift() == []


@pytest.mark.root
def test_a_question_in_a_tunnel_is_a_question_on_the_wire(up: lifecycle.Definition) -> None:
    there("host1-ov", "ip link del vxlan0")
    there(
        "host1",
        f"ip link add vxlan0 netns {paths.netns_name(NAME, 'host1-ov')} mtu 1450 type vxlan id 4097 dstport 4789",
    )
    there(
        "host1-ov",
        "ip link set vxlan0 addrgenmode none master br0 up",
        "bridge fdb append 00:00:00:00:00:00 dev vxlan0 dst 192.168.50.12 self permanent",
    )
    outcome = runner.run(lifecycle.load_compiled_lab(NAME), "no ARP request").outcomes[0]
    assert outcome.verdict == "fail", outcome.evidence
    asked = "10.0.1.2 asks who has 10.0.1.99 in vxlan 4097 192.168.50.11 > 192.168.50.12"
    assert f"seen leaving host1/eth0: {asked}" in outcome.evidence


@pytest.mark.root
def test_silence_does_not_prove_that_a_packet_was_too_big(up: lifecycle.Definition) -> None:
    there("host1-ov", "ip link set veth0 mtu 1500")
    there("c1", "ip link set eth0 mtu 1500")  # what is too big for the tunnel now dies at br0, and nobody says so
    outcome = runner.run(lifecycle.load_compiled_lab(NAME), "byte more").outcomes[0]
    assert outcome.verdict == "inconclusive"
    assert "nothing reported it as too big" in outcome.evidence

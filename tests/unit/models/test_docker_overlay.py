"""The model docker-overlay beyond its golden plan: who gets which cable and address, and what the peer table does."""

from __future__ import annotations

from labctl.core.resources import Address, Fdb, Interface, Link, Neighbour, Netns, Route
from labctl.core.scenario_types import Scenario
from labctl.models import compile_lab
from labctl.models.lib.docker_swarm import container_endpoints, overlay_networks
from labctl.scenario.definition import parse_and_compile

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

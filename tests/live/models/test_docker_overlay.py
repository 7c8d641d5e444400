"""docker-overlay on a live lab: what the peer table does, and what breaks when a part is taken away."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from labctl.checks import runner
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support.drift import drift

pytestmark = pytest.mark.firewall

NAME = "docker-overlay"


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


def test_the_tunnel_is_the_first_port_of_the_bridge(up: lifecycle.Definition) -> None:
    """Docker adds it before any container (ov_network.go), and a bridge numbers its ports as they come."""
    words = ["ip", "-n", paths.netns_name(NAME, "host1-ov"), "-d", "-j", "link", "show", "master", "br0"]
    links = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    numbers = {link["ifname"]: int(link["linkinfo"]["info_slave_data"]["no"], 16) for link in links}
    assert numbers == {"vxlan0": 1, "veth0": 2, "veth1": 3}


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
    assert any(line.startswith(says) for line in drift(NAME))
    assert verdicts() == {"c1 c3": "pass", "c1 c2": "fail", "c1 internet": "pass"}
    lifecycle.up(up)
    assert drift(NAME) == []
    assert verdicts() == {"c1 c3": "pass", "c1 c2": "pass", "c1 internet": "pass"}


def test_a_tunnel_that_was_made_where_it_is_leads_nowhere_and_is_made_anew(up: lifecycle.Definition) -> None:
    there(
        "host1-ov",
        "ip link del vxlan0",
        "ip link add vxlan0 mtu 1450 txqueuelen 0 type vxlan id 4097 dstport 4789 learning proxy l2miss l3miss",
        "ip link set vxlan0 addrgenmode none",
        "ip link set vxlan0 master br0 up",
        "ip neigh add 10.0.1.5 lladdr 02:42:0a:00:01:05 dev vxlan0 nud permanent",
        "bridge fdb add 02:42:0a:00:01:05 dev vxlan0 dst 192.168.50.12 self permanent",
    )
    assert drift(NAME) == ["changed link vxlan0: link_netns was none, should be host1"]
    assert verdicts()["c1 c2"] == "fail"
    lifecycle.up(up)
    assert drift(NAME) == []
    assert verdicts()["c1 c2"] == "pass"


def test_what_a_tunnel_learned_gives_way_to_what_was_planned(up: lifecycle.Definition) -> None:
    there("host1-ov", "bridge fdb del 02:42:0a:00:01:05 dev vxlan0 dst 192.168.50.12 self")
    there("c2", "ping -c 1 -W 1 10.0.1.2")  # the answer uses the forwarding entry that the request added
    shown = subprocess.run(
        ["bridge", "-n", paths.netns_name(NAME, "host1-ov"), "fdb", "show", "dev", "vxlan0"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "02:42:0a:00:01:05 dst 192.168.50.12" in shown
    assert len(drift(NAME)) == 1
    lifecycle.up(up)
    assert drift(NAME) == []


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


def test_silence_does_not_prove_that_a_packet_was_too_big(up: lifecycle.Definition) -> None:
    there("host1-ov", "ip link set veth0 mtu 1500")
    there("c1", "ip link set eth0 mtu 1500")  # br0 now drops silently what is too big for the tunnel
    outcome = runner.run(lifecycle.load_compiled_lab(NAME), "byte more").outcomes[0]
    assert outcome.verdict == "inconclusive"
    assert "nothing reported it as too big" in outcome.evidence

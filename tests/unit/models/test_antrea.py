"""What a node of Antrea is set to, word by word: iptables-save's text, the switch's ports and what it knows of peers.

The blocks are what antrea-io/antrea writes by its sources and its own tests (pkg/agent/route), with this lab's
addresses.
"""

from __future__ import annotations

import pytest

from labctl.core.resources import Address, Fdb, Interface, IpSet, Link, Neighbour, Route, Rule, Sysctl
from labctl.core.scenario_types import Lab
from labctl.lab import lifecycle
from tests.support.rule_tables import lab, parse_tables, plan_tables, resource_texts

ANTREA = "model: antrea\ntunnel: vxlan\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}, node3: {pods: [d]}}\n"
HYBRID = ANTREA + "traffic_mode: hybrid\nelsewhere: [node3]\n"
PLAIN = ANTREA + "traffic_mode: no-encap\n"

UNTRACKED = """
-A ANTREA-PREROUTING -p udp -m comment --comment "Antrea: do not track incoming encapsulation packets" -m udp --dport 4789 -m addrtype --dst-type LOCAL -j CT --notrack
-A ANTREA-OUTPUT -p udp -m comment --comment "Antrea: do not track outgoing encapsulation packets" -m udp --dport 4789 -m addrtype --src-type LOCAL -j CT --notrack
"""  # noqa: E501
RULES = """
*raw
:ANTREA-PREROUTING - [0:0]
:ANTREA-OUTPUT - [0:0]
-A PREROUTING -m comment --comment "Antrea: jump to Antrea prerouting rules" -j ANTREA-PREROUTING
-A OUTPUT -m comment --comment "Antrea: jump to Antrea output rules" -j ANTREA-OUTPUT
{}
*mangle
:ANTREA-MANGLE - [0:0]
:ANTREA-OUTPUT - [0:0]
-A PREROUTING -m comment --comment "Antrea: jump to Antrea mangle rules" -j ANTREA-MANGLE
-A OUTPUT -m comment --comment "Antrea: jump to Antrea output rules" -j ANTREA-OUTPUT
-A ANTREA-OUTPUT -o antrea-gw0 -m comment --comment "Antrea: mark LOCAL output packets" -m addrtype --src-type LOCAL -j MARK --set-xmark 0x80000000/0x80000000
*filter
:ANTREA-FORWARD - [0:0]
-A FORWARD -m comment --comment "Antrea: jump to Antrea forwarding rules" -j ANTREA-FORWARD
-A ANTREA-FORWARD -i antrea-gw0 -m comment --comment "Antrea: accept packets from local Pods" -j ACCEPT
-A ANTREA-FORWARD -o antrea-gw0 -m comment --comment "Antrea: accept packets to local Pods" -j ACCEPT
*nat
:ANTREA-POSTROUTING - [0:0]
-A POSTROUTING -m comment --comment "Antrea: jump to Antrea postrouting rules" -j ANTREA-POSTROUTING
-A ANTREA-POSTROUTING -s 10.10.0.0/24 ! -o antrea-gw0 -m comment --comment "Antrea: masquerade Pod to external packets" -m set ! --match-set ANTREA-POD-IP dst -j MASQUERADE
-A ANTREA-POSTROUTING -o antrea-gw0 -m comment --comment "Antrea: masquerade LOCAL traffic" -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
"""  # noqa: E501


def links(built: Lab, ns: str = "node1") -> dict[str, Link]:
    return {item.at.dev: item for item in built.plan if isinstance(item, Link) and item.at.ns == ns}


def peer_mac(built: Lab, node: str) -> str:
    mac = links(built, node)["antrea-gw0"].mac
    assert mac is not None
    return mac


@pytest.mark.parametrize(("text", "more"), [(ANTREA, UNTRACKED), (HYBRID, UNTRACKED), (PLAIN, "")])
def test_the_agent_writes_its_whole_rule_set(text: str, more: str) -> None:
    built = lab(text)
    assert plan_tables(built) == parse_tables(RULES.format(more))
    assert resource_texts(built, IpSet) == ["ANTREA-POD-IP hash:net 10.10.0.0/24 10.10.1.0/24 10.10.2.0/24"]
    assert resource_texts(built, Rule) == []


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        (ANTREA, [f"10.10.{number}.0/24 via 10.10.{number}.1 dev antrea-gw0 onlink" for number in (1, 2)]),
        (HYBRID, ["10.10.1.0/24 via 192.168.0.2 dev eth0", "10.10.2.0/24 via 10.10.2.1 dev antrea-gw0 onlink"]),
        (PLAIN, ["10.10.1.0/24 via 192.168.0.2 dev eth0", "10.10.2.0/24 via 192.168.0.3 dev eth0"]),
    ],
)  # fmt: skip
def test_who_is_reached_through_the_tunnel(text: str, ways: list[str]) -> None:
    built = lab(text)
    assert resource_texts(built, Route)[1:] == ways
    far = [way.split()[2] for way in ways if "onlink" in way]
    assert [words.split()[0] for words in resource_texts(built, Neighbour)] == far
    known = {"10.10.1.1": ("node2", "192.168.0.2"), "10.10.2.1": ("node3", "192.168.1.3")}
    if text == ANTREA:
        known["10.10.2.1"] = ("node3", "192.168.0.3")
    expected = []
    for gateway in far:
        node, address = known[gateway]
        mac = peer_mac(built, node)
        expected += [f"{mac} dev antrea-tun0 dst {address}", f"{mac} dev antrea-tun0"]
        assert f"{gateway} dev antrea-gw0 lladdr {mac} nud permanent" in resource_texts(built, Neighbour)
    assert [words for words in resource_texts(built, Fdb) if "antrea-tun0" in words] == expected


@pytest.mark.parametrize("text", [ANTREA, HYBRID, PLAIN])
def test_the_switch_knows_who_is_at_which_port(text: str) -> None:
    built = lab(text)
    there = links(built)
    ports = {name: there[name].peer for name in ("antrea-gw0-br", "a-86f7e4", "b-e9d71f")}
    ends = {(link.at.ns, link.at.dev): link for link in built.plan if isinstance(link, Link)}
    macs = {name: ends[peer.ns, peer.dev].mac for name, peer in ports.items() if peer is not None}

    assert [words for words in resource_texts(built, Fdb) if "antrea-tun" not in words] == [
        f"{mac} dev {name}" for name, mac in macs.items()
    ]


@pytest.mark.parametrize(("text", "mtu"), [(ANTREA, 1450), (HYBRID, 1450), (PLAIN, 1500)])
def test_the_switch_and_its_ports(text: str, mtu: int) -> None:
    there = links(lab(text))
    ports = {name for name, link in there.items() if link.master == "br-int"}
    tunnels = {"antrea-tun0"} if text != PLAIN else set()
    assert ports == {"antrea-gw0-br", "a-86f7e4", "b-e9d71f", *tunnels}
    assert there["antrea-gw0"].peer == Interface("node1", "antrea-gw0-br")
    assert not there["br-int"].arp  # or it would answer for the gateway's address as well
    assert {there[name].mtu for name in (*ports, "br-int", "antrea-gw0")} == {mtu}
    if tunnels:
        local = {"id": "0", "local": "192.168.0.1", "learning": "off", "dstport": "4789"}
        assert dict(there["antrea-tun0"].options) == local


def test_addresses_and_settings() -> None:
    built = lab(ANTREA)
    assert resource_texts(built, Address) == ["192.168.0.1/24 dev eth0", "10.10.0.1/24 dev antrea-gw0"]
    assert resource_texts(built, Address, "b") == ["10.10.0.3/24 dev eth0"]
    assert resource_texts(built, Route, "b") == ["default via 10.10.0.1 dev eth0"]
    assert "net.bridge.bridge-nf-call-iptables = 0" in resource_texts(built, Sysctl)
    sysctls = resource_texts(built, Sysctl)
    assert "net.ipv4.conf.antrea-gw0.send_redirects = 0" in sysctls  # packets from there may go back there


def test_geneve_has_a_device_for_each_peer() -> None:
    built = lab(ANTREA.replace("tunnel: vxlan\n", ""))
    there = links(built)
    for number, address in ((0, "192.168.0.2"), (1, "192.168.0.3")):
        link = there[f"antrea-tun{number}"]
        assert (link.kind, link.master, link.isolated) == ("geneve", "br-int", True)  # or frames for all go round
        assert dict(link.options) == {"id": "0", "remote": address, "dstport": "6081"}
        assert f"{peer_mac(built, f'node{number + 2}')} dev antrea-tun{number}" in resource_texts(built, Fdb)
    assert all("--dport 6081" in rule for rule in plan_tables(built)["raw"]["ANTREA-OUTPUT"])


def test_in_geneves_stead_vxlan_is_built_where_that_is_asked_for() -> None:
    exact = lifecycle.define("antrea", overrides=("tunnel=geneve",))
    instead = lifecycle.compile_definition(lifecycle.with_substitutes(exact, ("geneve",)))
    assert instead.plan == lifecycle.compile_definition(lifecycle.define("antrea")).plan

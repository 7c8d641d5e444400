"""A node of GKE, word by word: iptables-save's text, and `ip rule` and `ip route` of each table.

The blocks are what GoogleCloudPlatform/netd and kubernetes-sigs/ip-masq-agent write by their sources, with this lab's
addresses.
"""

from __future__ import annotations

import pytest

from labctl.core.resources import Address, Link, Route, Rule, Sysctl
from labctl.core.scenario_types import Lab
from tests.support.rule_tables import lab, parse_tables, plan_tables, resource_texts

GKE = "model: gke-vpc-native\nnodes: {node1: {pods: [a, b]}}\n"


MASQ = """
*nat
:IP-MASQ-AGENT - [0:0]
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 169.254.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 10.0.0.0/8 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 172.16.0.0/12 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -d 192.168.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE" -j RETURN
-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in chain)" -j MASQUERADE --random-fully
"""  # noqa: E501
RESERVED = (
    "100.64.0.0/10 192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24 240.0.0.0/4"
)
NETD = """
*mangle
-A PREROUTING -m comment --comment "redirect all traffic to GCP-PREROUTING chain" -j GCP-PREROUTING
-A POSTROUTING -m comment --comment "redirect all traffic to GCP-POSTROUTING chain" -j GCP-POSTROUTING
-A GCP-PREROUTING -m comment --comment "restore the conn mark if applicable" -j CONNMARK --restore-mark --nfmask 0x4000 --ctmask 0x4000
-A GCP-POSTROUTING -m mark --mark 0x4000/0x4000 -m comment --comment "save the conn mark only if hairpin bit (0x4000/0x4000) is set" -j CONNMARK --save-mark --nfmask 0x4000 --ctmask 0x4000
"""  # noqa: E501


@pytest.mark.parametrize("model", ["gke-vpc-native", "gke-routes-based"])
def test_gke_masquerades_for_the_public_internet_alone(model: str) -> None:
    text = GKE.replace("gke-vpc-native", model)
    assert plan_tables(lab(text + "non_masquerade: rfc1918\n")) == parse_tables(MASQ)
    rules = plan_tables(lab(text))["nat"]["IP-MASQ-AGENT"]
    private = parse_tables(MASQ)["nat"]["IP-MASQ-AGENT"]
    assert [rules[:4], rules[-1]] == [private[:4], private[-1]]
    assert [rule.split()[1] for rule in rules[4:-1]] == RESERVED.split()


def test_netd_routes_by_where_a_packet_came_in() -> None:
    plain, built = lab(GKE), lab(GKE + "intranode_visibility: true\n")
    assert resource_texts(plain, Rule) == []
    assert plan_tables(built)["mangle"] == parse_tables(NETD)["mangle"]
    assert resource_texts(built, Rule) == [
        "pref 70 from all to 127.0.0.0/8 lookup local",
        "pref 70 from all to 169.254.0.0/16 lookup local",
        "pref 70 from all to 10.4.0.1/32 lookup local",
        "pref 70 from all to 10.128.0.2/32 lookup local",
        "pref 74 from all fwmark 0x4000/0x4000 lookup main",
        "pref 75 from all iif lo lookup main",
        "pref 76 not from all iif eth0 lookup 1",
    ]
    assert [text for text in resource_texts(built, Route) if "table" in text] == [
        "default via 10.128.0.1 dev eth0 table 1"
    ]
    assert "net.ipv4.conf.eth0.rp_filter = 2" in resource_texts(built, Sysctl)
    assert "net.ipv4.conf.eth0.rp_filter = 1" in resource_texts(plain, Sysctl)


def test_ptp_wires_every_pod_to_the_same_address() -> None:
    built = lab(GKE)
    assert resource_texts(built, Address) == [
        "10.128.0.2/32 dev eth0",
        *(f"10.4.0.1/32 dev {dev}" for dev in veths(built)),
    ]
    one, other = veths(built)
    assert resource_texts(built, Route) == [
        "10.128.0.1 dev eth0",
        "default via 10.128.0.1 dev eth0",
        f"10.4.0.2 dev {one} scope host",
        f"10.4.0.3 dev {other} scope host",
    ]
    assert resource_texts(built, Address, "a") == ["10.4.0.2/24 dev eth0, without the route to its subnet"]
    assert resource_texts(built, Route, "a") == [
        "10.4.0.1 dev eth0 src 10.4.0.2",
        "10.4.0.0/24 via 10.4.0.1 dev eth0 src 10.4.0.2",
        "default via 10.4.0.1 dev eth0",
    ]


def veths(built: Lab) -> list[str]:
    devices = [item.at.dev for item in built.plan if isinstance(item, Link) and item.at.ns == "node1"]
    return [dev for dev in devices if dev.startswith("veth")]


@pytest.mark.parametrize(("most", "length"), [(8, 28), (16, 27), (32, 26), (64, 25), (110, 24), (128, 24), (256, 23)])
def test_a_nodes_range_has_twice_as_many_addresses_as_pods(most: int, length: int) -> None:
    built = lab(f"{GKE}max_pods: {most}\n")
    assert resource_texts(built, Address, "a") == [f"10.4.0.2/{length} dev eth0, without the route to its subnet"]


def test_only_a_custom_route_is_hidden_from_peers() -> None:
    native, based = lab(GKE), lab(GKE.replace("gke-vpc-native", "gke-routes-based"))
    way = "10.4.0.0/24 via 10.128.0.2 dev node1"
    assert f"{way} onlink" in resource_texts(native, Route, "fabric")
    assert resource_texts(native, Rule, "fabric") == []
    assert f"{way} table 100 onlink" in resource_texts(based, Route, "fabric")
    assert resource_texts(based, Rule, "fabric") == [
        f"pref 100 from all iif {dev} lookup 100" for dev in ("node1", "vm")
    ]


def test_a_node_may_send_what_the_vpc_knows_it_by() -> None:
    def sent(text: str) -> list[str]:
        rules = plan_tables(lab(text), "fabric")["raw"]["PREROUTING"]
        return [rule for rule in rules if "node1" in rule]

    own = "-s 10.128.0.2/32 -i node1 -j ACCEPT"
    assert sent(GKE) == [own, "-s 10.4.0.0/24 -i node1 -j ACCEPT", "-i node1 -j DROP"]
    based = GKE.replace("gke-vpc-native", "gke-routes-based")
    assert sent(based) == []
    assert sent(based + "ip_forwarding: false\n") == [own, "-i node1 -j DROP"]

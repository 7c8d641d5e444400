"""The rules of a Kubernetes node, word by word: what iptables-save and ebtables-save show of each variant.

The blocks are those of the programs that write them: ip-masq-agent-v2 and AgentBaker's ensure-no-dup.sh (AKS), the
kubelet of 1.23 (kubenet_linux.go, kubelet_network_linux.go), and portmap of containernetworking/plugins 1.1.
"""

from __future__ import annotations

import pytest

from labctl.core.iptables import BUILTIN
from labctl.core.resources import Chain
from labctl.scenario.definition import parse_and_compile
from tests.support.rule_tables import Tables, parse_tables


def saved(options: str = "", pod: str = "", family: str = "ip") -> Tables:
    """The rules of node1 by table and chain; a built-in chain without rules is not there."""
    text = f"model: kubenet\n{options}\nnodes: {{node1: {{pods: {{a: {{{pod}}}, b: }}}}}}\n"
    tables: Tables = {}
    for item in parse_and_compile(text, "t.yaml")[1].plan:
        here = isinstance(item, Chain) and (item.ns, item.family) == ("node1", family)
        if here and (item.rules or item.name not in BUILTIN[family, item.table]):
            tables.setdefault(item.table, {})[item.name] = list(map(str, item.rules))
    return tables


AGENT = """
*nat
:IP-MASQ-AGENT - [0:0]
-A POSTROUTING -m comment --comment "ip-masq-agent: ensure nat POSTROUTING directs all non-LOCAL destination traffic to\
 our custom IP-MASQ-AGENT chain" -m addrtype ! --dst-type LOCAL -j IP-MASQ-AGENT
-A IP-MASQ-AGENT -d 10.244.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE"\
 -j RETURN
{}-A IP-MASQ-AGENT -m comment --comment "ip-masq-agent: outbound traffic is subject to MASQUERADE (must be last in\
 chain)" -j MASQUERADE
"""
SUBNET = (
    '-A IP-MASQ-AGENT -d 10.224.0.0/16 -m comment --comment "ip-masq-agent: local traffic is not subject to MASQUERADE"'
    " -j RETURN\n"
)
KUBELET = """
*nat
-A POSTROUTING ! -d 10.0.0.0/8 -m comment --comment "kubenet: SNAT for outbound traffic from cluster"\
 -m addrtype ! --dst-type LOCAL -j MASQUERADE
"""


@pytest.mark.parametrize(
    ("masquerade", "rules"),
    [("podcidr", AGENT.format("")), ("podcidr+subnet", AGENT.format(SUBNET)), ("kubelet", KUBELET)],
)
def test_what_leaves_the_cluster_is_masqueraded(masquerade: str, rules: str) -> None:
    assert saved(f"masquerade: {masquerade}") == parse_tables(rules)


@pytest.mark.parametrize(("masquerade", "name"), [("podcidr", "AKS-DEDUP-PROMISC"), ("kubelet", "KUBE-DEDUP")])
def test_doubled_packets_are_dropped(masquerade: str, name: str) -> None:
    rules = saved(f"masquerade: {masquerade}", family="bridge")
    mac = rules["filter"][name][0].split()[3]
    assert rules == parse_tables(
        f"""
        *filter
        :{name} ACCEPT
        -A OUTPUT -j {name}
        -A {name} -p IPv4 -s {mac} -o veth+ --ip-src 10.244.0.1 -j ACCEPT
        -A {name} -p IPv4 -s {mac} -o veth+ --ip-src 10.244.0.0/24 -j DROP
        """
    )


DN = "CNI-DN-2d4be5247a7105d1dd3bc"  # of the network kubenet and the container a
PORTMAP = f"""
*nat
:{DN} - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"kubenet\\" id: \\"a\\"" -m multiport --dports 8080,81\
 -j {DN}
-A CNI-HOSTPORT-DNAT -p udp -m comment --comment "dnat name: \\"kubenet\\" id: \\"a\\"" -m multiport --dports 53 -j {DN}
-A {DN} -s 10.244.0.0/24 -p tcp -m tcp --dport 8080 -j KUBE-MARK-MASQ
-A {DN} -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j KUBE-MARK-MASQ
-A {DN} -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.0.2:80
-A {DN} -s 10.244.0.0/24 -d 10.224.0.4/32 -p tcp -m tcp --dport 81 -j KUBE-MARK-MASQ
-A {DN} -s 127.0.0.1/32 -d 10.224.0.4/32 -p tcp -m tcp --dport 81 -j KUBE-MARK-MASQ
-A {DN} -d 10.224.0.4/32 -p tcp -m tcp --dport 81 -j DNAT --to-destination 10.244.0.2:81
-A {DN} -s 10.244.0.0/24 -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
-A {DN} -s 127.0.0.1/32 -p udp -m udp --dport 53 -j KUBE-MARK-MASQ
-A {DN} -p udp -m udp --dport 53 -j DNAT --to-destination 10.244.0.2:53
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
"""


def test_ports_of_the_node_are_portmaps() -> None:
    ports = 'host_ports: ["8080:80", "10.224.0.4:81:81", "53:53/udp"]'
    rules = saved("masquerade: kubelet\nnon_masquerade_cidr: 0.0.0.0/0", ports)

    assert rules == parse_tables(PORTMAP)
    assert saved("masquerade: kubelet\nnon_masquerade_cidr: 0.0.0.0/0") == {}

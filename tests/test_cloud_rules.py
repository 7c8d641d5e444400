"""What the cloud models write, word by word: the rules and policy of a node as upstream documents and writes them."""

from __future__ import annotations

from labctl.parse import parse_and_compile
from labctl.plan import Chain, Route, Rule
from labctl.scenario import Lab
from labctl.words import route_words, rule_words

EKS = """
model: eks-vpc-cni
vpc_cidr: 10.0.0.0/16
pods_per_eni: 1
{more}
nodes: {{n1: {{pods: [p1, p2]}}, n2: {{pods: [p3]}}}}
"""
# pkg/networkutils/iptables_connmark.go and network.go of aws/amazon-vpc-cni-k8s, as iptables-save prints them
EKS_RULES = """
*mangle
-A PREROUTING -i eth0 -m comment --comment "AWS, primary ENI" -m addrtype --dst-type LOCAL --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80
-A PREROUTING -i eni+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A PREROUTING -i vlan+ -m comment --comment "AWS, primary ENI" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
*nat
-A PREROUTING -i eni+ -m comment --comment "AWS, outbound connections" -j AWS-CONNMARK-CHAIN-0
-A PREROUTING -m comment --comment "AWS, CONNMARK" -j CONNMARK --restore-mark --nfmask 0x80 --ctmask 0x80
-A POSTROUTING -m comment --comment "AWS SNAT CHAIN" -j AWS-SNAT-CHAIN-0
-A AWS-CONNMARK-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS CONNMARK CHAIN" -j RETURN
-A AWS-CONNMARK-CHAIN-0 -m comment --comment "AWS, CONNMARK" -j CONNMARK --set-xmark 0x80/0x80
-A AWS-SNAT-CHAIN-0 -d 10.0.0.0/16 -m comment --comment "AWS SNAT CHAIN" -j RETURN
-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment "AWS, SNAT" -m addrtype ! --dst-type LOCAL -j SNAT --to-source 10.0.0.4 --random-fully
"""  # noqa: E501


def eks(more: str = "") -> Lab:
    return parse_and_compile(EKS.format(more=more), "eks.yaml")[1]


def saved(lab: Lab, ns: str) -> list[str]:
    """A node's rules as iptables-save would print them, table by table."""
    lines: dict[str, list[str]] = {}
    for item in lab.plan:
        if isinstance(item, Chain) and item.ns == ns and item.family == "ip":
            lines.setdefault(item.table, []).extend(f"-A {item.name} {rule}" for rule in item.rules)
    return [line for table, rules in sorted(lines.items()) for line in (f"*{table}", *rules)]


def test_eks_writes_the_plugins_rules() -> None:
    assert sorted(saved(eks(), "n1")) == sorted(EKS_RULES.strip().splitlines())


def test_with_external_snat_the_chains_are_gone_and_the_marks_stay() -> None:
    marks = EKS_RULES.strip().splitlines()[:4]
    assert saved(eks("external_snat: true"), "n1") == marks
    assert "pref 1024 from all fwmark 0x80/0x80 lookup main" in policy(eks("external_snat: true"), "n1")


def policy(lab: Lab, ns: str) -> list[str]:
    return [rule_words(item) for item in lab.plan if isinstance(item, Rule) and item.ns == ns]


def test_eks_has_the_plugins_rules_of_routing_and_a_table_for_each_further_interface() -> None:
    assert sorted(policy(eks(), "n1"), key=lambda text: int(text.split()[1])) == [
        "pref 512 from all to 10.0.0.5/32 lookup main",
        "pref 512 from all to 10.0.0.7/32 lookup main",
        "pref 1024 from all fwmark 0x80/0x80 lookup main",
        "pref 1536 from 10.0.0.7/32 lookup 2",
        "pref 32765 from 10.0.0.6/32 lookup 2",
    ]
    routes = [
        route_words(item) for item in eks().plan if isinstance(item, Route) and item.ns == "n1" and item.table == 2
    ]
    assert routes == ["10.0.0.1 dev eth1 table 2", "default via 10.0.0.1 dev eth1 table 2"]

"""portmap's tables of nft, against what the plugin of 1.9.1 wrote for the same ports."""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import Any

import pytest

from labctl.core.nft_ruleset import parse_ruleset
from labctl.core.resources import Chain, NftObject, Sysctl
from labctl.core.scenario_types import PublishedPort
from labctl.core.why import reason_of, reason_of_rule
from labctl.models.lib import portmap_nft
from tests.support.paths import GOLDEN
from tests.support.rule_tables import in_any_order, lab, plan_ruleset

WRITTEN = GOLDEN / "cni-plugins-1.9.1"
PORTS = {
    "portmap": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
    "portmap-dual-stack": json.loads((WRITTEN / "portmap-ports.json").read_text()),
}
PODS = {
    "portmap": {"c-one": ["10.244.1.2"]},
    "portmap-dual-stack": {
        "c-one": ["10.244.1.2", "fd00:10:244:1::2"],
        "c-two": ["10.244.1.3", "fd00:10:244:1::3"],
    },
}


def published(mapping: dict[str, Any]) -> PublishedPort:
    host_ip = mapping.get("hostIP")
    address = ip_address(host_ip) if host_ip else None
    return PublishedPort(mapping["hostPort"], mapping["containerPort"], mapping["protocol"], address)  # type: ignore[arg-type]


def built(case: str, version: int) -> list[NftObject]:
    """The table that the model makes for the pods of a case."""
    ports = [published(mapping) for mapping in PORTS[case]]
    owners = [(pod, ip_address(text)) for pod, texts in PODS[case].items() for text in texts]
    here = [(pod, address) for pod, address in owners if address.version == version]
    rules = [rule for pod, address in here for rule in portmap_nft.port_rules(pod, address, ports)]
    masquerading = [rule for pod, address in here for rule in portmap_nft.masquerade_rules(pod, address)]
    return list(portmap_nft.table("", version, rules, masquerading))


@pytest.mark.parametrize(("case", "versions"), [("portmap", (4,)), ("portmap-dual-stack", (4, 6))])
def test_the_tables_are_those_that_portmap_writes(case: str, versions: tuple[int, ...]) -> None:
    written = [*parse_ruleset("", (WRITTEN / f"{case}.txt").read_text())]
    ours = [item for version in versions for item in built(case, version)]
    assert [numbered(item) for item in ours] == [numbered(item) for item in written]


def numbered(item: NftObject) -> tuple[object, ...]:
    """An object with the priority of its hook output as nft 1.0.6 and later versions print it alike."""
    return (item.table, item.name, item.entries, tuple(line.replace("-100", "dstnat") for line in item.header))


EKS = """
model: eks-vpc-cni
portmap_backend: nftables
nodes: {node1: {pods: {a: {host_ports: ["8080:80", "10.0.0.4:5353:53/udp"]}, b: }}, node2: {pods: [c]}}
"""


def test_a_node_of_eks_has_the_table_for_its_host_ports() -> None:
    found = lab(EKS)
    text = (WRITTEN / "portmap.txt").read_text().replace("10.244.1.2", "10.0.0.5").replace("c-one", "a")
    rule = 'tcp dport 8080 dnat to 10.0.0.5:80 comment "a"\n'
    text = text.replace(rule, f'{rule}ip daddr 10.0.0.4 udp dport 5353 dnat to 10.0.0.5:53 comment "a"\n')
    wanted = [*parse_ruleset("node1", text)]
    assert [numbered(item) for item in in_any_order(plan_ruleset(found))] == [
        numbered(item) for item in in_any_order(wanted)
    ]
    assert plan_ruleset(found, "node2") == []
    assert not [item for item in found.plan if isinstance(item, Chain) and "HOSTPORT" in item.name]
    assert [item for item in found.plan if isinstance(item, Sysctl) and item.name.endswith(".route_localnet")]
    for item in plan_ruleset(found):
        assert reason_of(item) is not None
        assert [entry for entry in item.entries if reason_of_rule(item, entry) is None] == []

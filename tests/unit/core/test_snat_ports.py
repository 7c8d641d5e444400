"""The ports that a rule of source NAT may give, and how many are in use."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from labctl.core.iptables import rule
from labctl.core.observations import Flow
from labctl.core.resources import Chain
from labctl.core.snat_ports import matching_rules, port_use, snat_ports

NODE, TARGET, PUBLIC = (ip_address(text) for text in ("10.224.0.4", "203.0.113.1", "203.0.113.50"))
BLOCK = rule("-s 10.224.0.4/32 -o pip -p tcp -j SNAT --to-source 203.0.113.50:1024-1027")
FLOW = Flow("fabric", 6, NODE, TARGET, 40000, 443, TARGET, PUBLIC, 443, 1024)


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("-j SNAT --to-source 203.0.113.50:1024-1031", "203.0.113.50:1024-1031"),
        ("-j SNAT --to-source 203.0.113.50:1024", "203.0.113.50:1024"),
        ("-j SNAT --to-source 203.0.113.50", None),
        ("-j SNAT --to-source 203.0.113.50-203.0.113.53:1024-1031", None),
        ("-p udp -j MASQUERADE --to-ports 2000-2003", "2000-2003"),
        ("-j MASQUERADE", None),
        ("-p tcp -j DNAT --to-destination 10.0.0.1:80", None),
        ("-j ACCEPT", None),
    ],
)
def test_the_ports_of_a_rule(text: str, ports: str | None) -> None:
    found = snat_ports(rule(text))
    assert (None if found is None else str(found)) == ports


def test_the_ports_of_a_rule_of_ipv6() -> None:
    found = snat_ports(rule("-p udp -j SNAT --to-source [2001:db8::1]:3000-3003", "ip6"))
    assert found is not None
    assert (str(found), len(found.ports)) == ("[2001:db8::1]:3000-3003", 4)


def used(*flows: Flow) -> int:
    found = port_use("fabric", "POSTROUTING", 1, BLOCK, "tcp", (TARGET, 443), flows)
    assert found is not None
    return found.used


def test_a_port_counts_for_its_destination_only() -> None:
    assert used() == 0
    assert used(FLOW, replace(FLOW, reply_dport=1025)) == 2
    assert used(FLOW, replace(FLOW, sport=40001)) == 1  # one port, seen twice
    assert used(replace(FLOW, reply_sport=80)) == 0
    assert used(replace(FLOW, reply_src=PUBLIC)) == 0
    assert used(replace(FLOW, protocol=17)) == 0
    assert used(replace(FLOW, reply_dport=1028)) == 0
    assert used(replace(FLOW, reply_dst=TARGET)) == 0


def test_a_block_is_exhausted_when_each_of_its_ports_is_in_use() -> None:
    flows = [replace(FLOW, reply_dport=port) for port in range(1024, 1028)]
    full = port_use("fabric", "POSTROUTING", 1, BLOCK, "tcp", (TARGET, 443), flows)
    left = port_use("fabric", "POSTROUTING", 1, BLOCK, "tcp", (TARGET, 443), flows[1:])
    assert full is not None
    assert left is not None
    assert (full.exhausted, left.exhausted) == (True, False)
    assert str(full) == "4 of the 4 ports of 203.0.113.50:1024-1027 are in use by tcp connections to 203.0.113.1:443"


def test_a_rule_without_ports_and_icmp_have_no_use() -> None:
    assert port_use("fabric", "POSTROUTING", 1, rule("-j MASQUERADE"), "tcp", (TARGET, 443), [FLOW]) is None
    assert port_use("fabric", "POSTROUTING", 1, BLOCK, "icmp", (TARGET, 443), [FLOW]) is None


def test_the_rules_that_can_match_a_packet() -> None:
    other = rule("-s 10.224.0.5/32 -p tcp -j SNAT --to-source 203.0.113.50:1028-1031")
    datagrams = rule("-p udp -j SNAT --to-source 203.0.113.50:1024-1027")
    chain = Chain("fabric", "nat", "POSTROUTING", (other, datagrams, rule("-j MASQUERADE"), BLOCK))
    elsewhere = Chain("fabric", "nat", "OUTPUT", (BLOCK,))
    found = [number for _, number, _ in matching_rules((elsewhere, chain), NODE, "tcp")]
    assert found == [4]
    assert [number for _, number, _ in matching_rules((chain,), NODE, "udp")] == [2]

"""Whether a firewall rule can match a packet: only certain contradictions exclude it."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.iptables import rule
from labctl.tracing.rule_matching import ARP, IPV4, IPV6, RulePacket, can_match

SYN = RulePacket(
    IPV4,
    6,
    frozenset({ip_address("192.0.2.1")}),
    frozenset({ip_address("192.0.2.2")}),
    frozenset({40000}),
    frozenset({80}),
    mac=("02:00:00:00:00:01", "02:00:00:00:00:02"),
    iifs=frozenset({"p1"}),
    oifs=frozenset({"p2"}),
    bridge_iif="br0",
    bridge_oif="br0",
)
SOLICITATION = RulePacket(IPV6, 58, icmp_type=135)
QUESTION = RulePacket(ARP, dsts=frozenset({ip_address("192.0.2.2")}), arp_request=True)


@pytest.mark.parametrize(
    ("family", "text", "packet", "expected"),
    [
        ("bridge", "-j DROP", SYN, True),
        ("bridge", "-p IPv4 -j DROP", SYN, True),
        ("bridge", "-p ARP -j DROP", SYN, False),
        ("bridge", "-p IPv6 -j DROP", SYN, False),
        ("bridge", "-p ! IPv4 -j DROP", SYN, False),
        ("bridge", "-p ! ARP -j DROP", SYN, True),
        ("bridge", "-p 0x88cc -j DROP", SYN, False),
        ("bridge", "-p LENGTH -j DROP", SYN, False),
        ("bridge", "-p 802_1Q -j DROP", SYN, True),
        ("bridge", "-i p1 -o p2 -j DROP", SYN, True),
        ("bridge", "-i p2 -j DROP", SYN, False),
        ("bridge", "-i ! p1 -j DROP", SYN, False),
        ("bridge", "-i p+ -o q+ -j DROP", SYN, False),
        ("bridge", "--logical-in br1 -j DROP", SYN, False),
        ("bridge", "--logical-out br0 -j DROP", SYN, True),
        ("bridge", "-s 2:0:0:0:0:1 -j DROP", SYN, True),
        ("bridge", "-s ! 02:00:00:00:00:01 -j DROP", SYN, False),
        ("bridge", "-d Broadcast -j DROP", SYN, False),
        ("bridge", "-d 02:00:00:00:00:00/ff:ff:ff:ff:ff:00 -j DROP", SYN, True),
        ("bridge", "-p IPv4 --ip-src 192.0.2.0/24 --ip-dst 192.0.2.2 -j DROP", SYN, True),
        ("bridge", "-p IPv4 --ip-src ! 192.0.2.0/24 -j DROP", SYN, False),
        ("bridge", "-p IPv4 --ip-dst 198.51.100.0/24 -j DROP", SYN, False),
        ("bridge", "-p IPv4 --ip-proto udp -j DROP", SYN, False),
        ("bridge", "-p IPv4 --ip-proto 6 --ip-dport 443:500 -j DROP", SYN, False),
        ("bridge", "-p IPv4 --ip-proto 6 --ip-dport 50:100 -j DROP", SYN, True),
        ("bridge", "-p IPv6 --ip6-proto ipv6-icmp -j DROP", SOLICITATION, True),
        ("bridge", "-p IPv4 --ip-tos 8 --limit 1/sec -j DROP", SYN, True),
        ("bridge", "-p ARP --arp-op Reply -j DROP", QUESTION, False),
        ("bridge", "-p ARP --arp-op Request --arp-ip-dst 192.0.2.2 -j DROP", QUESTION, True),
        ("bridge", "-p ARP --arp-ip-dst 192.0.2.3 -j DROP", QUESTION, False),
        ("ip", "-p udp -j DROP", SYN, False),
        ("ip", "-p tcp -m tcp --dport 80 -j DROP", SYN, True),
        ("ip", "-p tcp -m tcp ! --dport 80 -j DROP", SYN, False),
        ("ip", "! -s 192.0.2.1/32 -j DROP", SYN, False),
        ("ip", "-s 192.0.2.0/255.255.255.0 -m state --state NEW -j DROP", SYN, True),
        ("ip", "-p icmp -m icmp --icmp-type echo-request -j DROP", RulePacket(IPV4, 1, icmp_type=8), True),
        ("ip6", "-p ipv6-icmp -m icmp6 --icmpv6-type 135 -j DROP", SOLICITATION, True),
        ("ip6", "-p ipv6-icmp -m icmp6 --icmpv6-type neighbour-advertisement -j DROP", SOLICITATION, False),
    ],
)
def test_a_rule_is_excluded_only_by_a_contradiction(family: str, text: str, packet: RulePacket, expected: bool) -> None:
    assert can_match(rule(text, family), packet, family) is expected


def test_a_packet_of_which_little_is_known_excludes_little() -> None:
    unknown = RulePacket(IPV4)
    assert can_match(rule("-p IPv4 -i p9 --ip-src 10.0.0.0/8 --ip-proto 6 -j DROP", "bridge"), unknown, "bridge")
    assert not can_match(rule("-p ARP -j DROP", "bridge"), unknown, "bridge")


def test_a_translated_packet_has_both_addresses() -> None:
    both = RulePacket(IPV4, dsts=frozenset({ip_address("10.96.0.1"), ip_address("10.0.0.2")}))
    assert can_match(rule("-d 10.0.0.2/32 -j DROP"), both, "ip")
    assert can_match(rule("! -d 10.0.0.2/32 -j DROP"), both, "ip")
    assert not can_match(rule("-d 10.0.0.3/32 -j DROP"), both, "ip")

"""Whether a firewall rule can match a packet, from the options that can be decided. Pure.

A counter that increased proves only that some packet matched the rule. These functions exclude the rules that cannot
have matched the packet in question. An option that is not known here never excludes a rule.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import TypeAlias

from labctl.core.iptables import FirewallRule
from labctl.core.iptables_forms import IP_PROTOCOLS
from labctl.core.iptables_parts import RuleOption
from labctl.core.resources import IP

IPV4, ARP, IPV6 = 0x0800, 0x0806, 0x86DD
ETHERTYPES = {"ipv4": IPV4, "ip": IPV4, "arp": ARP, "ipv6": IPV6, "ip6": IPV6}
VLAN_NAMES = ("802_1q", "vlan", "8021q", "802_1ad", "8021ad", "qinq", "0x8100", "0x88a8")  # the frame may have a tag
PROTOCOLS = {**IP_PROTOCOLS, "icmpv6": 58, "icmp6": 58}
ECHO_NAMES = {"echo-request": 8, "ping": 8, "echo-reply": 0, "pong": 0}
ICMP6_NAMES = {
    "echo-request": 128, "ping": 128, "echo-reply": 129, "router-solicitation": 133, "router-advertisement": 134,
    "neighbour-solicitation": 135, "neighbor-solicitation": 135, "neighbour-advertisement": 136,
    "neighbor-advertisement": 136,
}  # fmt: skip
PLAIN_MATCHES = ("tcp", "udp", "icmp", "icmp6", "comment")  # without an option, they match their protocol
FULL_MASK = 0xFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class RulePacket:
    """What is known of a packet when it passes rules. None, and an empty set, mean that it is not known.

    `ethertype` is that of its frame, `protocol` and `icmp_type` are numbers. The address sets have several elements if
    the packet may have been translated meanwhile. `iifs` and `oifs` are possible interfaces, `bridge_iif` and
    `bridge_oif` the bridges of these ports. `arp_request` is whether an ARP packet asks or answers. `local_addresses`
    are those of the namespace with the rules. `ct_state` is the state of its connection, as `--ctstate` names it.
    """

    ethertype: int
    protocol: int | None = None
    srcs: frozenset[IP] = frozenset()
    dsts: frozenset[IP] = frozenset()
    sports: frozenset[int] = frozenset()
    dports: frozenset[int] = frozenset()
    icmp_type: int | None = None
    arp_request: bool | None = None
    mac: tuple[str, str] | None = None
    iifs: frozenset[str] = frozenset()
    oifs: frozenset[str] = frozenset()
    bridge_iif: str | None = None
    bridge_oif: str | None = None
    local_addresses: frozenset[IP] = frozenset()
    ct_state: str | None = None


def can_match(rule: FirewallRule, packet: RulePacket, family: str) -> bool:
    """Whether no option of the rule excludes the packet. `family` is that of the rule's chain."""
    return match(rule, packet, family) is not False


def match(rule: FirewallRule, packet: RulePacket, family: str) -> bool | None:
    """Whether the rule matches the packet; None if an option cannot be decided and no other one excludes the packet."""
    tests = _BRIDGE_TESTS if family == "bridge" else _IP_TESTS
    parts = [part for part in rule.parts if part.flag in ("-m", "")]
    options = (*rule.head, *(option for part in parts for option in part.options))
    answers = [_option_matches(tests.get(option.flag), option, packet) for option in options]
    answers += [None for part in parts if part.flag == "-m" and not part.options and part.name not in PLAIN_MATCHES]
    if False in answers:
        return False
    return None if None in answers else True


def _option_matches(test: _Test | None, option: RuleOption, packet: RulePacket) -> bool | None:
    if option.flag == "--comment":
        return True
    if test is None or len(option.values) != 1:
        return None
    try:
        matches = test(option.values[0], packet)
    except ValueError:  # a value in a form that is not known here
        return None
    return None if matches is None else matches != option.negated


def _ethertype(value: str, packet: RulePacket) -> bool | None:
    name = value.lower()
    if name in VLAN_NAMES:
        return None
    if name.startswith("0x"):
        return int(name, 16) == packet.ethertype
    return ETHERTYPES.get(name) == packet.ethertype


def _protocol(value: str, packet: RulePacket) -> bool | None:
    number = int(value) if value.isdigit() else PROTOCOLS.get(value.lower())
    if number is None or packet.protocol is None:
        return None
    return number == packet.protocol


def _address(value: str, addresses: frozenset[IP]) -> bool | None:
    """None if only some of the possible addresses match."""
    network = ip_network(value, strict=False)
    return _decided([one.version == network.version and one in network for one in addresses])


def _decided(answers: list[bool]) -> bool | None:
    if not answers or any(answers) != all(answers):
        return None
    return answers[0]


def _number_range(value: str, numbers: frozenset[int]) -> bool | None:
    first, colon, last = value.partition(":")
    low, high = int(first or 0), int(last or 65535) if colon else int(first)
    return _decided([low <= number <= high for number in numbers])


def _number_list(value: str, numbers: frozenset[int]) -> bool | None:
    answers = [_number_range(part, numbers) for part in value.split(",")]
    return True if True in answers else None if None in answers else False


def _address_range(value: str, addresses: frozenset[IP]) -> bool | None:
    low, _, high = value.partition("-")
    first, last = ip_address(low), ip_address(high or low)
    return _decided([one.version == first.version and int(first) <= int(one) <= int(last) for one in addresses])


def _address_type(value: str, addresses: frozenset[IP], packet: RulePacket) -> bool | None:
    """Only the type LOCAL: the namespace has the address itself."""
    if value != "LOCAL" or not packet.local_addresses:
        return None
    return _decided([one in packet.local_addresses or one.is_loopback for one in addresses])


def _ct_state(value: str, packet: RulePacket) -> bool | None:
    states = value.split(",")
    if packet.ct_state is None or packet.ct_state in states:
        return None if packet.ct_state is None else True
    return None if {"SNAT", "DNAT"} & {*states} else False  # the packet may have been translated meanwhile


def _interface(value: str, names: frozenset[str]) -> bool | None:
    if value.endswith("+"):
        return _decided([name.startswith(value[:-1]) for name in names])
    return _decided([name == value for name in names])


def _one(name: str | None) -> frozenset[str]:
    return frozenset() if name is None else frozenset((name,))


def _mac(value: str, mac: str | None) -> bool | None:
    if mac is None:
        return None
    number = _mac_number(mac)
    multicast = bool(number >> 40 & 1)
    named = {"unicast": not multicast, "multicast": multicast, "broadcast": number == FULL_MASK}
    if value.lower() in named:
        return named[value.lower()]
    wanted, _, mask_text = value.partition("/")
    mask = _mac_number(mask_text) if mask_text else FULL_MASK
    return _mac_number(wanted) & mask == number & mask


def _mac_number(text: str) -> int:
    octets = text.split(":")
    if len(octets) != 6:
        raise ValueError(text)
    return int("".join(octet.rjust(2, "0") for octet in octets), 16)


def _icmp_type(value: str, packet: RulePacket) -> bool | None:
    if packet.icmp_type is None:
        return None
    names = ECHO_NAMES if packet.ethertype == IPV4 else ICMP6_NAMES
    first, _, last = value.partition("/")[0].partition(":")
    low = names[first] if first in names else int(first)
    return low <= packet.icmp_type <= (int(last) if last else low)


def _arp_operation(value: str, packet: RulePacket) -> bool | None:
    if packet.arp_request is None or value not in ("Request", "Reply"):
        return None
    return packet.arp_request == (value == "Request")


def _src(value: str, packet: RulePacket) -> bool | None:
    return _address(value, packet.srcs)


def _dst(value: str, packet: RulePacket) -> bool | None:
    return _address(value, packet.dsts)


def _sport(value: str, packet: RulePacket) -> bool | None:
    return _number_range(value, packet.sports)


def _dport(value: str, packet: RulePacket) -> bool | None:
    return _number_range(value, packet.dports)


_Test: TypeAlias = Callable[[str, RulePacket], bool | None]
_IP_TESTS: Mapping[str, _Test] = {
    "-p": _protocol,
    "-s": _src,
    "-d": _dst,
    "-i": lambda value, packet: _interface(value, packet.iifs),
    "-o": lambda value, packet: _interface(value, packet.oifs),
    "--sport": _sport,
    "--dport": _dport,
    "--sports": lambda value, packet: _number_list(value, packet.sports),
    "--dports": lambda value, packet: _number_list(value, packet.dports),
    "--src-range": lambda value, packet: _address_range(value, packet.srcs),
    "--dst-range": lambda value, packet: _address_range(value, packet.dsts),
    "--src-type": lambda value, packet: _address_type(value, packet.srcs, packet),
    "--dst-type": lambda value, packet: _address_type(value, packet.dsts, packet),
    "--ctstate": _ct_state,
    "--state": _ct_state,
    "--icmp-type": _icmp_type,
    "--icmpv6-type": _icmp_type,
}
_BRIDGE_TESTS: Mapping[str, _Test] = {
    "-p": _ethertype,
    "-s": lambda value, packet: _mac(value, packet.mac[0] if packet.mac else None),
    "-d": lambda value, packet: _mac(value, packet.mac[1] if packet.mac else None),
    "-i": _IP_TESTS["-i"],
    "-o": _IP_TESTS["-o"],
    "--logical-in": lambda value, packet: _interface(value, _one(packet.bridge_iif)),
    "--logical-out": lambda value, packet: _interface(value, _one(packet.bridge_oif)),
    "--arp-op": _arp_operation,
    "--arp-ip-src": _src,
    "--arp-ip-dst": _dst,
}
for _prefix in ("--ip-", "--ip6-"):
    _BRIDGE_TESTS = {
        **_BRIDGE_TESTS,
        **{_prefix + name: _src for name in ("src", "source")},
        **{_prefix + name: _dst for name in ("dst", "destination")},
        **{_prefix + name: _protocol for name in ("proto", "protocol")},
        **{_prefix + name: _sport for name in ("sport", "source-port")},
        **{_prefix + name: _dport for name in ("dport", "destination-port")},
        **{_prefix + name: _icmp_type for name in ("icmp-type", "icmpv6-type")},
    }

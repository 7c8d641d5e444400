"""What nat rules can choose: all possible ends of the search, and no impossible one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.iptables import rule
from labctl.core.resources import IP, Chain
from labctl.tracing.nat_choice import NatChoice, NatEnd, choices
from labctl.tracing.rule_matching import IPV4, RulePacket

CLIENT, SERVICE = ip_address("10.1.0.2"), ip_address("10.96.0.10")
LOCAL = frozenset({ip_address("10.2.1.1")})
DATAGRAM = RulePacket(
    IPV4, 17, frozenset({CLIENT}), frozenset({SERVICE}), frozenset({4000}), frozenset({53}),
    iifs=frozenset({"a"}), local_addresses=LOCAL, ct_state="NEW",
)  # fmt: skip
FIRST, SECOND = "-j DNAT --to-destination 10.2.1.2:5353", "-j DNAT --to-destination 10.2.2.2:5353"


def chain(name: str, *rules: str, policy: str | None = None) -> Chain:
    return Chain("r", "nat", name, tuple(rule(text) for text in rules), policy)


def chosen(*chains: Chain) -> list[str]:
    """The destinations that the rules can choose; "" for none."""
    return [one.destination for one in choices(chains, "PREROUTING", DATAGRAM)]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((), [""]),
        ((FIRST, SECOND), ["10.2.1.2:5353"]),
        (("-p tcp " + FIRST, SECOND), ["10.2.2.2:5353"]),
        (("-p udp --dport 53 " + FIRST,), ["10.2.1.2:5353"]),
        (("-p udp --dport 54 " + FIRST,), [""]),
        (("! -i b " + FIRST,), ["10.2.1.2:5353"]),
        (("-d 10.96.0.0/16 -m comment --comment service " + FIRST,), ["10.2.1.2:5353"]),
        (("-m addrtype --dst-type LOCAL " + FIRST,), [""]),
        (("-m addrtype ! --dst-type LOCAL " + FIRST,), ["10.2.1.2:5353"]),
        (("-p udp -m multiport --dports 80,53 " + FIRST,), ["10.2.1.2:5353"]),
        (("-p udp -m multiport --dports 80,81:90 " + FIRST,), [""]),
        (("-m iprange --dst-range 10.96.0.1-10.96.0.20 " + FIRST,), ["10.2.1.2:5353"]),
        (("-m conntrack --ctstate NEW " + FIRST,), ["10.2.1.2:5353"]),
        (("-m conntrack --ctstate ESTABLISHED " + FIRST,), [""]),
        (("-m statistic --mode random --probability 0.5 " + FIRST, SECOND), ["10.2.1.2:5353", "10.2.2.2:5353"]),
        (("-m mark --mark 1 " + FIRST,), ["10.2.1.2:5353", ""]),
        (("-m set --match-set x src -j RETURN", FIRST), ["10.2.1.2:5353", ""]),
        (("-j ACCEPT", FIRST), [""]),
        (("-j RETURN", FIRST), [""]),
        (("-j MARK --set-xmark 1", "-j LOG", FIRST), ["10.2.1.2:5353"]),
    ],
)
def test_rules_of_one_chain(rules: tuple[str, ...], expected: list[str]) -> None:
    assert chosen(chain("PREROUTING", *rules, policy="ACCEPT")) == expected


@pytest.mark.parametrize(
    ("inner", "expected"),
    [
        ((FIRST,), ["10.2.1.2:5353"]),
        (("-j RETURN", FIRST), ["10.2.2.2:5353"]),
        (("-p tcp " + FIRST,), ["10.2.2.2:5353"]),
        (("-m mark --mark 1 -j RETURN", FIRST), ["10.2.1.2:5353", "10.2.2.2:5353"]),
        (("-j ACCEPT",), [""]),
    ],
)
def test_a_chain_that_returns_goes_on_after_the_jump(inner: tuple[str, ...], expected: list[str]) -> None:
    assert chosen(chain("PREROUTING", "-j SERVICES", SECOND), chain("SERVICES", *inner)) == expected


def test_after_a_goto_the_caller_does_not_go_on() -> None:
    assert chosen(chain("PREROUTING", "-g SERVICES", SECOND), chain("SERVICES", "-p tcp " + FIRST)) == [""]


def test_chains_in_a_circle_end() -> None:
    assert chosen(chain("PREROUTING", "-j A"), chain("A", "-j A", FIRST))[-1] == "10.2.1.2:5353"


@pytest.mark.parametrize(
    ("text", "end", "after", "expected"),
    [
        (FIRST, "destination", ("10.2.1.2", 5353), True),
        (FIRST, "destination", ("10.2.1.2", 53), False),
        (FIRST, "destination", ("10.2.2.2", 5353), False),
        ("-j DNAT --to-destination 10.2.1.2", "destination", ("10.2.1.2", 53), True),
        ("-j DNAT --to-destination 10.2.1.2", "destination", ("10.2.1.2", 54), False),
        ("-j DNAT --to-destination 10.2.1.2-10.2.1.9", "destination", ("10.2.1.5", 53), True),
        ("-j DNAT --to-destination 10.2.1.2:80-90", "destination", ("10.2.1.2", 85), True),
        ("-p udp -j DNAT --to-destination :5353", "destination", ("10.96.0.10", 5353), True),
        ("-p udp -j REDIRECT --to-ports 5353", "destination", ("10.2.1.1", 5353), True),
        ("-p udp -j REDIRECT --to-ports 5353", "destination", ("10.2.1.2", 5353), False),
        ("-p udp -j REDIRECT", "destination", ("10.2.1.1", 53), True),
        ("-j SNAT --to-source 10.2.1.1", "source", ("10.2.1.1", 61000), True),
        ("-j SNAT --to-source 10.2.1.1", "source", ("10.1.0.2", 4000), False),
        ("-j MASQUERADE", "source", ("10.2.1.1", 4000), True),
        ("-j MASQUERADE", "source", ("10.1.0.2", 4000), False),
        ("-j NETMAP --to 10.5.0.0/16", "destination", ("10.5.0.10", 53), True),
        ("-j RETURN", "source", ("10.1.0.2", 61000), True),  # without a rule, the kernel may still change the port
        ("-j RETURN", "source", ("10.2.1.1", 4000), False),
        ("-j RETURN", "destination", ("10.96.0.10", 5353), False),
    ],
)
def test_what_a_rule_can_give(text: str, end: NatEnd, after: tuple[str, int], expected: bool) -> None:
    one = NatChoice() if text == "-j RETURN" else NatChoice("PREROUTING", 1, rule(text))
    before: tuple[IP, int] = (SERVICE, 53) if end == "destination" else (CLIENT, 4000)

    assert one.can_give(end, before, (ip_address(after[0]), after[1]), LOCAL) is expected

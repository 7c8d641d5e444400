"""Messages filled into templates are, byte for byte, what pyroute2 encodes; and the readers agree with it."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from labctl.core.resources import Address, Fdb, Interface, Link, Neighbour, Route, Rule
from labctl.kernel.netlink import encoding, messages
from labctl.kernel.netlink.encoding import U32

AT = Interface("n", "eth0")
NEAR = Link(
    Interface("n", "veth1234567"), "veth", peer=Interface("p", "eth0"), master="br0", mtu=1500, mac="02:42:00:00:00:01"
)
FAR = Link(Interface("p", "eth0"), "veth", peer=NEAR.at, mtu=1500, mac="02:42:00:00:00:02")
VXLAN = (("id", "42"), ("dstport", "4789"), ("local", "192.0.2.1"), ("dev", "eth0"), ("learning", "off"))
GATEWAY = ip_address("192.0.2.1")


def index_of(dev: str) -> int:
    return 77


CASES = {
    "veth": lambda i: messages.create_link(NEAR, FAR, 5 + i, 6 + i, 9, index_of),
    "bridge": lambda i: messages.create_link(
        Link(Interface("n", f"br{i}"), "bridge", mtu=1500, options=(("stp_state", "0"),)),
        None,
        5 + i,
        0,
        None,
        index_of,
    ),
    "vxlan": lambda i: messages.create_link(Link(AT, "vxlan", options=VXLAN), None, 5 + i, 0, None, index_of),
    "vxlan over IPv6": lambda i: messages.create_link(
        Link(AT, "vxlan", options=(("id", "42"), ("local", f"2001:db8::{i}"))), None, 5, 0, None, index_of
    ),
    "macvlan": lambda i: messages.create_link(
        Link(AT, "macvlan", options=(("mode", "bridge"), ("dev", "eth0"))), None, 5 + i, 0, None, index_of
    ),
    "born elsewhere": lambda i: messages.create_link(Link(AT, "vxlan", link_netns="h"), None, 5, 0, 3 + i, index_of),
    "autoconf": lambda i: messages.autoconf(5 + i, False),
    "flags": lambda i: messages.flags(5 + i, up=True, promisc=True),
    "mtu": lambda i: messages.attribute(5 + i, "IFLA_MTU", 1400),
    "master": lambda i: messages.attribute(5, "IFLA_MASTER", U32(i)),
    "hairpin": lambda i: messages.bridge_port(5 + i, hairpin=True, isolated=False),
    "address": lambda i: messages.address(Address(AT, ip_interface(f"192.0.2.{i}/24")), 3),
    "IPv6 address": lambda i: messages.address(Address(AT, ip_interface(f"2001:db8::{i + 1}/64")), 3),
    "no IPv6 address": lambda i: messages.address(Address(AT, ip_interface(f"2001:db8::{i + 1}/64")), 3, delete=True),
    "connected": lambda i: messages.connected_route(Address(AT, ip_interface(f"192.0.{i}.1/24")), 3, delete=True),
    "neighbour": lambda i: messages.neighbour(Neighbour(AT, GATEWAY, "02:00:00:00:00:01", "probe"), 3 + i),
    "proxy": lambda i: messages.neighbour(Neighbour(AT, GATEWAY, None, proxy=True), 3 + i),
    "fdb of a tunnel": lambda i: messages.fdb(Fdb(AT, "02:00:00:00:00:01", GATEWAY), 3 + i),
    "fdb of a port": lambda i: messages.fdb(Fdb(AT, "02:00:00:00:00:01"), 3 + i),
    "route": lambda i: messages.route(Route("n", ip_network(f"10.{i}.0.0/16"), via=GATEWAY, dev="eth0"), 3),
    "default": lambda i: messages.route(Route("n", ip_network("0.0.0.0/0"), via=GATEWAY, dev="eth0"), 3 + i),
    "route with all": lambda i: messages.route(
        Route("n", ip_network("10.0.0.0/8"), GATEWAY, "eth0", 1000, 5, src=GATEWAY, onlink=True, mtu=1400), 3 + i
    ),
    "IPv6 route": lambda i: messages.route(Route("n", ip_network("::/0"), via=ip_address("2001:db8::1")), 3 + i),
    "unreachable": lambda i: messages.route(Route("n", ip_network(f"10.{i}.0.0/16"), kind="unreachable"), None),
    "no route": lambda i: messages.delete_route(Route("n", ip_network(f"10.{i}.0.0/16"), via=GATEWAY, dev="eth0"), 3),
    "no route at all": lambda i: messages.delete_route(
        Route("n", ip_network(f"10.{i}.0.0/16")), None, without_nexthop=True
    ),
    "no address": lambda i: messages.address(
        Address(AT, ip_interface(f"192.0.2.{i}/32")), 3, delete=True, local_only=True
    ),
    "rule": lambda i: messages.rule(Rule("n", 100 + i, 100, src=ip_network("10.0.0.0/8"), iif="eth0", mark=5)),
    "rule but": lambda i: messages.rule(Rule("n", 100 + i, 1, iif="eth0", invert=True)),
    "route of a scope": lambda i: messages.route(Route("n", ip_network(f"10.0.0.{i}/32"), dev="v", scope="host"), 3),
}


@pytest.fixture
def pairs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """What `encode` made, beside what pyroute2 makes of the same."""
    made: list[tuple[bytes, bytes]] = []

    def both(*words: Any) -> bytearray:
        message = encoding.encode(*words)
        made.append((bytes(message), encoding.encode_with_pyroute2(*words)))
        return message

    monkeypatch.setattr(messages, "encode", both)
    return made


@pytest.mark.parametrize("case", CASES)
def test_a_filled_template_is_what_pyroute2_encodes(case: str, pairs: list[tuple[bytes, bytes]]) -> None:
    for number in range(3):  # the first makes the template, the others fill it
        CASES[case](number)
    assert len(pairs) == 3
    assert [ours for ours, _ in pairs] == [truth for _, truth in pairs]


def test_templates_differ_only_where_values_go() -> None:
    first, second = (messages.flags(index, up=True) for index in (5, 600))
    assert len(first) == len(second)
    assert [place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b] == [20, 21]


def test_importing_a_message_class_leaves_pyroute2_importable() -> None:
    encoding.message_class("ifinfmsg")
    import pyroute2

    assert hasattr(pyroute2, "IPRoute")


def test_an_unknown_option_is_named() -> None:
    link = Link(AT, "vxlan", options=(("vni", "42"),))
    with pytest.raises(ValueError, match=r"a vxlan has no option 'vni' \(it has: .*id"):
        messages.create_link(link, None, 5, 0, None, index_of)

"""Requests and replies of a UDP server that echoes, from addresses and ports alone."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from labctl.core.observations import Flow
from labctl.tracing.datagram_roles import UDP, DatagramRoles, End, roles_of_trace


def end(text: str) -> End:
    address, _, port = text.rpartition(":")
    return ip_address(address), int(port)


def roles(target: str, *datagrams: str) -> list[str]:
    """The roles of datagrams that are seen one after the other: `10.0.0.1:5 > 10.0.0.2:53`."""
    known = DatagramRoles(end(target))
    found = []
    for text in datagrams:
        ends = [end(one) for one in text.split(" > ")]
        role = known.role(*ends)
        known.add(*ends, role)
        found.append(role)
    return found


@pytest.mark.parametrize(
    ("target", "datagrams", "expected"),
    [
        ("10.0.0.2:53", "10.0.0.1:5 > 10.0.0.2:53, 10.0.0.2:53 > 10.0.0.1:5", "request reply"),
        ("10.0.0.2:53", "10.0.0.1:53 > 10.0.0.2:53, 10.0.0.2:53 > 10.0.0.1:53", "request reply"),
        # the source translates the destination before a tap sees it, and the source of the answer as well
        ("127.0.0.11:53", "127.0.0.1:5 > 127.0.0.11:4175, 127.0.0.11:53 > 127.0.0.1:5", "request reply"),
        ("127.0.0.14:53", "127.0.0.99:6 > 127.0.0.14:53, 127.0.0.14:53 > 127.0.0.1:5", "request reply"),
        ("::1:53", "::1:5 > ::1:53, ::1:53 > ::1:5", "request reply"),
        # a router translates both ends
        (
            "10.0.0.9:53",
            "10.0.0.1:5 > 10.0.0.9:53, 10.2.0.1:7 > 10.2.0.2:99, 10.2.0.2:99 > 10.2.0.1:7, 10.0.0.9:53 > 10.0.0.1:5",
            "request request reply reply",
        ),
        # a proxy on the way sends datagrams of its own
        (
            "10.0.0.9:53",
            "10.0.0.1:5 > 10.0.0.9:53, 10.2.0.1:6 > 10.2.0.2:53, 10.2.0.2:53 > 10.2.0.1:6, 10.0.0.9:53 > 10.0.0.1:5",
            "request request reply reply",
        ),
    ],
)
def test_ends_decide(target: str, datagrams: str, expected: str) -> None:
    assert roles(target, *datagrams.split(", ")) == expected.split()


def test_what_the_ends_do_not_decide_keeps_its_role() -> None:
    known = DatagramRoles(end("10.0.0.2:53"))
    known.add(end("10.0.0.1:5"), end("10.0.0.2:53"), "request")

    assert known.role(end("10.9.0.1:1"), end("10.9.0.2:2")) == "request"
    assert known.role(end("10.9.0.1:1"), end("10.9.0.2:2"), "reply") == "reply"


def flow(src: str, dst: str, reply_src: str, reply_dst: str) -> Flow:
    ends = [end(one) for one in (src, dst, reply_src, reply_dst)]
    (one, sport), (two, dport), (three, reply_sport), (four, reply_dport) = ends
    return Flow(
        "r", UDP, one, two, sport or 0, dport or 0, three, four, reply_sport or 0, reply_dport or 0
    )  # fmt: skip


def test_a_connection_names_the_ends_between_two_taps() -> None:
    known = roles_of_trace(
        end("10.0.0.9:53"), (), [flow("10.0.0.1:5", "10.0.0.9:53", "10.2.0.2:53", "10.2.0.1:7")]
    )  # fmt: skip

    assert known.role(end("10.2.0.2:53"), end("10.0.0.1:5")) == "reply"  # as a rule of FORWARD sees it
    assert known.role(end("10.0.0.1:5"), end("10.2.0.2:53")) == "request"


def test_where_only_the_reply_passed_conntrack_takes_it_for_a_request() -> None:
    backwards = flow("10.0.0.9:53", "10.0.0.1:5", "10.0.0.1:5", "10.0.0.9:53")
    known = roles_of_trace(end("10.0.0.9:53"), (), [backwards])

    assert known.role(end("10.0.0.9:53"), end("10.0.0.1:5")) == "reply"

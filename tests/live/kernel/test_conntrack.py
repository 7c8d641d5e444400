"""Connections are found by what a packet of them shows, in either direction."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from labctl.core.resources import IP
from labctl.kernel.firewall import backend
from labctl.kernel.netlink import conntrack
from labctl.kernel.netlink.conntrack import FlowTuple, find_flows
from labctl.packets.decode import ICMP, ICMPV6, TCP, UDP

HERE: dict[int, IP] = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
RULES = """*raw
-A OUTPUT -p udp --dport 54 -j CT --zone 7
COMMIT
*filter
-A INPUT -m conntrack --ctstate INVALID -j DROP
COMMIT
*nat
-A OUTPUT -p udp --dport 55 -j REDIRECT --to-ports 56
COMMIT
"""


@pytest.fixture
def tracking(fresh: Callable[..., Any]) -> Callable[..., Any]:
    """A namespace that tracks the connections over its lo, those to UDP port 54 in a zone, and redirects port 55."""
    if backend.backend_problem("legacy"):
        pytest.skip("the kernel lacks the legacy tables")
    fresh(subprocess.run, ["ip", "link", "set", "lo", "up"], check=True)
    for family in ("iptables", "ip6tables"):
        done = fresh(subprocess.run, [f"{family}-legacy-restore"], input=RULES, text=True, capture_output=True)
        if done.returncode:
            pytest.skip(f"the kernel lacks what the test needs: {done.stderr}")
    return fresh


def datagram(version: int, port: int) -> int:
    """Send a datagram to the namespace itself; returns its source port."""
    with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((str(HERE[version]), 0))
        sock.sendto(b"once", (str(HERE[version]), port))
        return int(sock.getsockname()[1])


@pytest.mark.parametrize("version", [4, 6])
def test_a_connection_is_found_by_the_tuple_of_either_direction(tracking: Callable[..., Any], version: int) -> None:
    here, sport = HERE[version], tracking(datagram, version, 53)
    there = tracking(find_flows, "n", [FlowTuple(UDP, here, here, sport, 53)], False)
    back = tracking(find_flows, "n", [FlowTuple(UDP, here, here, 53, sport)], False)

    assert [(one.sport, one.dport, one.reply_sport, one.reply_dport) for one in there] == [(sport, 53, 53, sport)]
    assert [replace(one, expires_s=None) for one in back] == [replace(one, expires_s=None) for one in there]
    assert tracking(find_flows, "n", [FlowTuple(UDP, here, here, sport, 52)], False) == ()
    assert tracking(find_flows, "n", [FlowTuple(TCP, here, here, sport, 53)], False) == ()


@pytest.mark.parametrize("version", [4, 6])
def test_an_echo_is_found_by_its_identifier(tracking: Callable[..., Any], version: int) -> None:
    words = ["ping", "-c", "1", "-e", "4711", str(HERE[version])]
    if tracking(subprocess.run, words, capture_output=True).returncode:
        pytest.skip("this ping has no option -e")
    protocol, here, kinds = (ICMP if version == 4 else ICMPV6), HERE[version], {4: (8, 0), 6: (128, 129)}[version]
    for kind in kinds:
        found = tracking(find_flows, "n", [FlowTuple(protocol, here, here, 4711, kind)], False)
        assert [(one.protocol, one.sport) for one in found] == [(protocol, 4711)]


def test_a_connection_in_a_zone_is_found_too(tracking: Callable[..., Any]) -> None:
    here, sport = HERE[4], tracking(datagram, 4, 54)
    wanted = [FlowTuple(UDP, here, here, sport, 54)]

    assert [one.sport for one in tracking(find_flows, "n", wanted, False)] == [sport]
    assert [one.sport for one in tracking(find_flows, "n", wanted, True)] == [sport]


def test_a_translated_connection_shows_its_translation(tracking: Callable[..., Any]) -> None:
    here, sport = HERE[4], tracking(datagram, 4, 55)
    (flow,) = tracking(find_flows, "n", [FlowTuple(UDP, here, here, 56, sport)], False)

    assert (flow.dport, flow.reply_sport, flow.is_translated) == (55, 56, True)


def test_the_table_is_not_dumped_if_the_tuples_are_enough(
    tracking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, sport = HERE[4], tracking(datagram, 4, 53)
    monkeypatch.setattr(conntrack.NfnetlinkSocket, "dump", None)

    assert tracking(find_flows, "n", [FlowTuple(UDP, here, here, sport, 53)], False)

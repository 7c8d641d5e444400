"""What can make a namespace answer late: proxies, packet sockets of programs, addresses that are still verified."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from labctl.kernel.namespaces.late_answers import AnswerDelay, read_answer_delay, read_retry_s

FOUR, SIX = ip_address("10.0.0.2"), ip_address("2001:db8::2")


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def test_a_namespace_without_any_of_them_answers_at_once(fresh: Callable[..., Any]) -> None:
    fresh(ip, "link set lo up")

    assert fresh(read_answer_delay, FOUR, ()) == AnswerDelay(0.0, unbounded=False)
    assert fresh(read_answer_delay, SIX, ()) == AnswerDelay(0.0, unbounded=False)
    assert fresh(read_retry_s, "lo", 4) == 1.0


def test_a_proxy_may_wait(fresh: Callable[..., Any]) -> None:
    fresh(ip, "link add v0 type veth peer name v1")
    fresh(lambda: Path("/proc/sys/net/ipv4/neigh/v1/proxy_delay").write_text("150"))
    assert fresh(read_answer_delay, FOUR, ()).proxy_s == 0.0
    fresh(ip, "neigh add proxy 10.0.0.9 dev v1")
    assert fresh(read_answer_delay, FOUR, ()).proxy_s == 1.5
    fresh(ip, "neigh del proxy 10.0.0.9 dev v1")
    fresh(lambda: Path("/proc/sys/net/ipv4/conf/v1/proxy_arp").write_text("1"))
    assert fresh(read_answer_delay, FOUR, ()).proxy_s == 1.5


def test_a_program_with_a_packet_socket_may_answer_at_any_time(fresh: Callable[..., Any]) -> None:
    def packet_socket(protocol: int) -> socket.socket:
        return socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))

    with fresh(packet_socket, 0x0806) as sock:
        assert fresh(read_answer_delay, FOUR, ()).unbounded
        assert not fresh(read_answer_delay, FOUR, (os.fstat(sock.fileno()).st_ino,)).unbounded
    with fresh(packet_socket, 0x88CC):
        assert not fresh(read_answer_delay, FOUR, ()).unbounded


def test_a_tentative_address_answers_when_it_is_verified(fresh: Callable[..., Any]) -> None:
    fresh(ip, "link add v0 type veth peer name v1")
    fresh(ip, "-6 address add 2001:db8::2/64 dev v0")  # the device is down, so nothing verifies it
    assert fresh(read_answer_delay, SIX, ()).unbounded
    assert not fresh(read_answer_delay, FOUR, ()).unbounded
    fresh(ip, "-6 address del 2001:db8::2/64 dev v0")
    fresh(ip, "-6 address add 2001:db8::2/64 dev v0 nodad")
    assert not fresh(read_answer_delay, SIX, ()).unbounded

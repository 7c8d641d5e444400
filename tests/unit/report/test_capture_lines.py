"""The lines of `labctl capture`."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from labctl.core.resources import Interface
from labctl.packets.decode import Frame
from labctl.report.capture_lines import frame_line
from tests.support.frames import ethernet, ipv4, tcp, udp, vxlan

HERE = Interface("node1", "eth0")
NAMES = {IPv4Address("10.0.0.1"): "a", IPv4Address("10.0.0.2"): "c"}
SYN = 2


def frame(data: bytes, way: str = "in", when: int = 1_000_000_000, **more: object) -> Frame:
    return Frame(HERE, when, way, data, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (ethernet(0x0800, ipv4(6, tcp(SYN, 1))), "a:40000 > c:80  tcp SYN  ttl 63"),
        (ethernet(0x0800, ipv4(17, udp(b"abc"))), "a:40000 > c:53  udp, 3 bytes  ttl 63"),
        (ethernet(0x0800, ipv4(17, vxlan(ethernet(0x0800, ipv4(6, tcp(SYN, 1)))))), "tcp SYN  ttl 63, vxlan 42"),
        (ethernet(0x88CC, b"x"), "ethertype 0x88cc, 15 bytes"),
    ],
)
def test_a_line_says_who_what_and_how(data: bytes, told: str) -> None:
    line = frame_line(frame(data, "out", protocol=0x88CC), NAMES, 12)
    assert "  node1/eth0   >  " in line
    assert told in line

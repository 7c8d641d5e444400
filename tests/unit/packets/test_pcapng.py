"""The pcapng writer: a file that grows is the same as one that is written at once."""

from __future__ import annotations

from ipaddress import IPv4Address

from labctl.core.resources import Interface
from labctl.packets.decode import Frame
from labctl.packets.pcapng import Writer, pcapng
from tests.support.frames import ethernet, ipv4, udp

HERE = Interface("node1", "eth0")
NAMES = {IPv4Address("10.0.0.1"): "a", IPv4Address("10.0.0.2"): "c"}


def frame(data: bytes, way: str = "in", when: int = 1_000_000_000, **more: object) -> Frame:
    return Frame(HERE, when, way, data, **more)  # type: ignore[arg-type]


def test_a_growing_file_is_the_whole_one() -> None:
    frames = [frame(ethernet(0x0800, ipv4(17, udp(b"x"))), when=when, checksum_partial=True) for when in (1, 2, 3)]
    writer = Writer()
    grown = writer.begin(NAMES) + b"".join(writer.add(one) for one in frames)

    assert grown == pcapng(frames, NAMES)

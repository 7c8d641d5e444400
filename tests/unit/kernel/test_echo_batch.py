"""Many echoes by one system call: what is laid out for the kernel, and what is read from what it hands over."""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
from ipaddress import ip_address

import pytest

from labctl.kernel.probes import echo_batch
from labctl.kernel.probes.echo_batch import EchoReceiver, EchoSender, new_tag, prefix
from labctl.packets.checksum import checksum

HEADER = struct.Struct("@PIPNPNi0PI0P")
TARGETS = {70_000: "10.1.2.3", 7: "10.1.2.4", 0xFFFE: "10.9.0.1"}
TARGETS6 = {3: "fd00::1", 1 << 20: "fd00::2"}


def messages(address: int, count: int) -> list[tuple[bytes, bytes]]:
    """The socket address and the packet of each message at an address of the memory."""
    found = []
    for number in range(count):
        name, size, vectors, length, *_ = HEADER.unpack(ctypes.string_at(address + number * HEADER.size, HEADER.size))
        pieces = struct.iter_unpack("@PN", ctypes.string_at(vectors, 16 * length))
        found.append((ctypes.string_at(name, size), b"".join(ctypes.string_at(*piece) for piece in pieces)))
    return found


@pytest.mark.parametrize(("version", "targets"), [(4, TARGETS), (6, TARGETS6)])
def test_every_target_gets_a_packet_with_both_numbers(
    version: int, targets: dict[int, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[tuple[bytes, bytes]] = []

    def send(fd: int, address: int, count: int) -> int:
        sent.extend(messages(address, count))
        return count

    monkeypatch.setattr(echo_batch, "send_messages", send)
    tag, sender = new_tag(), EchoSender(version)
    packed = [ip_address(text).packed for text in targets.values()]
    for source in (5, 60_000):
        assert sender.send(9, prefix(version, 77, tag, source), tuple(targets), packed) == []

    assert len(sent) == 2 * len(targets)
    for (name, packet), (source, target) in zip(sent, [(s, t) for s in (5, 60_000) for t in targets], strict=True):
        at = 4 if version == 4 else 8
        assert name[at : at + len(packed[0])] == ip_address(targets[target]).packed
        assert int.from_bytes(name[:2], "little") == (socket.AF_INET if version == 4 else socket.AF_INET6)
        assert packet[8:16] == tag
        assert struct.unpack_from("=I", packet, 16)[0] == source
        assert struct.unpack_from("=I", packet, 24)[0] == target
        assert struct.unpack_from("!H", packet, 4)[0] == 77
        if version == 4:
            assert checksum(packet) == 0, "the checksum is right for every source and target"


def test_a_refused_packet_is_tried_twice_and_the_others_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def send(fd: int, address: int, count: int) -> int:
        calls.append(count)
        if count == 3:
            return 1
        return -errno.ENETUNREACH if count == 2 else count

    monkeypatch.setattr(echo_batch, "send_messages", send)
    packed = [ip_address(text).packed for text in TARGETS.values()]
    refused = EchoSender(4).send(9, prefix(4, 1, new_tag(), 1), tuple(TARGETS), packed)

    assert refused == [(7, errno.ENETUNREACH)]
    assert calls == [3, 2, 2, 1]


def test_a_pending_error_of_an_earlier_packet_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([-errno.EHOSTUNREACH, 1])
    monkeypatch.setattr(echo_batch, "send_messages", lambda *_: next(answers))

    assert EchoSender(4).send(9, prefix(4, 1, new_tag(), 1), (7,), [bytes(4)]) == []


def test_a_full_table_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(echo_batch, "send_messages", lambda fd, address, count: calls.append(count) or -errno.ENOBUFS)

    assert EchoSender(4).send(9, prefix(4, 1, new_tag(), 1), (7,), [bytes(4)]) == [(7, errno.ENOBUFS)]
    assert calls == [1]


def handed_over(monkeypatch: pytest.MonkeyPatch, packets: list[bytes]) -> None:
    """Let the kernel hand over these packets, of which the first call gets all."""

    def receive(fd: int, address: int, limit: int, flags: int, timeout: None) -> int:
        for number, packet in enumerate(packets[:limit]):
            at = address + number * HEADER.size
            vectors = HEADER.unpack(ctypes.string_at(at, HEADER.size))[2]
            (base, size) = struct.unpack("@PN", ctypes.string_at(vectors, 16))
            ctypes.memmove(base, packet[:size], min(size, len(packet)))
            ctypes.memmove(at + struct.calcsize("@PIPNPNi0P"), struct.pack("=I", min(size, len(packet))), 4)
        count = len(packets[:limit])
        del packets[:limit]
        return count

    monkeypatch.setattr(echo_batch, "_receive", receive)


def received(kind: int, source: int, target: int, sender: str, tag: bytes) -> bytes:
    """An echo as a raw socket of IPv4 gets it."""
    head = bytearray(20)
    head[12:16] = ip_address(sender).packed
    numbers = struct.pack("=IIII", source, source ^ 0xFFFFFFFF, target, target ^ 0xFFFFFFFF)
    return bytes(head) + struct.pack("!BBHHH", kind, 0, 0, 1, 0) + tag + numbers


def test_an_echo_is_read_with_its_sender_and_its_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    tag = new_tag()
    handed_over(monkeypatch, [received(8, 70_000, 3, "10.0.0.9", tag), received(0, 4, 5, "10.0.0.8", tag)])
    echoes, count = EchoReceiver(4).receive(0)

    assert count == 2
    assert echoes == [
        (ip_address("10.0.0.9").packed, 8, tag, 70_000, 3),
        (ip_address("10.0.0.8").packed, 0, tag, 4, 5),
    ]


@pytest.mark.parametrize("size", [28, 36, 60, 64, 90])
def test_a_packet_of_another_length_is_no_echo_although_older_bytes_are_in_its_place(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short packet leaves the rest of the one before: that must not count a second time, with a new sender."""
    receiver, tag = EchoReceiver(4), new_tag()
    echo = received(8, 1, 2, "10.0.0.9", tag)
    packets = [echo]
    handed_over(monkeypatch, packets)
    assert len(receiver.receive(0)[0]) == 1
    packets += [(received(8, 1, 2, "10.6.6.6", tag) + bytes(64))[:size], echo]
    echoes, count = receiver.receive(0)

    assert count == 2
    assert [one[0] for one in echoes] == [ip_address("10.0.0.9").packed]

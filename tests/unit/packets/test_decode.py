"""Frames become packets: every header that a probe may have, and frames that are cut short or not valid."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest

from labctl.core.resources import Interface
from labctl.kernel.capture import bpf
from labctl.kernel.capture.tcpdump import PcapParser
from labctl.kernel.probes.clients import ping_answer
from labctl.packets.decode import ACK, RST, SYN, Frame, decode
from labctl.packets.icmp import checksum, echo_request
from labctl.packets.pcapng import pcapng
from labctl.packets.probe_id import (
    MAGIC,
    REPLY_SUFFIX,
    REQUEST_SUFFIX,
    PayloadMarker,
    TcpProbeId,
    decode_frames,
    tcp_probe_id,
    unanswered_neighbours,
)
from labctl.packets.trail import find_trail, sighting
from tests.support.frames import MACS, MARK, arp, discovery, ethernet, frame, geneve, ipv4, ipv6, tcp, udp, vxlan

ECHO4 = ipv4(1, echo_request(4, 7, 1, MARK))
ECHO6 = ipv6(58, echo_request(6, 7, 1, MARK))
INNER4 = ethernet(0x0800, ECHO4)
SHAPES = {
    "ipv4 echo": (INNER4, "none", 63),
    "ipv6 echo": (ethernet(0x86DD, ECHO6), "none", 62),
    "ipv4 datagram": (ethernet(0x0800, ipv4(17, udp(MARK + REQUEST_SUFFIX))), "none", 63),
    "ipv6 datagram": (ethernet(0x86DD, ipv6(17, udp(MARK + REQUEST_SUFFIX))), "none", 62),
    "vlan": (MACS + struct.pack("!HH", 0x8100, 0x2007) + b"\x08\x00" + ECHO4, "none", 63),
    "vxlan over ipv4": (ethernet(0x0800, ipv4(17, vxlan(INNER4), ttl=9)), "vxlan 42", 63),
    "vxlan over ipv6": (ethernet(0x86DD, ipv6(17, vxlan(INNER4))), "vxlan 42", 63),
    "vxlan on flannel's port": (ethernet(0x0800, ipv4(17, vxlan(INNER4, 1, 8472))), "vxlan 1", 63),
    "vxlan on Weave's port": (ethernet(0x0800, ipv4(17, vxlan(INNER4, 5, 6784))), "vxlan 5", 63),
    "vxlan on an unusual port": (ethernet(0x0800, ipv4(17, vxlan(INNER4, 5, 4790))), "vxlan 5", 63),
    "geneve": (ethernet(0x0800, ipv4(17, geneve(INNER4))), "geneve 42", 63),
    "a bare packet in a datagram": (ethernet(0x0800, ipv4(17, udp(ECHO4, dport=8285))), "udp", 63),
    "ipv6 echo in vxlan": (ethernet(0x0800, ipv4(17, vxlan(ethernet(0x86DD, ECHO6)))), "vxlan 42", 62),
    "ipip": (ethernet(0x0800, ipv4(4, ECHO4, ttl=9)), "ipip", 63),
    "ipv6 in ipv4": (ethernet(0x0800, ipv4(41, ECHO6)), "ip6ip", 62),
}


def test_a_tunnel_may_have_options_of_its_own() -> None:
    packet = decode(frame(ethernet(0x0800, ipv4(17, geneve(INNER4, options=bytes(8))))))

    assert packet is not None
    assert (packet.encap, packet.outer) == ("geneve 42", (ip_address("10.0.0.1"), ip_address("10.0.0.2")))


@pytest.mark.parametrize("header", ["0c00000000002a00", "0800000000002a01", "0000000000002a00"])
def test_at_an_unusual_port_only_a_plain_header_is_vxlan(header: str) -> None:
    packet = decode(frame(ethernet(0x0800, ipv4(17, udp(bytes.fromhex(header) + INNER4, dport=4790)))))

    assert packet is not None
    assert (packet.kind, packet.encap) == ("udp", "none")


@pytest.mark.parametrize("shape", SHAPES)
def test_a_probe_is_found_in_whatever_carries_it(shape: str) -> None:
    data, encap, ttl = SHAPES[shape]
    packet = decode(frame(data))

    assert packet is not None
    assert (packet.encap, packet.ttl) == (encap, ttl)
    assert PayloadMarker(MARK).role(packet) == "request"
    assert packet.src in (ip_address("10.0.0.1"), ip_address("2001:db8::1"))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_frame_cut_short_anywhere_is_no_error(shape: str) -> None:
    data = SHAPES[shape][0]
    results = [decode(frame(data[:length])) for length in range(len(data))]

    assert results[10] is None
    assert all(packet is None or packet.length < len(data) for packet in results)


def test_the_tag_that_the_kernel_took_out_counts_as_one_in_the_bytes() -> None:
    assert decode(frame(INNER4, vlan=7)).vlan == 7  # type: ignore[union-attr]
    assert decode(frame(SHAPES["vlan"][0])).vlan == 7  # type: ignore[union-attr]


def test_a_device_without_ethernet_header_is_read_from_its_protocol() -> None:
    packet = decode(frame(ECHO4, protocol=0x0800, hatype=65534))

    assert packet is not None
    assert packet.kind == "echo"


def test_arp_is_put_in_words() -> None:
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes(6) + ip_address("10.0.0.1").packed
    packet = decode(frame(ethernet(0x0806, body + bytes(6) + ip_address("10.0.0.2").packed)))

    assert packet is not None
    assert packet.text == "who has 10.0.0.2? tell 10.0.0.1"


def test_a_neighbour_asked_for_in_vain_is_told_by_who_asked_first() -> None:
    here, there = Interface("a", "eth0"), Interface("node1", "vb")
    frames = [
        frame(arp(1, "10.0.0.1", "10.0.0.9"), "out", 2, there),
        frame(arp(1, "10.0.0.1", "10.0.0.9"), "out", 1, here),
        frame(arp(1, "10.0.0.1", "10.0.0.2"), "out", 3, here),
        frame(arp(2, "10.0.0.2", "10.0.0.1"), "in", 4, here),
        frame(arp(1, "10.0.0.1", "10.0.0.1"), "out", 5, here),
        frame(arp(1, "0.0.0.0", "10.0.0.7"), "out", 6, here),
        frame(discovery(135, "2001:db8::1", "ff02::1:ff00:2", "2001:db8::2"), "out", 7, here),
        frame(discovery(135, "2001:db8::1", "ff02::1:ff00:3", "2001:db8::3"), "out", 8, here),
        frame(discovery(136, "2001:db8::3", "2001:db8::1", "2001:db8::3"), "in", 9, here),
    ]

    assert unanswered_neighbours(decode_frames(frames)) == (
        (here, ip_address("10.0.0.9")),
        (here, ip_address("2001:db8::2")),
    )


def test_an_icmp_error_quotes_the_probe_that_it_is_about() -> None:
    error = ipv4(1, struct.pack("!BBHI", 3, 1, 0, 0) + ECHO4, src="10.0.0.254", dst="10.0.0.1")
    error6 = ipv6(58, struct.pack("!BBHI", 1, 0, 0, 0) + ECHO6[:60], src="2001:db8::fe")
    trail = find_trail(
        PayloadMarker(MARK), decode_frames([frame(ethernet(0x0800, error)), frame(ethernet(0x86DD, error6))])
    )

    assert [str(item) for item in trail.icmp_errors] == ["10.0.0.254 reported to 10.0.0.1: host unreachable"]
    assert trail.icmp_errors[0].quoted_role == "request"
    assert trail.requests == ()


def test_the_quote_of_a_syn_that_ends_after_eight_bytes_still_names_it() -> None:
    syn = ipv4(6, tcp(SYN, 1000)[:8])
    error = ipv4(1, struct.pack("!BBHI", 3, 13, 0, 0) + syn, src="10.0.0.254")
    trail = find_trail(TcpProbeId(frozenset({1000})), decode_frames([frame(ethernet(0x0800, error))]))

    assert [item.text for item in trail.icmp_errors] == ["administratively prohibited"]


def test_a_connection_is_known_by_its_first_sequence_number_whatever_was_rewritten() -> None:
    def seen(body: bytes, **ends: str) -> Frame:
        return frame(ethernet(0x0800, ipv4(6, body, **ends)))

    frames = [
        seen(tcp(SYN, 0xFFFFFFFF)),
        seen(tcp(SYN, 0xFFFFFFFF, sport=61000), src="192.0.2.9"),
        seen(tcp(SYN | ACK, 5, 0)),
        seen(tcp(RST | ACK, 0, 0)),
        seen(tcp(ACK, 0, 6)),
        seen(tcp(SYN, 4)),
    ]
    trail = find_trail(TcpProbeId(frozenset({0xFFFFFFFF})), decode_frames(frames))

    assert [str(item.src) for item in trail.requests] == ["10.0.0.1", "192.0.2.9"]
    assert len(trail.replies) == 2
    assert trail.has_reset


def test_the_opening_is_read_where_the_source_sends_it() -> None:
    other = frame(ethernet(0x0800, ipv4(6, tcp(SYN, 1))), at=Interface("b", "eth0"))
    own = frame(ethernet(0x0800, ipv4(6, tcp(SYN, 2))), at=Interface("a", "eth0"))

    assert tcp_probe_id(list(decode_frames([other, own])), "a", 40000, {80}) == TcpProbeId(frozenset({2}))
    assert tcp_probe_id(list(decode_frames([other, own])), "a", 40001, {80}) is None
    assert tcp_probe_id(list(decode_frames([other, own])), "a", 40000, {8080}) is None
    assert tcp_probe_id(list(decode_frames([other, own])), "a", 40000, {8080, 80}) == TcpProbeId(frozenset({2}))


def test_a_connection_that_a_relay_opened_is_known_by_what_was_said_through_it() -> None:
    def seen(body: bytes, at: str) -> Frame:
        return frame(ethernet(0x0800, ipv4(6, body)), at=Interface(at, "eth0"))

    frames = [
        seen(tcp(SYN, 2), "a"),
        seen(tcp(ACK, 3) + MARK + REQUEST_SUFFIX, "a"),
        seen(tcp(SYN, 7, sport=55), "web"),
        seen(tcp(ACK, 8, sport=55) + MARK + REQUEST_SUFFIX, "web"),
        seen(tcp(SYN, 9, sport=56), "web"),
        seen(tcp(ACK, 10, sport=56) + MAGIC + b"else" + REQUEST_SUFFIX, "web"),
    ]
    mark = tcp_probe_id(list(decode_frames(frames)), "a", 40000, {80}, MARK)

    assert mark == TcpProbeId(frozenset({2, 7}))
    assert [str(item.at) for item in find_trail(mark, decode_frames(frames)).requests] == ["a/eth0", "web/eth0"]
    assert tcp_probe_id(list(decode_frames(frames)), "a", 40000, {80}) == TcpProbeId(frozenset({2}))


def test_a_connection_whose_port_its_source_draws_anew_is_known_by_what_was_said_through_it() -> None:
    def seen(body: bytes, at: str) -> Frame:
        return frame(ethernet(0x0800, ipv4(6, body)), at=Interface(at, "eth0"))

    frames = [seen(tcp(SYN, 2, sport=61000), "a"), seen(tcp(ACK, 3, sport=61000) + MARK + REQUEST_SUFFIX, "a")]

    assert tcp_probe_id(list(decode_frames(frames)), "a", 40000, {80}, MARK) == TcpProbeId(frozenset({2}))
    assert tcp_probe_id(list(decode_frames(frames)), "b", 40000, {80}, MARK) is None
    assert tcp_probe_id(list(decode_frames(frames)), "a", 40000, {80}) is None


def test_request_and_answer_of_a_datagram_are_told_apart() -> None:
    asked, answered = (
        decode(frame(ethernet(0x0800, ipv4(17, udp(MARK + end))))) for end in (REQUEST_SUFFIX, REPLY_SUFFIX)
    )

    assert PayloadMarker(MARK).role(asked) == "request"  # type: ignore[arg-type]
    assert PayloadMarker(MARK).role(answered) == "reply"  # type: ignore[arg-type]


def test_another_probes_packet_is_not_ours() -> None:
    assert find_trail(PayloadMarker(MAGIC + b"abcd"), decode_frames([frame(INNER4)])).requests == ()


def test_a_sighting_keeps_where_when_and_what() -> None:
    seen = frame(INNER4, "out", 99)
    fact = sighting(seen, decode(seen), reply=False)  # type: ignore[arg-type]

    assert str(fact) == "leaving node1/eth0: 10.0.0.1 > 10.0.0.2 ttl 63"
    assert (fact.time_ns, fact.eth_src, fact.length, fact.proto) == (99, "02:00:00:00:00:01", len(INNER4), "icmp")


def test_trails_are_in_the_order_of_time_and_keep_a_taps_own_order() -> None:
    frames = [
        frame(INNER4, when=5),
        frame(INNER4, when=2, at=Interface("a", "x")),
        frame(INNER4, when=5, at=Interface("a", "y")),
    ]

    assert [str(item.at) for item in find_trail(PayloadMarker(MARK), decode_frames(frames)).requests] == [
        "a/x",
        "node1/eth0",
        "a/y",
    ]


def run_filter(data: bytes, protocol: int) -> bool:
    """A classic BPF machine of a few lines: does the filter of the taps let the packet through?"""
    program = list(struct.iter_unpack("=HBBI", bpf.probe_filter()))
    body, value, at, index = data[14:], 0, 0, 0
    while True:
        op, then, other, number = program[at]
        at += 1
        if op == bpf.RET:
            return number > 0
        if number == bpf.ETHERTYPE_OFFSET and op == bpf.LD_H:
            value = protocol
        elif op in (bpf.AND, bpf.RSH):
            value = value & number if op == bpf.AND else value >> number
        elif op == bpf.TAX:
            index = value
        elif op in (bpf.LD_B, bpf.LD_H, bpf.LD_W, bpf.LD_W_X):
            size = {bpf.LD_B: 1, bpf.LD_H: 2}.get(op, 4)
            start = number - bpf.NET + (index if op == bpf.LD_W_X else 0)
            if start + size > len(body):
                return False
            value = int.from_bytes(body[start : start + size], "big")
        else:
            holds = {bpf.JEQ: value == number, bpf.JSET: bool(value & number)}[op]
            at += then if holds else other


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "vlan"])
def test_the_taps_filter_lets_every_probe_through(shape: str) -> None:
    data = SHAPES[shape][0]
    unmarked = data.replace(MAGIC, b"none")

    assert run_filter(data, struct.unpack_from("!H", data, 12)[0])
    assert not run_filter(unmarked, struct.unpack_from("!H", unmarked, 12)[0])


@pytest.mark.parametrize(
    ("body", "passes"),
    [
        (ipv4(6, tcp(SYN, 1)), True),
        (ipv4(6, tcp(RST | ACK, 1)), True),
        (ipv4(6, tcp(ACK, 1)), False),
        (ipv4(6, tcp(ACK, 1) + MARK + REQUEST_SUFFIX), True),
        (ipv4(6, tcp(ACK, 1, options=bytes(12)) + MARK + REQUEST_SUFFIX), True),
        (ipv4(6, tcp(ACK, 1) + bytes(12) + MARK + REQUEST_SUFFIX), False),
        (ipv4(4, ipv4(6, tcp(SYN, 1))), True),
        (ipv4(17, vxlan(ethernet(0x0800, ipv4(6, tcp(SYN, 1))))), True),
        (ipv4(17, vxlan(ethernet(0x0800, ipv4(6, tcp(ACK, 1))))), False),
        (ipv4(17, vxlan(ethernet(0x0800, ipv4(6, tcp(SYN, 1))), port=4790)), True),
        (ipv4(17, vxlan(ethernet(0x0806, bytes(28)))), True),
        (ipv4(17, vxlan(ethernet(0x88CC, bytes(28)))), False),
        (ipv4(1, struct.pack("!BBHI", 11, 0, 0, 0) + ECHO4), True),
        (ipv4(47, bytes(40)), False),
    ],
)
def test_the_taps_filter_knows_openings_and_errors(body: bytes, passes: bool) -> None:
    assert run_filter(ethernet(0x0800, body), 0x0800) is passes


def test_canaries_and_questions_for_neighbours_pass_the_filter() -> None:
    assert run_filter(bytes(60), 0x88B5)
    assert run_filter(bytes(60), 0x0806)
    assert run_filter(discovery(135, "2001:db8::1", "ff02::1:ff00:2", "2001:db8::2"), 0x86DD)
    assert not run_filter(discovery(133, "2001:db8::1", "ff02::1:ff00:2", "2001:db8::2"), 0x86DD)
    assert not run_filter(bytes(60), 0x88CC)


@pytest.mark.parametrize(("magic", "unit"), [(0xA1B2C3D4, 1000), (0xA1B23C4D, 1)])
@pytest.mark.parametrize("order", "<>")
def test_a_pcap_stream_is_cut_into_packets_however_it_comes(magic: int, unit: int, order: str) -> None:
    stream = struct.pack(f"{order}IHHIIII", magic, 2, 4, 0, 0, 65535, 1)
    stream += struct.pack(f"{order}IIII", 3, 5, 4, 4) + b"abcd" + struct.pack(f"{order}IIII", 4, 0, 1, 1) + b"e"
    pcap = PcapParser()
    packets = [packet for byte in stream for packet in pcap.feed(bytes([byte]))]

    assert packets == [(3_000_000_000 + 5 * unit, b"abcd"), (4_000_000_000, b"e")]


def test_what_is_no_pcap_is_refused() -> None:
    with pytest.raises(ValueError, match="not a pcap"):
        list(PcapParser().feed(b"tcpdump: eth9: No such device exists"))


def test_an_echo_of_our_own_has_a_right_checksum() -> None:
    assert checksum(echo_request(4, 0x1234, 1, MARK)) == 0


@pytest.mark.parametrize(
    ("code", "out", "err", "answer"),
    [
        (0, "64 bytes from 10.0.0.2: icmp_seq=1 ttl=64 time=0.1 ms", "", "reply"),
        (1, "1 packets transmitted, 0 received", "", "timeout"),
        (1, "From 10.0.0.254 icmp_seq=1 Destination Net Unreachable", "", "unreachable"),
        (2, "", "ping: connect: Network is unreachable", "blocked"),
        (1, "1 packets transmitted, 0 received", "ping: sendmsg: Operation not permitted", "blocked"),
        (2, "", "ping: invalid argument: 'x'", "broken"),
        (1, "1 packets transmitted, 0 received", "ping: sendmsg: No buffer space available", "broken"),
    ],
)
def test_the_words_of_ping_have_one_meaning(code: int, out: str, err: str, answer: str) -> None:
    assert ping_answer(code, out, err)[0] == answer


def test_a_pcapng_file_names_devices_machines_and_ways() -> None:
    a = ip_address("10.0.0.1")
    frames = [
        frame(INNER4, "out", 2, vlan=7),
        frame(INNER4, "in", 1),
        frame(ECHO4, when=3, hatype=65534, protocol=0x0800),
    ]
    blocks, rest = [], pcapng(frames, {a: "a"}, "a claim")
    while rest:
        kind, size = struct.unpack_from("=II", rest)
        assert rest[size - 4 : size] == rest[4:8]
        blocks.append((kind, rest[8 : size - 4]))
        rest = rest[size:]

    assert [kind for kind, _ in blocks] == [0x0A0D0D0A, 4, 1, 6, 6, 1, 6]
    assert b"a claim" in blocks[0][1]
    assert a.packed + b"a\0" in blocks[1][1]
    assert [struct.unpack_from("=H", body)[0] for kind, body in blocks if kind == 1] == [1, 101]
    assert b"node1/eth0" in blocks[2][1]
    assert b"entering node1/eth0" in blocks[3][1]
    assert b"leaving node1/eth0" in blocks[4][1]
    assert MACS + struct.pack("!HH", 0x8100, 7) in blocks[4][1]


def test_questions_for_neighbours_are_told_apart_from_the_probe_also_in_a_tunnel() -> None:
    question = (
        struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + bytes(6) + bytes([10, 0, 1, 2]) + bytes(6) + bytes([10, 0, 1, 9])
    )
    answer = question[:7] + b"\x02" + question[8:]
    frames = [
        frame(ethernet(0x0806, question)),
        frame(ethernet(0x0800, ipv4(17, vxlan(ethernet(0x0806, question))))),
        frame(ethernet(0x0806, answer)),
        frame(INNER4),
    ]
    for mark in (PayloadMarker(MARK), None):
        trail = find_trail(mark, decode_frames(frames))
        assert [str(item).partition(": ")[2] for item in trail.neighbour_requests] == [
            "10.0.1.2 asks who has 10.0.1.9",
            "10.0.1.2 asks who has 10.0.1.9 in vxlan 42 10.0.0.1 > 10.0.0.2",
        ]
        assert len(trail.requests) == (1 if mark else 0)

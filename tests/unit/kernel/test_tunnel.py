"""The user-space tunnel program: which peer takes a packet, and the TTL."""

from __future__ import annotations

from ipaddress import IPv4Address

from labctl.kernel.programs import tunnel


def test_the_tunnel_of_the_longest_prefix_takes_a_packet() -> None:
    table = tunnel.routes(["10.0.0.0/8=192.0.2.1", "10.1.0.0/16=192.0.2.2"])

    def found(target: str) -> str | None:
        return tunnel.lookup(table, bytes(16) + IPv4Address(target).packed)

    assert [found(target) for target in ("10.1.2.3", "10.2.2.3", "11.0.0.1")] == ["192.0.2.2", "192.0.2.1", None]


def test_a_packet_ages_by_one_and_its_checksum_still_holds() -> None:
    head = bytearray.fromhex("450000540000400040010000c0a80001c0a80002")
    for ttl in (255, 64, 2):
        head[8], head[10:12] = ttl, bytes(2)
        head[10:12] = (~folded(head) & 0xFFFF).to_bytes(2, "big")
        aged = tunnel.decrement_ttl(bytes(head))
        assert aged is not None
        assert (aged[8], folded(aged)) == (ttl - 1, 0xFFFF)
    head[8] = 1
    assert tunnel.decrement_ttl(bytes(head)) is None


def folded(data: bytes | bytearray) -> int:
    """The one's complement sum of a header, which is 0xffff if its checksum is right."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total

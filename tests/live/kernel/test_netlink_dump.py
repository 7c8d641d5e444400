"""labctl's own netlink readers report the same about a namespace as pyroute2."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from labctl.core.resources import Interface
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.kernel.netlink import dump
from labctl.kernel.netlink.rtnetlink import Channel
from labctl.kernel.observe import snapshot

pytestmark = pytest.mark.kernel

SETUP = """
link set lo up
link add br0 address 02:00:00:00:00:01 type bridge
link add v0 mtu 1400 type veth peer name v1
link set v0 master br0 up
link set br0 up
link set v1 up promisc on
bridge: link set dev v0 hairpin on
link add vx0 type vxlan id 42 dstport 4789 local 192.0.2.1 nolearning
link set vx0 up
addr add 192.0.2.1/24 dev br0
addr add 2001:db8::1/64 dev br0 nodad
addr add 198.51.100.1/32 dev v1
route add default via 192.0.2.2
route add 10.1.0.0/16 via 192.0.2.3 dev br0 metric 7 mtu 1300
route add 10.2.0.0/16 dev v1 src 198.51.100.1
route add 10.5.0.1/32 dev v1 scope host
route add unreachable 10.3.0.0/16
route add 10.4.0.0/16 via 10.9.9.9 dev v1 onlink table 1000
-6 route add 2001:db8:1::/48 via 2001:db8::2
route add 10.6.0.0/16 via 192.0.2.3 proto kernel
route add 192.0.2.0/25 dev br0 proto kernel
route add 192.0.2.0/24 via 192.0.2.3 dev br0 proto kernel metric 5
route add 198.51.100.1/32 dev v1 proto kernel
route add local default dev lo table 2004 proto kernel
neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev br0 nud permanent
neigh add proxy 192.0.2.10 dev br0
rule add pref 100 from 10.0.0.0/8 iif v1 lookup 1000
rule add pref 101 fwmark 0x10/0xf0 lookup 1000
rule add pref 102 not from all iif v1 lookup 1000
bridge: fdb add 02:00:00:00:00:77 dev v0 master static
bridge: fdb add 02:00:00:00:00:78 dev vx0 dst 192.0.2.7 self permanent
"""


@pytest.fixture(scope="module")
def inside() -> Iterator[NetnsThread]:
    """A thread in a separate namespace that holds one object of each kind."""
    with NetnsThread() as thread:
        thread.run(None, unshare, CLONE_NEWNET)
        for line in SETUP.strip().splitlines():
            tool, _, words = line.rpartition(": ") if ": " in line else ("ip", "", line)
            thread.run(None, subprocess.run, [tool, *words.split()], check=True)
        yield thread


def truth(inside: NetnsThread, method: str, **words: Any) -> list[Any]:
    """What pyroute2's API reports about the namespace."""

    def ask() -> list[Any]:
        from pyroute2 import IPRoute

        with IPRoute() as ipr:
            return list(getattr(ipr, method)(**words))

    return inside.run(None, ask)


def ours(inside: NetnsThread, reader: Any, **words: Any) -> list[Any]:
    """What a reader of labctl reports about it."""

    def ask() -> list[Any]:
        channel = Channel()
        try:
            return list(reader(channel, **words))
        finally:
            channel.close()

    return inside.run(None, ask)


def test_links(inside: NetnsThread) -> None:
    def known(message: Any) -> tuple[Any, ...]:
        info = message.get_attr("IFLA_LINKINFO")
        six = message.get_nested("IFLA_AF_SPEC", "AF_INET6", "IFLA_INET6_ADDR_GEN_MODE")
        return (
            message["index"], message.get_attr("IFLA_IFNAME"), message["flags"], message.get_attr("IFLA_MTU"),
            message.get_attr("IFLA_ADDRESS"), message.get_attr("IFLA_MASTER") or 0,
            info.get_attr("IFLA_INFO_KIND") if info else "", six,
        )  # fmt: skip

    expected = [known(message) for message in truth(inside, "get_links")]
    expected = [
        link for link in expected if link[1] not in snapshot.FALLBACK_DEVICES
    ]  # pyroute2 reads its address as six bytes
    found = [link for link in ours(inside, dump.links) if link.name not in snapshot.FALLBACK_DEVICES]
    assert len(found) >= 5
    assert [
        (link.index, link.name, link.flags, link.mtu, link.mac, link.master, link.kind, link.addr_gen_mode)
        for link in found
    ] == expected
    assert {link.name for link in found if link.hairpin} == {"v0"}


def test_addresses(inside: NetnsThread) -> None:
    expected = [
        (m["index"], m.get_attr("IFA_LOCAL") or m.get_attr("IFA_ADDRESS"), m["prefixlen"])
        for m in truth(inside, "get_addr")
    ]
    found = [(raw.index, str(raw.ip), raw.prefix_len) for raw in ours(inside, dump.addresses)]
    assert any(ip == "2001:db8::1" for _, ip, _ in found)
    assert sorted(found) == sorted(expected)


def test_routes(inside: NetnsThread) -> None:
    def known(m: Any) -> tuple[Any, ...]:
        metrics = m.get_attr("RTA_METRICS")
        return (
            m["family"], m["dst_len"], m.get_attr("RTA_TABLE"), m["proto"], m["scope"], m["type"],
            m.get_attr("RTA_DST"), m.get_attr("RTA_GATEWAY"), m.get_attr("RTA_OIF") or 0,
            m.get_attr("RTA_PRIORITY") or 0, m.get_attr("RTA_PREFSRC"),
            metrics.get_attr("RTAX_MTU") if metrics else None,
        )  # fmt: skip

    expected = [known(m) for m in truth(inside, "get_routes") if m.get_attr("RTA_TABLE") != dump.LOCAL_TABLE]
    found = [
        (r.family, r.prefix_len, r.table, r.proto, r.scope, r.kind, r.dst and str(r.dst), r.via and str(r.via), r.oif,
         r.metric, r.src and str(r.src), r.mtu)
        for r in ours(inside, dump.routes)
    ]  # fmt: skip
    assert len(found) >= 8
    assert sorted(map(str, found)) == sorted(map(str, expected))


def test_neighbours(inside: NetnsThread) -> None:
    def looked() -> tuple[list[Any], list[Any]]:
        expected = [
            (m["ifindex"], m["state"], m.get_attr("NDA_DST"), m.get_attr("NDA_LLADDR"))
            for m in truth(inside, "get_neighbours")
        ]
        return [(n.index, n.state, str(n.ip), n.mac) for n in ours(inside, dump.neighbours)], expected

    found, expected = looked()
    until = time.monotonic() + 10
    while len(found) != len(expected) and time.monotonic() < until:  # the kernel joins multicast groups meanwhile
        found, expected = looked()
    assert any(ip == "192.0.2.9" and mac == "02:00:00:00:00:09" for _, _, ip, mac in found)
    assert sorted(map(str, found)) == sorted(map(str, expected))
    proxies = ours(inside, dump.neighbours, proxy=True)
    assert [str(n.ip) for n in proxies] == ["192.0.2.10"]


def test_rules(inside: NetnsThread) -> None:
    def known(m: Any) -> tuple[Any, ...]:
        return (
            m["family"], m["action"], m.get_attr("FRA_PRIORITY") or 0, m.get_attr("FRA_TABLE"),
            m.get_attr("FRA_SRC"), m.get_attr("FRA_IIFNAME"), m.get_attr("FRA_FWMARK"), m.get_attr("FRA_FWMASK"),
            m["flags"],
        )  # fmt: skip

    expected = [known(m) for m in truth(inside, "get_rules") if m["family"] in (2, 10)]
    found = [
        (r.family, r.action, r.pref, r.table, r.src and str(r.src[0]), r.iif, r.fwmark, r.fwmask, r.flags)
        for r in ours(inside, dump.rules)
    ]
    assert len(found) >= 5
    assert sorted(map(str, found)) == sorted(map(str, expected))


def test_the_plan_types_made_of_it(inside: NetnsThread) -> None:
    def look() -> list[str]:
        channel, current = Channel(), snapshot.Snapshot()
        try:
            current.add("n", dump.links(channel))
            found = [
                *snapshot.links(current, "n", lambda a, b: None),
                *snapshot.tables(channel, current, "n", lambda a, b: None),
            ]
        finally:
            channel.close()
        return [repr(item) for item in found]

    text = "\n".join(inside.run(None, look))
    assert "peer=Interface(ns='n', dev='v1'), master='br0', mtu=1400" in text
    assert "('id', '42'), ('local', '192.0.2.1'), ('learning', 'off'), ('dstport', '4789')" in text.replace(
        "('ttl', '0'), ", ""
    ).replace("('ageing', '300'), ('proxy', 'off'), ('rsc', 'off'), ('l2miss', 'off'), ('l3miss', 'off'), ", "")
    assert text.count("Fdb(") == 2
    assert "kind='unreachable'" in text
    assert text.count("proto=2") == 5  # somebody's in the kernel's name; not the one that an address brings along
    assert "dst=IPv4Network('0.0.0.0/0'), via=None, dev='lo', table=2004, metric=0, kind='local'" in text
    assert "dst=IPv4Network('192.0.2.0/24'), via=None" not in text
    assert "mark=16, mask=240" in text
    assert "proxy=True" in text
    assert text.count("scope='host'") == text.count("invert=True") == 1
    assert text.count("scope=None") == text.count("Route(") - 1
    assert "127.0.0.1/8" in text


@pytest.mark.parametrize(("whole", "nsid", "peer"), [(True, 1, "n/v"), (False, 1, None), (False, 0, "n/v")])
def test_a_peer_is_not_guessed_where_namespaces_were_left_out(whole: bool, nsid: int, peer: str | None) -> None:
    current = snapshot.Snapshot(complete=whole)
    end = dump.RawLink(2, "eth0", 1, lower_index=5, lower_nsid=0, kind="veth")
    current.add("p", [end])
    current.add(
        "n", [dump.RawLink(5, "v", 1, lower_index=2, lower_nsid=3, kind="veth")]
    )  # bears the index, by chance or not
    found = current.peer("p", end, lambda ns, other: nsid)
    assert (found and str(found)) == peer


def test_a_peer_of_the_same_namespace_needs_no_id() -> None:
    current = snapshot.Snapshot(complete=False)
    one, other = (dump.RawLink(i, f"v{i}", 1, lower_index=5 - i, kind="veth") for i in (2, 3))
    current.add("n", [one, other])
    assert current.peer("n", one, lambda ns, other: None) == Interface("n", "v3")

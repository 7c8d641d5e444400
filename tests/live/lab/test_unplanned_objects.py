"""Objects that a person adds manually with `ip`, of every kind: `status` reports them, and `up` removes them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator

import pytest

from labctl.core.iptables import BACKENDS
from labctl.kernel.host import paths
from labctl.lab import lifecycle
from tests.support import kernels
from tests.support.drift import drift

STRAYS = [
    ("ip route add 10.88.0.0/16 via 10.224.0.1 proto static", "extra route 10.88.0.0/16 via 10.224.0.1"),
    ("ip -6 route add 2001:db8:9::/64 dev eth0 proto static", "extra route 2001:db8:9::/64 dev eth0"),
    ("ip route add 10.89.0.0/16 dev eth0 scope host", "extra route 10.89.0.0/16 dev eth0"),
    ("ip route add 10.90.0.0/16 via 10.224.0.1 tos 0x10", "extra route 10.90.0.0/16 via 10.224.0.1"),
    (
        "ip route add 10.91.0.0/16 nexthop via 10.224.0.1 weight 3 nexthop via 10.224.0.5",
        "extra route 10.91.0.0/16 nexthop via 10.224.0.1 dev eth0 weight 3 nexthop via 10.224.0.5 dev eth0 weight 1",
    ),
    (
        "ip nexthop add id 8 blackhole; ip route add 10.95.0.0/16 nhid 8",
        "extra route blackhole 10.95.0.0/16",
    ),
    (
        "ip nexthop add id 9 blackhole; ip route add 10.96.0.0/16 nhid 9 metric 7 table 300",
        "extra route blackhole 10.96.0.0/16 table 300 metric 7",
    ),
    (
        "ip -6 nexthop add id 10 blackhole; ip -6 route add 2001:db8:10::/64 nhid 10",
        "extra route blackhole 2001:db8:10::/64",
    ),
    (
        "ip nexthop add id 11 via 10.224.0.1 dev eth0; ip nexthop add id 12 via 10.224.0.5 dev eth0; "
        "ip nexthop add id 13 group 11,2/12; ip route add 10.97.0.0/16 nhid 13",
        "extra route 10.97.0.0/16 nexthop via 10.224.0.1 dev eth0 weight 2 nexthop via 10.224.0.5 dev eth0 weight 1",
    ),
    (
        "ip nexthop add id 7 via 10.224.0.1 dev eth0; ip route add 10.92.0.0/16 nhid 7; true",
        "extra route 10.92.0.0/16",
    ),
    ("ip route append default via 10.224.0.9", "extra route default via 10.224.0.9"),
    ("ip route add default via 10.224.0.9 metric 9", "extra route default via 10.224.0.9 dev eth0 metric 9"),
    ("ip route add prohibit 10.93.0.0/16", "extra route prohibit 10.93.0.0/16"),
    (
        "ip route add 10.94.0.0/16 via 10.224.0.1 table 999",
        "extra route 10.94.0.0/16 via 10.224.0.1 dev eth0 table 999",
    ),
    ("ip route replace default via 10.224.0.1 src 10.244.0.1", "changed route default: src was 10.244.0.1"),
    ("ip route replace default via 10.224.0.1 mtu 576", "changed route default: mtu was 576, should be none"),
    ("ip addr add 10.77.0.1 peer 10.77.0.2/32 dev eth0", "extra address 10.77.0.1/32 dev eth0"),
    ("ip addr add 10.77.0.1/8 dev lo", "extra address 10.77.0.1/8 dev lo"),
    ("ip rule add pref 100 to 10.244.1.0/24 unreachable", "extra rule pref 100 from all to 10.244.1.0/24 unreachable"),
    ("ip -6 rule add pref 100 to 2001:db8::/64 unreachable", "extra rule pref 100"),
    ("ip rule add pref 5 goto 32766", "extra rule pref 5 from all goto"),
    ("ip rule add pref 6 nop", "extra rule pref 6 from all nop"),
    ("ip rule add pref 7 ipproto tcp dport 80 lookup 7", "extra rule pref 7 from all lookup 7"),
    ("ip rule add pref 32766 lookup 77", "extra rule pref 32766 from all lookup 77"),
    ("ip rule del pref 32766", "missing rule pref 32766 from all lookup main"),
    ("ip neigh add proxy 10.77.0.9 dev eth0", "extra neighbour proxy 10.77.0.9 dev eth0"),
    ("ip neigh add 10.224.9.9 lladdr 02:00:00:00:00:09 dev eth0", "extra neighbour 10.224.9.9 dev eth0"),
    ("bridge fdb add 02:00:00:00:00:09 dev {port} master static", "extra fdb entry 02:00:00:00:00:09"),
    ("iptables-legacy -t mangle -A FORWARD -j MARK --set-mark 1", "extra iptables -t mangle -A FORWARD"),
    ("sysctl -qw net.ipv4.conf.eth0.forwarding=0", "net.ipv4.conf.eth0.forwarding: value was 0, should be 1"),
    ("ip link set eth0 arp off", "changed link eth0: arp was off, should be on"),
    ("bridge link set dev {port} isolated on", ": isolated was on, should be off"),
    ("ip addr del 127.0.0.1/8 dev lo", "missing address 127.0.0.1/8 dev lo"),
    ("ip -6 addr del ::1/128 dev lo", "missing address ::1/128 dev lo"),
    ("ip route add local 10.244.1.0/24 dev lo", "extra route local 10.244.1.0/24"),
    ("iptables-nft -A FORWARD -j DROP", "extra nft table ip filter"),
    ("arptables-nft -A INPUT -j DROP", "extra nft table arp filter"),
    ("nft add table inet mine", "extra nft table inet mine"),
    ("ip6tables-legacy -A INPUT -j DROP", "extra ip6tables -t filter -A INPUT -j DROP"),
    ("ebtables-nft -A FORWARD -j DROP", "extra ebtables -t filter -A FORWARD"),
]
# in a lab with rules of iptables-nft, all other rules are unplanned
NFT_STRAYS = [
    ("iptables-nft -t mangle -A FORWARD -j MARK --set-mark 1", "extra iptables -t mangle -A FORWARD"),
    ("iptables-nft -N MINE", "extra iptables -t filter -N MINE"),
    ("ip6tables-nft -A INPUT -j DROP", "extra ip6tables -t filter -A INPUT -j DROP"),
    ("iptables-legacy -A FORWARD -j DROP", "extra iptables-legacy -t filter -A FORWARD -j DROP"),
    ("iptables-legacy -N MINE", "extra iptables-legacy -t filter -N MINE"),
    ("ip6tables-legacy -P INPUT DROP", "changed ip6tables-legacy -t filter -P INPUT: policy was DROP"),
    ("arptables-nft -A INPUT -j DROP", "extra nft table arp filter"),
    ("ebtables-nft -A FORWARD -j DROP", "extra ebtables -t filter -A FORWARD"),
    ("nft add table inet mine", "extra nft table inet mine"),
    ("nft add table ip mine", "extra nft table ip mine"),
    ("nft 'add table ip mangle; add chain ip mangle mine { type filter hook input priority 5; }'",
     "extra nft table ip mangle"),
]  # fmt: skip


@pytest.fixture(scope="module")
def definitions() -> Iterator[dict[str, lifecycle.Definition]]:
    """A kubenet lab for all of them with each back end."""
    made = {
        backend: lifecycle.define("kubenet", f"strays-{backend}", firewall=backend)
        for backend in BACKENDS
        if not kernels.backend_problem(backend)
    }
    for one in made.values():
        lifecycle.up(one)
    yield {backend: one for backend, one in made.items()}
    for one in made.values():
        lifecycle.down(one.name)


@pytest.mark.parametrize(
    ("backend", "command", "says"),
    [
        *(pytest.param("legacy", *row, id=row[0], marks=kernels.LEGACY) for row in STRAYS),
        *(pytest.param("nft", *row, id=f"nft: {row[0]}") for row in NFT_STRAYS),
    ],
)
def test_a_stray_is_named_and_removed(
    definitions: dict[str, lifecycle.Definition], backend: str, command: str, says: str
) -> None:
    name = f"strays-{backend}"
    if command.startswith("nft ") and shutil.which("nft") is None:
        pytest.skip("no nft program here")
    enter = ["ip", "netns", "exec", paths.netns_name(name, "node1")]
    ports = subprocess.run([*enter, "ip", "-o", "link", "show", "master", "cbr0"], capture_output=True, text=True)
    port = ports.stdout.split(": ")[1].split("@")[0]
    assert drift(name) == []

    subprocess.run([*enter, "sh", "-ec", command.replace("{port}", port)], check=True)
    lines = drift(name)
    assert [line for line in lines if says in line] == lines != []

    lifecycle.up(definitions[backend])
    assert drift(name) == []

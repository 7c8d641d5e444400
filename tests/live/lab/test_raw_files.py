"""A raw file that `validate` accepts comes up as it says: no refusal, no drift, and nothing to repair."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from labctl.core.observations import RouteQuery
from labctl.errors import KernelError, MissingError
from labctl.kernel.apply.features import missing_features
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink.route_lookup import look_up_route
from labctl.lab import lifecycle
from labctl.scenario.definition import define_text
from tests.support.drift import drift
from tests.support.raw_files import RawFile, accepted, broken_promise, raw_files

HEAD = "model: raw\nname: drawn\nnamespaces: [a, b]\nlinks:\n  - veth: [a/eth0, b/eth0]\n"
TUNNEL = """
  - {{vxlan: a/vx0, id: 5, dstport: 4789, mac: "02:00:00:00:01:01", {a}}}
  - {{vxlan: b/vx0, id: 5, dstport: 4789, mac: "02:00:00:00:01:02", {b}}}
addresses:
  a/eth0: [192.0.2.1/24, 2001:db8::1/64]
  b/eth0: [192.0.2.2/24, 2001:db8::2/64]
  a/vx0: 10.9.0.1/24
  b/vx0: 10.9.0.2/24
"""
BUILT = {
    "a link-local address of one's choice": "addresses: {a/eth0: fe80::1/64}",
    "only a link-local address": "  - {bridge: a/br0, autoconf: false}\naddresses: {a/br0: fe80::1/64}",
    "a range on lo": "addresses: {a/lo: [10.0.0.1/24, 2001:db8:9::1/64]}",
    "an address of 0.0.0.0/8": "addresses: {a/eth0: [0.1.2.3/8, 0.200.0.1/16]}",
    "an address with the prefix length 0": "addresses: {a/eth0: [10.0.0.3/0, 2001:db8::1/0]}",
    "a rule from everywhere": 'rules: {a: [from 0.0.0.0/0 pref 5 lookup main, "to ::/0 pref 6 lookup main"]}',
    "rules for marks": "rules: {a: [fwmark 0 pref 5 lookup 1, fwmark 0/0 pref 6 lookup 1, fwmark 0/1 pref 7 lookup 1, "
    "fwmark 1/0xffffffff pref 8 lookup 1, fwmark 5/0 pref 9 lookup 1]}",
    "the MTU of a bridge with ports": "  - veth: [{at: a/p0, master: br0, mtu: 1400}, b/p0]\n"
    "  - {bridge: a/br0, mtu: 9000}\n",
    "a bridge with a port too small for IPv6": "  - veth: [{at: a/p0, master: br0, mtu: 1000}, b/p0]\n"
    "  - bridge: a/br0",
    "times of a bridge": "  - {bridge: a/br0, ageing_time: 4294967295}\n  - {bridge: b/br0, ageing_time: 65535}",
    "times of a vxlan": "  - {vxlan: a/vx0, id: 5, ageing: 4294967295}",
    "sysctls in another spelling": "sysctls: {a: {net.ipv4.ip_forward: 0x1, net.ipv4.conf.eth0.rp_filter: '02', "
    "net.ipv4.ip_local_port_range: '1024   60999'}}",
    "a sysctl of one device before that of all": "sysctls: {a: {net.ipv4.conf.eth0.forwarding: 0, "
    "net.ipv6.conf.eth0.disable_ipv6: 0, net.ipv4.ip_forward: 1, net.ipv6.conf.all.disable_ipv6: 1}}",
    "IPv6 on lo alone": "sysctls: {a: {net.ipv6.conf.lo.disable_ipv6: 0, net.ipv6.conf.all.disable_ipv6: 1}}",
    "a neighbour without ARP": 'neighbours: {a: ["192.0.2.9 lladdr 02:00:00:00:00:09 dev eth0 nud noarp"]}',
    "IPv6's default metric": 'routes: {a: ["2001:db8:9::/64 dev eth0 metric 1024"]}',
    "the protocol boot": "routes: {a: [10.0.0.0/8 dev eth0 proto boot, 11.0.0.0/8 dev eth0 proto 3]}",
    "several next hops": "addresses: {a/eth0: [10.0.0.1/24, 2001:db8::1/64]}\n"
    "routes: {a: [11.0.0.0/8 nexthop via 10.0.0.2 dev eth0 weight 256 nexthop via 10.0.0.3, "
    "12.0.0.0/8 nexthop via 192.0.2.1 dev eth0 onlink nexthop dev eth0 weight 2, 13.0.0.0/8 nexthop via 10.0.0.9, "
    '"2001:db8:1::/64 nexthop via 2001:db8::2 weight 2 nexthop via fe80::9 dev eth0", '
    '"-6 default metric 5 nexthop via 2001:db8::3 nexthop via 2001:db8::2 dev eth0"]}',
    "a gateway before the route to it": "routes: {a: [10.0.0.0/8 via 11.0.0.1, 11.0.0.0/8 dev eth0]}",
}


def up(text: str) -> lifecycle.Definition:
    definition = define_text("t.yaml", text)
    lifecycle.up(definition)
    return definition


def run(node: str, command: str) -> str:
    words = ["ip", "netns", "exec", paths.netns_path("drawn", node).name, *command.split()]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def gone() -> Iterator[None]:
    """No lab of this name stays, whatever a test does."""
    yield
    lifecycle.down("drawn")


@pytest.mark.parametrize("more", BUILT.values(), ids=BUILT)
def test_an_accepted_file_is_built_as_it_says(more: str, gone: None) -> None:
    assert broken_promise(define_text("t.yaml", f"{HEAD}{more}\n")) is None


@pytest.mark.parametrize(
    "ends",
    [
        ("remote: 192.0.2.2", "remote: 192.0.2.1"),
        ("remote: 192.0.2.2, dev: eth0", "remote: 192.0.2.1, local: 192.0.2.2"),
        ('remote: "2001:db8::2"', 'remote: "2001:db8::1", dev: eth0'),
        ("group: 239.1.1.1, dev: eth0", "group: 239.1.1.1, dev: eth0"),
        ("group: ff05::5, dev: eth0", "group: ff05::5, dev: eth0"),
    ],
    ids=["remote", "remote-dev", "remote-ipv6", "group", "group-ipv6"],
)
def test_the_entry_of_a_vxlan_for_unknown_destinations_is_part_of_the_lab(ends: tuple[str, str], gone: None) -> None:
    definition = up(HEAD + TUNNEL.format(a=ends[0], b=ends[1]).lstrip("\n"))
    assert drift("drawn") == []
    assert lifecycle.up(definition).changes == ()
    run("a", "ping -c1 -W5 10.9.0.2")

    (entry,) = (line for line in run("a", "bridge fdb show dev vx0").splitlines() if line.startswith("00:00:"))
    run("a", f"bridge fdb del {entry.partition(' permanent')[0].replace(' self', '')} dev vx0")
    run("a", "ip neigh flush dev vx0")
    (line,) = drift("drawn")
    assert line.startswith("missing fdb entry 00:00:00:00:00:00 dev vx0 dst ")
    lifecycle.up(definition)
    assert drift("drawn") == []
    assert entry in run("a", "bridge fdb show dev vx0")
    run("a", "ping -c1 -W5 10.9.0.2")


@pytest.mark.parametrize(
    ("option", "feature"),
    [("vlan_filtering: 1", "bridge vlan_filtering"), ("vlan_default_pvid: 1", "bridge vlan_filtering"),
     ("mcast_snooping: 0", "bridge mcast_snooping")],
)  # fmt: skip
def test_an_option_that_the_kernel_lacks_is_named(option: str, feature: str, gone: None) -> None:
    definition = define_text("t.yaml", f"{HEAD}  - {{bridge: a/br0, {option}}}\n")
    if not missing_features((feature,)):
        lifecycle.up(definition)
        assert drift("drawn") == []
        return
    with pytest.raises(MissingError, match=f"this kernel lacks {feature}, needed for link br0") as caught:
        lifecycle.up(definition)
    assert caught.value.hint.startswith("a kernel built with CONFIG_BRIDGE_")


def test_a_sysctl_that_the_kernel_changes_is_refused(gone: None) -> None:
    definition = define_text("t.yaml", f"{HEAD}sysctls: {{a: {{net.ipv4.conf.all.forwarding: 1 2}}}}\n")
    with pytest.raises(KernelError, match="the kernel made 1 of it"):
        lifecycle.up(definition)


def test_two_names_of_one_namespace_are_refused(gone: None) -> None:
    definition = up(HEAD)
    first, second = (str(paths.netns_path("drawn", node)) for node in "ab")
    subprocess.run(["umount", second], check=True)
    subprocess.run(["mount", "--bind", first, second], check=True)
    for verb in (lambda: drift("drawn"), lambda: lifecycle.up(definition)):
        with pytest.raises(KernelError, match=r"^labctl\.drawn\.b is the network namespace of labctl\.drawn\.a, too\n"):
            verb()
    subprocess.run(["umount", second], check=True)
    lifecycle.up(definition)
    assert drift("drawn") == []


def test_a_trace_names_the_next_hops_and_the_one_that_the_packet_took(gone: None) -> None:
    up(
        "model: raw\nname: drawn\nnamespaces: [a, b, c]\n"
        "links:\n  - veth: [a/eth0, b/eth0]\n  - veth: [a/eth1, c/eth0]\n"
        "addresses: {a/eth0: 192.0.2.1/24, b/eth0: 192.0.2.2/24, a/eth1: 198.51.100.1/24, c/eth0: 198.51.100.2/24,\n"
        "  b/lo: 203.0.113.1/32, c/lo: 203.0.113.1/32}\n"
        "sysctls: {b: {net.ipv4.conf.all.rp_filter: 0}, c: {net.ipv4.conf.all.rp_filter: 0}}\n"
        "routes:\n  a: [203.0.113.0/24 nexthop via 192.0.2.2 weight 2 nexthop via 198.51.100.2]\n"
        "  b: [default via 192.0.2.1]\n  c: [default via 198.51.100.1]\n"
    )
    query = RouteQuery("a", ip_address("203.0.113.1"), None, None)
    with NetnsThread() as thread:
        found = thread.run(paths.netns_path("drawn", "a"), look_up_route, query)
    assert found.route == (
        "203.0.113.0/24 nexthop via 192.0.2.2 dev eth0 weight 2 nexthop via 198.51.100.2 dev eth1 weight 1"
    )
    assert (str(found.via), found.dev) in {("192.0.2.2", "eth0"), ("198.51.100.2", "eth1")}
    assert f"via {found.via} dev {found.dev}" in run("a", "ip route get 203.0.113.1")


@seed(14)
@settings(
    database=None, deadline=None, max_examples=25, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)
@given(raw_files())
def test_any_raw_file_that_is_accepted_is_built(file: RawFile) -> None:
    """A sample of what `scripts/reliability` draws."""
    kept, definition = accepted(file)
    assert broken_promise(definition) is None, kept.text()

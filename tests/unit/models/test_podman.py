"""podman: what a scenario's networks and containers become, beside the rules (test_podman_rules)."""

from __future__ import annotations

from typing import TypeVar

import pytest

from labctl.core.resources import Address, Chain, Link, NextHop, NftObject, Plan, Process, Route, Sysctl
from labctl.core.scenario_types import Check, Lab
from labctl.scenario.definition import parse_and_compile

T = TypeVar("T")


def lab(networks: str, containers: str, more: str = "") -> Lab:
    text = f"model: podman\n{more}\nnetworks: {{{networks}}}\nhosts: {{host1: {{containers: {{{containers}}}}}}}\n"
    return parse_and_compile(text, "t.yaml")[1]


def plan(networks: str, containers: str, more: str = "") -> Plan:
    return lab(networks, containers, more).plan


def of(kind: type[T], made: Plan, ns: str) -> list[T]:
    return [item for item in made if isinstance(item, kind) and item.ns == ns]  # type: ignore[attr-defined]


def setting(made: Plan, ns: str, name: str) -> str | None:
    return next((item.value for item in of(Sysctl, made, ns) if item.name == name), None)


def default_routes(made: Plan, container: str) -> list[str]:
    found = [route for route in of(Route, made, container) if route.dst.prefixlen == 0]
    return [f"{route.via or len(route.nexthops)} {route.dev or ''} {route.metric} {route.proto}" for route in found]


def chain(made: Plan, name: str) -> list[str]:
    return [str(rule) for item in made if isinstance(item, NftObject) and item.name == name for rule in item.entries]


def test_a_bridge_exists_while_a_container_is_in_its_network() -> None:
    made = plan("a: , b: , c: {interface_name: net9}", "x: {networks: [b]}, y: {networks: [c]}")

    assert [link.at.dev for link in of(Link, made, "host1") if link.kind == "bridge"] == ["podman2", "net9"]
    assert "10.89.1.1/24" in [str(address.addr) for address in of(Address, made, "host1")]
    assert "10.88.0.1/16" not in [str(address.addr) for address in of(Address, made, "host1")]


def test_networks_get_the_ranges_that_are_free() -> None:
    made = plan("a: {subnet: 10.89.0.0/23}, b: , c: {ipv6: true}", "x: {networks: [b]}, y: {networks: [c]}")

    assert [str(one.addr) for one in of(Address, made, "x")] == ["10.89.2.2/24"]
    ipv4, ipv6 = (one.addr for one in of(Address, made, "y"))
    assert str(ipv4) == "10.89.3.2/24"
    assert ipv6.network.prefixlen == 64
    assert ipv6.ip.is_private
    assert int(ipv6.ip) & 0xFFFF == 2


def test_containers_get_addresses_in_order_and_what_they_ask_for() -> None:
    made = plan(
        "a: {ipv6: true, subnet: [10.1.0.0/24, 'fd00:1::/64'], gateway: 10.1.0.9}",
        "x: {networks: [a]}, y: {networks: ['a:ip=10.1.0.2,ip=fd00:1::77']}, z: {networks: [a]},"
        " p: {ip: 10.88.0.7, mac_address: '02:00:00:00:00:77'}",
    )
    addresses = {name: [str(one.addr) for one in of(Address, made, name)] for name in "xyzp"}

    assert addresses == {
        "x": ["10.1.0.1/24", "fd00:1::2/64"],
        "y": ["10.1.0.2/24", "fd00:1::77/64"],
        "z": ["10.1.0.3/24", "fd00:1::3/64"],
        "p": ["10.88.0.7/16"],
    }
    assert [link.mac for link in of(Link, made, "p") if link.kind == "veth"] == ["02:00:00:00:00:77"]


def test_devices_have_the_kernels_names_or_those_of_the_file() -> None:
    made = plan(
        "a: , b: ",
        "x: {networks: ['a:interface_name=eth1', b]}, y: {networks: ['a:host_interface_name=veth0']}, z: ",
    )
    ends = {str(link.at): str(link.peer) for link in of(Link, made, "host1") if link.kind == "veth"}

    assert ends == {
        "host1/eth0": "internet/eth0",
        "host1/veth1": "x/eth1",
        "host1/veth2": "x/eth0",
        "host1/veth0": "y/eth0",
        "host1/veth3": "z/eth0",
    }


def test_of_several_default_routes_the_last_networks_is_used_and_ipv6_has_all_of_them() -> None:
    made = plan(
        "a: {ipv6: true}, b: {ipv6: true}, c: {metric: 50}, d: {no_default_route: true}, e: {internal: true}",
        "x: {networks: [a, b]}, y: {networks: [c, a, d]}, z: {networks: [d]}, i: {networks: [e]}",
    )
    six = next(route for route in of(Route, made, "x") if route.dst.version == 6)

    assert default_routes(made, "x") == ["10.89.1.1 eth1 100 4", "2  100 4"]
    assert [hop.dev for hop in six.nexthops] == ["eth0", "eth1"]
    assert isinstance(six.nexthops[0], NextHop)
    assert default_routes(made, "y")[:2] == ["10.89.2.1 eth0 50 4", "10.89.0.1 eth1 100 4"]
    assert default_routes(made, "z") == default_routes(made, "i") == []


@pytest.mark.parametrize(
    ("containers", "host", "bridge"),
    [
        ("x: {networks: [inner]}", "0", "0"),
        ("x: {networks: [inner]}, y: ", "1", "1"),
        ("y: , x: {networks: [inner]}", "1", "0"),
        ("y: , x: {networks: [inner]}, z: {networks: [out]}", "1", "0"),
    ],
)
def test_the_first_network_with_a_way_out_turns_forwarding_on_everywhere(
    containers: str, host: str, bridge: str
) -> None:
    made = plan("inner: {internal: true}, out: ", containers)

    assert setting(made, "host1", "net.ipv4.ip_forward") == host
    assert setting(made, "host1", "net.ipv4.conf.podman1.forwarding") == bridge
    assert setting(made, "host1", "net.ipv4.conf.podman1.route_localnet") is None


def test_a_host_with_internal_networks_only_has_no_table() -> None:
    assert of(NftObject, plan("inner: {internal: true}", "x: {networks: [inner]}"), "host1") == []


def test_a_network_may_choose_the_address_that_it_is_seen_with() -> None:
    made = plan(
        "a: {ipv6: true, outbound_addr4: 192.168.50.11, outbound_addr6: 'fd00:192:168:50::b', id: 0123456789}",
        "x: {networks: [a]}",
        "release: 2.0",
    )
    rules = [str(rule) for item in of(NftObject, made, "host1") if item.name.startswith("nv_") for rule in item.entries]

    assert "ip daddr != 224.0.0.0/4 snat ip to 192.168.50.11" in rules
    assert "ip6 daddr != ff00::/8 snat ip6 to fd00:192:168:50::b" in rules


def test_queries_to_another_port_of_the_name_server() -> None:
    networks, containers = (
        "a: , b: {ipv6: true, subnet: 'fd00:3::/64', gateway: 'fd00:3::1'}",
        "x: {networks: [a, b]}, y: ",
    )
    made = plan(networks, containers, "dns_bind_port: 5353")

    assert chain(made, "NETAVARK-HOSTPORT-DNAT") == [
        "ip daddr 10.88.0.1 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.88.0.1:5353",
        "ip daddr 10.89.1.1 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.89.1.1:5353",
        "ip6 daddr fd00:3::1 meta l4proto { tcp, udp } th dport 53 dnat ip6 to [fd00:3::1]:5353",
        "ip daddr 10.89.0.1 meta l4proto { tcp, udp } th dport 53 dnat ip to 10.89.0.1:5353",
    ]
    written = plan(networks, containers, "dns_bind_port: 5353\nfirewall_driver: iptables")
    rules = {(one.family, one.name): [str(rule) for rule in one.rules] for one in of(Chain, written, "host1")}
    assert rules["ip6", "NETAVARK-HOSTPORT-DNAT"] == [
        "-d fd00:3::1/128 -p tcp -m tcp --dport 53 -j DNAT --to-destination [fd00:3::1]:5353",
        "-d fd00:3::1/128 -p udp -m udp --dport 53 -j DNAT --to-destination [fd00:3::1]:5353",
    ]
    assert "-s 10.88.0.0/16 -p udp -m udp --dport 5353 -j ACCEPT" in rules["ip", "NETAVARK_INPUT"]


def test_podman_5_holds_published_ports_and_podman_6_does_not() -> None:
    containers = "x: {publish: ['80:80', '127.0.0.1:53:53/udp', '90-91:90-91', '5:5/sctp', '[::1]:81:81']}, y: "
    (held,) = of(Process, plan("", containers), "host1")
    wanted = ("tcp:0.0.0.0:80", "udp:127.0.0.1:53", "tcp:0.0.0.0:90", "tcp:0.0.0.0:91", "tcp:::1:81")

    assert (held.name, held.command) == ("conmon x", ("conmon", *wanted))
    assert of(Process, plan("", containers, "release: 2.0"), "host1") == []


def test_containers_without_a_separate_network() -> None:
    made = lab(
        "",
        "x: {listen: [80]}, h: {networks: [host]}, j: {networks: ['container:x'], listen: [81]}, n: {networks: [none]}",
    )
    machines = {machine.name: machine for machine in made.machines}

    assert machines["h"].netns_of == "host1"
    assert machines["j"].netns_of == "x"
    assert machines["n"].addresses == ()
    assert of(Link, made.plan, "n")[0].kind == "loopback"
    assert {process.name for process in of(Process, made.plan, "x")} == {"x", "j"}


def between(one: str, other: str, release: str = "1.17") -> Check:
    made = lab(f"a: {{{one}}}, b: {{{other}}}", "x: {networks: [a]}, y: {networks: [b]}", f"release: {release}")
    return next(check for check in made.checks if (check.source, check.target) == ("x", "y"))


@pytest.mark.parametrize(
    ("one", "other", "expect", "arrives"),
    [
        ("", "", "reply", True),
        ("isolate: true", "", "reply", True),
        ("", "isolate: true", "reply", True),
        ("isolate: true", "isolate: true", "fail", False),
        ("isolate: true", "isolate: strict", "fail", False),
        ("isolate: strict", "", "fail", False),
        ("", "isolate: strict", "fail", True),
    ],
)
def test_which_networks_reach_each_other(one: str, other: str, expect: str, arrives: bool) -> None:
    check = between(one, other)

    assert check.expect == expect
    assert any(str(see.at) == "y/eth0" and not see.negate for see in check.sees) == arrives


def test_netavark_2_isolates_all_networks_unless_they_say_no() -> None:
    assert between("", "", "2.0").expect == "fail"
    assert between("isolate: false", "isolate: false", "2.0").expect == "reply"

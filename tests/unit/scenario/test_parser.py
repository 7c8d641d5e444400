"""What scenario files mean: machines, options, checks, raw objects, --set and --name."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, ip_address, ip_interface, ip_network
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from labctl import models
from labctl.core.iptables import rule
from labctl.core.options import address, cidr, option
from labctl.core.resources import (
    Address,
    Chain,
    Fdb,
    Interface,
    Link,
    Neighbour,
    Netns,
    NextHop,
    Resource,
    Route,
    Rule,
    Sysctl,
)
from labctl.core.scenario_types import Machine, Scenario, ScenarioNode, See
from labctl.errors import ScenarioError, UsageError
from labctl.models import docker_bridge, kubenet
from labctl.scenario import catalog
from labctl.scenario.definition import parse_and_compile
from labctl.scenario.yaml_reader import read_file

KUBENET = "model: kubenet\nnodes: {node1: {pods: [a, b]}, node2: {pods: [c]}}\n"


def parse(text: str, file: str, **more: Any) -> Scenario:
    return parse_and_compile(text, file, **more)[0]


def refused(text: str, **more: Any) -> list[str]:
    with pytest.raises(ScenarioError) as caught:
        parse(text, "t.yaml", **more)
    return [str(problem) for problem in caught.value.problems]


# -- machines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "nodes"),
    [
        (
            "{node1: {pods: [a, b]}, node2: {pods: [c]}}",
            (ScenarioNode("node1", ("a", "b")), ScenarioNode("node2", ("c",))),
        ),
        (
            "{node1: {pods: 2}, node9: {pods: 1}}",
            (ScenarioNode("node1", ("pod1-1", "pod1-2")), ScenarioNode("node9", ("pod2-1",))),
        ),
        ("{count: 2, pods: 1}", (ScenarioNode("node1", ("pod1-1",)), ScenarioNode("node2", ("pod2-1",)))),
        ("{count: 2}", (ScenarioNode("node1"), ScenarioNode("node2"))),
        ("{count: 1, pods: [x]}", (ScenarioNode("node1", ("x",)),)),
        ("{node1: {}}", (ScenarioNode("node1"),)),
        ("{node1: }", (ScenarioNode("node1"),)),
        ("[m, n]", (ScenarioNode("m"), ScenarioNode("n"))),
        ("{node1: {containers: [a]}}", (ScenarioNode("node1", ("a",)),)),
        ("{node1: {pods: 0}}", (ScenarioNode("node1"),)),
    ],
)
def test_nodes_are_named_or_counted(written: str, nodes: tuple[ScenarioNode, ...]) -> None:
    assert parse(f"model: kubenet\nnodes: {written}\n", "t.yaml").nodes == nodes


@pytest.mark.parametrize("word", ["hosts", "nodes"])
@pytest.mark.parametrize("inner", ["containers", "pods"])
def test_a_docker_lab_counts_its_containers_through_all_hosts(word: str, inner: str) -> None:
    text = f"model: docker-bridge\n{word}: {{host1: {{{inner}: [x, y]}}, host2: {{{inner}: 2}}}}\n"
    assert parse(text, "t.yaml").nodes == (ScenarioNode("host1", ("x", "y")), ScenarioNode("host2", ("c3", "c4")))
    counted = parse(f"model: docker-bridge\n{word}: {{count: 2, {inner}: 2}}\n", "t.yaml")
    assert counted.nodes == (ScenarioNode("host1", ("c1", "c2")), ScenarioNode("host2", ("c3", "c4")))


def test_the_name_is_the_files_unless_one_is_given() -> None:
    assert parse(KUBENET, "dir/my-lab.yaml").name == "my-lab"
    assert parse("name: x\n" + KUBENET, "my-lab.yaml").name == "x"
    assert parse("name: x\n" + KUBENET, "my-lab.yaml", name="y").name == "y"
    assert parse(KUBENET, "No Name.yaml", name="y").name == "y"
    assert refused(KUBENET, name="a.b") == [
        "--name:1:1: name: 'a.b' is not a valid name: '.' is not allowed\n"
        "    hint: a name is a DNS label: a-z, 0-9 and '-'"
    ]
    with pytest.raises(ScenarioError, match="the lab's name is the file's name"):
        parse(KUBENET, "No Name.yaml")


# -- options ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Options:
    """Every type that an option may have."""

    word: str = option("a", "a word", choices=("a", "b", "28"))
    text: str = option("", "a text")
    number: int = option(5, "a number", minimum=1, maximum=9)
    share: float = option(0.5, "a share")
    switch: bool = option(True, "a switch")
    pod_cidr: IPv4Network = option(cidr("10.1.0.0/16"), "a range")
    gateway: IPv4Address = option(address("10.1.0.1"), "an address")
    maybe: IPv4Network | None = option(None, "a range or nothing")
    several: tuple[IPv4Network, ...] = option((), "ranges")


def fake(**more: Any) -> Any:
    """A model of one namespace for each machine."""

    def build(scenario: Scenario) -> Any:
        for node in scenario.nodes:
            for name in (node.name, *node.pods):
                yield Netns(name)
                yield Machine(name, "node")

    return SimpleNamespace(__doc__="A fake.", MACHINES=("nodes", "pods"), Options=Options, compile=build, **more)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    made = fake()
    monkeypatch.setattr(models, "model_names", lambda: ("fake",))
    monkeypatch.setattr(models, "has_model", lambda name: name == "fake")
    monkeypatch.setattr(models, "find_model", lambda name: made)
    return made


OPTIONS = """
model: fake
nodes: [n]
word: 28
text: "no"
number: 7
share: 0.25
switch: off
pod-cidr: 10.9.0.0/16
gateway: 10.9.0.1
maybe: null
several: [10.0.0.0/8, 192.168.0.0/16]
"""


def test_the_annotation_decides_what_a_text_is(model: Any) -> None:
    ranges = (IPv4Network("10.0.0.0/8"), IPv4Network("192.168.0.0/16"))
    assert parse(OPTIONS, "t.yaml").options == Options(
        "28", "no", 7, 0.25, False, IPv4Network("10.9.0.0/16"), IPv4Address("10.9.0.1"), None, ranges
    )
    assert parse("model: fake\nnodes: [n]\nmaybe: 10.0.0.0/8\n", "t.yaml").options.maybe == IPv4Network("10.0.0.0/8")


def test_what_an_option_cannot_be(model: Any) -> None:
    bad = (
        "model: fake\nnodes: [n]\nword: c\nnumber: 10\nshare: x\nswitch: 2\ngateway: 10.9.0.0/16\nseveral: 10.0.0.0/8\n"
    )
    told = [problem.splitlines()[0] for problem in refused(bad)]
    assert told == [
        "t.yaml:3:7: word: 'c' is not one of a, b, 28",
        "t.yaml:4:9: number: 10 is out of bounds",
        "t.yaml:5:8: share: 'x' is not a number",
        "t.yaml:6:9: switch: '2' is neither true nor false",
        "t.yaml:7:10: gateway: '10.9.0.0/16' is not a valid IPv4 address",
        "t.yaml:8:10: several: expected a list, each entry an IPv4 range such as 10.0.0.0/16",
    ]


def test_what_a_model_refuses_stands_at_its_key(model: Any) -> None:
    model.refuse = lambda scenario: [(key, f"bad {key}", "a hint") for key in ("pod_cidr", "nodes", "number", "?")]
    told = refused("name: x\nmodel: fake\npod-cidr: 10.9.0.0/16\nnodes: [n]\n")
    assert told == [
        "t.yaml:2:1: bad ?\n    hint: a hint",
        "t.yaml:2:1: bad number\n    hint: a hint",
        "t.yaml:3:1: bad pod_cidr\n    hint: a hint",
        "t.yaml:4:1: bad nodes\n    hint: a hint",
    ]


def test_a_key_that_could_not_be_read_is_not_judged_again(model: Any) -> None:
    model.refuse = lambda scenario: [("number", "too few", "")]
    assert [item.splitlines()[0] for item in refused("model: fake\nnodes: [n]\nnumber: x\n")] == [
        "t.yaml:3:9: number: 'x' is not a whole number"
    ]


# -- checks ----------------------------------------------------------------------------------------------


def check(text: str) -> Any:
    (made,) = parse(f"{KUBENET}checks:\n  - {text}\n", "t.yaml").checks
    return made


def test_a_check_in_all_its_words() -> None:
    made = check(
        "{say: hello, tcp: a -> c:8080, expect: refused, listen: no, within: 500ms, via: tcpdump,"
        " see: {at: node2/eth0, src: a, dst: c, ttl: 61, encap: none, direction: in, packet: reply},"
        " not see: [{at: node1/cbr0, src: node1/cbr0}, {at: a/eth0},"
        " {at: a/eth0, encap: vxlan  42, outer_src: node1, outer_dst: node2/eth0}]}"
    )
    assert (made.say, made.probe, made.source, made.target, made.port) == ("hello", "tcp", "a", "c", 8080)
    assert (made.expect, made.listen, made.within, made.via) == ("refused", False, 0.5, "tcpdump")
    assert made.sees == (
        See(Interface("node2", "eth0"), "a", "c", 61, "none", "in", "reply"),
        See(Interface("node1", "cbr0"), src="node1/cbr0", negate=True),
        See(Interface("a", "eth0"), negate=True),
        See(Interface("a", "eth0"), encap="vxlan 42", outer_src="node1", outer_dst="node2/eth0", negate=True),
    )
    assert made.origin == "scenario"


@pytest.mark.parametrize(
    ("probe", "sport"),
    [
        ("udp: a -> c:53", None),
        ("udp: a:4000 -> c:53", 4000),
        ("tcp: a:1->c:53", 1),
        ("tcp: 'a : 65535 -> c:53'", 65535),
        ("udp: a:53 -> c:53", 53),
        ("udp: 'a:53 -> [2001:db8::1]:53'", 53),
    ],
)
def test_the_source_port_of_a_check(probe: str, sport: int | None) -> None:
    made = check(probe)

    assert (made.source, made.sport, made.port) == ("a", sport, 53)


@pytest.mark.parametrize(
    ("probe", "target", "port"),
    [
        ("ping: a -> c", "c", None),
        ("ping: a->c", "c", None),
        ("ping: a -> node1/cbr0", "node1/cbr0", None),
        ("ping: a -> 203.0.113.1", "203.0.113.1", None),
        ("ping: a -> 2001:DB8::1", "2001:db8::1", None),
        ("tcp: a -> node1/cbr0:80", "node1/cbr0", 80),
        ("tcp: a -> 203.0.113.1:22", "203.0.113.1", 22),
        ("udp: 'a -> [fd00::1]:53'", "fd00::1", 53),
    ],
)
def test_a_target_is_a_machine_a_point_or_an_address(probe: str, target: str, port: int | None) -> None:
    made = check(f"{{{probe}}}")
    assert (made.source, made.target, made.port) == ("a", target, port)


@pytest.mark.parametrize(("written", "seconds"), [("500ms", 0.5), ("5s", 5.0), ("2", 2.0), ("1m", 60.0), ("1.5s", 1.5)])
def test_durations(written: str, seconds: float) -> None:
    assert check(f"{{ping: a -> c, within: {written}}}").within == seconds


@pytest.mark.parametrize(
    ("text", "say"),
    [
        ("{ping: a -> c}", "a reaches c"),
        ("{ping: a -> c, expect: fail}", "a does not reach c"),
        ("{tcp: 'a -> c:80', expect: refused}", "c refuses a on tcp port 80"),
        ("{udp: 'a -> c:53', expect: timeout}", "a gets no answer from c on udp port 53"),
        (
            "{ping: a -> c, see: {at: node2/eth0, src: a, dst: c, ttl: 61}}",
            "a reaches c, seen at node2/eth0 as a > c with ttl 61",
        ),
        (
            "{ping: a -> c, not see: {at: node2/eth0, src: node1, packet: reply}}",
            "a reaches c, its reply not seen at node2/eth0 as node1 > any",
        ),
        ("{ping: a -> c, size: 1472}", "a reaches c with 1472 bytes"),
        ("{ping: a -> c, size: 1473, expect: fail}", "a does not reach c with 1473 bytes"),
        (
            "{ping: a -> c, not see: {at: node2/eth0, packet: arp, dst: c}}",
            "a reaches c, a neighbour request not seen at node2/eth0 as any > c",
        ),
        ("{mesh: pods}", "every pod reaches every pod and is seen with its own address"),
    ],
)
def test_a_check_that_says_nothing_gets_a_sentence(text: str, say: str) -> None:
    assert check(text).say == say


def test_a_mesh_is_of_all_pods() -> None:
    pods = ("a", "b", "c")
    assert check("{mesh: pods}").groups == ((pods, pods),)
    assert [check(text).pairs for text in ("{mesh: pods}", "{mesh: pods, pairs: all}")] == ["sample", "all"]


@pytest.mark.parametrize("address", ["fe80::1%eth0", "224.0.0.1", "::", "127.1", "0x7f.1"])
def test_what_is_no_address_of_a_machine(address: str) -> None:
    (told,) = refused(f"{KUBENET}checks: [{{ping: 'a -> {address}'}}]\n")
    assert told.startswith("t.yaml:3:17: ping: ")


def test_names_are_checked_beside_other_mistakes_of_checks() -> None:
    told = refused(f"{KUBENET}checks:\n  - ping: a -> d\n  - {{ping: a -> b, within: x}}\n")
    assert [line.splitlines()[0] for line in told] == [
        "t.yaml:4:11: ping: there is no machine 'd'",
        "t.yaml:5:28: within: 'x' is not a duration",
    ]


# -- raw -------------------------------------------------------------------------------------------------

RAW = """
model: raw
namespaces: {h1: {role: pod, on: r1}, r1: }
links:
  - veth: [h1/eth0, {at: r1/p1, master: br0, hairpin: true, mac: "02:00:00:00:00:01", mtu: 1300}]
    mtu: 1400
  - {bridge: r1/br0, stp_state: 0, promisc: true}
  - {vxlan: r1/vx0, id: 42, local: "2001:DB8::1", dstport: 4789, learning: false, born: h1, up: false}
  - {vlan: h1/eth0.5, dev: eth0, id: 5}
  - {dummy: h1/d0, autoconf: true}
addresses:
  h1/lo: 10.0.0.1/32
  h1/eth0: [fe80::1/64, 192.0.2.2/24, "2001:db8::2/64"]
  r1/br0: 192.0.2.1/24
routes:
  h1:
    - default via 192.0.2.1 metric 5 src 192.0.2.2 mtu 1300
    - default via inet6 2001:db8::1 table 100
    - -6 default dev eth0 scope link
    - unreachable 203.0.113.0/24
    - 10.9.9.9 dev eth0
    - 10.9.9.8 dev eth0 scope host
    - 198.51.100.0/24 via 203.0.113.9 dev eth0 onlink
    - 10.1.0.0/16 metric 5 nexthop via 192.0.2.1 weight 2 nexthop dev eth0
    - 10.2.0.0/16 nexthop via 192.0.2.1 dev eth0 weight 7
    - 2001:db8:9::/64 dev eth0 metric 1024 proto boot
rules:
  h1:
    - from 192.0.2.0/24 fwmark 0x1/0xff iif eth0 lookup main pref 10
    - -6 pref 20 blackhole
    - pref 30 to 2001:db8::/32 table 7
    - pref 40 not from all iif eth0 lookup 1
    - pref 50 from 0.0.0.0/0 to 0.0.0.0/0 fwmark 0/0 lookup 9
    - pref 60 from ::/0 fwmark 0x5/0xffffffff lookup 9
neighbours:
  h1: ["192.0.2.1 lladdr 02:00:00:00:00:01 dev eth0 nud probe", proxy 192.0.2.7 dev eth0]
fdb:
  r1: ["00:00:00:00:00:00 dev vx0 dst 2001:db8::2", "02:00:00:00:00:01 dev p1"]
sysctls:
  h1: {net.ipv4.conf.eth0/5.rp_filter: 0}
firewall: {r1: {nat: {POSTROUTING: [-o br0 -j MASQUERADE], MINE: {rules: ["-A MINE -j RETURN"]}}}}
firewall6: {r1: {filter: {FORWARD: {policy: DROP}}}}
ebtables: {r1: {filter: {FORWARD: ["-p IPv4 -j DROP"]}}}
"""


def raw_plan() -> tuple[Resource, ...]:
    return parse(RAW, "t.yaml").raw_plan


def of(kind: type) -> list[Any]:
    return [item for item in raw_plan() if isinstance(item, kind)]


def test_raw_links() -> None:
    assert of(Netns) == [Netns("h1"), Netns("r1")]
    h1, r1 = Interface("h1", "eth0"), Interface("r1", "p1")
    assert of(Link) == [
        Link(Interface("h1", "lo"), "loopback"),
        Link(Interface("r1", "lo"), "loopback"),
        Link(Interface("r1", "br0"), "bridge", promisc=True, options=(("stp_state", "0"),)),
        Link(h1, "veth", r1, mtu=1400, autoconf=True),
        Link(r1, "veth", h1, "br0", 1300, "02:00:00:00:00:01", hairpin=True),
        Link(
            Interface("r1", "vx0"),
            "vxlan",
            up=False,
            link_netns="h1",
            options=(("id", "42"), ("local", "2001:db8::1"), ("dstport", "4789"), ("learning", "off")),
        ),
        Link(Interface("h1", "d0"), "dummy", autoconf=True),
        Link(Interface("h1", "eth0.5"), "vlan", options=(("dev", "eth0"), ("id", "5"))),
    ]


def test_raw_addresses_and_machines() -> None:
    eth0 = Interface("h1", "eth0")
    assert of(Address) == [
        Address(Interface("h1", "lo"), ip_interface("10.0.0.1/32"), None),
        Address(eth0, ip_interface("fe80::1/64")),
        Address(eth0, ip_interface("192.0.2.2/24")),
        Address(eth0, ip_interface("2001:db8::2/64")),
        Address(Interface("r1", "br0"), ip_interface("192.0.2.1/24")),
    ]
    own = tuple(ip_address(text) for text in ("192.0.2.2", "2001:db8::2", "10.0.0.1"))
    machines = parse(RAW, "t.yaml").raw_machines
    assert machines == (Machine("h1", "pod", own, "r1"), Machine("r1", "machine", (ip_address("192.0.2.1"),)))


def test_raw_routes_are_in_the_words_of_ip_route() -> None:
    default, default6 = ip_network("0.0.0.0/0"), ip_network("::/0")
    own, gate = ip_address("192.0.2.2"), ip_address("192.0.2.1")
    assert of(Route) == [  # those with a gateway are last: the kernel needs a route to it
        Route("h1", default6, dev="eth0"),
        Route("h1", ip_network("203.0.113.0/24"), kind="unreachable"),
        Route("h1", ip_network("10.9.9.9/32"), dev="eth0"),
        Route("h1", ip_network("10.9.9.8/32"), dev="eth0", scope="host"),
        Route("h1", ip_network("2001:db8:9::/64"), dev="eth0"),
        Route("h1", default, gate, metric=5, src=own, mtu=1300),
        Route("h1", default6, ip_address("2001:db8::1"), table=100),
        Route("h1", ip_network("198.51.100.0/24"), ip_address("203.0.113.9"), "eth0", onlink=True),
        Route("h1", ip_network("10.1.0.0/16"), metric=5, nexthops=(NextHop(gate, weight=2), NextHop(dev="eth0"))),
        Route("h1", ip_network("10.2.0.0/16"), gate, "eth0"),
    ]


def test_raw_rules_neighbours_and_forwarding() -> None:
    eth0, six = Interface("h1", "eth0"), ip_network("2001:db8::/32")
    assert of(Rule) == [
        Rule("h1", 10, 254, src=ip_network("192.0.2.0/24"), iif="eth0", mark=1, mask=255),
        Rule("h1", 20, family=6, kind="blackhole"),
        Rule("h1", 30, 7, 6, dst=six),
        Rule("h1", 40, 1, iif="eth0", invert=True),
        Rule("h1", 50, 9),
        Rule("h1", 60, 9, family=6, mark=5),
    ]
    assert of(Neighbour) == [
        Neighbour(eth0, ip_address("192.0.2.1"), "02:00:00:00:00:01", "probe"),
        Neighbour(eth0, ip_address("192.0.2.7"), None, proxy=True),
    ]
    assert of(Fdb) == [
        Fdb(Interface("r1", "vx0"), "00:00:00:00:00:00", ip_address("2001:db8::2")),
        Fdb(Interface("r1", "p1"), "02:00:00:00:00:01"),
    ]


def test_raw_settings_and_firewall() -> None:
    assert of(Sysctl) == [
        Sysctl("h1", "net.ipv4.conf.eth0/5.rp_filter", "0"),
        Sysctl("h1", "net.ipv6.conf.eth0.accept_dad", "0"),
    ]
    assert of(Chain) == [
        Chain("r1", "nat", "POSTROUTING", (rule("-o br0 -j MASQUERADE"),), "ACCEPT"),
        Chain("r1", "nat", "MINE", (rule("-j RETURN"),)),
        Chain("r1", "filter", "FORWARD", (), "DROP", "ip6"),
        Chain("r1", "filter", "FORWARD", (rule("-p IPv4 -j DROP", "bridge"),), "ACCEPT", "bridge"),
    ]


def test_a_link_with_an_ipv6_address_is_autoconfigured_unless_the_file_says_no() -> None:
    text = "model: raw\nnamespaces: [a]\nlinks: [{{dummy: a/d0{}}}]\naddresses: {{a/d0: 2001:db8::1/64}}\n"
    for said, autoconf in (("", True), (", autoconf: false", False), (", autoconf: true", True)):
        raw = parse(text.format(said), "t.yaml").raw_plan
        assert [item.autoconf for item in raw if isinstance(item, Link) and item.at.dev == "d0"] == [autoconf]


def test_a_raw_lab_compiles_to_what_it_says() -> None:
    scenario, lab = parse_and_compile(RAW, "t.yaml")
    assert set(lab.plan) == set(scenario.raw_plan)
    assert lab.machines == scenario.raw_machines


def test_no_setting_leads_out_of_its_folder() -> None:
    for name in (
        "net.//.//.etc.passwd",
        "net..ipv4.x",
        "net./../x.y",
        "kernel.panic",
        "net",
        "/etc/passwd",
        "net.a b.c",
    ):
        told = refused(f"model: raw\nnamespaces: [a]\nsysctls: {{a: {{'{name}': 1}}}}\n")
        assert len(told) == 1, name


# -- --set -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        (("routing=host",), ("host", 3)),
        (("nodes.node1.pods=5",), ("udr", 6)),
        (("nodes.node1.pods=[x, y, z, w]",), ("udr", 5)),
        (("nodes={count: 3, pods: 1}",), ("udr", 3)),
        (("nodes={count: 3}", "nodes.pods=2", "nodes.count=2"), ("udr", 4)),
        (("nodes.node3.pods=2",), ("udr", 5)),
        (("nodes.node1.pods.0=z", "routing=host"), ("host", 3)),
    ],
)
def test_values_set_from_the_command_line(sets: tuple[str, ...], expected: tuple[str, int]) -> None:
    scenario = parse(KUBENET, "t.yaml", overrides=sets)
    assert (scenario.options.routing, len(scenario.pods)) == expected


def test_dashes_and_dots_in_the_path_of_a_set() -> None:
    text = "model: kubenet\nnodes: [n]\npod_cidr: 10.1.0.0/16\n"
    assert parse(text, "t.yaml", overrides=("pod-cidr=10.2.0.0/16",)).options.pod_cidr == IPv4Network("10.2.0.0/16")
    raw = "model: raw\nnamespaces: [a]\nsysctls: {a: {net.ipv4.ip_forward: 0}}\n"
    scenario = parse(raw, "t.yaml", overrides=("sysctls.a.net.ipv4.ip_forward=1",))
    assert Sysctl("a", "net.ipv4.ip_forward", "1") in scenario.raw_plan


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("routing=x", "--set routing=x:1:9: routing: 'x' is not one of udr, host"),
        ("routng=host", "--set routng=host:1:1: scenario: unknown key 'routng'"),
        ("routing", "--set routing:1:1: expected KEY=VALUE"),
        ("=x", "--set =x:1:1: expected KEY=VALUE"),
        ("nodes.node1.pods.9=x", "--set nodes.node1.pods.9=x:1:1: '9' is not an entry of the list"),
        ("model.x=1", "--set model.x=1:1:1: 'kubenet' does not contain 'x'"),
        ("nodes=[a", "--set nodes=[a:1:7: a '[' without a ']', or a ',' is missing"),
        ("nodes.-h.pods=1", "--set nodes.-h.pods=1:1:1: nodes: '-h' is not a valid name: it begins with a dash"),
        ("routing=", "--set routing=:1:9: routing: expected one of udr, host, but the value is empty"),
        ("say=\x1b[31m", "--set say=\\x1b[31m:1:5: character U+001B is not allowed"),
    ],
)
def test_a_set_that_means_nothing_is_placed_in_the_word(word: str, told: str) -> None:
    problems = refused(KUBENET, overrides=(word,))
    assert problems[0].splitlines()[0] == told
    assert len(problems) == 1


# -- files -----------------------------------------------------------------------------------------------


def test_what_cannot_be_read_as_a_file(tmp_path: Path) -> None:
    import os

    fifo, folder = tmp_path / "fifo.yaml", tmp_path / "folder.yaml"
    os.mkfifo(fifo)
    folder.mkdir()
    for path in (fifo, folder, tmp_path / "missing.yaml", Path("/dev/zero"), Path("/dev/tty"), "a\0b.yaml"):
        with pytest.raises(UsageError, match="cannot read"):
            read_file(str(path))


def test_a_file_that_is_no_text_or_too_large(tmp_path: Path) -> None:
    file = tmp_path / "t.yaml"
    file.write_bytes(b"model: x\nsay: \xff\n")
    with pytest.raises(ScenarioError, match=r"t\.yaml:2:6: byte 0xff is not valid UTF-8"):
        read_file(str(file))
    with file.open("wb") as out:
        out.truncate(5 * 1024**2)
    with pytest.raises(ScenarioError, match="larger than 4 MiB"):
        read_file(str(file))
    file.write_bytes("\ufeffmodel: kubenet\n".encode())
    assert read_file(str(file)) == "model: kubenet\n"


# -- all together ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", catalog.names())
def test_the_built_in_scenarios_are_right_and_short(name: str) -> None:
    file, text = catalog.find(name)
    scenario = parse(text, file)
    assert scenario.name == name
    assert scenario.checks, "a scenario without checks is unfinished"
    assert all(check.say for check in scenario.checks)
    assert 10 <= len(text.splitlines()) <= 40


def test_a_large_lab_is_parsed() -> None:
    scenario, lab = parse_and_compile("model: docker-bridge\nhosts: {host1: {containers: 1000}}\n", "t.yaml")
    assert len(scenario.pods) == 1000
    assert len(lab.machines) > 1000
    assert docker_bridge.MACHINES == ("hosts", "containers")
    assert kubenet.MACHINES == ("nodes", "pods")

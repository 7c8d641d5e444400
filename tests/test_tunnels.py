"""What cluster networks are made of beyond a bridge: sets, tunnels told with each packet, TUN devices, made and mended.

One lab of two nodes has all of it; what it made is read back by labctl and by the tools of others.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from labctl.core.diff import diff
from labctl.core.resources import Interface, IpSet, Link, Neighbour, Plan, Process, Resource, Route, assemble
from labctl.errors import KernelError
from labctl.kernel.host import lab_state, paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.kernel.programs import tunnel
from labctl.models.lib import primitives
from labctl.render.plan_json import resource_from_json, resource_json
from labctl.render.resources import change_lines, resource_values
from labctl.scenario.iproute2_syntax import route

LAB = "tunnels"
MASQUERADE = "-m set --match-set pools src -m set ! --match-set few dst -j MASQUERADE --random-fully"


def node(number: int, other: int) -> Iterator[Resource]:
    """One of two machines on a cable, with a tunnel of every kind to the other."""
    name, here, far = f"n{number}", IPv4Address(f"192.168.0.{number}"), IPv4Address(f"192.168.0.{other}")
    yield from primitives.netns(name)
    yield from primitives.addresses(Interface(name, "eth0"), primitives.with_prefix_length(here, 24))
    yield from primitives.addresses(
        Interface(name, "lo"), primitives.with_prefix_length(IPv4Address(f"10.0.{number}.1"), 32)
    )
    flow = (("dstport", "8472"), ("external", "on"))
    yield Link(Interface(name, "flow"), "vxlan", mtu=1450, mac=f"02:00:00:00:01:0{number}", options=flow)
    yield Neighbour(Interface(name, "flow"), IPv4Address(f"10.0.{other}.250"), f"02:00:00:00:01:0{other}")
    where, gateway = IPv4Network(f"10.0.{other}.0/24"), IPv4Address(f"10.0.{other}.250")
    own = IPv4Address(f"10.0.{number}.1")
    yield Route(name, where, gateway, "flow", onlink=True, src=own, mtu=1450, encap=(12345, far))
    yield Route(name, IPv4Network(f"10.0.{number}.64/26"), kind="blackhole", proto=80)
    for mode, net in (("udp", 8), ("ipip", 9)):
        device = Interface(name, mode)
        yield Link(device, "tun", mtu=1400)
        yield from primitives.addresses(device, primitives.with_prefix_length(IPv4Address(f"10.{net}.{number}.0"), 16))
        words = ("tunnel", mode, mode, str(here), f"10.{net}.{other}.0/24={far}")
        yield Process(name, mode, words)
    yield IpSet(name, "pools", members=("10.0.0.0/16", "10.8.0.0/16"))
    yield IpSet(name, "few", "hash:ip", ("10.0.0.1", "10.0.0.2"))
    yield primitives.chain(name, "nat", "POSTROUTING", MASQUERADE)


def plan() -> Plan:
    macs = ("02:00:00:00:00:01", "02:00:00:00:00:02")
    cable = primitives.veth_pair(Interface("n1", "eth0"), Interface("n2", "eth0"), mtu=1500, macs=macs)
    return assemble((*node(1, 2), *node(2, 1), *cable))


def there() -> Plan:
    with KernelLab(LAB) as kernel:
        return kernel.observe(plan())


def build(want: Plan, have: Plan = ()) -> None:
    with KernelLab(LAB) as kernel:
        have = kernel.observe(want) if have else have
        kernel.apply(diff(want, have))


def typed(node: str, command: str) -> str:
    words = ["ip", "netns", "exec", paths.netns_name(LAB, node), *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=20, check=False)
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def tunnels() -> Iterator[None]:
    build(plan())
    yield
    with KernelLab(LAB) as kernel:
        kernel.destroy()
    lab_state.remove_files(LAB)
    assert LAB not in paths.labs()


# ---- without root ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [IpSet, Route])
def test_objects_survive_json(kind: type) -> None:
    for item in plan():
        if isinstance(item, kind):
            assert resource_from_json(json.loads(json.dumps(resource_json(item)))) == item


def test_a_route_that_nobody_in_particular_is_to_make_may_be_anybodys() -> None:
    some = Route("n1", IPv4Network("10.0.0.0/8"), kind="blackhole")
    birds = replace(some, proto=12)

    assert diff((some,), (birds,)) == ()
    assert [change.kind for change in diff((birds,), (some,))] == ["changed"]
    assert resource_values(birds) == "blackhole 10.0.0.0/8 proto bird"


def test_a_route_says_its_maker_and_its_tunnel_in_the_words_of_ip() -> None:
    words = "10.0.2.0/24 encap ip id 7 dst 192.168.0.2 via 10.0.2.250 dev flow proto 17 onlink"

    made = route("n1", words)

    assert (made.encap, made.proto) == ((7, IPv4Address("192.168.0.2")), 17)
    assert resource_values(made) == words
    assert route("n1", resource_values(made)) == made
    assert change_lines(diff((made,), (replace(made, encap=(8, IPv4Address("192.168.0.2"))),))[0]) == (
        "changed route 10.0.2.0/24: encap was id 8 dst 192.168.0.2, should be id 7 dst 192.168.0.2",
    )


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


# ---- in real namespaces ------------------------------------------------------------------------------


@pytest.mark.kernel
@pytest.mark.root
def test_what_was_built_is_what_is_there(tunnels: None) -> None:
    assert diff(plan(), there()) == ()


@pytest.mark.kernel
@pytest.mark.root
def test_rules_that_match_sets_are_spelled_as_xtables_spells_them() -> None:
    odd = primitives.chain("n1", "nat", "MINE", MASQUERADE.replace("-m set --match-set pools src", "-s 10.0.0.1/8"))
    with KernelLab(LAB) as kernel:
        spelled = kernel.kernel_spelling((*plan(), odd))
    assert [str(rule) for rule in spelled[-1].rules] == [
        MASQUERADE.replace("-m set --match-set pools src", "-s 10.0.0.0/8")
    ]
    assert diff(spelled[:-1], plan()) == ()


@pytest.mark.root
def test_the_tools_of_others_see_the_same(tunnels: None) -> None:
    listed = typed("n1", "ipset list pools")
    assert "Type: hash:net" in listed
    assert {"10.0.0.0/16", "10.8.0.0/16"} <= set(listed.split())
    assert "encap ip id 12345" in typed("n1", "ip route show 10.0.2.0/24")
    assert "blackhole 10.0.1.64/26 proto 80" in typed("n1", "ip route")
    assert f"-A POSTROUTING {MASQUERADE}" in typed("n1", "iptables-legacy -t nat -S")
    assert "tun type tun pi off" in typed("n1", "ip -d link show udp")


@pytest.mark.kernel
@pytest.mark.root
@pytest.mark.parametrize(("target", "ttl"), [("10.0.2.1", 64), ("10.8.2.0", 63), ("10.9.2.0", 64)])
def test_every_tunnel_carries_packets(tunnels: None, target: str, ttl: int) -> None:
    assert f"ttl={ttl} " in typed("n1", f"ping -n -c 1 -W 2 {target}")


@pytest.mark.kernel
@pytest.mark.root
def test_sets_and_tunnels_that_were_meddled_with_are_seen_and_mended(tunnels: None) -> None:
    for words in (
        "ipset add pools 10.99.0.0/16",
        "ipset del few 10.0.0.2",
        "ipset create astray hash:net",
        "ip route replace 10.0.2.0/24 encap ip id 7 dst 192.168.0.2 via 10.0.2.250 dev flow onlink",
        "ip route replace blackhole 10.0.1.64/26 proto static",
        "ip link del ipip",
    ):
        assert typed("n1", words) == ""

    changes = {(change.kind, change.subject.key[0]) for change in diff(plan(), there())}
    assert changes >= {("changed", "ipset"), ("extra", "ipset"), ("changed", "route"), ("missing", "link")}

    for _ in range(3):
        build(plan(), there())
    assert diff(plan(), there()) == ()
    for target in ("10.0.2.1", "10.9.2.0"):
        assert "1 received" in typed("n1", f"ping -n -c 1 -W 2 {target}")


@pytest.mark.kernel
@pytest.mark.root
def test_a_set_goes_with_the_rules_that_match_it(tunnels: None) -> None:
    without = tuple(item for item in plan() if item.key[0] not in ("ipset", "chain") or item.ns != "n1")

    build(without, there())
    assert diff(without, there()) == ()
    assert typed("n1", "ipset list -n") == ""

    build(plan(), there())
    assert diff(plan(), there()) == ()


@pytest.mark.kernel
@pytest.mark.root
def test_what_the_kernel_will_not_have_in_a_set_is_said(tunnels: None) -> None:
    odd = (*plan(), IpSet("n1", "odd", "hash:nothing"))

    with pytest.raises(KernelError, match=r"cannot add ipset odd \(hash:nothing\) in n1: no such set type"):
        build(odd, there())
    build(plan(), there())
    assert diff(plan(), there()) == ()

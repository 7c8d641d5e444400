"""Kinds of links that many kernels have as modules, and small ones lack: the three laws and a packet through each.

Two machines on a veth pair. If this kernel does not have a kind, its test is skipped, with the reason;
`scripts/vm-test` runs them all.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network

import pytest

from labctl.core.diff import diff
from labctl.core.features import required_features
from labctl.core.resources import Interface, Link, Neighbour, Plan, Resource, Route, assemble
from labctl.kernel.host import modules, paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.models.lib import primitives
from labctl.render.resources import change_lines
from tests.support import kernels

pytestmark = pytest.mark.kernel

LAB = "kinds"
MACS = ("02:00:00:00:00:01", "02:00:00:00:00:02")
Way = Callable[[int, int], Iterator[Resource]]  # what one of the two gets, by its number and the other's


def outer(number: int) -> IPv4Address:
    """A machine's address on the cable."""
    return IPv4Address(f"192.168.0.{number}")


def inner(number: int) -> IPv4Address:
    """The address that is reached through what is tried."""
    return IPv4Address(f"10.0.{number}.1")


def own(number: int, dev: str = "lo") -> Iterator[Resource]:
    yield from primitives.addresses(Interface(f"n{number}", dev), primitives.with_prefix_length(inner(number), 32))


def there(number: int, dev: str, via: IPv4Address | None = None) -> Route:
    where = IPv4Network(f"{inner(number)}/32")
    return Route(f"n{3 - number}", where, via, dev, src=inner(3 - number), onlink=via is not None)


def tunnel(number: int, other: int) -> Iterator[Resource]:
    options = (("local", str(outer(number))), ("remote", str(outer(other))), ("ttl", "64"))
    yield Link(Interface(f"n{number}", "tun1"), "ipip", mtu=1480, options=options)
    yield from own(number, "tun1")
    yield there(other, "tun1")


def fallback(number: int, other: int) -> Iterator[Resource]:
    """The device that the module itself puts into a namespace, as Calico uses it."""
    yield Link(Interface(f"n{number}", "tunl0"), "ipip", mtu=1480)
    yield from own(number, "tunl0")
    yield there(other, "tunl0", outer(other))


def vlan(number: int, other: int) -> Iterator[Resource]:
    yield Link(Interface(f"n{number}", "eth0.7"), "vlan", mtu=1400, options=(("dev", "eth0"), ("id", "7")))
    yield from own(number, "eth0.7")
    yield there(other, "eth0.7")


def dummy(number: int, other: int) -> Iterator[Resource]:
    yield Link(Interface(f"n{number}", "dummy0"), "dummy", mtu=1400, mac=f"02:00:00:00:09:0{number}")
    yield from own(number, "dummy0")
    yield there(other, "eth0", outer(other))


def ipvlan(number: int, other: int, mode: str = "l2") -> Iterator[Resource]:
    name = f"n{number}"
    yield from primitives.netns(f"p{number}")
    yield Link(
        Interface(f"p{number}", "eth0"), "ipvlan", mtu=1500, options=(("dev", "eth0"), ("mode", mode)), link_netns=name
    )
    yield from primitives.addresses(
        Interface(f"p{number}", "eth0"), primitives.with_prefix_length(IPv4Address(f"192.168.0.1{number}"), 24)
    )
    yield from own(number)
    yield there(other, "eth0", outer(other))


def ipvlan_l3(number: int, other: int) -> Iterator[Resource]:
    return ipvlan(number, other, "l3")


def geneve(number: int, other: int) -> Iterator[Resource]:
    options = (("id", "42"), ("remote", str(outer(other))), ("dstport", "6081"))
    yield Link(Interface(f"n{number}", "gen1"), "geneve", mtu=1450, mac=f"02:00:00:00:08:0{number}", options=options)
    yield from own(number, "gen1")
    yield there(other, "gen1")


def geneve_external(number: int, other: int) -> Iterator[Resource]:
    port, gateway = Interface(f"n{number}", "gen_sys"), IPv4Address(f"10.0.{other}.250")
    options = (("dstport", "6081"), ("external", "on"))
    yield Link(port, "geneve", mtu=1450, mac=f"02:00:00:00:07:0{number}", options=options)
    yield Neighbour(port, gateway, f"02:00:00:00:07:0{other}")
    yield from own(number)
    where = IPv4Network(f"{inner(other)}/32")
    yield Route(port.ns, where, gateway, port.dev, onlink=True, src=inner(number), encap=(77, outer(other)))


WAYS: dict[str, Way] = {
    "ipip": tunnel, "tunl0": fallback, "vlan": vlan, "dummy": dummy, "ipvlan": ipvlan, "ipvlan-l3": ipvlan_l3,
    "geneve": geneve, "geneve-external": geneve_external,
}  # fmt: skip


def plan(way: Way | None) -> Plan:
    cable = primitives.veth_pair(Interface("n1", "eth0"), Interface("n2", "eth0"), mtu=1500, macs=MACS)
    both = [item for number in (1, 2) for item in primitives.netns(f"n{number}")]
    ends = [
        item
        for number in (1, 2)
        for item in primitives.addresses(
            Interface(f"n{number}", "eth0"), primitives.with_prefix_length(outer(number), 24)
        )
    ]
    ways = [item for number in (1, 2) for item in way(number, 3 - number)] if way is not None else []
    return assemble((*both, *cable, *ends, *ways))


def drift(want: Plan) -> list[str]:
    with KernelLab(LAB) as kernel:
        return [line for change in diff(want, kernel.observe(want)) for line in change_lines(change)]


def mend(want: Plan) -> None:
    for _ in range(3):
        with KernelLab(LAB) as kernel:
            kernel.apply(diff(want, kernel.observe(want)))


def typed(node: str, command: str) -> str:
    words = ["ip", "netns", "exec", paths.netns_name(LAB, node), *command.split()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def arrives(node: str, target: str) -> bool:
    """Whether one of a few pings is answered: the first may wait for a neighbour."""
    return f"from {target}" in typed(node, f"ping -n -c 3 -i 0.3 -W 3 {target}")


@pytest.fixture
def built(request: pytest.FixtureRequest) -> Iterator[Plan]:
    """What is named, built; taken down afterwards, and then nothing is left of it."""
    want = plan(WAYS[request.param])
    if reason := kernels.missing_text(tuple(required_features(want))):
        pytest.skip(reason)
    with KernelLab(LAB) as kernel:
        kernel.apply(diff(want, ()))
    yield want
    with KernelLab(LAB) as kernel:
        kernel.destroy()
    assert LAB not in paths.labs()


@pytest.mark.parametrize("built", WAYS, indirect=True)
def test_what_is_built_is_there_carries_packets_and_is_mended(built: Plan) -> None:
    assert drift(built) == []
    assert arrives("n1", str(inner(2)))
    link = next(item for item in built if isinstance(item, Link) and item.kind not in ("veth", "loopback"))
    for words in (
        f"ip link del {link.at.dev}",
        f"ip link set {link.at.dev} down",
        f"ip link set {link.at.dev} mtu 1300",
    ):
        typed(link.ns, words)
        assert drift(built) != [] or words == "ip link del tunl0"  # which is the module's, and stays
        mend(built)
        assert drift(built) == [], words
    assert arrives("n1", str(inner(2)))


@pytest.mark.parametrize("built", ["ipvlan"], indirect=True)
def test_a_pod_shares_the_card_of_its_node(built: Plan) -> None:
    assert arrives("p1", "192.168.0.12")
    assert typed("p1", "cat /sys/class/net/eth0/address").strip() == MACS[0]


@pytest.mark.parametrize("built", ["ipip"], indirect=True)
def test_a_device_that_the_module_made_is_no_drift_until_somebody_uses_it(built: Plan) -> None:
    assert "tunl0" in typed("n1", "ip -o link")
    assert drift(built) == []

    typed("n1", "ip link set tunl0 up")
    assert any("tunl0" in line for line in drift(built))
    mend(built)

    assert drift(built) == []
    assert "UP" not in typed("n1", "ip -o link show tunl0").split(">")[0]


def test_a_modules_device_that_is_wanted_down_is_there() -> None:
    """A bridge of such a name, for any kernel has those; what a module made reads the same."""
    want = (*primitives.netns("n1"), Link(Interface("n1", "ip6gretap0"), "bridge", up=False))
    with KernelLab(LAB) as kernel:
        kernel.apply(diff(want, ()))
    try:
        assert drift(want) == []
        typed("n1", "ip link set ip6gretap0 up")
        assert drift(want) != []
        mend(want)
        assert drift(want) == []
        assert drift(want[:-1]) == []
    finally:
        with KernelLab(LAB) as kernel:
            kernel.destroy()


@pytest.mark.parametrize("built", ["dummy"], indirect=True)
def test_a_kind_that_was_loaded_later_changes_no_lab(built: Plan) -> None:
    want = plan(WAYS["ipip"])
    if reason := kernels.missing_text(tuple(required_features(want))):
        pytest.skip(reason)
    modules.load(["ipip"], print)

    assert "tunl0" in typed("n1", "ip -o link")
    assert drift(built) == []
    mend(want)

    assert drift(want) == []
    assert arrives("n1", str(inner(2)))

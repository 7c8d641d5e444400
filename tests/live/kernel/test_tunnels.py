"""What cluster networks are made of beyond a bridge: sets, tunnels that are set for each packet, TUN devices.

One lab of two nodes has all of it; what it made is read back by labctl and by the tools of others.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from labctl.core.diff import diff
from labctl.core.resources import IpSet, Plan
from labctl.errors import KernelError
from labctl.kernel.host import lab_state, paths
from labctl.kernel.lab_kernel import KernelLab
from labctl.models.lib import primitives
from tests.support.cluster_node import MASQUERADE, plan

LAB = "tunnels"


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


@pytest.mark.kernel
def test_what_was_built_is_what_is_there(tunnels: None) -> None:
    assert diff(plan(), there()) == ()


@pytest.mark.kernel
def test_rules_that_match_sets_are_spelled_as_xtables_spells_them() -> None:
    odd = primitives.chain("n1", "nat", "MINE", MASQUERADE.replace("-m set --match-set pools src", "-s 10.0.0.1/8"))
    with KernelLab(LAB) as kernel:
        spelled = kernel.kernel_spelling((*plan(), odd))
    assert [str(rule) for rule in spelled[odd.key].rules] == [
        MASQUERADE.replace("-m set --match-set pools src", "-s 10.0.0.0/8")
    ]
    others = tuple(spelled.get(item.key, item) for item in plan())
    assert odd.key not in {item.key for item in others}
    assert diff(others, plan()) == ()


def test_the_tools_of_others_see_the_same(tunnels: None) -> None:
    listed = typed("n1", "ipset list pools")
    assert "Type: hash:net" in listed
    assert {"10.0.0.0/16", "10.8.0.0/16"} <= set(listed.split())
    assert "encap ip id 12345" in typed("n1", "ip route show 10.0.2.0/24")
    assert "blackhole 10.0.1.64/26 proto 80" in typed("n1", "ip route")
    assert f"-A POSTROUTING {MASQUERADE}" in typed("n1", "iptables-legacy -t nat -S")
    assert "tun type tun pi off" in typed("n1", "ip -d link show udp")


@pytest.mark.kernel
@pytest.mark.parametrize(("target", "ttl"), [("10.0.2.1", 64), ("10.8.2.0", 63), ("10.9.2.0", 64)])
def test_every_tunnel_carries_packets(tunnels: None, target: str, ttl: int) -> None:
    assert f"ttl={ttl} " in typed("n1", f"ping -n -c 1 -W 2 {target}")


@pytest.mark.kernel
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
def test_a_set_goes_with_the_rules_that_match_it(tunnels: None) -> None:
    without = tuple(item for item in plan() if item.key[0] not in ("ipset", "chain") or item.ns != "n1")

    build(without, there())
    assert diff(without, there()) == ()
    assert typed("n1", "ipset list -n") == ""

    build(plan(), there())
    assert diff(plan(), there()) == ()


@pytest.mark.kernel
def test_members_with_ports_and_exceptions_are_those_of_ipset(tunnels: None) -> None:
    named = IpSet("n1", "named", "hash:ip,port", ("10.0.0.1,sctp:5", "10.0.0.1,tcp:80", "10.0.0.1,udp:53"))
    block = IpSet("n1", "block", members=("10.0.0.0/8", "10.1.0.0/16 nomatch"))
    wanted = (*plan(), named, block)
    build(wanted, there())

    assert diff(wanted, there()) == ()
    assert set(named.members) <= set(typed("n1", "ipset list named").splitlines())
    assert set(block.members) <= set(typed("n1", "ipset list block").splitlines())
    assert "is in set" in typed("n1", "ipset test named 10.0.0.1,tcp:80")
    assert "is NOT in set" in typed("n1", "ipset test named 10.0.0.1,tcp:53")

    fewer = (*plan(), replace(named, members=named.members[:1]), replace(block, members=block.members[:1]))
    build(fewer, there())
    assert diff(fewer, there()) == ()
    build(plan(), there())
    assert diff(plan(), there()) == ()


@pytest.mark.kernel
def test_what_the_kernel_will_not_have_in_a_set_is_said(tunnels: None) -> None:
    odd = (*plan(), IpSet("n1", "odd", "hash:nothing"))

    with pytest.raises(KernelError, match=r"cannot add ipset odd \(hash:nothing\) in n1: no such set type"):
        build(odd, there())
    build(plan(), there())
    assert diff(plan(), there()) == ()

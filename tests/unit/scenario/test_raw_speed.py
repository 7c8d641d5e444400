"""The work that a raw file makes grows with its length, not with the square of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import pytest

from labctl.errors import ScenarioError
from labctl.scenario.definition import parse_and_compile

HEAD = "model: raw\nname: long\nnamespaces: [a, b]\nlinks:\n  - veth: [a/eth0, b/eth0]\n"
ADDRESSES = "addresses: {a/eth0: 10.0.0.1/8}\n"


def host(number: int) -> str:
    return f"172.16.{number >> 8 & 255}.{number & 255}"


LONG: dict[str, Callable[[int], str]] = {
    "routes by gateways": lambda count: (
        f"{HEAD}{ADDRESSES}routes:\n  a:\n"
        + "".join(f"  - {host(n)}/32 via 10.1.{n >> 8 & 255}.{n & 255 or 1}\n" for n in range(count))
    ),
    "routes by devices": lambda count: (
        f"{HEAD}{ADDRESSES}routes:\n  a:\n" + "".join(f"  - {host(n)}/32 dev eth0\n" for n in range(count))
    ),
    "addresses": lambda count: f"{HEAD}addresses:\n  a/eth0:\n" + "".join(f"  - {host(n)}/32\n" for n in range(count)),
    "rules": lambda count: (
        f"{HEAD}rules:\n  a:\n" + "".join(f"  - from {host(n)} lookup 1 pref 5\n" for n in range(count))
    ),
    "neighbours": lambda count: (
        f"{HEAD}neighbours:\n  a:\n"
        + "".join(f"  - {host(n)} lladdr 02:00:00:00:00:01 dev eth0\n" for n in range(count))
    ),
    "forwarding entries": lambda count: (
        f"{HEAD}  - {{vxlan: a/vx0, id: 5}}\nfdb:\n  a:\n"
        + "".join(f"  - 02:00:00:00:{n >> 8 & 255:02x}:{n & 255:02x} dev vx0 dst 192.0.2.1\n" for n in range(count))
    ),
    "namespaces": lambda count: "model: raw\nname: long\nnamespaces:\n" + "".join(f"- n{n}\n" for n in range(count)),
    "cables": lambda count: HEAD + "".join(f"  - veth: [a/e{n}, b/e{n}]\n" for n in range(count // 2)),
    "ports of a bridge": lambda count: (
        f"{HEAD}  - bridge: a/br0\n"
        + "".join(f"  - veth: [{{at: a/e{n}, master: br0}}, b/e{n}]\n" for n in range(count // 2))
    ),
    "macvlans": lambda count: HEAD + "".join(f"  - {{macvlan: a/m{n}, dev: eth0}}\n" for n in range(count)),
    "vxlans": lambda count: HEAD + "".join(f"  - {{vxlan: a/v{n}, id: {n}, dev: eth0}}\n" for n in range(count)),
    "sysctls": lambda count: (
        HEAD
        + "".join(f"  - veth: [a/e{n}, b/e{n}]\n" for n in range(count // 2))
        + "sysctls:\n  a:\n"
        + "".join(f"    net.ipv6.conf.e{n}.disable_ipv6: 1\n" for n in range(count // 2))
    ),
    "firewall rules": lambda count: (
        f"{HEAD}firewall:\n  a: {{filter: {{INPUT: ["
        + ", ".join(f"-s {host(n)}/32 -j DROP" for n in range(count))
        + "]}}\n"
    ),
    "chains": lambda count: (
        f"{HEAD}firewall:\n  a:\n    filter:\n" + "".join(f"      C{n}: [-j RETURN]\n" for n in range(count))
    ),
    "checks": lambda count: (
        f"{HEAD}addresses: {{a/eth0: 10.0.0.1/24, b/eth0: 10.0.0.2/24}}\nchecks:\n"
        + "".join(f"- {{say: claim {n}, ping: a -> b}}\n" for n in range(count))
    ),
    "devices over each other": lambda count: (
        HEAD.replace("a/eth0", "a/e0") + "".join(f"  - {{vlan: a/e{n + 1}, dev: e{n}, id: 5}}\n" for n in range(count))
    ),
}


def calls(text: str) -> int:
    """The calls of functions, and the steps of generators, with which labctl reads a text. Unlike the time, they do not
    depend on the load of the machine."""
    count = 0

    def on_event(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += 1

    sys.setprofile(on_event)
    try:
        with suppress(ScenarioError):  # of devices over each other
            parse_and_compile(text, "t.yaml")
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("name", LONG)
def test_the_work_grows_with_the_length(name: str) -> None:
    """Eight times as many entries need about eight times as many calls. With the square, it would be 64 times."""
    calls(LONG[name](2))  # imports
    short, long = (calls(LONG[name](count)) for count in (200, 1600))

    assert long < 10 * short

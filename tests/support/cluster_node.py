"""The plan of a small cluster network: sets, tunnels with remote addresses, and a TUN device."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

from labctl.core.resources import Interface, IpSet, Link, Neighbour, Plan, Process, Resource, Route, assemble
from labctl.models.lib import primitives

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

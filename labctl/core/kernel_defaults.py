"""What the kernel puts into every new namespace by itself, so that nobody has to plan it."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Interface, IPv6Interface

from labctl.core.resources import MAIN, Address, Iface, Port, Rule


@cache
def own_rules(ns: str, family: int) -> tuple[Rule, ...]:
    """The policy-routing rules that the kernel puts into every new namespace: local, main and default."""
    rules = (Rule(ns, 0, 255, family), Rule(ns, 32766, MAIN, family), Rule(ns, 32767, 253, family))
    return rules if family == 4 else rules[:2]


def moves_local(rule: Rule) -> bool:
    """Whether a rule stands for the kernel's first, for every packet as that does, at another place: `ip rule add pref
    100 lookup local; ip rule del pref 0`. Whoever wants rules before the local table (Cilium) does that."""
    return rule.pref != 0 and rule == Rule(rule.ns, rule.pref, 255, rule.family)


@cache
def own_addresses(ns: str, version: int) -> tuple[Address, ...]:
    """The addresses that the kernel gives to the loopback device of every namespace."""
    text: tuple[Iface, ...] = (IPv4Interface("127.0.0.1/8"),) if version == 4 else (IPv6Interface("::1/128"),)
    return tuple(Address(Port(ns, "lo"), addr, None) for addr in text)

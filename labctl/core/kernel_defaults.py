"""What the kernel creates by itself, in every new namespace and for some links, so that no plan has to list it."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Interface, IPv6Interface, ip_address

from labctl.core.resources import ALL_ZEROS_MAC, RT_TABLE_MAIN, Address, Fdb, Interface, InterfaceAddress, Link, Rule


@cache
def kernel_default_rules(ns: str, family: int) -> tuple[Rule, ...]:
    """The policy-routing rules that the kernel creates in every new namespace: local, main and default."""
    rules = (Rule(ns, 0, 255, family), Rule(ns, 32766, RT_TABLE_MAIN, family), Rule(ns, 32767, 253, family))
    return rules if family == 4 else rules[:2]


def replaces_local_rule(rule: Rule) -> bool:
    """Whether a rule replaces the kernel's first rule (`lookup local` for every packet) at another place: `ip rule add
    pref 100 lookup local; ip rule del pref 0`. Programs that need rules before the local table (Cilium) do that."""
    return rule.pref != 0 and rule == Rule(rule.ns, rule.pref, 255, rule.family)


@cache
def kernel_default_addresses(ns: str, version: int) -> tuple[Address, ...]:
    """The addresses that the kernel sets on the loopback device of every namespace."""
    text: tuple[InterfaceAddress, ...] = (
        (IPv4Interface("127.0.0.1/8"),) if version == 4 else (IPv6Interface("::1/128"),)
    )
    return tuple(Address(Interface(ns, "lo"), addr, None) for addr in text)


def kernel_default_fdb(link: Link) -> tuple[Fdb, ...]:
    """The forwarding entry that the kernel creates with a vxlan: packets to unknown MAC addresses go to `remote` or
    `group`, by the lower device (`vxlan_fdb_create` in drivers/net/vxlan/vxlan_core.c). The tunnel does not
    work without it."""
    options = dict(link.options)
    destination = options.get("remote") or options.get("group")
    if destination is None:
        return ()
    return (Fdb(link.at, ALL_ZEROS_MAC, ip_address(destination), options.get("dev")),)

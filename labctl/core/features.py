"""Which features a plan asks of the kernel, beyond those of every kernel that can hold a lab at all.

A feature goes by one word: the kind of a link (`vlan`, `ipip`), or a match or target of iptables as it stands
in a rule (`-m set`, `-j NFLOG`). Pure; whether this kernel has one is for `labctl.kernel.apply.features` to try.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain, Link, Resource

LINKS = frozenset({"loopback", "veth", "bridge"})  # kinds of which `doctor` says that nothing goes without them
MATCHES = frozenset(
    {"addrtype", "comment", "conntrack", "mac", "mark", "multiport", "physdev", "tcp", "udp", "icmp", "icmp6"}
)
TARGETS = frozenset({"ACCEPT", "DROP", "RETURN", "REJECT", "MASQUERADE", "DNAT", "SNAT", "MARK"})
DENIED = "Permission denied"  # not the kernel lacks a feature, but this user the right to it
# others are named as their kind
_MODULES = {
    "vlan": "8021q", "gre": "ip_gre", "gretap": "ip_gre", "-m rpfilter": "ipt_rpfilter", "-j CONNMARK": "xt_connmark",
}  # fmt: skip


def needed(plan: Iterable[Resource]) -> dict[str, Resource]:
    """The features of a plan that a kernel may lack, each with the first object that asks for it."""
    items = tuple(plan)
    chains = {(item.ns, item.name) for item in items if isinstance(item, Chain)}
    found: dict[str, Resource] = {}
    for item in items:
        if isinstance(item, Link):
            if item.kind not in LINKS:
                found.setdefault(item.kind, item)
        elif isinstance(item, Chain) and item.family != "bridge":
            for rule in item.rules:
                for feature in _extensions(rule):
                    if (item.ns, feature.removeprefix("-j ")) not in chains:
                        found.setdefault(feature, item)
    return found


def module(feature: str) -> str:
    """The kernel module behind a feature."""
    if feature.startswith("-"):
        return _MODULES.get(feature, f"xt_{feature[3:]}")
    return _MODULES.get(feature, feature)


def remedy(feature: str, why: str) -> str:
    """What gets one a feature that is lacking; `why` is what the kernel said."""
    if why == DENIED:  # only a TUN device is asked for by a file
        return "sudo chmod 666 /dev/net/tun"
    return f"modprobe {module(feature)}"


def _extensions(rule: FirewallRule) -> Iterator[str]:
    for flag, word in pairwise(rule.args):
        if flag == "-m" and word not in MATCHES:
            yield f"-m {word}"
    if rule.target is not None and rule.target not in TARGETS:
        yield f"-j {rule.target}"

"""The kernel features that a plan needs, beyond those without which no lab works.

The name of a feature is the kind of a link (`vlan`, `ipip`), or a match or target of iptables as it is written
in a rule (`-m set`, `-j NFLOG`). Pure; `labctl.kernel.apply.features` tries whether this kernel has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from labctl.core.iptables import FirewallRule
from labctl.core.resources import Chain, Link, Resource

LINKS = frozenset({"loopback", "veth", "bridge"})  # link kinds that every lab needs; `doctor` checks them
MATCHES = frozenset(
    {"addrtype", "comment", "conntrack", "mac", "mark", "multiport", "physdev", "tcp", "udp", "icmp", "icmp6"}
)
TARGETS = frozenset({"ACCEPT", "DROP", "RETURN", "REJECT", "MASQUERADE", "DNAT", "SNAT", "MARK"})
DENIED = "Permission denied"  # the kernel has the feature, but this user may not use it
# other features have a module of the same name
_MODULES = {
    "vlan": "8021q", "gre": "ip_gre", "gretap": "ip_gre", "-m rpfilter": "ipt_rpfilter", "-j CONNMARK": "xt_connmark",
}  # fmt: skip


def needed(plan: Iterable[Resource]) -> dict[str, Resource]:
    """The features of a plan that a kernel may lack, each with the first object that needs it."""
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
    """The kernel module of a feature."""
    if feature.startswith("-"):
        return _MODULES.get(feature, f"xt_{feature[3:]}")
    return _MODULES.get(feature, feature)


def remedy(feature: str, why: str) -> str:
    """The command that makes a missing feature available; `why` is the kernel's error text."""
    if why == DENIED:  # only a TUN device needs access to a file
        return "sudo chmod 666 /dev/net/tun"
    return f"modprobe {module(feature)}"


def _extensions(rule: FirewallRule) -> Iterator[str]:
    for flag, word in pairwise(rule.args):
        if flag == "-m" and word not in MATCHES:
            yield f"-m {word}"
    if rule.target is not None and rule.target not in TARGETS:
        yield f"-j {rule.target}"

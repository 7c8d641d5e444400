"""The kernel features that a plan needs, beyond those without which no lab works.

The name of a feature is the kind of a link (`vlan`, `ipip`), a kind and an option that not every kernel has (`bridge
vlan_filtering`), a match or target of iptables as it is written in a rule (`-m set`, `-j NFLOG`), or a part of nftables
(`nft fib`, `labctl.core.nft_features`). Pure;
`labctl.kernel.apply.features` tries whether this kernel has them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from labctl.core.iptables_parts import part_names
from labctl.core.nft_features import is_nft_feature, nft_features, nft_module
from labctl.core.resources import Chain, Link, NftObject, Resource

BASIC_LINK_KINDS = frozenset({"loopback", "veth", "bridge"})  # link kinds that every lab needs; `doctor` checks them
BASIC_MATCHES = frozenset(
    {"addrtype", "comment", "conntrack", "mac", "mark", "multiport", "physdev", "tcp", "udp", "icmp", "icmp6"}
)
BASIC_TARGETS = frozenset({"ACCEPT", "DROP", "RETURN", "REJECT", "MASQUERADE", "DNAT", "SNAT", "MARK"})
UNKNOWN_TO_NFT = "this version of nft does not know it"  # the reason of a missing feature of nftables
PERMISSION_DENIED = "Permission denied"  # the kernel has the feature, but this user may not use it
# other features have a module of the same name
_KERNEL_MODULES = {
    "vlan": "8021q", "gre": "ip_gre", "gretap": "ip_gre", "-m rpfilter": "ipt_rpfilter", "-j CONNMARK": "xt_connmark",
}  # fmt: skip
DEFAULT_LINK_OPTIONS = frozenset(
    {("vlan_filtering", "0")}
)  # of every new link; a kernel without the feature refuses it
# the parts of a kind that the kernel is built with or without, by feature, and the options of a link that need each
_BUILD_OPTIONS = {
    "bridge vlan_filtering": "CONFIG_BRIDGE_VLAN_FILTERING", "bridge mcast_snooping": "CONFIG_BRIDGE_IGMP_SNOOPING",
}  # fmt: skip
_OPTION_FEATURES = {
    "vlan_default_pvid": "vlan_filtering",
    "vlan_filtering": "vlan_filtering",
    "mcast_snooping": "mcast_snooping",
}


def required_features(plan: Iterable[Resource]) -> dict[str, Resource]:
    """The features of a plan that a kernel may lack, each with the first object that needs it."""
    found: dict[str, Resource] = {}
    chains: list[Chain] = []
    native: list[NftObject] = []
    for item in plan:
        if isinstance(item, Chain):
            chains.append(item)
        elif isinstance(item, NftObject):
            native.append(item)
        elif isinstance(item, Link):
            if item.kind not in BASIC_LINK_KINDS:
                found.setdefault(item.kind, item)
            for name, value in item.options if item.kind == "bridge" else ():
                if name in _OPTION_FEATURES and (name, value) not in DEFAULT_LINK_OPTIONS:
                    found.setdefault(f"bridge {_OPTION_FEATURES[name]}", item)
    for one, flag, name in used_extensions(chains):
        if name not in (BASIC_MATCHES if flag == "-m" else BASIC_TARGETS):
            found.setdefault(f"{flag} {name}", one)
    return found | nft_features(native)


def used_extensions(chains: Sequence[Chain]) -> Iterator[tuple[Chain, str, str]]:
    """The matches and targets of iptables that the rules of these chains use: `-m` or `-j`, its name, and the first
    chain with it; each once for a family. A jump to one of the chains in the same namespace is none.

    The nodes of a cluster often share the rules of a chain; these are looked at once.
    """
    names: defaultdict[str, set[str]] = defaultdict(set)
    groups: defaultdict[tuple[str, str], list[Chain]] = defaultdict(list)
    for one in chains:
        names[one.ns].add(one.name)
        groups[one.ns, one.family].append(one)
    parts_of: dict[tuple[str, int], tuple[tuple[str, str], ...]] = {}
    used: set[tuple[str, str, str]] = set()
    for (ns, family), group in groups.items():
        looked_at: set[int] = set()  # the rules, by their id: the chains keep them
        for one in group if family != "bridge" else ():  # ebtables does not name its matches
            rules = id(one.rules)
            if rules in looked_at:
                continue
            looked_at.add(rules)
            parts = parts_of.get((family, rules))
            if parts is None:
                parts = parts_of[family, rules] = tuple(part_names(rule.args for rule in one.rules))
            for flag, name in parts:
                if flag == "-m" or name not in names[ns]:
                    use = family, "-m" if flag == "-m" else "-j", name
                    if use not in used:
                        used.add(use)
                        yield one, use[1], name


def kernel_module(feature: str) -> str:
    """The kernel module of a feature."""
    if is_nft_feature(feature):
        return nft_module(feature)
    if feature.startswith("-"):
        return _KERNEL_MODULES.get(feature, f"xt_{feature[3:]}")
    return _KERNEL_MODULES.get(feature, feature)


def build_option(feature: str) -> str | None:
    """The option with which a kernel is built to have this feature; None if a module has it."""
    return _BUILD_OPTIONS.get(feature)


def remedy(feature: str, reason: str) -> str:
    """The command that makes a missing feature available; `reason` is the kernel's error text."""
    if reason == PERMISSION_DENIED:  # only a TUN device needs access to a file
        return "sudo chmod 666 /dev/net/tun"
    return f"modprobe {kernel_module(feature)}"

"""The features of nftables that objects of a plan need, and a small text that uses each. Pure.

Kernels are built with more or fewer parts of nf_tables, and versions of nft know more or fewer words. The name of a
feature is `nft` and the word that the parts go by: `nft fib`, `nft numgen`, `nft flowtable`, `nft bridge`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from labctl.core.resources import NftObject

_QUOTED = re.compile(r'"[^"]*"')
_UNTRIED_KINDS = ("table", "chain", "set", "map", "secmark")  # that of secmark needs the machine's security policy
# words of rules and elements, and the feature of each
_WORDS = {
    "numgen": "numgen", "fib": "fib", "ct": "ct", "masquerade": "masquerade", "snat": "nat", "dnat": "nat",
    "redirect": "redirect", "reject": "reject", "log": "log", "limit": "limit", "quota": "quota", "tproxy": "tproxy",
    "socket": "socket", "queue": "queue", "jhash": "hash", "symhash": "hash", "dup": "dup", "fwd": "fwd", "osf": "osf",
    "synproxy": "synproxy", "ipsec": "ipsec", "notrack": "notrack", "ibrname": "meta ibrname",
    "obrname": "meta ibrname", "ct count": "ct count", "add @": "dynamic set", "update @": "dynamic set",
    "flow add": "flowtable", "last": "last",
}  # fmt: skip
_SAME_DIGITS = str.maketrans("123456789", "000000000")  # rules that differ in numbers only are alike
_HELPER = re.compile(r'type "([^"]+)"')
_RULE = "table inet labctl {{ chain c {{ {}; }}; }}"
_BASE = "table {} labctl {{ chain c {{ type filter hook {} priority 0; }}; }}"
_SAMPLES = {
    "numgen": _RULE.format("numgen inc mod 2 0 accept"),
    "fib": _RULE.format("fib daddr type local accept"),
    "ct": _RULE.format("ct state new accept"),
    "ct count": _RULE.format("ct count over 5 accept"),
    "masquerade": "table ip labctl { chain c { type nat hook postrouting priority 100; masquerade; }; }",
    "nat": "table ip labctl { chain c { type nat hook prerouting priority -100; dnat to 192.0.2.1; }; }",
    "redirect": "table ip labctl { chain c { type nat hook prerouting priority -100; tcp dport 1 redirect to :2; }; }",
    "reject": _RULE.format("reject"),
    "log": _RULE.format('log prefix "x"'),
    "limit": _RULE.format("limit rate 1/second accept"),
    "quota": _RULE.format("quota over 1 mbytes accept"),
    "tproxy": "table ip labctl { chain c { type filter hook prerouting priority -150; tcp dport 1 tproxy to :2; }; }",
    "socket": "table ip labctl { chain c { type filter hook prerouting priority 0; socket transparent 1 accept; }; }",
    "queue": _RULE.format("queue num 1"),
    "hash": _RULE.format("jhash ip saddr mod 2 0 accept"),
    "dup": "table ip labctl { chain c { dup to 192.0.2.1; }; }",
    "fwd": "table netdev labctl { chain c { type filter hook ingress device lo priority 0; fwd to lo; }; }",
    "osf": "table inet labctl { chain c { type filter hook input priority 0; osf name \"Linux\" accept; }; }",
    "synproxy": "table inet labctl { chain c { type filter hook input priority 0; tcp dport 1 synproxy mss 1460; }; }",
    "ipsec": "table inet labctl { chain c { type filter hook input priority 0; ipsec in reqid 1 accept; }; }",
    "notrack": "table ip labctl { chain c { type filter hook prerouting priority -300; notrack; }; }",
    "meta ibrname": "table bridge labctl { chain c { meta ibrname \"x\" accept; }; }",
    "dynamic set": "table ip labctl { set s { type ipv4_addr; flags dynamic; }; chain c { add @s { ip saddr }; }; }",
    "last": _RULE.format("last"),
    "flowtable": "table inet labctl { flowtable f { hook ingress priority 0; devices = { lo }; }; }",
    "counter": "table inet labctl { counter o { }; }",
    "quota object": "table inet labctl { quota o { over 1 mbytes }; }",
    "limit object": "table inet labctl { limit o { rate 1/second }; }",
    "synproxy object": "table inet labctl { synproxy o { mss 1460 wscale 7 }; }",
    "ct timeout": "table ip labctl { ct timeout o { protocol tcp; l3proto ip; policy = { established : 9 }; }; }",
    "ct expectation": "table ip labctl { ct expectation o { "
    "protocol tcp; dport 1; timeout 1h; size 9; l3proto ip; }; }",
    "inet": _BASE.format("inet", "input"),
    "ip": _BASE.format("ip", "input"),
    "ip6": _BASE.format("ip6", "input"),
    "arp": _BASE.format("arp", "input"),
    "bridge": _BASE.format("bridge", "forward"),
    "netdev": _BASE.format("netdev", "ingress device lo"),
    "netdev egress": _BASE.format("netdev", "egress device lo"),
    "inet ingress": _BASE.format("inet", "ingress device lo"),
}  # fmt: skip
_MODULES = {
    "flowtable": "nf_flow_table_inet", "masquerade": "nft_masq", "redirect": "nft_redir", "ct count": "nft_connlimit",
    "nat": "nft_chain_nat", "notrack": "nft_ct", "dup": "nft_dup_ipv4", "fwd": "nft_fwd_netdev", "fib": "nft_fib_inet",
    "meta ibrname": "nft_meta_bridge", "ct timeout": "nft_ct", "ct expectation": "nft_ct", "ipsec": "nft_xfrm",
    "reject": "nft_reject_inet",
}  # fmt: skip


@cache
def _word() -> re.Pattern[str]:
    """A word of `_WORDS` in a rule. Most labs have no rule of nft, and so do not need the pattern."""
    alone = "|".join(sorted((word for word in _WORDS if not word.endswith("@")), key=len, reverse=True))
    return re.compile(rf"(?<![\w@$.-])(?<!jump )(?<!goto )(?:({alone})(?![\w-])|((?:add|update) @))")


def nft_features(objects: Iterable[NftObject]) -> dict[str, NftObject]:
    """The features that objects need, each with the first object that needs it."""
    found: dict[str, NftObject] = {}
    for item in objects:
        family = item.table.partition(" ")[0]
        if item.kind == "chain" and item.header:
            found.setdefault(f"nft {_hook_feature(family, item.header[0])}", item)
        elif item.kind == "ct helper":
            helper = _HELPER.search(" ".join(item.header))
            found.setdefault(f"nft ct helper {helper[1] if helper else ''}", item)
        elif item.kind not in _UNTRIED_KINDS:
            objects_too = f"{item.kind} object"
            found.setdefault(f"nft {objects_too if objects_too in _SAMPLES else item.kind}", item)
        for text in dict.fromkeys("\n".join(item.entries).translate(_SAME_DIGITS).split("\n")):
            for match in _word().finditer(_QUOTED.sub('""', text) if '"' in text else text):
                found.setdefault(f"nft {_WORDS[match[1] or match[2]]}", item)
    return found


def _hook_feature(family: str, header: str) -> str:
    if " hook egress " in header:
        return "netdev egress"
    return "inet ingress" if family == "inet" and " hook ingress " in header else family


def is_nft_feature(feature: str) -> bool:
    """Whether a feature is one of nftables."""
    return feature.startswith("nft ")


def sample(feature: str) -> str:
    """A text for `nft -f` that uses a feature, in a new table."""
    name = feature.removeprefix("nft ")
    if name.startswith("ct helper "):
        kind = name.removeprefix("ct helper ")
        protocol = "udp" if kind in ("tftp", "amanda", "snmp", "netbios-ns", "sip", "RAS") else "tcp"
        return f'table ip labctl {{ ct helper o {{ type "{kind}" protocol {protocol}; }}; }}'
    return _SAMPLES[name]


def nft_module(feature: str) -> str:
    """The kernel module of a feature of nftables."""
    name = feature.removeprefix("nft ")
    if name.startswith("ct helper "):
        return f"nf_conntrack_{name.removeprefix('ct helper ').replace('-', '_').lower()}"
    of_family = name.split()[0] in ("ip", "ip6", "inet", "arp", "bridge", "netdev")
    return _MODULES.get(name, "nf_tables" if of_family else f"nft_{name.split()[0]}")

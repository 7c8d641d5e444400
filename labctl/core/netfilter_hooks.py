"""The chains that the kernel calls at its hooks, of nft and of iptables, and the order in which it calls them. Pure.

At each hook the chains run from the lowest priority to the highest, whatever their family and table. Of several chains
with one priority the one that was registered last runs first (nf_hook_entries_grow of net/netfilter/core.c; seen with
nftrace: of several chains in one `nft -f`, the last is called first). The kernel does not say when a chain was
registered, so the order of such chains is known only inside one table, where the chain with the higher handle was made
later. `nft list hooks` shows the order itself, where the kernel has nfnetlink_hook.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from labctl.core.nft_ruleset import BRIDGE_PRIORITIES, PRIORITIES

INET_HOOKS = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
NETDEV_HOOKS = ("ingress", "egress")
ARP_HOOKS = ("input", "output", "forward")
Path: TypeAlias = Literal["device", "bridge", "ip", "arp"]  # the hooks with one order: those of one layer
# the families of which the chains meet at the same hooks
PATHS: Mapping[str, tuple[Path, ...]] = {
    "netdev": ("device",), "bridge": ("bridge",), "inet": ("ip",), "ip": ("ip",), "ip6": ("ip",), "arp": ("arp",),
}  # fmt: skip
HOOK_ORDER = ("ingress", "prerouting", "input", "forward", "output", "postrouting", "egress")
# the chains of iptables with the priorities of their tables (linux/netfilter_ipv4.h); nat translates sources later
LEGACY_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
SOURCE_NAT = 100
LEGACY_HOOKS = {
    "raw": ("prerouting", "output"),
    "mangle": ("prerouting", "input", "forward", "output", "postrouting"),
    "nat": ("prerouting", "input", "output", "postrouting"),
    "filter": ("input", "forward", "output"),
    "security": ("input", "forward", "output"),
}


@dataclass(frozen=True, slots=True)
class HookChain:
    """A chain that the kernel calls at a hook. `tool` is the program of a legacy chain (`iptables`), "" for nft's.

    `devices` are those of a netdev chain. `handle` is the number of an nft chain in its table: a later one has a higher
    number; so it is with `table_handle` of tables. `rules` is the number of its own rules.
    """

    family: str
    table: str
    name: str
    type: str
    hook: str
    priority: int
    policy: str = "accept"
    devices: tuple[str, ...] = ()
    rules: int = 0
    handle: int = 0
    table_handle: int = 0
    tool: str = ""

    @property
    def path(self) -> Path:
        """The layer that it is called in: of devices, of bridges, of IP."""
        return "device" if self.hook in ("ingress", "egress") else PATHS.get(self.family, ("ip",))[0]

    @property
    def key(self) -> tuple[str, str, str]:
        """The family, table and name."""
        return self.family, self.table, self.name


@dataclass(frozen=True, slots=True)
class CalledChain:
    """A chain in the order of its hook. `certain` is False if others have its priority, and which is first cannot be
    known."""

    chain: HookChain
    certain: bool = True


def hook_name(family: str, number: int) -> str:
    """nft's name of a hook, from the kernel's number of it in a family."""
    names = {"netdev": NETDEV_HOOKS, "arp": ARP_HOOKS}.get(family, INET_HOOKS)
    return names[number] if number < len(names) else str(number)


def priority_text(priority: int, family: str = "ip") -> str:
    """A priority as nft prints it: `filter`, `dstnat + 10`; a number that is not near a name stays a number."""
    named = BRIDGE_PRIORITIES if family == "bridge" else {"filter": 0} if family == "netdev" else PRIORITIES
    near = min(named, key=lambda name: abs(priority - named[name]))
    distance = priority - named[near]
    if abs(distance) > 10:
        return str(priority)
    return near if not distance else f"{near} {'+' if distance > 0 else '-'} {abs(distance)}"


def legacy_chains(tables: Iterable[str], tool: str) -> Iterator[HookChain]:
    """The chains that a legacy table of iptables (or ip6tables, arptables) registers, without their policies."""
    family = "ip6" if tool.startswith("ip6") else "ip"
    for table in tables:
        for hook in LEGACY_HOOKS.get(table, ()):
            priority = LEGACY_PRIORITIES[table]
            if table == "nat" and hook in ("input", "postrouting"):
                priority = SOURCE_NAT
            kind = "nat" if table == "nat" else "filter"
            yield HookChain(family, table, hook.upper(), kind, hook, priority, tool=tool)


def call_order(chains: Iterable[HookChain]) -> dict[tuple[Path, str], tuple[CalledChain, ...]]:
    """The chains of each hook in the order in which the kernel calls them, derived from priorities and handles."""
    hooks: dict[tuple[Path, str], list[HookChain]] = {}
    for chain in chains:
        hooks.setdefault((chain.path, chain.hook), []).append(chain)
    order = sorted(hooks, key=lambda one: (_PATH_ORDER.index(one[0]), HOOK_ORDER.index(one[1])))
    return {hook: tuple(_called(hooks[hook])) for hook in order}


_PATH_ORDER: tuple[Path, ...] = ("device", "bridge", "arp", "ip")


def _called(chains: list[HookChain]) -> Iterator[CalledChain]:
    for chain in sorted(chains, key=lambda one: (one.priority, -one.table_handle, -one.handle)):
        yield CalledChain(chain, not any(_is_uncertain(chain, other) for other in chains if other is not chain))


def _is_uncertain(chain: HookChain, other: HookChain) -> bool:
    """Whether it cannot be known which of two chains of one hook is called first: they have one priority, are of two
    tables, and one packet can meet both."""
    if chain.priority != other.priority or (chain.family, chain.table, chain.tool) == (
        other.family,
        other.table,
        other.tool,
    ):
        return False
    if {chain.family, other.family} == {"ip", "ip6"}:
        return False
    return not (chain.devices and other.devices and not set(chain.devices) & set(other.devices))


_LISTED_FAMILY = re.compile(r"family (\S+)(?: device (\S+))? \{")
_LISTED_HOOK = re.compile(r"hook (\S+)(?: device (\S+))? \{")
_LISTED_CHAIN = re.compile(r"([+-]?\d+) chain (\S+) (\S+) (\S+) \[nf_tables\]")
_LISTED_LEGACY = re.compile(r"([+-]?\d+) (ip6?)table?_(\w+)_hook \[\w+\]|([+-]?\d+) (ipt|ip6t)_do_table \[(\w+)\]")


def listed_order(text: str) -> dict[tuple[Path, str, str], tuple[tuple[int, str, str, str], ...]]:
    """What `nft list hooks` printed: by path, family and hook, the chains of nft there in the kernel's own order, each
    as its priority, family, table and name. Other functions of the kernel are left out."""
    found: dict[tuple[Path, str, str], list[tuple[int, str, str, str]]] = {}
    family = hook = ""
    for line in text.splitlines():
        words = line.strip()
        if match := _LISTED_FAMILY.fullmatch(words):
            family = match[1]
        elif match := _LISTED_HOOK.fullmatch(words):
            hook = match[1]
        elif match := _LISTED_CHAIN.fullmatch(words):
            path: Path = "device" if hook in ("ingress", "egress") else PATHS.get(family, ("ip",))[0]
            found.setdefault((path, family, hook), []).append((int(match[1]), match[2], match[3], match[4]))
    return {key: tuple(chains) for key, chains in found.items()}


def with_listed_order(
    order: Mapping[tuple[Path, str], tuple[CalledChain, ...]], text: str
) -> dict[tuple[Path, str], tuple[CalledChain, ...]]:
    """The order with what `nft list hooks` shows: chains of one priority in the kernel's own order. A legacy chain is
    not named there, so beside one the order stays as it is."""
    listed = listed_order(text)
    result: dict[tuple[Path, str], tuple[CalledChain, ...]] = {}
    for (path, hook), called in order.items():
        ranks: dict[tuple[str, str, str], int] = {}
        for (other_path, _, other_hook), chains in listed.items():
            if (other_path, other_hook) == (path, hook):
                ranks |= {key: number for number, (_, *key_words) in enumerate(chains) for key in (tuple(key_words),)}  # type: ignore[misc]
        if ranks and all(one.chain.key in ranks for one in called if not one.chain.tool):
            legacy = {one.chain.priority for one in called if one.chain.tool}
            kept = sorted(called, key=lambda one: (one.chain.priority, ranks.get(one.chain.key, -1)))
            called = tuple(replace(one, certain=one.certain or one.chain.priority not in legacy) for one in kept)
        result[path, hook] = called
    return result

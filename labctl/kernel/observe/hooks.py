"""The chains that the kernel calls at its hooks in the namespaces of a lab, of nft and of iptables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace

from labctl.core.iptables import LEGACY_FAMILIES, Backend
from labctl.core.iptables_save import ChainCounters
from labctl.core.netfilter_hooks import HookChain, legacy_chains, listed_order
from labctl.errors import KernelError, MissingError
from labctl.kernel.firewall import chains, commands, tools
from labctl.kernel.firewall.backend import backend_of
from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.netlink import nft_chains

LEGACY_FILES = {"ip": "ip_tables_names", "ip6": "ip6_tables_names"}


def read_hooks(lab: str, nodes: Iterable[str]) -> dict[str, tuple[tuple[HookChain, ...], str]]:
    """Of each of these nodes: its chains at hooks, and what `nft list hooks` prints; "" if the kernel or nft cannot.

    Raises KernelError, MissingError.
    """
    backend = backend_of(lab)
    with NetnsThread() as thread:
        return {node: thread.run(paths.netns_path(lab, node), _read, node, backend) for node in nodes}


def _read(node: str, backend: Backend) -> tuple[tuple[HookChain, ...], str]:
    found: tuple[HookChain, ...] = ()
    with suppress(OSError):  # no nf_tables
        found = nft_chains.base_chains()
    counted = chains.read_chain_counters(node, backend)
    return (*_legacy(counted, backend), *found), _listed() if found else ""


def _legacy(counted: Iterable[ChainCounters], backend: Backend) -> Iterator[HookChain]:
    """The chains of the legacy tables, with their policies and numbers of rules."""
    read = {(one.chain.family, one.chain.table, one.chain.name): one.chain for one in counted}
    for family, file in LEGACY_FILES.items():
        named = family if backend == "legacy" else LEGACY_FAMILIES[family]
        for chain in legacy_chains(tools.legacy_tables(file), "iptables" if family == "ip" else "ip6tables"):
            have = read.get((named, chain.table, chain.name))
            policy = (have.policy if have is not None else None) or "ACCEPT"
            yield replace(chain, policy=policy.lower(), rules=len(have.rules) if have is not None else 0)


def _listed() -> str:
    """What `nft list hooks` prints, if it names chains."""
    try:
        done = commands.RunningTool([commands.find("nft"), "list", "hooks"]).finish()
    except (OSError, KernelError, MissingError):
        return ""
    return done.stdout if not done.returncode and listed_order(done.stdout) else ""

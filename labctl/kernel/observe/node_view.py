"""What `show` reads from a running lab: firewall chains with counters, and the sysctls that affect packets."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from labctl.kernel.host import paths
from labctl.kernel.namespaces.thread import NetnsThread

if TYPE_CHECKING:
    from labctl.core.iptables import Backend
    from labctl.core.iptables_save import ChainCounters

ALWAYS = ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv4/conf/all/rp_filter")
IF_THERE = ("net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables")
PER_DEVICE = ("proxy_arp", "rp_filter", "accept_local", "route_localnet", "arp_ignore", "arp_announce", "arp_filter")
PER_DEVICE_6 = ("proxy_ndp", "accept_ra")


def read_sysctls() -> dict[str, str]:
    """The sysctls of this thread's namespace that affect packets, by their names in sysctl(8).

    Forwarding, the reverse-path filter and the bridge's calls to iptables are always included. Those of one device are
    included only if they differ from the default and from the value for all devices.
    """
    found = {path: value for path in (*ALWAYS, *IF_THERE) if (value := _read(path)) is not None}
    for family, names in (("ipv4", PER_DEVICE), ("ipv6", PER_DEVICE_6)):
        folder = f"net/{family}/conf"
        for name in names:
            default = "1" if name == "accept_ra" else "0"
            everywhere = _read(f"{folder}/all/{name}")
            for device in _devices(f"/proc/sys/{folder}"):
                value = _read(f"{folder}/{device}/{name}")
                if value not in (None, default, everywhere) or (device == "all" and value not in (None, default)):
                    found[f"{folder}/{device}/{name}"] = str(value)
    return {_sysctl_name(path): value for path, value in found.items()}


def read_nodes(lab: str, nodes: Iterable[str]) -> dict[str, tuple[tuple[ChainCounters, ...], dict[str, str]]]:
    """For each node its firewall chains with counters, and its sysctls. It only reads, and creates no table.

    Raises KernelError, MissingError.
    """
    from labctl.kernel.firewall.backend import backend_of

    with NetnsThread() as thread:
        backend = backend_of(lab)
        return {node: thread.run(_path(lab, node), _read_node, node, backend) for node in nodes}


def _path(lab: str, node: str) -> Path:
    return paths.netns_path(lab, node)


def _read_node(node: str, backend: Backend) -> tuple[tuple[ChainCounters, ...], dict[str, str]]:
    from labctl.kernel.firewall import chains

    return chains.read_chain_counters(node, backend), read_sysctls()


def _devices(folder: str) -> list[str]:
    try:
        return sorted(set(os.listdir(folder)) - {"default"})
    except FileNotFoundError:
        return []


def _read(path: str) -> str | None:
    try:
        with open(f"/proc/sys/{path}") as file:
            return file.read().strip()
    except OSError:
        return None


def _sysctl_name(path: str) -> str:
    """The name in sysctl(8)'s form: slashes become dots, and dots (in a device's name) become slashes."""
    return path.translate(str.maketrans("/.", "./"))

"""Choose the kernel's firewall for a lab's rules: `legacy` (ip_tables) or `nft` (nf_tables through iptables-nft).

A kernel can lack either of them. Which one works is tried in a temporary namespace, because even a read creates a
table. A lab keeps the backend that it was built with: its iptables rules are in one of both. Tables that `nft`
itself writes may stand beside either.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from labctl.core.iptables import BACKENDS, BUILTIN, Backend, rule
from labctl.core.iptables_save import edits_by_table, restore_script
from labctl.core.resources import Chain
from labctl.errors import LabError, LimitError, MissingError, UsageError
from labctl.kernel.firewall import commands, tools
from labctl.kernel.host import definition_record, modules, paths
from labctl.kernel.host.syscalls import probe_legacy_table
from labctl.kernel.namespaces.thread import CLONE_NEWNET, NetnsThread, unshare
from labctl.kernel.netlink import nft_tables

VARIABLE = "LABCTL_FIREWALL"  # the environment variable for the backend, if there is no --firewall
MODULES: dict[Backend, tuple[str, ...]] = {
    "legacy": ("ip_tables", "iptable_filter", "iptable_nat"),
    "nft": modules.NFT_MODULES,
}


def requested_backend(option: str | None) -> Backend | None:
    """The requested backend: the option's, else the environment's; None if any backend that works will do.

    Raises UsageError for a word that is not a backend.
    """
    word = option or os.environ.get(VARIABLE) or None
    if word is not None and word not in BACKENDS:
        raise UsageError(f"there is no firewall {word!r}", f"--firewall (or {VARIABLE}) must be legacy or nft")
    return word


def choose(preference: Backend | None, notify: Callable[[str], None]) -> Backend:
    """The backend for a new lab: the requested one, else legacy if it works, else nft.

    `notify` gets a sentence on the modules that were loaded for the attempt. Without root nothing is tried (and nothing
    can be built). Raises MissingError if the requested backend, or without a request both, do not work.
    """
    if os.geteuid() != 0:
        return preference or BACKENDS[0]
    reasons: dict[Backend, str] = {}
    for backend in BACKENDS if preference is None else (preference,):
        modules.load(MODULES[backend], notify)
        reasons[backend] = backend_problem(backend)
        if not reasons[backend]:
            return backend
    fixes = " or ".join(f"modprobe {' '.join(MODULES[backend])}" for backend in reasons)
    what = "; ".join(f"iptables-{backend}: {why}" for backend, why in reasons.items())
    other = f"; or try --firewall {'nft' if preference == 'legacy' else 'legacy'}" if preference is not None else ""
    raise MissingError(f"cannot write firewall rules ({what})", f"apt install iptables; {fixes}{other}")


def backend_problem(backend: Backend) -> str:
    """Why rules cannot be written with a backend, or "": tried in a temporary namespace."""
    with NetnsThread() as inside:
        try:
            return inside.run(None, _legacy if backend == "legacy" else _nft)
        except LimitError:
            raise
        except LabError as error:
            return error.message
        except OSError as error:
            return error.strerror or "refused"


def backend_of(lab: str) -> Backend:
    """The backend that a running lab was built with: from its record, else from the tables in its namespaces."""
    found = definition_record.firewall(lab)
    if found is not None:
        return "nft" if found == "nft" else "legacy"
    with NetnsThread() as inside:
        for node in paths.labs().get(lab, ()):
            try:
                found = inside.run(paths.netns_path(lab, node), _backend_in_use)
            except OSError:
                continue
            if found is not None:
                return found
    return "legacy"


def _backend_in_use() -> Backend | None:
    """The backend of the tables in this thread's namespace; None if it has no tables."""
    if tools.legacy_tables("ip_tables_names") or tools.legacy_tables("ip6_tables_names"):
        return "legacy"
    return "nft" if any(table in BUILTIN and table[0] != "bridge" for table in nft_tables.tables()) else None


def _legacy() -> str:
    """Ask the kernel for two tables, as iptables-legacy does first; no program is started. Returns why they are
    missing, or ""."""
    commands.find("iptables-legacy-restore")
    unshare(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as sock:
        for table in ("filter", "nat"):
            try:
                probe_legacy_table(sock.fileno(), table)
            except OSError as error:
                return f"the kernel has no legacy {error.strerror}"
    return ""


def _nft() -> str:
    """Write a rule in the table nat and one with an xtables match, as labs have them. Returns why it failed, or ""."""
    from labctl.core.diff import Change

    commands.find("iptables-nft-restore")
    unshare(CLONE_NEWNET)
    marked, nat = rule('-m comment --comment "tried" -j ACCEPT'), rule("-j MASQUERADE")
    wanted = (Chain("", "filter", "FORWARD", (marked,), "ACCEPT"), Chain("", "nat", "POSTROUTING", (nat,), "ACCEPT"))
    output = commands.try_restore(
        commands.IPTABLES_NFT, restore_script(edits_by_table(Change(chain, None) for chain in wanted))
    )
    return "" if output is None else (output.strip().splitlines() or ["it gave no reason"])[-1]

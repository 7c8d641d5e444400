"""Which of the kernel's two firewalls a lab's rules are written into: `legacy` (ip_tables) or `nft` (iptables-nft).

Kernels can lack either. What works is found by doing, in a namespace that is thrown away: even to look at a
table makes it. A lab keeps the one that it was built with, for never are there both in one namespace.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from labctl.core.diff import Change
from labctl.core.iptables import BACKENDS, BUILTIN, Backend, rule
from labctl.core.iptables_save import edits, script
from labctl.core.resources import Chain
from labctl.errors import LabError, MissingError, UsageError
from labctl.kernel.firewall import commands, tools
from labctl.kernel.host import lab_state, modules, paths
from labctl.kernel.host.syscalls import ask_for_table
from labctl.kernel.namespaces.thread import CLONE_NEWNET, Inside, unshare
from labctl.kernel.netlink import nft_tables

VARIABLE = "LABCTL_FIREWALL"  # the environment's wish, where nobody gave --firewall
MODULES: dict[Backend, tuple[str, ...]] = {
    "legacy": ("ip_tables", "iptable_filter", "iptable_nat"),
    "nft": modules.NFT,
}


def wish(asked: str | None) -> Backend | None:
    """The back end that was asked for, by the option or else the environment; None for whichever works.

    Raises UsageError for a word that is none.
    """
    word = asked or os.environ.get(VARIABLE) or None
    if word is not None and word not in BACKENDS:
        raise UsageError(f"there is no firewall {word!r}", f"--firewall (or {VARIABLE}) is legacy or nft")
    return word


def choose(asked: Backend | None, say: Callable[[str], None]) -> Backend:
    """The back end for a new lab: the one asked for, else legacy where it works, else nft; `say` is told of modules
    that were loaded to find out. Without root nothing can be tried, nor built. Raises MissingError where it, or
    neither, works.
    """
    if os.geteuid() != 0:
        return asked or BACKENDS[0]
    reasons: dict[Backend, str] = {}
    for backend in BACKENDS if asked is None else (asked,):
        modules.load(MODULES[backend], say)
        reasons[backend] = works(backend)
        if not reasons[backend]:
            return backend
    fixes = " or ".join(f"modprobe {' '.join(MODULES[backend])}" for backend in reasons)
    what = "; ".join(f"iptables-{backend}: {why}" for backend, why in reasons.items())
    other = f"; or try --firewall {'nft' if asked == 'legacy' else 'legacy'}" if asked is not None else ""
    raise MissingError(f"no firewall to write rules with ({what})", f"apt install iptables; {fixes}{other}")


def works(backend: Backend) -> str:
    """Why rules cannot be written with a back end, or "": tried in a namespace that is thrown away."""
    with Inside() as inside:
        try:
            return inside.run(None, _legacy if backend == "legacy" else _nft)
        except LabError as error:
            return error.message
        except OSError as error:
            return error.strerror or "refused"


def of(lab: str) -> Backend:
    """The back end that a running lab was built with: as recorded, else as its namespaces show."""
    record = lab_state.load(lab)
    if record is not None:
        return "nft" if record.get("firewall") == "nft" else "legacy"
    with Inside() as inside:
        for node in paths.labs().get(lab, ()):
            try:
                found = inside.run(paths.netns_path(lab, node), _seen)
            except OSError:
                continue
            if found is not None:
                return found
    return "legacy"


def _seen() -> Backend | None:
    """The back end whose tables the namespace of this thread has; None if it has none."""
    if tools.listed("ip_tables_names") or tools.listed("ip6_tables_names"):
        return "legacy"
    return "nft" if any(table in BUILTIN and table[0] != "bridge" for table in nft_tables.tables()) else None


def _legacy() -> str:
    """Asks the kernel for two tables, as iptables-legacy does before anything else; no program is started."""
    commands.find("iptables-legacy-restore")
    unshare(CLONE_NEWNET)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.IPPROTO_RAW) as sock:
        for table in ("filter", "nat"):
            try:
                ask_for_table(sock.fileno(), table)
            except OSError as error:
                return f"the kernel has no legacy {error.strerror}"
    return ""


def _nft() -> str:
    """Writes a rule of nat and one with a match of xtables, as labs have them."""
    commands.find("iptables-nft-restore")
    unshare(CLONE_NEWNET)
    marked, nat = rule('-m comment --comment "tried" -j ACCEPT'), rule("-j MASQUERADE")
    wanted = (Chain("", "filter", "FORWARD", (marked,), "ACCEPT"), Chain("", "nat", "POSTROUTING", (nat,), "ACCEPT"))
    said = commands.attempt(commands.NFT, script(edits(Change(chain, None) for chain in wanted)))
    return "" if said is None else (said.strip().splitlines() or ["it gave no reason"])[-1]

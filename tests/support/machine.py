"""The machine's own network namespace, written down: what must be the same before and after a lab."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from labctl.kernel.host import paths

COMMANDS = (
    "ip -d link show", "ip addr show", "ip route show table all", "ip -6 route show table all", "ip rule show",
    "ip -6 rule show", "ip neigh show nud permanent", "bridge fdb show",
)  # fmt: skip
MODULES = Path("/proc/modules")
VOLATILE = ("nf_conntrack_count", "tcp_fastopen_key", "nf_conntrack_max")  # counters and secrets, no settings


def fingerprint() -> dict[str, str]:
    """Links, addresses, routes, rules, settings, firewall tables and mounts of this namespace."""
    found = {command: _run(command) for command in COMMANDS}
    found["tables"] = _tables()
    found["mounts"] = _mounts()
    found["modules"] = " ".join(sorted(line.split()[0] for line in _lines(MODULES)))
    for folder, _, names in os.walk("/proc/sys/net"):
        for name in names:
            if name not in VOLATILE:
                found[f"{folder}/{name}"] = _value(Path(folder, name))
    return found


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    """What is not as it was, by name: (before, after).

    Loading a module is the one permitted effect, and adds its settings: if one was loaded, only the settings
    that existed before must be the same.
    """
    names = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} - {"modules"}
    if before["modules"] != after["modules"]:
        names = {name for name in names if name in before or not name.startswith("/proc/sys/")}
    return {name: (before.get(name), after.get(name)) for name in names}


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _run(command: str) -> str:
    return subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout


def _mounts() -> str:
    """All mounts but the directory of named namespaces, which becomes a shared one as with `ip netns`."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return "\n".join(line for line in lines if line.split()[4] != str(paths.netns_dir()))


def _tables() -> str:
    names = [Path(f"/proc/self/net/{name}") for name in ("ip_tables_names", "ip6_tables_names")]
    present = [(path.name, path.read_text()) for path in names if path.exists()]
    saved = [
        _run(f"iptables-legacy-save -t {table}") for name, text in present if name[2] == "_" for table in text.split()
    ]
    return repr(present) + "".join(line for text in saved for line in text.splitlines() if not line.startswith("#"))


def _value(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        return f"({error.strerror})"

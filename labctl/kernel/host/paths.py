"""Where namespaces are bound, where state lies, and which of them are ours: decided here and nowhere else.

A lab owns the namespaces named `labctl.<lab>.<node>`. The name is the only mark and the only record:
lab and node are DNS labels and hold no dot, so `down kube` can never meet a lab called `kube-net`.
`LABCTL_NETNS_DIR` and `LABCTL_STATE_DIR` move the two directories (tests, containers, life without root).
"""

from __future__ import annotations

import os
from pathlib import Path

PREFIX = "labctl"
HOLDER = "LABCTL_HOLDER"  # the variable by which all that runs in labs without root is known (`labctl.kernel.rootless`)


def netns_dir() -> Path:
    """The directory in which namespaces are bound to names, as `ip netns` does."""
    return Path(os.environ.get("LABCTL_NETNS_DIR", "/run/netns"))


def state_dir() -> Path:
    """The directory of definitions, hosts files and locks. Losing it loses nothing that `down` needs."""
    return Path(os.environ.get("LABCTL_STATE_DIR", "/run/labctl"))


def command() -> str:
    """What a person types before a verb that is to see the labs seen here."""
    return "labctl --rootless" if HOLDER in os.environ else "sudo labctl"


def netns_name(lab: str, node: str) -> str:
    """The name under which `ip netns` shows a node of a lab."""
    return f"{PREFIX}.{lab}.{node}"


def netns_path(lab: str, node: str) -> Path:
    """The file a node's namespace is bound to."""
    return netns_dir() / netns_name(lab, node)


def parse(name: str) -> tuple[str, str] | None:
    """The (lab, node) behind a namespace's name; None if it is not one of ours."""
    parts = name.split(".")
    if len(parts) != 3 or parts[0] != PREFIX or not parts[1] or not parts[2]:
        return None
    return parts[1], parts[2]


def labs() -> dict[str, tuple[str, ...]]:
    """Every lab that has namespaces on this machine, with its nodes, sorted. Reads one directory."""
    found: dict[str, list[str]] = {}
    try:
        with os.scandir(netns_dir()) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except FileNotFoundError:
        return {}
    for name in names:
        if (ours := parse(name)) is not None:
            found.setdefault(ours[0], []).append(ours[1])
    return {lab: tuple(sorted(nodes)) for lab, nodes in sorted(found.items())}

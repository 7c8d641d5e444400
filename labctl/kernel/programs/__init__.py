"""labctl's own programs: what stands in a lab for the processes that a container network has.

They need nothing but Python's library and start in some ten milliseconds (`python -I -S .../run.py serve web tcp:80`),
so that a lab full of them is up at once and `ps` shows what runs. A program says `ready` on its standard output when it
does its work, or else what went wrong, and then is quiet.

    pause         a pod's sandbox: a process namespace, and the network namespace that goes with it
    serve         a server on TCP and UDP ports, which says what it is told and who it is
    docker-proxy  Docker's userland proxy, with docker-proxy's own command line
    tunnel        a tunnel in user space: flannel's udp backend, or IP in IP where the kernel has none

Beside them `inside` runs a command of somebody else's in a node; it is no part of a lab.
"""

from __future__ import annotations

import os
import sys

READY = b"ready\n"
NAMES = ("pause", "serve", "docker-proxy", "tunnel")


def argv(command: tuple[str, ...]) -> list[str]:
    """What to execute for one of labctl's own programs. Raises ValueError for any other word."""
    if command[0] not in NAMES:
        raise ValueError(f"{command[0]} is none of {', '.join(NAMES)}")
    return started(command)


def started(command: tuple[str, ...]) -> list[str]:
    """What to execute for a module of this package and its words."""
    cache = ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []  # where this one has it
    return [sys.executable, "-I", "-S", *cache, os.path.join(os.path.dirname(__file__), "run.py"), *command]

"""labctl's own programs: the processes of a lab.

They stand for the processes of a real container network. They need only Python's standard library, and `ps` shows them
(`python -I -S .../run.py serve web tcp:80`). They are forks of the launcher, which takes 2 ms for each, so a lab with
many of them starts fast. A program prints `ready` on its standard output when it works, or else what went wrong. After
that it prints nothing.

    pause         a pod's sandbox: a process namespace, and the network namespace that ends with it
    serve         a server on TCP and UDP ports, which echoes what it receives, and says to HTTP clients who it is
    healthcheck   the HTTP servers of kube-proxy that say whether a node has endpoints of a Service
    docker-proxy  Docker's userland proxy, with docker-proxy's own command line
    dockerd       Docker's daemon without its userland proxy: it listens on published ports, and serves none
    conmon        the monitor of a container of Podman 5: it holds the container's published ports, and serves none
    load-balancer the load balancer of Services: it sends packets to nodes, by a hash of the flow
    http-proxy    the load balancer of Ingresses and Gateways: an HTTP proxy with a table of routes
    tunnel        a tunnel in user space: flannel's udp backend, or IP in IP where the kernel has none

    launcher      starts the others; it ends when the lab is built

`run.py` also starts `labctl.kernel.node_exec.exec_helper`, which runs a user's command in a node, and
`labctl.kernel.sandbox`, which runs one in new namespaces. They are not processes of a lab.
"""

from __future__ import annotations

import os
import sys

READY = b"ready\n"
NAMES = ("pause", "serve", "healthcheck", "docker-proxy", "dockerd", "conmon", "load-balancer", "http-proxy", "tunnel")
NODE_VARIABLE = "LABCTL_NODE"  # environment variable with the name of the machine that a program runs in


def argv(command: tuple[str, ...]) -> list[str]:
    """The command line that starts one of labctl's own programs. Raises ValueError for any other name."""
    if command[0] not in NAMES:
        raise ValueError(f"{command[0]} is not one of {', '.join(NAMES)}")
    return module_command(command)


def module_command(command: tuple[str, ...]) -> list[str]:
    """The command line that runs a module through `run.py` with these arguments."""
    cache = ["-X", f"pycache_prefix={sys.pycache_prefix}"] if sys.pycache_prefix else []  # the same as this process
    return [sys.executable, "-I", "-S", *cache, os.path.join(os.path.dirname(__file__), "run.py"), *command]

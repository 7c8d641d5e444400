"""Count the objects of a lab and send a ping, so that only labs that forward packets are measured."""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NETNS = Path("/run/netns")
CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Proof:
    """What was found in a lab: namespaces, links without loopback, and whether the ping got a reply."""

    namespaces: int
    links: int
    ping: bool


def examine(prefix: str, first: str, target: str) -> Proof:
    """Count the namespaces with that prefix and their links, and ping `target` from the namespace `first`."""
    names = sorted(name for name in os.listdir(NETNS) if name.startswith(prefix + "."))
    return Proof(len(names), sum(inside_each(names, count_links)), ping(first, target))


def count_links() -> int:
    """The devices of the calling thread's namespace, without loopback."""
    lines = Path("/proc/thread-self/net/dev").read_text().splitlines()[2:]
    return len(lines) - 1


def ping(first: str, target: str) -> bool:
    """Whether `target` answers a real ping from a namespace. The first packet may wait for ARP."""
    command = ["nsenter", f"--net={NETNS / first}", "ping", "-n", "-q", "-c1", "-W2", target]
    return any(subprocess.run(command, stdout=subprocess.DEVNULL).returncode == 0 for _ in range(3))


def inside_each(names: list[str], function: Callable[[], Any]) -> list[Any]:
    """Call `function` inside every namespace, in a thread that ends afterwards."""
    results: list[Any] = []
    libc = ctypes.CDLL(None, use_errno=True)

    def work() -> None:
        for name in names:
            fd = os.open(NETNS / name, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if libc.setns(fd, CLONE_NEWNET) == 0:
                    results.append(function())
            finally:
                os.close(fd)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if len(results) != len(names):
        raise SystemExit(f"bench: could not enter {len(names) - len(results)} of {len(names)} namespaces")
    return results


def wait_until_gone(deadline: float = 120) -> None:
    """Wait until the kernel has removed the namespaces that were deleted. It does so in order, in the background.

    The last one to be deleted is a new namespace with one end of a veth. When the other end disappears, all
    namespaces before it are removed as well.
    """
    for command in (
        "netns add sentinel",
        "link add sentinel type veth peer name far netns sentinel",
        "netns del sentinel",
    ):
        subprocess.run(["ip", *command.split()], check=True)
    until = time.monotonic() + deadline
    while "sentinel:" in Path("/proc/self/net/dev").read_text():
        if time.monotonic() > until:
            raise SystemExit("bench: the kernel did not finish removing namespaces")
        time.sleep(0.002)

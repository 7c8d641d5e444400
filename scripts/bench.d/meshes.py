"""The checks of many pairs, compared with another commit: all pairs of 400 pods, the mesh of 1,000 pods, and for each
pod of a lab with 12,000 pods whether its node reaches it.

Both commits build their own labs and ask in turn, so that the load of the machine counts for both. What the kernel
remembers of the connections of one check is removed before the next one, as it would be some time later.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from proof import NETNS, inside_each, wait_until_gone
from traces import checkout

NETLINK_NETFILTER = 12
CT_DELETE, REQUEST_ACK = 1 << 8 | 2, 5  # the message that removes all connections, and its flags
EVERY_POD, OWN_PODS = "every pod reaches every pod", "each node reaches its own pods"
LARGE, SMALL = (400, 30), (100, 30)  # nodes, and pods on each: of the labs whose nodes ask their own pods


@dataclass(frozen=True)
class Used:
    """What a command used: seconds, and the most bytes of memory."""

    seconds: float
    memory: int


def meshes(runs: int, commit: str, report: Callable[[str], None]) -> dict[str, float]:
    """The times of the checks, and their ratios to those of the commit. The largest labs are measured once."""
    with checkout(commit) as tree:
        all_pairs = _in_turn(20, 20, runs, tree, report, "--all-pairs")
        many = _in_turn(34, 30, 1, tree, report)
    large, small = (_own_pods(*size, report) for size in (LARGE, SMALL))
    return {
        "mesh_all_pairs_ms": 1000 * all_pairs[0].seconds,
        "mesh_all_pairs_ratio": all_pairs[0].seconds / all_pairs[1].seconds,
        "mesh_sample_ratio": many[0].seconds / many[1].seconds,
        "mesh_sample_memory_ratio": many[0].memory / many[1].memory,
        "mesh_large_pod_ratio": large.seconds / (LARGE[0] * LARGE[1]) / (small.seconds / (SMALL[0] * SMALL[1])),
        "mesh_large_mb": large.memory / 1e6,
    }


def _in_turn(
    nodes: int, pods: int, runs: int, tree: Path, report: Callable[[str], None], *options: str
) -> tuple[Used, Used]:
    """The medians of the mesh of all pods, of ours and of the other commit."""
    used: dict[bool, list[Used]] = {True: [], False: []}
    with _lab("ours", nodes, pods, None), _lab("theirs", nodes, pods, tree):
        for turn in range(runs):
            for ours in (True, False):
                name = "ours" if ours else "theirs"
                report(f"{nodes * pods} pods, mesh: {name} ({turn + 1}/{runs})")
                _forget_connections()
                words = options if ours else ()
                used[ours].append(_run(None if ours else tree, "-l", name, "check", "-k", EVERY_POD, *words))
    wait_until_gone()
    return _median(used[True]), _median(used[False])


def _own_pods(nodes: int, pods: int, report: Callable[[str], None]) -> Used:
    report(f"{nodes * pods} pods: each node reaches its own")
    with _lab("own", nodes, pods, None):
        _forget_connections()
        used = _run(None, "-l", "own", "check", "-k", OWN_PODS)
    wait_until_gone()
    return used


@contextmanager
def _lab(name: str, nodes: int, pods: int, tree: Path | None) -> Iterator[None]:
    text = f"model: kubenet\nname: {name}\npod_cidr: 10.64.0.0/10\nnodes: {{count: {nodes}, pods: {pods}}}\n"
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(text)
        file.flush()
        _run(tree, "up", file.name)
    try:
        yield
    finally:
        _run(tree, "down", name)


def _run(tree: Path | None, *words: str) -> Used:
    """Run labctl of a tree, or ours. Raises RuntimeError if it fails."""
    environment = os.environ if tree is None else {**os.environ, "PYTHONPATH": str(tree)}
    started = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "labctl", *words], env=environment, cwd=tree, stdout=output, stderr=output
        )
        _, state, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(state)
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"labctl {' '.join(words)} exits {process.returncode}: {output.read()[-300:]!r}")
    return Used(time.perf_counter() - started, usage.ru_maxrss * 1024)


def _median(used: list[Used]) -> Used:
    return Used(median(one.seconds for one in used), max(one.memory for one in used))


def _forget_connections() -> None:
    names = sorted(name for name in os.listdir(NETNS) if ".pod" not in name)
    inside_each(names, _flush)


def _flush() -> None:
    """Remove the connections of the calling thread's namespace."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER) as sock:
        sock.send(struct.pack("=IHHII", 20, CT_DELETE, REQUEST_ACK, 1, 0) + bytes(4))
        sock.recv(4096)

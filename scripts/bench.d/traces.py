"""The time of `labctl trace` from a new process: a delivered probe, a dropped one, a neighbour without an answer."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

LABCTL = (sys.executable, "-m", "labctl")


def traces(runs: int) -> dict[str, float]:
    """Medians in milliseconds on the default kubenet: eight namespaces, three routers between the ends."""
    subprocess.run([*LABCTL, "up", "kubenet", "--name", "bench"], check=True, capture_output=True)
    try:
        found = {
            "trace_delivered_ms": _median(runs, "c", 0),
            "trace_refused_ms": _median(runs, "c", 1, "--tcp", "80"),
            "trace_neighbour_ms": _median(min(runs, 3), "10.244.0.77", 1),
        }
        forwarding = ["ip", "netns", "exec", "labctl.bench.node2", "sysctl", "-qw", "net.ipv4.ip_forward=0"]
        subprocess.run(forwarding, check=True, capture_output=True)
        return {**found, "trace_dropped_ms": _median(runs, "c", 1)}
    finally:
        subprocess.run([*LABCTL, "down", "bench"], check=True, capture_output=True)


def _median(runs: int, target: str, code: int, *options: str) -> float:
    """The median time of one trace from `a`. An exit code other than `code` is an error."""
    seconds = []
    for _ in range(runs):
        started = time.perf_counter()
        done = subprocess.run([*LABCTL, "trace", "-l", "bench", "a", target, *options], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
        if done.returncode != code:
            raise RuntimeError(f"labctl trace a {target} exits {done.returncode}: {done.stdout[-300:]}{done.stderr}")
    return 1000 * median(seconds)

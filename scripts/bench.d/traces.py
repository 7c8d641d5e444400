"""The time of `labctl trace` from a new process: a delivered probe, a dropped one, a neighbour without an answer.

With another commit, both trace in turn, on one lab in one run, so that the load of the machine counts for both.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

LABCTL = (sys.executable, "-m", "labctl")
NEIGHBOUR_RUNS = 3  # runs of a trace that waits for a neighbour, which takes seconds
SILENT = (f"10.244.0.{number}" for number in itertools.count(77))  # nobody has them; each is asked for once


def traces(runs: int, commit: str | None = None) -> dict[str, float]:
    """Medians in milliseconds on the default kubenet: eight namespaces, three routers between the ends. With a commit,
    also the ratios of the times to those of that commit."""
    subprocess.run([*LABCTL, "up", "kubenet", "--name", "bench"], check=True, capture_output=True)
    try:
        found = {
            "trace_delivered_ms": 1000 * median(_seconds("c", 0) for _ in range(runs)),
            "trace_refused_ms": 1000 * median(_seconds("c", 1, "--tcp", "80") for _ in range(runs)),
            "trace_neighbour_ms": 1000 * median(_seconds(next(SILENT), 1) for _ in range(min(runs, NEIGHBOUR_RUNS))),
        }
        if commit is not None:
            found |= _ratios(runs, commit)
        forwarding = ["ip", "netns", "exec", "labctl.bench.node2", "sysctl", "-qw", "net.ipv4.ip_forward=0"]
        subprocess.run(forwarding, check=True, capture_output=True)
        return {**found, "trace_dropped_ms": 1000 * median(_seconds("c", 1) for _ in range(runs))}
    finally:
        subprocess.run([*LABCTL, "down", "bench"], check=True, capture_output=True)


def _ratios(runs: int, commit: str) -> dict[str, float]:
    """Our times divided by those of another commit: medians of traces that took turns. The first turn does not count,
    because it fills the caches of the other commit."""
    with checkout(commit) as tree:
        times: dict[tuple[str, bool], list[float]] = {}
        for turn in range(runs + 1):
            for ours in (False, True):
                of = None if ours else tree
                delivered = _seconds("c", 0, tree=of)
                if turn:
                    times.setdefault(("delivered", ours), []).append(delivered)
                if turn <= NEIGHBOUR_RUNS:
                    times.setdefault(("neighbour", ours), []).append(_seconds(next(SILENT), 1, tree=of))
                    time.sleep(3)  # until the kernel has given up
    return {
        f"trace_{kind}_ratio": median(times[kind, True]) / median(times[kind, False])
        for kind in ("delivered", "neighbour")
    }


@contextmanager
def checkout(commit: str) -> Iterator[Path]:
    """The source tree of a commit, in a temporary folder."""
    root = Path(__file__).resolve().parents[2]
    with tempfile.TemporaryDirectory() as folder:
        git = ["git", "-c", f"safe.directory={root}", "-C", root, "archive", commit, "labctl"]
        files = subprocess.run(git, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", folder], input=files, check=True)
        yield Path(folder)


def _seconds(target: str, code: int, *options: str, tree: Path | None = None) -> float:
    """The time of one trace from `a`, with the labctl of `tree`. An exit code other than `code` is an error."""
    started = time.perf_counter()
    done = subprocess.run(
        [*LABCTL, "trace", "-l", "bench", "a", target, *options],
        capture_output=True,
        text=True,
        env=os.environ if tree is None else {**os.environ, "PYTHONPATH": str(tree)},
        cwd=tree,
    )
    seconds = time.perf_counter() - started
    if done.returncode != code:
        raise RuntimeError(f"labctl trace a {target} exits {done.returncode}: {done.stdout[-300:]}{done.stderr}")
    return seconds

"""How the time of each verb grows with the size of a lab: kubenet with 10 to 12,000 pods, up to 30 on a node.

Every command is a separate process, as users type it. Memory is the most that one process had. The next lab begins when
the kernel has removed the namespaces of the one before, which it does after `down` has ended.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

SIZES = (10, 30, 100, 300, 1000, 3000, 12_000)
PODS_PER_NODE = 30
REPEATED = 1000  # labs of up to so many pods are measured three times
VERBS = {
    "up": ("up", "{file}"),
    "status": ("status", "-l", "growth"),
    "check": ("check", "-l", "growth", "-k", "each node reaches its own pods"),
    "down": ("down", "growth"),
}
LABELS = {"up": "up", "status": "status", "check": "check: each node reaches its own pods", "down": "down"}


def run(*words: str) -> tuple[float, int]:
    """Run labctl; returns the seconds, and the most memory in bytes. Ends the benchmark if it fails."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "labctl", *words]
    with tempfile.TemporaryFile() as output:
        streams = [(os.POSIX_SPAWN_DUP2, output.fileno(), number) for number in (1, 2)]
        pid = os.posix_spawn(command[0], command, os.environ, file_actions=streams)
        _, state, usage = os.wait4(pid, 0)
        if code := os.waitstatus_to_exitcode(state):
            output.seek(0)
            raise SystemExit(f"labctl {' '.join(words)}: exit code {code}\n{output.read().decode()}")
    return time.perf_counter() - started, usage.ru_maxrss * 1024


def scenario(pods: int) -> str:
    """A lab with this number of pods."""
    nodes = max(1, -(-pods // PODS_PER_NODE))
    return f"model: kubenet\nname: growth\npod_cidr: 10.64.0.0/10\nnodes: {{count: {nodes}, pods: {pods // nodes}}}\n"


def growth(report: Callable[[str], None], sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Measure every size: for each a mapping with `pods`, the seconds of each verb, and the most memory of each."""
    from proof import wait_until_gone

    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "growth.yaml"
        for pods in sizes:
            file.write_text(scenario(pods))
            times: dict[str, list[float]] = {verb: [] for verb in VERBS}
            memory: dict[str, int] = {}
            for _ in range(3 if pods <= REPEATED else 1):
                for verb, words in VERBS.items():
                    report(f"{pods} pods: {verb}")
                    seconds, used = run(*(word.format(file=file) for word in words))
                    times[verb].append(seconds)
                    memory[verb] = max(memory.get(verb, 0), used)
                wait_until_gone()
            seconds_of = {verb: round(median(each), 3) for verb, each in times.items()}
            rows.append({"pods": pods, "seconds": seconds_of, "memory": memory})
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a table of Markdown."""
    lines = ["| pods | " + " | ".join(VERBS) + " | status / up | memory |", "| ---: |" + " ---: |" * (len(VERBS) + 2)]
    for row in rows:
        times = " | ".join(f"{row['seconds'][verb]:.2f} s" for verb in VERBS)
        ratio = row["seconds"]["status"] / row["seconds"]["up"]
        lines.append(f"| {row['pods']:,} | {times} | {ratio:.2f} | {max(row['memory'].values()) / 1e6:.0f} MB |")
    return "\n".join(lines)


def ratios(rows: list[dict[str, Any]]) -> list[str]:
    """The goals that are ratios of these times, each with what was measured."""
    by_pods = {row["pods"]: row["seconds"] for row in rows}
    lines = []
    if middle := by_pods.get(3000):
        lines.append(f"status / up at 3,000 pods: {middle['status'] / middle['up']:.2f} (goal <= 0.25)")
        if largest := by_pods.get(12_000):
            for verb in ("up", "check"):
                value = largest[verb] / 12_000 / (middle[verb] / 3000)
                lines.append(f"{verb}, time per pod at 12,000 / at 3,000: {value:.2f} (goal <= 1.3)")
    return lines


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Draw the times against the sizes, both in logarithmic steps. Needs matplotlib."""
    try:
        import matplotlib
    except ImportError:
        raise SystemExit("scripts/bench --plot needs matplotlib: pip install matplotlib") from None
    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "labctl"  # the same numbers give the same file
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    pods = [row["pods"] for row in rows]
    for verb, mark in zip(VERBS, "os^v", strict=True):
        axes.loglog(pods, [row["seconds"][verb] for row in rows], marker=mark, label=LABELS[verb])
    axes.set_xlabel("pods (kubenet, up to 30 on a node)")
    axes.set_ylabel("seconds, whole command")
    axes.set_xticks(pods, [f"{one:,}" for one in pods])
    axes.set_yticks([0.1, 1, 10], ["0.1", "1", "10"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    figure.savefig(file, format="svg", metadata={"Date": None})


def main(options: Any, report: Callable[[str], None]) -> int:
    """Measure, or read what `--json` printed before; print a table or JSON, and draw."""
    rows = json.loads(Path(options.measured).read_text()) if options.measured else growth(report)
    print(json.dumps(rows) if options.json else "\n".join([table(rows), "", *ratios(rows)]))
    if options.plot:
        plot(rows, Path(options.plot))
    return 0

"""The time of `labctl policy matrix --live` on nine pods in three namespaces, with policies that deny many pairs.

It is compared with the same connections between the same pods without any policy. Both are asked in turn, in new
processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

LABCTL = (sys.executable, "-m", "labctl")
WORK = Path(os.environ.get("TMPDIR", "/tmp"))
ALL_CONNECT = "72 pairs measured: 72 connect, 0 not as the policies say"
SOME_CONNECT = "72 pairs measured: 33 connect, 0 not as the policies say"
NODES = """
model: calico
nodes:
  node1: {pods: {xa: {namespace: x, labels: {pod: a}}, xb: {namespace: x}, ya: {namespace: y}, zb: {namespace: z}}}
  node2: {pods: {xc: {namespace: x}, yb: {namespace: y}, za: {namespace: z}}}
  node3: {pods: {yc: {namespace: y}, zc: {namespace: z}}}
"""
POLICIES = """
policies:
  x/deny: {podSelector: {}}
  x/allow:
    podSelector: {matchLabels: {pod: a}}
    ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}], ports: [{port: 80}]}]
  z/out:
    podSelector: {}
    policyTypes: [Egress]
    egress: [{to: [{namespaceSelector: {}}], ports: [{port: 80}]}]
  z/in: {podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}
"""


def policies(runs: int) -> dict[str, float]:
    """Medians in milliseconds, and the ratio."""
    labs = {"matrix-open": (NODES, ALL_CONNECT), "matrix-closed": (NODES + POLICIES, SOME_CONNECT)}
    times: dict[str, list[float]] = {name: [] for name in labs}
    try:
        for name, (text, _) in labs.items():
            file = WORK / f"{name}.yaml"
            file.write_text(text)
            subprocess.run([*LABCTL, "up", str(file), "--name", name], check=True, capture_output=True)
        for _ in range(runs):
            for name, (_, summary) in labs.items():
                times[name].append(_seconds(name, summary))
    finally:
        subprocess.run([*LABCTL, "down", *labs], check=True, capture_output=True)
    without, with_policies = (median(times[name]) for name in labs)
    return {"policy_matrix_ms": 1000 * with_policies, "policy_matrix_ratio": with_policies / without}


def _seconds(name: str, summary: str) -> float:
    """The time of one matrix. Another result than the summary is an error."""
    started = time.perf_counter()
    command = [*LABCTL, "-l", name, "policy", "matrix", "--live"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    took = time.perf_counter() - started
    if summary not in done.stdout:
        raise RuntimeError(f"{' '.join(command)}: {summary!r} is not in what it printed:\n{done.stdout}{done.stderr}")
    return took

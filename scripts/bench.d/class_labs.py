"""The labs of a class side by side on one machine: each learner builds, checks and removes a lab of kubenet.

Every command is a separate process, as learners type it: `labctl up kubenet`, with the learner in LABCTL_LEARNER.
First one after the other, then ten at a time. Memory is the kernel's slab and its memory for each processor, and the
pages of labctl's processes in the labs. Ratios are to one lab on a machine with no other, times the number of labs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

AT_ONCE = 10
SCENARIO = "kubenet"


def run(learner: str, *words: str) -> float:
    """Run labctl as a learner; returns the seconds. Ends the benchmark if it fails."""
    started = time.perf_counter()
    environment = {**os.environ, "LABCTL_LEARNER": learner}
    done = subprocess.run([sys.executable, "-m", "labctl", *words], capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(
            f"{learner}: labctl {' '.join(words)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return time.perf_counter() - started


def meminfo() -> dict[str, int]:
    """/proc/meminfo in KiB."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) for words in lines}


def lab_processes_kib() -> int:
    """The proportional memory of the processes in labs: those in another network namespace than this one."""
    own, total = os.readlink("/proc/self/ns/net"), 0
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            mine = (Path("/proc") / name / "environ").read_bytes()
            if b"LABCTL_BENCH_SANDBOX=1" not in mine or os.readlink(f"/proc/{name}/ns/net") == own:
                continue
            rollup = (Path("/proc") / name / "smaps_rollup").read_text()
        except OSError:
            continue  # it has ended
        total += sum(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return total


def memory() -> dict[str, int]:
    """What is used now, in KiB; the kernel frees the memory of removed namespaces a little later."""
    time.sleep(2)
    found = meminfo()
    return {"slab": found["Slab"], "percpu": found["Percpu"], "processes": lab_processes_kib()}


def grown(before: dict[str, int], after: dict[str, int]) -> dict[str, float]:
    """The growth in MiB."""
    return {name: (after[name] - before[name]) / 1024 for name in before}


def for_each(learners: Sequence[str], work: Callable[[str], float], at_once: int) -> tuple[float, list[float]]:
    """Let each learner work; returns the seconds of all together, and of each."""
    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        each = list(pool.map(work, learners))
    return time.perf_counter() - started, each


def class_labs(count: int, report: Callable[[str], None]) -> dict[str, float]:
    """Measure a class of this size."""
    learners = [f"learner{number:02d}" for number in range(1, count + 1)]
    run("first", "up", SCENARIO)  # the kernel's caches, modules and Python's files are warm from here on
    run("first", "down")

    def up(learner: str) -> float:
        return run(learner, "up", SCENARIO)

    def check(learner: str) -> float:
        return run(learner, "check")

    def down(learner: str) -> float:
        return run(learner, "down")

    report("one lab")
    alone: dict[str, list[float]] = {"up": [], "check": [], "down": []}
    growth: list[dict[str, float]] = []
    for _ in range(5):
        empty = memory()
        alone["up"].append(up(learners[0]))
        growth.append(grown(empty, memory()))
        alone["check"].append(check(learners[0]))
        alone["down"].append(down(learners[0]))
    first = {name: median(times) for name, times in alone.items()}
    one = {name: median(each[name] for each in growth) for name in growth[0]}
    found = {f"class_one_{name}_s": value for name, value in first.items()}
    found |= {f"class_one_{name}_mib": value for name, value in one.items()}
    found["class_labs"] = count

    for at_once in (1, AT_ONCE):
        prefix = "class_in_turn" if at_once == 1 else f"class_{at_once}_at_once"
        empty = memory()
        for name, work in (("up", up), ("check", check), ("down", down)):
            report(f"{name} of {count} labs, {at_once} at a time")
            total, each = for_each(learners, work, at_once)
            found[f"{prefix}_{name}_s"] = total
            found[f"{prefix}_{name}_ratio"] = total / (count * first[name])
            found[f"{prefix}_{name}_last_ratio"] = median(each[-AT_ONCE:]) / first[name]
            found[f"{prefix}_{name}_slowest_s"] = max(each)
            if name == "up":
                all_labs = grown(empty, memory())
                found |= {f"{prefix}_{kind}_mib": value for kind, value in all_labs.items()}
                kernel = [part["slab"] + part["percpu"] for part in (all_labs, one)]
                found[f"{prefix}_kernel_ratio"] = kernel[0] / (count * kernel[1]) if kernel[1] > 0 else 0.0
    left = subprocess.run([sys.executable, "-m", "labctl", "list"], capture_output=True, text=True).stdout
    if not left.startswith("no lab runs"):
        raise SystemExit(f"labs are left:\n{left}")
    return found

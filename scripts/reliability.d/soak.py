"""Hundreds of cycles of up, check, trace, break, fix and down in one process: what grows?

The verbs run in this process, as they do for a program that uses the Python API, so that its memory and its file
descriptors show what labctl forgets to release. What the kernel holds is read after each `down`.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

LABS = ("docker-bridge", "kubenet", "docker-overlay")
VERBS = ("up", "check", "trace", "break", "fix", "down")
WARM_UP = 0.2  # of all cycles: until then modules are loaded, caches fill
# how much more the last fifth of the cycles may have than the fifth after the warm-up: CPython's cache of attribute
# lookups fills slowly, up to 4096 names; and the heap gets gaps, while what is in use of it does not grow
GROWTH = {"memory kB": 1.1, "Python's memory blocks": 1.005}
SLABS = (
    "net_namespace",
    "mnt_cache",
    "nf_conntrack",
)  # caches of the kernel; other programs of the machine use them, too
MACHINE_WIDE = tuple(f"slab {name}" for name in SLABS)

Row = dict[str, int | float]


def main() -> int:
    options = arguments()
    rows: list[Row] = []
    with Path(options.output).open("w") as output:
        for row in cycles(options.labs or LABS, options.cycles, options.every):
            rows.append(row)
            output.write(json.dumps(row) + "\n")
            output.flush()
    problems = [*growth(rows)]
    print("\n".join([f"{rows[-1]['cycle']} cycles in {rows[-1]['seconds']:.0f} s", *problems]))
    if options.page:
        from page import write_soak

        write_soak(rows)
    return 1 if problems else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labs", nargs="*", help=f"built-in scenarios, in turn (default: {' '.join(LABS)})")
    parser.add_argument("--cycles", type=int, default=500, metavar="N", help="default 500")
    parser.add_argument("--every", type=int, default=10, metavar="N", help="cycles between two rows (default 10)")
    parser.add_argument("--output", default="reliability-soak.jsonl", metavar="FILE", help="where the rows go")
    parser.add_argument("--page", action="store_true", help="write the section of docs/reliability.md")
    return parser.parse_args()


def cycles(labs: tuple[str, ...], count: int, every: int) -> Iterator[Row]:
    """Run the cycles; a row for the first, and for each `every`th. Raises RuntimeError if a verb fails."""
    from verbs import LabVerbs

    begun = time.monotonic()
    verbs = [LabVerbs(scenario, f"soak-{scenario}") for scenario in labs]
    for number in range(1, count + 1):
        for verb in VERBS:
            run(verbs[number % len(verbs)].call(verb), verb)
        if number == 1 or number % every == 0:
            yield {"cycle": number, "seconds": round(time.monotonic() - begun, 1), **measure()}


def run(call: Callable[[], int], verb: str) -> None:
    """Run a verb silently. Raises RuntimeError if it fails."""
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = call()
    if code:
        raise RuntimeError(f"{verb} ends with {code}: {out.getvalue()}{err.getvalue()}")


def measure() -> Row:
    """What there is after a `down`: in this process, in its namespaces, and in the kernel."""
    import sandbox_state

    now = sandbox_state.read("labctl-")
    status = Path("/proc/self/status").read_text()
    numbers = {name: int(value) for name, value in re.findall(r"(VmRSS|Threads):\s+(\d+)", status)}
    gc.collect()
    return {
        "memory kB": numbers["VmRSS"],
        "Python's memory blocks": sys.getallocatedblocks(),
        "threads": numbers["Threads"],
        "file descriptors": now.descriptors,
        "child processes": len(now.processes),
        "named namespaces": len(now.namespaces),
        "mounts": len(now.mounts),
        "files": len(now.files),
        **slabs(),
    }


def slabs() -> Row:
    """The objects in some caches of the kernel; none where /proc/slabinfo cannot be read."""
    with contextlib.suppress(OSError):
        lines = Path("/proc/slabinfo").read_text().splitlines()
        counts = {words[0]: int(words[1]) for words in map(str.split, lines) if len(words) > 2 and words[1].isdigit()}
        return {f"slab {name}": counts[name] for name in SLABS if name in counts}
    return {}


def growth(rows: list[Row]) -> Iterator[str]:
    """What is more at the end than after the warm-up, as sentences."""
    fifth = max(1, int(len(rows) * WARM_UP))
    early, late = rows[fifth : 2 * fifth] or rows[:1], rows[-fifth:]
    for name in rows[-1]:
        if name in ("cycle", "seconds") or name in MACHINE_WIDE:
            continue
        before, after = min(row[name] for row in early), min(row[name] for row in late)
        if after > before * GROWTH.get(name, 1):
            yield f"{name}: {before:g} after the warm-up, {after:g} at the end"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

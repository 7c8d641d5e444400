"""Measure labctl's verbs inside one fresh process: define + up, status, down. Prints the result as JSON.

Called as `in_process.py FILE`. The time of `up` includes its imports.
"""

from __future__ import annotations

import json
import os
import sys
import time

from proof import examine

from labctl.lab import lifecycle


def cpu() -> float:
    return sum(os.times()[:4])


def main() -> None:
    file = sys.argv[1]
    wall, spent = time.perf_counter(), cpu()
    definition = lifecycle.define(file, "bench")
    defined = time.perf_counter() - wall
    result = lifecycle.up(definition)
    up = (time.perf_counter() - wall, cpu() - spent)
    try:
        pods = [machine for machine in result.lab.machines if machine.role in ("pod", "container")]
        proof = examine("labctl.bench", f"labctl.bench.{pods[0].name}", str(pods[-1].addresses[0]))
        wall, spent = time.perf_counter(), cpu()
        drift = lifecycle.status("bench", result.lab)
        status = (time.perf_counter() - wall, cpu() - spent)
    finally:
        wall, spent = time.perf_counter(), cpu()
        lifecycle.down("bench")
        down = (time.perf_counter() - wall, cpu() - spent)
    if drift:
        sys.exit(f"{len(drift)} objects differ right after up, first: {drift[0]}")
    found = [proof.namespaces, proof.links, proof.ping]
    extra = {"define": defined}
    print(json.dumps({"up": up, "status": status, "down": down, "proof": found, "extra": extra}))


if __name__ == "__main__":
    main()

"""1,000 published ports of a Docker host with the backend nftables: how long `up` and `status` take, compared with what
`nft -f` itself takes for the same text.

Called as `published_ports.py SMALL LARGE`, two scenarios: the first is built and removed only so that the process has
imported what it needs. The times are those of the second, and of `nft -f` before and after its `status`, as JSON. The
time of `up` includes reading the scenario, but neither the start of Python nor its imports, which take longer than nft;
`ports_cold_ms` is that of the command with both.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

PORTS, FIRST = 1000, 8000
WORK = Path(os.environ.get("TMPDIR", "/tmp"))


def scenario(ports: int) -> str:
    """The text of a scenario: a container with so many published ports, and no docker-proxy."""
    published = "".join(f'          - "{number}:{number}"\n' for number in range(FIRST, FIRST + ports))
    return (
        'name: bench\nmodel: docker-bridge\nrelease: "29"\nfirewall_backend: nftables\nuserland_proxy: false\n'
        f"hosts:\n  host1:\n    containers:\n      web:\n        publish:\n{published}"
    )


def published_ports(runs: int) -> dict[str, float]:
    """Ratios, medians of the runs."""
    files = [WORK / "ports-1.yaml", WORK / "ports-1000.yaml"]
    for file, ports in zip(files, (1, PORTS), strict=True):
        file.write_text(scenario(ports))
    found: list[dict[str, float]] = []
    for _ in range(runs):
        command = [sys.executable, __file__, *map(str, files)]
        times = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        labctl = [sys.executable, "-m", "labctl"]
        started = time.perf_counter()
        subprocess.run([*labctl, "up", str(files[1])], capture_output=True, check=True)
        times["ports_cold_ms"] = 1000 * (time.perf_counter() - started)
        subprocess.run([*labctl, "down", "bench"], capture_output=True, check=True)
        found.append(times)
    return {name: median(one[name] for one in found) for name in found[0]}


def measure(small: str, large: str) -> dict[str, float]:
    """Build, look and remove, once."""
    from labctl.cli import GC_THRESHOLD
    from labctl.core.diff import Change
    from labctl.core.nft_changes import change_script
    from labctl.core.resources import NftObject
    from labctl.lab import lifecycle

    gc.set_threshold(GC_THRESHOLD)  # as the program does
    lifecycle.status("bench", lifecycle.up(lifecycle.define(small)).lab)
    lifecycle.down("bench")
    started = time.perf_counter()
    built = lifecycle.up(lifecycle.define(large))
    up = time.perf_counter() - started
    try:
        text = change_script([Change(item, None) for item in built.lab.plan if isinstance(item, NftObject)])
        writes = [_write_seconds(text)]  # before and after `status`: the load varies
        started = time.perf_counter()
        drift = lifecycle.status("bench", built.lab)
        status = time.perf_counter() - started
        writes.append(_write_seconds(text))
    finally:
        lifecycle.down("bench")
    if drift:
        raise SystemExit(f"{len(drift)} objects differ right after up, first: {drift[0]}")
    write = sum(writes) / len(writes)
    return {
        "ports_write_ms": 1000 * write,
        "ports_up_ms": 1000 * up,
        "ports_status_ms": 1000 * status,
        "ports_up_ratio": up / write,
        "ports_status_ratio": status / write,
    }


def _write_seconds(text: str) -> float:
    """The seconds of one `nft -f` with this text, in a new namespace."""
    started = time.perf_counter()
    subprocess.run(["unshare", "-n", "nft", "-f", "-"], input=text, text=True, check=True, capture_output=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))

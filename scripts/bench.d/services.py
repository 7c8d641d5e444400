"""1,000 Services with 10 endpoints each on 3 nodes: how long `up`, `status` and a change take, compared with what
`iptables-restore` itself takes for the same text.

Called as `services.py FIRST SECOND [legacy|nft]`: the lab of the first file is built, then changed to the second, which
has one endpoint more, with rules of this backend. Prints the times as JSON; those of nft begin with `services_nft_`.
The time of `up` includes reading the scenario and the imports.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from labctl.core.diff import Change
    from labctl.core.iptables import Backend
    from labctl.core.resources import Plan

SERVICES, ENDPOINTS, NODES = 1000, 10, 3
WORK = Path(os.environ.get("TMPDIR", "/tmp"))


def scenario(endpoints_of_first: int) -> str:
    """The text of a scenario. Its first Service has so many endpoints; all others have 10."""
    pods: list[list[str]] = [[] for _ in range(NODES)]
    for number in range(ENDPOINTS):
        first = ", first: here" if number < endpoints_of_first else ""
        pods[number % NODES].append(f"p{number}: {{labels: {{app: web{first}}}}}")
    nodes = (f"  node{number}: {{pods: {{{', '.join(names)}}}}}" for number, names in enumerate(pods, 1))
    services = (f"  s{number}: {{selector: {{app: web}}, ports: [80]}}" for number in range(1, SERVICES))
    first_service = "  s0: {selector: {first: here}, ports: [80]}"
    return "\n".join(("name: bench", "model: kubenet", "nodes:", *nodes, "services:", first_service, *services, ""))


def services(runs: int) -> dict[str, float]:
    """Ratios, medians of the runs."""
    files = [WORK / "services-9.yaml", WORK / "services-10.yaml"]
    for file, endpoints in zip(files, (ENDPOINTS - 1, ENDPOINTS), strict=True):
        file.write_text(scenario(endpoints))
    found: list[dict[str, float]] = []
    for _ in range(runs):
        times: dict[str, float] = {}
        for backend in ("legacy", "nft"):
            command = [sys.executable, __file__, *map(str, files), backend]
            times |= json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
        found.append(times)
    return {name: median(one[name] for one in found) for name in found[0]}


def measure(first: str, second: str, backend: Backend = "legacy") -> dict[str, float]:
    """Build, look, change and remove, once."""
    started = time.perf_counter()
    from labctl.cli import GC_THRESHOLD
    from labctl.lab import lifecycle

    gc.set_threshold(GC_THRESHOLD)  # as the program does

    built = lifecycle.up(lifecycle.define(first, "bench", firewall=backend))
    up = time.perf_counter() - started
    try:
        from labctl.core.resources import Chain

        restores = [_restore_seconds(built.lab.plan, backend)]  # before and after `status`: the load varies
        started = time.perf_counter()
        drift = lifecycle.status("bench", built.lab)
        status = time.perf_counter() - started
        restores.append(_restore_seconds(built.lab.plan, backend))
        if drift:
            raise SystemExit(f"{len(drift)} objects differ right after up, first: {drift[0]}")
        rules = sum(len(item.rules) for item in built.lab.plan if isinstance(item, Chain))
        with _timed_writes() as writes:
            started = time.perf_counter()
            changed = lifecycle.up(lifecycle.define(second, "bench", firewall=backend))
            change = time.perf_counter() - started
        rewritten = sum(len(one.want.rules) for one in changed.changes if isinstance(one.want, Chain))
    finally:
        lifecycle.down("bench")
    restore = sum(restores) / len(restores)
    found = {
        "services_rules": rules,
        "services_restore_ms": 1000 * restore,
        "services_up_ms": 1000 * up,
        "services_status_ms": 1000 * status,
        "services_change_ms": 1000 * change,
        "services_write_ms": 1000 * writes.seconds,
        "services_rewritten": rewritten,
        "services_up_ratio": up / restore,
        "services_status_ratio": status / restore,
        "services_rewritten_ratio": rewritten / rules,
        "services_write_ratio": writes.seconds / up,
        "services_small_restore_ratio": _small_restore_seconds(built.lab.plan, changed.changes, backend) / up,
    }
    return found if backend == "legacy" else {name.replace("_", "_nft_", 1): value for name, value in found.items()}


class _timed_writes:
    """The seconds that labs need to carry out changes, while this is entered."""

    def __enter__(self) -> _timed_writes:
        from labctl.kernel.lab_kernel import KernelLab

        self.seconds, self._original = 0.0, KernelLab.apply
        apply: Callable[[Any, Any], None] = self._original

        def timed(kernel: KernelLab, changes: Any) -> None:
            started = time.perf_counter()
            apply(kernel, changes)
            self.seconds += time.perf_counter() - started

        KernelLab.apply = timed  # type: ignore[method-assign]
        return self

    def __exit__(self, *exc: object) -> None:
        from labctl.kernel.lab_kernel import KernelLab

        KernelLab.apply = self._original  # type: ignore[method-assign]


def _scripts(changes: Iterable[Change]) -> dict[str, str]:
    """For each node the input of iptables-restore that makes these changes of IPv4 chains."""
    from labctl.core.iptables_save import edits_by_table, restore_script
    from labctl.core.resources import Chain

    chains = [one for one in changes if isinstance(one.subject, Chain) and one.subject.family == "ip"]
    nodes = dict.fromkeys(one.subject.ns for one in chains)
    return {
        node: restore_script(edits_by_table(one for one in chains if one.subject.ns == node)).text for node in nodes
    }


def _program(backend: Backend) -> str:
    from labctl.kernel.firewall import commands

    return commands.find(commands.TOOLS[backend]["ip"].restore)


def _run(command: list[str], text: str) -> float:
    """The seconds of one run of a program."""
    environment = {**os.environ, "XTABLES_LOCKFILE": os.devnull}
    started = time.perf_counter()
    subprocess.run(command, input=text, text=True, check=True, env=environment, capture_output=True)
    return time.perf_counter() - started


def _restore_seconds(plan: Plan, backend: Backend) -> float:
    """What iptables-restore takes for all chains of the plan: for each node in a new namespace, one after the other."""
    from labctl.core.diff import Change
    from labctl.core.resources import Chain

    scripts = _scripts(Change(item, None) for item in plan if isinstance(item, Chain))
    return sum(_run(["unshare", "-n", _program(backend)], text) for text in scripts.values())


def _small_restore_seconds(plan: Plan, changes: tuple[Change, ...], backend: Backend) -> float:
    """What `iptables-restore --noflush` takes for these changes where all chains of the plan are, on every node."""
    from labctl.core.diff import Change
    from labctl.core.resources import Chain

    full = _scripts(Change(item, None) for item in plan if isinstance(item, Chain))
    program, seconds = _program(backend), 0.0
    files = [WORK / "restore-all", WORK / "restore-few"]
    for node, few in _scripts(changes).items():
        for file, text in zip(files, (full[node], few), strict=True):
            file.write_text(text)
        line = (
            f"{program} <{files[0]}; s=$(date +%s%N); {program} --noflush <{files[1]}; e=$(date +%s%N); echo $((e - s))"
        )
        done = subprocess.run(
            ["unshare", "-n", "sh", "-ec", line],
            check=True, capture_output=True, text=True, env={**os.environ, "XTABLES_LOCKFILE": os.devnull},
        )  # fmt: skip
        seconds += int(done.stdout) / 1e9
    return seconds


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))  # type: ignore[arg-type]

"""The benchmark: it builds and removes labs of several sizes with every tool, alternating, in one run.

The times are not a test. The run fails only if a lab did not forward packets, or was not the complete network.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from statistics import median
from typing import Any

from topology import Network

DESCRIPTION = """Build and remove docker-bridge with 10, 100 and 1000 containers and kubenet with 20 nodes of
20 pods: by labctl, by a minimal C program (the floor), by one ip process per object, by ip -batch, by plain
pyroute2, by the real CNI bridge plugin and by Mininet. In every lab, the objects are counted and a ping is sent.
Prints medians and ratios to the floor."""


def docker(count: int) -> Network:
    text = f"model: docker-bridge\nhosts: {{count: 1, containers: {count}}}\n"
    return Network(f"docker-bridge, {count} containers", text, 1, count, 0)


KUBENET = Network("kubenet, 20 nodes x 20 pods", "model: kubenet\nnodes: {count: 20, pods: 20}\n", 20, 20, 2)
NETWORKS = {"10": docker(10), "100": docker(100), "1000": docker(1000), "kubenet": KUBENET}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=DESCRIPTION)
    parser.add_argument("--quick", action="store_true", help="10 and 100 containers only, once each")
    parser.add_argument("--runs", type=int, help="runs of each variant (default 5; slow tools at large sizes: 1)")
    parser.add_argument("--sizes", help="comma-separated, of: " + ", ".join(NETWORKS))
    parser.add_argument("--only", help="comma-separated prefixes of variants' names")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    given = parser.parse_args()
    names = given.sizes.split(",") if given.sizes else ["10", "100"] if given.quick else list(NETWORKS)
    if unknown := set(names) - set(NETWORKS):
        parser.error(f"unknown size {', '.join(sorted(unknown))}: choose from {', '.join(NETWORKS)}")
    given.networks = [NETWORKS[name] for name in names]
    given.runs = max(1, given.runs or (1 if given.quick else 5))
    return given


def measure(given: argparse.Namespace, tell: Any) -> tuple[dict[str, dict[str, list[Any]]], list[str], list[str]]:
    """All samples by network and variant, taken alternately; the skipped variants; the errors."""
    from proof import wait_until_gone
    from variants import VARIANTS, Failed, Floor

    chosen = [one for one in VARIANTS if wanted(one.name, given.only)]
    for variant in chosen:
        if isinstance(variant, Floor):
            variant.prepare()
    samples: dict[str, dict[str, list[Any]]] = {}
    skipped: list[str] = []
    wrong: list[str] = []
    for net in given.networks:
        table = samples.setdefault(net.title, {})
        ready = []
        for variant in chosen:
            if reason := variant.skip(net):
                skipped.append(f"{variant.name}, {net.title}: {reason}")
            else:
                ready.append(variant)
        for turn in range(given.runs):
            for variant in ready:
                if turn and variant.slow and net.size > 100:
                    continue
                tell(f"{net.title}: {variant.name} ({turn + 1}/{given.runs})")
                try:
                    sample = variant.sample(net)
                except Failed as error:
                    wrong.append(f"{variant.name}, {net.title}: {error}")
                    continue
                finally:
                    wait_until_gone()
                table.setdefault(variant.name, []).append(sample)
                wrong += faults(variant.name, net, sample.proof)
    return samples, skipped, wrong


def wanted(name: str, only: str | None) -> bool:
    return only is None or name == "C floor" or any(name.startswith(word) for word in only.split(","))


def faults(name: str, net: Network, proof: Any) -> list[str]:
    """What is wrong with a lab: no reply to the ping, or not the requested network."""
    found = []
    if not proof.ping:
        found.append(f"{name}, {net.title}: the last container did not answer the first one's ping")
    if not name.startswith("Mininet") and (proof.namespaces, proof.links) != (net.namespaces, net.links):
        want = f"{net.namespaces} namespaces and {net.links} links"
        found.append(f"{name}, {net.title}: {proof.namespaces} namespaces and {proof.links} links instead of {want}")
    return found


def summary(samples: dict[str, dict[str, list[Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """Medians in milliseconds, and ratios to the floor of the same network."""
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for title, table in samples.items():
        rows = result.setdefault(title, {})
        floor = table.get("C floor", [])
        for name, taken in table.items():
            row = rows.setdefault(name, {"runs": len(taken), **vars(taken[0].proof)})
            for verb in ("up", "status", "down"):
                costs = [cost for cost in (getattr(sample, verb) for sample in taken) if cost]
                if not costs:
                    continue
                row[f"{verb}_ms"] = 1000 * median(cost.wall for cost in costs)
                if all(cost.cpu is not None for cost in costs):
                    row[f"{verb}_cpu_ms"] = 1000 * median(cost.cpu for cost in costs)
                if floor and verb != "status":
                    base = median(getattr(sample, verb).wall for sample in floor)
                    row[f"{verb}_ratio"] = row[f"{verb}_ms"] / (1000 * base)
    return result


def commands(runs: int) -> dict[str, float]:
    """The times of single commands: the default kubenet and traces in it, each from a new process, and --help."""
    from proof import wait_until_gone
    from traces import traces
    from variants import run

    cold, help_cpu = [], []
    for _ in range(runs):
        cold.append(run([sys.executable, "-m", "labctl", "up", "kubenet", "--name", "bench"]).wall)
        run([sys.executable, "-m", "labctl", "down", "bench"])
        wait_until_gone()
        help_cpu.append(run([sys.executable, "-m", "labctl", "--help"]).cpu)
    waited = {"kubenet_cold_ms": 1000 * median(cold), "help_cpu_ms": 1000 * median(help_cpu), **traces(runs)}
    wait_until_gone()
    return waited


def main() -> int:
    given = arguments()
    if os.environ.get("LABCTL_BENCH_SANDBOX") != "1":
        print("bench: run it as scripts/bench, which creates the namespaces for it", file=sys.stderr)
        return 2
    from tables import print_tables, targets

    tell = print_progress if sys.stderr.isatty() else lambda text: None
    samples, skipped, wrong = measure(given, tell)
    tell("")
    found = summary(samples)
    try:
        waited = commands(1 if given.quick else given.runs) if wanted("labctl", given.only) else {}
    except Exception as error:
        waited = {}
        wrong.append(f"commands: {error}")
    goals = targets(found, waited)
    if given.json:
        document = {"networks": found, "commands": waited, "targets": goals, "skipped": skipped, "wrong": wrong}
        print(json.dumps(document, indent=2))
    else:
        print_tables(found, waited, goals, skipped, wrong)
    return 1 if wrong else 0


def print_progress(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

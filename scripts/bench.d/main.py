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
Then 1,000 Services with 10 endpoints each on 3 nodes, compared with iptables-restore of the same rules, and 1,000
published ports of Docker's nftables backend, compared with nft -f of the same text. Prints medians and ratios to the
floor."""


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
    parser.add_argument("--against", metavar="COMMIT", help="also compare traces with those of another commit")
    parser.add_argument(
        "--meshes", metavar="COMMIT", help="only the checks of many pairs, compared with another commit: takes minutes"
    )
    parser.add_argument("--class", dest="learners", type=int, metavar="N", help="only a class of N learners")
    parser.add_argument(
        "--growth", action="store_true", help="only kubenet with 10 to 12,000 pods: up, status, check, down"
    )
    parser.add_argument("--plot", metavar="FILE", help="with --growth: also draw it as SVG (needs matplotlib)")
    parser.add_argument("--measured", metavar="FILE", help="with --growth: what --json printed, instead of measuring")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    options = parser.parse_args()
    names = options.sizes.split(",") if options.sizes else ["10", "100"] if options.quick else list(NETWORKS)
    if unknown := set(names) - set(NETWORKS):
        parser.error(f"unknown size {', '.join(sorted(unknown))}: choose from {', '.join(NETWORKS)}")
    options.networks = [NETWORKS[name] for name in names]
    options.runs = max(1, options.runs or (1 if options.quick else 5))
    return options


def measure(
    options: argparse.Namespace, report_progress: Any
) -> tuple[dict[str, dict[str, list[Any]]], list[str], list[str]]:
    """All samples by network and variant, taken alternately; the skipped variants; the errors."""
    from proof import wait_until_gone
    from variants import VARIANTS, Failed, Floor

    chosen = [one for one in VARIANTS if wanted(one.name, options.only)]
    for variant in chosen:
        if isinstance(variant, Floor):
            variant.prepare()
    samples: dict[str, dict[str, list[Any]]] = {}
    skipped: list[str] = []
    errors: list[str] = []
    for net in options.networks:
        table = samples.setdefault(net.title, {})
        ready = []
        for variant in chosen:
            if reason := variant.skip(net):
                skipped.append(f"{variant.name}, {net.title}: {reason}")
            else:
                ready.append(variant)
        for turn in range(options.runs):
            for variant in ready:
                if turn and variant.slow and net.size > 100:
                    continue
                report_progress(f"{net.title}: {variant.name} ({turn + 1}/{options.runs})")
                try:
                    sample = variant.sample(net)
                except Failed as error:
                    errors.append(f"{variant.name}, {net.title}: {error}")
                    continue
                finally:
                    wait_until_gone()
                table.setdefault(variant.name, []).append(sample)
                errors += faults(variant.name, net, sample.proof)
    return samples, skipped, errors


def wanted(name: str, only: str | None) -> bool:
    return only is None or name == "C floor" or any(name.startswith(prefix) for prefix in only.split(","))


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
        for name, runs in table.items():
            row = rows.setdefault(name, {"runs": len(runs), **vars(runs[0].proof)})
            for verb in ("up", "status", "down"):
                costs = [cost for cost in (getattr(sample, verb) for sample in runs) if cost]
                if not costs:
                    continue
                row[f"{verb}_ms"] = 1000 * median(cost.wall for cost in costs)
                if all(cost.cpu is not None for cost in costs):
                    row[f"{verb}_cpu_ms"] = 1000 * median(cost.cpu for cost in costs)
                if floor and verb != "status":
                    base = median(getattr(sample, verb).wall for sample in floor)
                    row[f"{verb}_ratio"] = row[f"{verb}_ms"] / (1000 * base)
    return result


def commands(runs: int, commit: str | None) -> dict[str, float]:
    """The times of single commands: the default kubenet and traces in it, each from a new process, --help, and a lab
    with 1,000 Services. With a commit, also the ratios of the traces' times to those of that commit."""
    from proof import wait_until_gone
    from published_ports import published_ports
    from services import services
    from traces import traces
    from variants import run

    cold, help_cpu, pyroute2 = [], [], []
    run([sys.executable, "-c", "import pyroute2"])  # its bytecode is cached from now on, as labctl's
    for _ in range(runs):
        cold.append(run([sys.executable, "-m", "labctl", "up", "kubenet", "--name", "bench"]).wall)
        run([sys.executable, "-m", "labctl", "down", "bench"])
        wait_until_gone()
        help_cpu.append(run([sys.executable, "-m", "labctl", "--help"]).cpu)
        pyroute2.append(run([sys.executable, "-c", "import pyroute2"]).wall)
    times = {"kubenet_cold_ms": 1000 * median(cold), "help_cpu_ms": 1000 * median(help_cpu), **traces(runs, commit)}
    times |= {"pyroute2_import_ms": 1000 * median(pyroute2), "kubenet_cold_ratio": median(cold) / median(pyroute2)}
    wait_until_gone()
    times |= services(runs)
    wait_until_gone()
    times |= published_ports(runs)
    wait_until_gone()
    return times


def all_commands(options: argparse.Namespace) -> dict[str, float]:
    """The times of single commands, and of a matrix of policies."""
    from policies import policies

    runs = 1 if options.quick else options.runs
    return {**commands(runs, options.against), **policies(runs)}


def main() -> int:
    options = arguments()
    if os.environ.get("LABCTL_BENCH_SANDBOX") != "1":
        print("bench: run it as scripts/bench, which creates the namespaces for it", file=sys.stderr)
        return 2
    from tables import print_tables, targets

    report_progress = print_progress if sys.stderr.isatty() else lambda text: None
    if options.learners:
        return measure_class(options, report_progress)
    if options.meshes:
        return measure_meshes(options, report_progress)
    if options.growth:
        from growth import main as measure_growth

        return measure_growth(options, report_progress)
    samples, skipped, errors = measure(options, report_progress)
    report_progress("")
    results = summary(samples)
    try:
        command_times = all_commands(options) if wanted("labctl", options.only) else {}
    except Exception as error:
        command_times = {}
        errors.append(f"commands: {error}")
    goals = targets(results, command_times)
    if options.json:
        document = {
            "networks": results,
            "commands": command_times,
            "targets": goals,
            "skipped": skipped,
            "wrong": errors,
        }
        print(json.dumps(document, indent=2))
    else:
        print_tables(results, command_times, goals, skipped, errors)
    return 1 if errors else 0


def measure_meshes(options: argparse.Namespace, report_progress: Any) -> int:
    """Measure the checks of many pairs, and print them with their goals."""
    from meshes import meshes
    from tables import print_tables, targets

    found = meshes(options.runs, options.meshes, report_progress)
    report_progress("")
    goals = targets({}, found)
    if options.json:
        print(json.dumps({"commands": found, "targets": goals}, indent=2))
    else:
        print_tables({}, found, goals, [], [])
    return 0


def measure_class(options: argparse.Namespace, report_progress: Any) -> int:
    """Measure the labs of a class, and print a line for each value."""
    from class_labs import class_labs

    found = class_labs(options.learners, report_progress)
    report_progress("")
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        for name, value in found.items():
            print(f"{name:<36}{value:10.2f}")
    return 0


def print_progress(text: str) -> None:
    print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())

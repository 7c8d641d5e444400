"""The output of the benchmark: a table per network, the times of single commands, and the goals."""

from __future__ import annotations

from typing import Any

HEAD = ("", "runs", "up ms", "cpu ms", "x floor", "down ms", "x floor", "netns", "links", "ping")
LARGE, MESHED = "docker-bridge, 1000 containers", "kubenet, 20 nodes x 20 pods"
WHOLE = "labctl up (whole command)"
COMPARED = ("labctl", "C floor", "ip -batch", "ip -batch, IPv6 quiet")


def targets(results: dict[str, Any], command_times: dict[str, float]) -> list[dict[str, Any]]:
    """The goals of the project with the measured values; goals without a value are left out."""
    large = results.get(LARGE, {})
    ours, floor, batch, quiet = (large.get(name, {}) for name in COMPARED)
    meshed = results.get(MESHED, {})
    our_cluster = meshed.get("labctl", {})
    whole, whole_cluster = large.get(WHOLE, {}), meshed.get(WHOLE, {})
    rows: list[tuple[str, float | None, float | None, str]] = [
        ("1000 containers: plan and build / C floor", ratio(ours, "up_ms", floor, "up_ms"), 0.7, "<="),
        ("1000 containers: ip -batch / plan and build", ratio(batch, "up_ms", ours, "up_ms"), 3.0, ">="),
        ("1000 containers: ip -batch, IPv6 quiet / plan and build", ratio(quiet, "up_ms", ours, "up_ms"), None, ""),
        ("1000 containers: whole command / C floor", ratio(whole, "up_ms", floor, "up_ms"), 0.7, "<="),
        ("1000 containers: status / build", ratio(ours, "status_ms", ours, "up_ms"), 0.25, "<="),
        (
            "kubenet 20 x 20: whole command / C floor",
            ratio(whole_cluster, "up_ms", meshed.get("C floor", {}), "up_ms"),
            1.2,
            "<=",
        ),
        ("kubenet 20 x 20: status / build", ratio(our_cluster, "status_ms", our_cluster, "up_ms"), 0.25, "<="),
        ("default kubenet, cold process, ms", command_times.get("kubenet_cold_ms"), 500.0, "<="),
        ("default kubenet, cold process / import pyroute2", command_times.get("kubenet_cold_ratio"), 0.6, "<="),
        ("labctl --help, cpu ms", command_times.get("help_cpu_ms"), 120.0, "<="),
        ("trace of a delivered probe, ms", command_times.get("trace_delivered_ms"), 300.0, "<="),
        ("trace of a dropped probe, ms", command_times.get("trace_dropped_ms"), 700.0, "<="),
        ("trace of a refused probe, ms", command_times.get("trace_refused_ms"), 700.0, "<="),
        ("trace to a neighbour without an answer, ms", command_times.get("trace_neighbour_ms"), 1800.0, "<="),
        ("1,000 Services: up / iptables-restore", command_times.get("services_up_ratio"), 1.5, "<="),
        ("1,000 Services: status / iptables-restore", command_times.get("services_status_ratio"), 0.5, "<="),
        ("one endpoint more: rules written / all rules", command_times.get("services_rewritten_ratio"), 0.02, "<="),
        ("one endpoint more: time of writing / up", command_times.get("services_write_ratio"), 0.02, "<="),
        (
            "the same: iptables-restore --noflush itself / up",
            command_times.get("services_small_restore_ratio"),
            None,
            "",
        ),
        ("nft, one endpoint more: time of writing / up", command_times.get("services_nft_write_ratio"), 0.02, "<="),
        (
            "the same: iptables-nft-restore --noflush itself / up",
            command_times.get("services_nft_small_restore_ratio"),
            None,
            "",
        ),
        ("1,000 published ports of Docker's nftables: up / nft -f", command_times.get("ports_up_ratio"), 1.5, "<="),
        ("the same: status / nft -f", command_times.get("ports_status_ratio"), 1.5, "<="),
        ("trace of a delivered probe / the other commit", command_times.get("trace_delivered_ratio"), 0.5, "<="),
        ("trace to a silent neighbour / the other commit", command_times.get("trace_neighbour_ratio"), 0.45, "<="),
        ("all pairs of 400 pods: check / the other commit", command_times.get("mesh_all_pairs_ratio"), 1 / 3, "<="),
        ("mesh of 1,020 pods: check / the other commit", command_times.get("mesh_sample_ratio"), 1 / 12, "<="),
        ("the same: memory / the other commit", command_times.get("mesh_sample_memory_ratio"), 1 / 4, "<="),
        ("own pods of 400 x 30: time per pod / 100 x 30", command_times.get("mesh_large_pod_ratio"), 1.3, "<="),
        ("the same: memory, MB", command_times.get("mesh_large_mb"), 250.0, "<="),
        ("9 x 9 pods: connections with policies / without", command_times.get("policy_matrix_ratio"), 1.5, "<="),
    ]
    return [
        {"what": what, "value": value, "goal": f"{sign} {goal:.4g}" if goal else "", "met": meets(value, sign, goal)}
        for what, value, goal, sign in rows
        if value is not None
    ]


def meets(value: float, sign: str, goal: float | None) -> bool | None:
    """Whether a goal is met; None if there is no goal."""
    if goal is None:
        return None
    return value <= goal if sign == "<=" else value >= goal


def ratio(one: dict[str, Any], key: str, other: dict[str, Any], base: str) -> float | None:
    return one[key] / other[base] if key in one and base in other else None


def print_tables(
    results: dict[str, Any],
    command_times: dict[str, float],
    goals: list[dict[str, Any]],
    skipped: list[str],
    errors: list[str],
) -> None:
    for title, rows in results.items():
        show(title, HEAD, [cells(name, row) for name, row in rows.items()])
        ours = rows.get("labctl", {})
        if "status_ms" in ours:
            print(f"labctl status: {ours['status_ms']:.0f} ms, {ours['status_ms'] / ours['up_ms']:.2f} x its build\n")
    if command_times:
        show(
            "Single commands",
            ("", "ms"),
            [(name[:-3], f"{ms:.0f}") for name, ms in command_times.items() if name.endswith("_ms")],
        )
    if goals:
        goal_texts = {True: "met", False: "MISSED", None: ""}
        rows = [(row["what"], f"{row['value']:.2f}", row["goal"], goal_texts[row["met"]]) for row in goals]
        show("Goals (for a quiet machine with two cores)", ("", "measured", "goal", ""), rows)
    for line in dict.fromkeys(skipped):
        print(f"skipped: {line}")
    for line in dict.fromkeys(errors):
        print(f"WRONG: {line}")
    print("all labs counted and pinged" if not errors else f"{len(errors)} errors")


def cells(name: str, row: dict[str, Any]) -> tuple[str, ...]:
    def number(key: str, form: str) -> str:
        return format(row[key], form) if key in row else "-"

    return (
        name, str(row["runs"]), number("up_ms", ".1f"), number("up_cpu_ms", ".1f"), number("up_ratio", ".2f"),
        number("down_ms", ".1f"), number("down_ratio", ".2f"), str(row["namespaces"]), str(row["links"]),
        "yes" if row["ping"] else "NO",
    )  # fmt: skip


def show(title: str, head: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Print one table as plain columns."""
    widths = [max(len(row[number]) for row in (head, *rows)) for number in range(len(head))]
    print(title)
    for row in (head, *rows):
        first, *rest = (
            word.ljust(width) if not n else word.rjust(width)
            for n, (word, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  ".join([first, *rest]).rstrip())
    print()

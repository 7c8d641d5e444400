"""Try traces against the catalogue of faults: one sandbox for each scenario, several at a time.

The rows of all scenarios are written to a file (one JSON document for each line), and summed up at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PROTOCOLS = ("icmp", "tcp", "udp")
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))


def main() -> int:
    options = arguments()
    if options.inside:
        return inside(options)
    from labctl.scenario import catalog

    scenarios = options.scenarios or catalog.names()
    print(f"trying {len(scenarios)} scenarios, {options.jobs} at a time", file=sys.stderr)
    with ThreadPoolExecutor(options.jobs) as pool, Path(options.output).open("w") as output:
        rows = []
        for found in pool.map(lambda name: in_sandbox(name, options), scenarios):
            for row in found:
                rows.append(row)
                output.write(json.dumps(row, ensure_ascii=False) + "\n")
            output.flush()
    print(summary(rows))
    if options.page:
        from page import page

        (ROOT / "docs/trace-accuracy.md").write_text(page(rows))
    return 1 if any(row["judgement"] in ("wrong", "broken") for row in rows) else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="scenarios of the catalogue; all without a name")
    parser.add_argument("--fault", action="append", default=[], metavar="NAME", help="only this kind of fault; repeat")
    parser.add_argument("--objects", type=int, default=2, metavar="N", help="objects for each kind (default 2)")
    parser.add_argument("--protocol", action="append", choices=("icmp", "tcp", "udp"), help="default: all three")
    parser.add_argument("--firewall", choices=("legacy", "nft"), help="the back end of the rules")
    parser.add_argument(
        "--rotate", action="store_true", help="one protocol for each fault, in turn (a third of the time)"
    )
    parser.add_argument("--checks", action="store_true", help="also run the lab's checks for each fault (slow)")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="scenarios at the same time (default 2)")
    parser.add_argument("--output", default="trace-accuracy.jsonl", metavar="FILE", help="where the rows go")
    parser.add_argument("--page", action="store_true", help="write docs/trace-accuracy.md")
    parser.add_argument("--inside", metavar="SCENARIO", help=argparse.SUPPRESS)
    return parser.parse_args()


def in_sandbox(scenario: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows of one scenario, from a process in a sandbox. A process that fails gives one row that says so."""
    words = [sys.executable, __file__, "--inside", scenario, "--objects", str(options.objects)]
    words += [word for name in options.fault for word in ("--fault", name)]
    words += [word for name in options.protocol or () for word in ("--protocol", name)]
    words += ["--firewall", options.firewall] if options.firewall else []
    words += [word for word in ("--checks", "--rotate") if getattr(options, word[2:])]
    begun = time.monotonic()
    from tests.support.sandbox_script import SANDBOX

    sandbox = ["unshare", "-nm", "--propagation", "private", "sh", "-ec", SANDBOX, "sandbox", *words]
    done = subprocess.run(sandbox, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        rows.append(failed_row(scenario, f"exit {done.returncode}: {last}"))
        print(done.stderr[-2000:], file=sys.stderr)
    print(f"{scenario}: {len(rows)} rows in {time.monotonic() - begun:.0f} s  {counts(rows)}", file=sys.stderr)
    return rows


def failed_row(scenario: str, why: str) -> dict[str, Any]:
    names = dict.fromkeys(("fault", "on", "protocol", "probe", "cause"), "")
    return {"scenario": scenario, **names, "judgement": "broken", "sentence": why, "noticed": False, "checked": ""}


def inside(options: argparse.Namespace) -> int:
    """Try one scenario; prints one line for each row. Runs in a sandbox."""
    from dataclasses import asdict

    from labctl.errors import MissingError
    from labctl.faults.catalogue import applicable
    from labctl.lab import lifecycle
    from labctl.lab.cni_attach import with_plugin_results
    from tests.support.trace_trial import Trial

    definition = lifecycle.define(options.inside, firewall=options.firewall)
    try:
        lifecycle.up(definition, approximate=True)
    except MissingError as error:
        print(f"{options.inside}: {error.message}", file=sys.stderr)
        return 0
    lab = with_plugin_results(lifecycle.load_compiled_lab(options.inside))
    trial = Trial(lab, run_checks=options.checks)
    protocols = tuple(options.protocol or PROTOCOLS)
    if not options.fault:
        for row in trial.healthy_rows(protocols):
            print(json.dumps(asdict(row), ensure_ascii=False), flush=True)
    number = 0
    for kind, faults in applicable(lab):
        if options.fault and kind.name not in options.fault:
            continue
        for fault in faults[: options.objects]:
            asked = next_protocol(trial, fault, number := number + 1) if options.rotate else protocols
            for row in trial.rows(kind, fault, asked):
                print(json.dumps(asdict(row), ensure_ascii=False), flush=True)
    lifecycle.down(lab.name)
    return 0


def next_protocol(trial: Any, fault: Any, number: int) -> tuple[str, ...]:
    """The next protocol in turn, among those that the healthy lab delivers for a probe of this fault."""
    turn = number % len(PROTOCOLS)
    order = (*PROTOCOLS[turn:], *PROTOCOLS[:turn])
    return tuple(name for name in order if any(trial.delivers(one, name) for one in fault.traffic))[:1]


def counts(rows: Iterable[dict[str, Any]]) -> str:
    return ", ".join(f"{name} {number}" for name, number in Counter(row["judgement"] for row in rows).most_common())


def summary(rows: list[dict[str, Any]]) -> str:
    """The numbers, and every answer that is not right."""
    judged = [row for row in rows if row["judgement"] in ("right", "incomplete", "wrong")]
    right = sum(row["judgement"] == "right" for row in judged)
    lines = [f"{len(rows)} rows: {counts(rows)}"]
    lines += [f"right: {100 * right / len(judged):.1f} % of {len(judged)} lost probes"] if judged else []
    lines += others(rows)
    return "\n".join(lines)


def others(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows that are not right, those with one fault and one sentence together."""
    groups: dict[tuple[str, str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        if row["judgement"] != "right" and not (row["judgement"] == "unhit" and row["sentence"]):
            groups.setdefault((row["judgement"], row["fault"], row["cause"], row["sentence"]), []).append(row)
    for (judgement, fault, cause, sentence), group in sorted(groups.items()):
        first = group[0]
        where = f"{first['scenario']} {first['on']} [{first['protocol']} {first['probe']}]"
        yield f"{judgement:10} {len(group):3} x {fault}: {where} => {cause}: {sentence}"


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())

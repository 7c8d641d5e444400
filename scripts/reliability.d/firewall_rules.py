"""Draw firewall rules from the whole grammar of matches and targets: those that `validate` accepts are built, and none
drifts."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
EXAMPLES = 100  # that Hypothesis draws from one seed; it repeats itself in longer runs


def main(arguments: list[str] | None = None) -> int:
    """Try as many rules as the arguments say, each in a temporary network namespace; 1 if one is accepted and not built
    as it says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000, metavar="N", help="rules to try (default 2000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first rules that are drawn (default 0)")
    parser.add_argument("--firewall", choices=("legacy", "nft"), default="legacy", help="the back end (default legacy)")
    parser.add_argument("--bridge", action="store_true", help="draw rules of ebtables")
    parser.add_argument("--refusals", action="store_true", help="list the rules that `validate` alone refused")
    options = parser.parse_args(arguments)

    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests.support.firewall_rules import DrawnRule, attempt, firewall_rules, impossible

    counts: Counter[str] = Counter()
    seen: set[str] = set()

    @settings(
        database=None, deadline=None, max_examples=EXAMPLES, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(firewall_rules(("bridge",) if options.bridge else ("ip", "ip6")))
    def build(drawn: DrawnRule) -> None:
        if counts["rules"] >= options.count or str(drawn) in seen:
            return
        seen.add(str(drawn))
        counts["rules"] += 1
        if impossible(drawn, options.firewall):
            counts["not possible on this machine"] += 1
            return
        found = attempt(drawn, options.firewall)
        if found.refusal:
            counts["refused" if found.tool_refusal else "refused, and the tool would take it"] += 1
            if options.refusals and not found.tool_refusal:
                print(f"refused: {drawn}\n    {found.refusal}", flush=True)
        elif found.tool_refusal or found.drift:
            counts["drift" if found.drift else "accepted, and the tool refused it"] += 1
            print(f"--- {drawn}\n    {found.drift or found.tool_refusal}", flush=True)
        else:
            counts["built in another spelling" if found.respelled else "built as written"] += 1

    for number in itertools.count(options.seed):
        if counts["rules"] >= options.count:
            break
        seed(number)(build)()
    print(", ".join(f"{counts[name]} {name}" for name in sorted(counts, key=lambda name: -counts[name])))
    return 1 if counts["drift"] or counts["accepted, and the tool refused it"] else 0


if __name__ == "__main__":
    sys.exit(main())

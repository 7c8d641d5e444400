"""Build raw files that Hypothesis draws, until there are enough. Each lab comes up as its file says, or is listed."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
EXAMPLES = 25  # that Hypothesis draws from one seed; it repeats itself in longer runs


def main(arguments: list[str] | None = None) -> int:
    """Build as many labs as the arguments say, in this network namespace; 1 if one is not as its file says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="labs to build (default 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first file that is drawn (default 0)")
    parser.add_argument("--by-hand", action="store_true", help="run the shell plan of each lab instead of labctl")
    parser.add_argument("--refusals", action="store_true", help="also list what `validate` refused, and how often")
    options = parser.parse_args(arguments)

    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests.support.raw_files import RawFile, accepted, broken_by_hand, broken_promise, raw_files, sections_of

    drawn: Counter[str] = Counter()
    built: Counter[str] = Counter()
    refusals: Counter[str] = Counter()
    failed: list[str] = []
    labs = 0

    seen: set[str] = set()

    @settings(
        database=None, deadline=None, max_examples=EXAMPLES, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(raw_files())
    def build(file: RawFile) -> None:
        nonlocal labs
        if labs >= options.count or file.text() in seen:
            return
        seen.add(file.text())
        drawn.update(sections_of(file))
        kept, definition = accepted(file, refusals)
        built.update(sections_of(kept))
        labs += 1
        try:
            problem = (broken_by_hand if options.by_hand else broken_promise)(definition)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
        if problem is not None:
            failed.append(problem)
            print(f"--- {problem}\n{kept.text()}", flush=True)

    with suppress(KeyboardInterrupt):  # what was built until then is counted
        for number in itertools.count(options.seed):
            if labs >= options.count:
                break
            seed(number)(build)()
    print(f"{labs} labs, {len(failed)} not as their files say")
    print("entries built of those drawn: " + ", ".join(f"{name} {built[name]}/{drawn[name]}" for name in sorted(drawn)))
    for what, number in refusals.most_common() if options.refusals else ():
        print(f"{number:6} refused: {what}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

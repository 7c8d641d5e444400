"""Build labs with options of every kind, for every model: 1,000 by default.

Each scenario that `labctl validate` accepts is built, compared with its plan, and checked. The result is a failure if
the lab is not built, drifts or does not pass its own checks; but not if the kernel lacks a feature and the message
names it. The same seed draws the same scenarios.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

DRAWS_PER_LAB = 6  # about half of what is drawn is valid, and some of it is drawn twice


def main() -> int:
    """Build the labs, and print the numbers and every failure. 1 if there is one, else 0."""
    from tests.support import model_options

    options = _options()
    names = options.model or model_options.drawn_models()
    counts: Counter[tuple[str, str]] = Counter()
    failures = 0
    began = time.monotonic()
    for number, name in enumerate(names):
        share = options.labs * (number + 1) // len(names) - options.labs * number // len(names)
        for text in _valid_texts(name, share, options.seed, counts):
            verdict, why = _try(text, checks=not options.no_check)
            counts[name, verdict] += 1
            if verdict not in ("good", "lacks a feature"):
                failures += 1
                print(f"== {name}: {verdict}\n{text}{why.rstrip()}", flush=True)
        numbers = ", ".join(f"{what} {count}" for (model, what), count in counts.items() if model == name)
        print(f"{name}: {numbers} ({time.monotonic() - began:.0f} s)", flush=True)
    total: Counter[str] = Counter()
    for (_, what), count in counts.items():
        total[what] += count
    print("all: " + ", ".join(f"{what} {count}" for what, count in total.items()))
    return 1 if failures else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labs", type=int, default=1000, metavar="N", help="labs to build (default 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another sample of scenarios (default 0)")
    parser.add_argument("--model", action="append", default=[], metavar="NAME", help="only this model; repeat")
    parser.add_argument("--no-check", action="store_true", help="build only, do not run the labs' checks")
    return parser.parse_args()


def _valid_texts(model: str, wanted: int, number: int, counts: Counter[tuple[str, str]]) -> Iterator[str]:
    """Different scenarios of a model that `labctl validate` accepts."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from labctl.errors import ScenarioError
    from labctl.scenario.definition import parse_and_compile
    from tests.support import model_options

    texts: dict[str, None] = {}

    @seed(number)
    @settings(
        deadline=None,
        database=None,
        max_examples=wanted * DRAWS_PER_LAB,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(model_options.scenarios(model))
    def draw(scenario: dict[str, Any]) -> None:
        text = model_options.text(scenario)
        if len(texts) >= wanted or text in texts:
            return
        try:
            parse_and_compile(text, "options.yaml")
        except ScenarioError:
            counts[model, "refused"] += 1
        else:
            texts[text] = None

    draw()
    yield from texts


def _try(text: str, *, checks: bool) -> tuple[str, str]:
    """Build a scenario, compare it, check it and remove it: the verdict in a few words, and what labctl said."""
    from labctl.core.features import required_features
    from labctl.scenario.definition import parse_and_compile

    features = required_features(parse_and_compile(text, "options.yaml")[1].plan)
    file = Path("/run/options.yaml")
    file.write_text(text)
    code, said = _labctl("validate", str(file))
    if code:
        return f"validate: exit {code}", said
    code, said = _labctl("up", str(file))
    if code == 4 and any(feature in said for feature in features):
        return "lacks a feature", said
    try:
        for words in (["status"], ["check", "--json"])[: 2 if checks else 1] if not code else ():
            code, said = _labctl(*words)
            if code:
                return f"{words[0]}: exit {code}", _failed_checks(said) if words[0] == "check" else said
    finally:
        _labctl("down", "--all")
    return (f"up: exit {code}", said) if code else ("good", "")


def _failed_checks(said: str) -> str:
    try:
        outcomes = json.loads(said)["checks"]
    except (ValueError, KeyError):
        return said
    return "\n".join(json.dumps(one) for one in outcomes if one.get("verdict") not in ("pass", "skip"))


def _labctl(*words: str) -> tuple[int, str]:
    """Run a verb in this process: its exit code, and what it printed."""
    from labctl.cli import main as labctl

    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = labctl(words)
    return code, output.getvalue()

"""Give `labctl-cni`, and labctl as a CNI runtime, input that Hypothesis draws: no traceback, no hang, the right codes.

Needs no root. Calls run in this process, some also as programs; the last part measures that time grows with the input.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
SIZES = (20_000, 80_000)  # entries or characters of one input; four times as many may take MAX_GROWTH times as long
MAX_GROWTH = 12.0
PROGRAM_TIMEOUT_S = 30.0  # seconds for one call as a program


def main(arguments: list[str] | None = None) -> int:
    """Try as many inputs as the arguments say, and print how many ended how; 1 if one broke a promise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, metavar="N", help="inputs to try (default 10000)")
    parser.add_argument("--programs", type=int, default=100, metavar="N", help="of these as programs (default 100)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="another sample of inputs (default 0)")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="labctl-cni-input.") as folder:
        os.environ["LABCTL_STATE_DIR"] = folder
        counts, failures = try_inputs(options, Path(folder))
    slow = [problem for problem in (growth(name, call) for name, call in LARGE.items()) if problem]
    failures += slow
    print("".join(f"--- {problem}\n" for problem in slow), end="")
    for part in sorted({part for part, _ in counts}):
        results = {result: number for (other, result), number in counts.items() if other == part}
        print(
            f"{part}: {sum(results.values())} inputs: "
            + ", ".join(f"{n} {what}" for what, n in sorted(results.items()))
        )
    print(f"{sum(counts.values())} inputs and {len(LARGE)} large ones, {len(failures)} broke a promise")
    return 1 if failures else 0


def try_inputs(options: argparse.Namespace, folder: Path) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Try inputs of all parts: how many ended how, by part, and the broken promises."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis import strategies as st

    from tests.support import cni_input

    counts: Counter[tuple[str, str]] = Counter()
    failures: list[str] = []
    calls = (cni_input.environments(), cni_input.texts(cni_input.CONFIGURATIONS), cni_input.texts(cni_input.RESULTS))
    records, answers = cni_input.texts(cni_input.RECORDS), cni_input.texts(cni_input.RESULTS)

    def test_of(part: str, attempt: Callable[..., str]) -> Callable[[tuple[Any, ...]], None]:
        def one(drawn: tuple[Any, ...]) -> None:
            record(part, attempt, drawn)

        return one

    def record(part: str, attempt: Callable[..., str], drawn: tuple[Any, ...]) -> None:
        try:
            counts[part, attempt(*drawn)] += 1
        except Exception as error:
            counts[part, "failed"] += 1
            failures.append(f"{part}: {type(error).__name__}: {error}")
            print(f"--- {failures[-1]:.300}\n{drawn!r:.2000}", flush=True)

    rest = max(options.count - options.programs, 0)
    parts: tuple[tuple[str, int, tuple[Any, ...], Callable[..., str]], ...] = (
        ("calls", rest // 2, calls, lambda *drawn: code_text(cni_input.code_of_call(*drawn))),
        ("records", rest // 4, (records,), lambda text: f"read {cni_input.read_records(folder, text)}"),
        ("answers", rest - rest // 2 - rest // 4, (answers, st.text(max_size=30)), answer_text),
        ("programs", options.programs, calls[:2], call_program),
    )
    for part, count, strategies, attempt in parts:
        quiet = settings(
            database=None, deadline=None, max_examples=max(count, 1), phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        if count:
            seed(options.seed)(quiet(given(st.tuples(*strategies))(test_of(part, attempt))))()
    return counts, failures


def code_text(code: int) -> str:
    """How a call ended, for the counts."""
    from tests.support import cni_input

    assert code in {0, *cni_input.CODES}, f"{code} is not a code for this"
    return f"with code {code}"


def answer_text(text: str, log: str) -> str:
    """Read an answer of a plugin."""
    from tests.support import cni_input

    cni_input.read_answers(text, log)
    return "read or refused"


def call_program(environment: dict[str, str], text: str) -> str:
    """Call labctl-cni as a program, in a namespace without any connection where that is possible."""
    run = [sys.executable, "-m", "labctl.cni_plugin.main"]
    sandbox = ["unshare", "-n"] if os.geteuid() == 0 else ["unshare", "-rn"]
    kept = {name: os.environ[name] for name in ("PATH", "LABCTL_STATE_DIR")}
    done = subprocess.run(
        [*sandbox, *run], input=text.encode("utf-8", "surrogatepass"), capture_output=True, cwd=ROOT,
        env={**kept, "PYTHONDONTWRITEBYTECODE": "1", **environment}, timeout=PROGRAM_TIMEOUT_S,
    )  # fmt: skip
    assert b"Traceback" not in done.stderr, done.stderr.decode(errors="replace")
    assert done.returncode in (0, 1), f"exit code {done.returncode}"
    document = json.loads(done.stdout) if done.stdout else {}
    assert done.returncode == 0 or type(document.get("code")) is int, done.stdout
    return code_text_of_program(document.get("code", 0) if done.returncode else 0)


def code_text_of_program(code: int) -> str:
    """How a program ended: a program can also fail to find its IPAM plugin or to enter a namespace (5, 50)."""
    return code_text(code) if code not in (5, 50) else f"with code {code}"


def growth(name: str, call: Callable[[int], Any]) -> str:
    """Call a function with both sizes; a sentence if the time grows much faster than the size."""
    times = []
    for size in SIZES:
        best = float("inf")
        for _ in range(3):
            begun = time.process_time()  # other processes do not count
            call(size)
            best = min(best, time.process_time() - begun)
        times.append(best)
    print(
        f"large: {name}: "
        + ", ".join(f"{size} in {time_s * 1000:.1f} ms" for size, time_s in zip(SIZES, times, strict=True))
    )
    return (
        f"{name} takes {times[1] / times[0]:.0f} times as long" if times[1] > MAX_GROWTH * max(times[0], 0.005) else ""
    )


def _call(document: dict[str, Any], environment: dict[str, str] | None = None) -> int:
    from tests.support import cni_input

    usual = {"CNI_CONTAINERID": "c", "CNI_NETNS": "/n/a", "CNI_IFNAME": "eth0", "CNI_PATH": "/p", "CNI_COMMAND": "ADD"}
    base = {"cniVersion": "1.1.0", "name": "net", "type": "labctl-cni", "ipam": {"type": "x"}}
    return cni_input.code_of_call(
        {**usual, **(environment or {})}, json.dumps(base | document), '{"cniVersion": "1.1.0"}'
    )


LARGE: dict[str, Callable[[int], Any]] = {
    "an unknown key": lambda size: _call({"k" * size: 1}),
    "many unknown keys": lambda size: _call({f"k{number}": 1 for number in range(size)}),
    "a long name": lambda size: _call({"name": "n" * size}),
    "a long name with a mistake": lambda size: _call({"name": "n" * size + " "}),
    "many valid attachments": lambda size: _call(
        {"cni.dev/valid-attachments": [{"containerID": f"c{n}", "ifname": "eth0"} for n in range(size)]},
        {"CNI_COMMAND": "GC"},
    ),
    "a result with many addresses": lambda size: _call(
        {"prevResult": {"ips": [{"address": f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}/8"} for n in range(size)]}},
        {"CNI_COMMAND": "DEL"},
    ),
    "many CNI_ARGS": lambda size: _call({}, {"CNI_ARGS": "a=1;" * size}),
}


if __name__ == "__main__":
    sys.exit(main())

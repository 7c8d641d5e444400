"""Kill every verb before each of its kernel operations, and see what the next verbs make of it."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

LABS = ("docker-bridge", "kubenet", "docker-overlay", "eks-vpc-cni", "flannel-udp", "cni")
VERBS = ("up", "repair", "down", "check", "trace", "break", "fix", "compare")
QUESTIONS = ("check", "trace", "compare")  # the verbs that leave the lab as it is


@dataclass
class Row:
    """What happened at one point: the verb was killed before the operation with this number."""

    lab: str
    verb: str
    point: int
    total: int  # the operations of the verb, when it is not killed
    operation: str  # the system call that was not made any more
    killed: bool
    recovery: str
    problems: list[str] = field(default_factory=list)


def main() -> int:
    options = arguments()
    import tracer

    if reason := tracer.unsupported():
        print(f"scripts/reliability kill: skipped: {reason}")
        return 0
    begun, rows = time.monotonic(), []
    with Path(options.output).open("w") as output:
        for scenario in options.labs or LABS:
            for row in Trial(scenario, options.points).rows(options.verb or VERBS):
                rows.append(row)
                output.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
                output.flush()
                for problem in row.problems:
                    print(f"{row.lab} {row.verb} {row.point} {row.operation} {row.recovery}: {problem}", flush=True)
    killed = sum(row.killed for row in rows)
    bad = sum(bool(row.problems) for row in rows)
    print(f"{killed} kills, {bad} with a problem, {time.monotonic() - begun:.0f} s")
    if options.page:
        from page import write_kills

        write_kills([asdict(row) for row in rows])
    return 1 if bad or not killed else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("labs", nargs="*", help=f"built-in scenarios (default: {' '.join(LABS)})")
    parser.add_argument("--verb", action="append", choices=VERBS, help="only this verb; repeat")
    parser.add_argument("--points", type=int, metavar="N", help="at most so many points for each verb, evenly spread")
    parser.add_argument("--output", default="reliability-kill.jsonl", metavar="FILE", help="where the rows go")
    parser.add_argument("--page", action="store_true", help="write the section of docs/reliability.md")
    return parser.parse_args()


class Trial:
    """The trial of one lab. It has to be the only lab in its sandbox."""

    def __init__(self, scenario: str, points: int | None = None, name: str | None = None) -> None:
        import sandbox_state
        from tracer import run, run_free
        from verbs import LabVerbs, import_all

        import_all()
        self.points, self.lab = points, name or f"killed-{scenario}"
        self._verbs = LabVerbs(scenario, self.lab)
        self._run, self._run_free, self._state = run, run_free, sandbox_state
        self._prefix = f"labctl-{self.lab}-"
        sandbox_state.become_subreaper()
        self._absent = sandbox_state.read(self._prefix)
        self._require("up")
        for verb in (
            "trace",
            "check",
        ):  # what they create once for all: namespaces learn neighbours, programs are cached
            self._require(verb)
        self._running = sandbox_state.read(self._prefix)

    def rows(self, verbs: tuple[str, ...]) -> Iterator[Row]:
        """All rows of the lab, which is removed at the end."""
        try:
            for verb in verbs:
                yield from self._verb_rows(verb)
        finally:
            self._require("down")

    def _verb_rows(self, verb: str) -> Iterator[Row]:
        self._prepare(verb)
        counted = self._run(self._verbs.call(verb))
        if counted.code:
            raise RuntimeError(f"{verb} of {self.lab} ends with {counted.code}: {counted.output}")
        for point in spread(len(counted.operations), self.points):
            yield self.row(verb, point, len(counted.operations))

    def row(self, verb: str, point: int, total: int) -> Row:
        """Kill a verb at one point and recover."""
        self._prepare(verb)
        found = self._run(self._verbs.call(verb), point)
        recovery = ("next", "other")[point % 2]
        operation = found.operations[point - 1] if found.killed else ""
        row = Row(self.lab.removeprefix("killed-"), verb, point, total, operation, found.killed, recovery)
        row.problems += [] if found.killed or not found.code else [f"ended with {found.code}: {found.output[-500:]}"]
        row.problems += self._recover(verb, second=bool(point % 2))
        if row.problems:
            self._reset()
        return row

    def _recover(self, verb: str, *, second: bool) -> Iterator[str]:
        """The next verbs, and what is wrong after them."""
        is_question = verb in QUESTIONS
        if second:
            yield from self._expect("list", 0)
        else:
            yield from self._expect("status", *((0,) if is_question else (0, 1, 2)))
        yield from (f"not swept: {name}" for name in self._state.unfinished(self.lab))
        if is_question:
            if second:
                yield from self._expect("status", 0)
            yield from self._state.settle(self._prefix, self._running)
            return
        if verb in ("up", "down") and second:
            yield from self._expect("down", 0)
        elif verb in ("break", "fix") and second:
            yield from self._expect("fix", 0)
            yield from self._expect("status", 0)
        else:
            yield from self._expect("up", 0)
            yield from self._expect("status", 0)
        removed = verb in ("up", "down") and second
        yield from self._state.settle(self._prefix, self._absent if removed else self._running)

    def _prepare(self, verb: str) -> None:
        """Bring the lab into the state that the verb starts from. Only what differs from the present state is done."""
        from labctl.kernel.host import paths
        from labctl.lab import fault_records

        is_up = self.lab in paths.labs()
        if verb == "up":
            if is_up:
                self._require("down")
            return
        if not is_up:
            self._require("up")
        is_broken = bool(fault_records.active(self.lab))
        if verb in ("repair", "fix") and not is_broken:
            self._require("break")
        elif verb not in ("repair", "fix") and is_broken:
            self._require("fix")

    def _reset(self) -> None:
        for verb in ("down", "up"):
            self._run_free(self._verbs.call(verb))

    def _require(self, verb: str) -> None:
        done = self._run_free(self._verbs.call(verb))
        if done.code:
            raise RuntimeError(f"{verb} of {self.lab} ends with {done.code}: {done.output}")

    def _expect(self, verb: str, *codes: int) -> Iterator[str]:
        done = self._run_free(self._verbs.call(verb))
        if done.code not in codes:
            yield f"{verb} ends with {done.code}: {done.output[-500:]}"


def spread(count: int, points: int | None) -> list[int]:
    """The numbers from 1 to `count`; at most `points` of them, evenly spread, with the first and the last."""
    if points is None or points >= count:
        return list(range(1, count + 1))
    if points < 2:
        return [1][:points]
    return sorted({1 + round(index * (count - 1) / (points - 1)) for index in range(points)})


if __name__ == "__main__":
    sys.exit(main())

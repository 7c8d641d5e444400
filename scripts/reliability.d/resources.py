"""Every verb with too few open files, processes and threads, or memory: it does its work, or says in one sentence what
is too little. Nothing is left behind.

A verb may end as it does without a limit, or with exit code 3 or 4 and one message that names the limit. Afterwards the
labs and their files must be as they were; what `up` has built, `down` must remove under the same limit.
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LABCTL = (sys.executable, "-m", "labctl")
LAB, OTHER = "limits-lab", "limits-other"  # the lab that runs all the time, and the one that comes and goes
SCENARIO, PROCESSES = "kubenet", "docker-proxy"  # a lab without and one with processes
TIMEOUT_S = 120.0
MESSAGE = "labctl: "
LIMIT_WORDS = ("too few open files", "too many open files", "too many processes", "cannot get more memory")
FILES = (*range(8, 65), 72, 80, 96, 128, 192, 256, 384, 512, 768, 1024)
PIDS = tuple(range(1, 11))
MEMORY_MB = tuple(range(24, 125, 4))
# where Python itself has not started: its own words, and those of the dynamic linker
NO_PYTHON = ("Fatal Python error", "error while loading shared libraries", "init_fs_encoding")
CGROUPS = (Path("/sys/fs/cgroup/pids"), Path("/sys/fs/cgroup"))  # of version 1 and 2


def verbs() -> dict[str, tuple[str, ...]]:
    """The verbs, each with its words. `up` is another lab than the one that runs."""
    here = ("-l", LAB)
    return {
        "list": ("list",),
        "plan": ("plan", SCENARIO),
        "status": ("status", *here),
        "show": ("show", "a", *here),
        "check": ("check", *here, "-k", "see each other"),
        "trace": ("trace", "a", "c", *here),
        "capture": ("capture", *here, "--seconds", "0.2"),
        "exec": ("exec", *here, "a", "--", "true"),
        "break": ("break", *here, "route-missing", "node1"),
        "fix": ("fix", *here),
        "up": ("up", SCENARIO, "--name", OTHER),
        "down": ("down", OTHER),
        "up with processes": ("up", PROCESSES, "--name", OTHER),
        "down with processes": ("down", OTHER),
        "up without root": ("--rootless", "up", SCENARIO, "--name", OTHER),
        "down without root": ("--rootless", "down", "--all"),
        "run": ("run", "--", "true"),
        "doctor": ("doctor",),
        "compare": ("compare", SCENARIO, "docker-bridge"),
    }


SLOW = ("compare", "doctor")  # seconds: tried only at some limits
EVERY_SLOW = 8


@dataclass
class Sweep:
    """One kind of limit: its values, and how a process sets it for itself before it becomes labctl."""

    name: str
    values: tuple[int, ...]
    limit: Callable[[int], None]
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def run(self, chosen: Collection[str], usual: Mapping[str, int]) -> None:
        """Try all values, the chosen verbs at each; `usual` has their exit codes without a limit."""
        before = state()
        for number, value in enumerate(self.values):
            for name, words in verbs().items():
                if name in chosen and (name not in SLOW or number % EVERY_SLOW == 0):
                    self._try(value, name, words, usual[name])
            clean_up(chosen)
            for line in sorted(state() ^ before):
                self.problems.append(f"{self.name} {value}: {line} {'is left' if line in state() else 'is gone'}")
            if labctl(("status", "-l", LAB)).returncode:
                self.problems.append(f"{self.name} {value}: the lab {LAB} has changed")

    def _try(self, value: int, name: str, words: tuple[str, ...], usual: int) -> None:
        done = labctl(words, lambda: self.limit(value))
        how = judge(done, usual)
        self.counts[how if how in ("done", "refused", "no Python") else "wrong"] += 1
        if how not in ("done", "refused", "no Python"):
            self.problems.append(f"{self.name} {value}: {name}: {how}")
        if name.startswith("up") and "without root" not in name and how == "refused" and has_lab():
            self.problems.append(f"{self.name} {value}: {name}: the lab was not rolled back")
        if name.startswith("down") and how == "done" and has_lab():
            self.problems.append(f"{self.name} {value}: {name}: the lab is still there")


def judge(done: subprocess.CompletedProcess[str], usual: int) -> str:
    """How a verb ended: `done` as without a limit, `refused` with a sentence, `no Python`, or what is wrong."""
    error = done.stderr
    if done.returncode != 70 and "Traceback" not in error:
        messages = [line for line in error.splitlines() if line.startswith(MESSAGE)]
        if done.returncode in (3, 4) and len(messages) == 1 and any(word in messages[0] for word in LIMIT_WORDS):
            return "refused"
        if done.returncode == usual:
            return "done"
    if any(word in error for word in NO_PYTHON) or ("Traceback" in error and str(ROOT) not in error):
        return "no Python"
    return f"exit {done.returncode}: {(error.strip().splitlines() or ['no message'])[-1]}"


def labctl(words: tuple[str, ...], limit: Callable[[], None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run labctl in another process, with a limit."""
    return subprocess.run(
        [*LABCTL, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TIMEOUT_S,
        preexec_fn=limit, cwd=ROOT,
    )  # fmt: skip


def has_lab() -> bool:
    return any(f"labctl.{OTHER}." in line for line in state())


def state() -> frozenset[str]:
    """The names of namespaces, the files of labctl except those of the lab that runs, and the programs that run."""
    from labctl.kernel.host import lab_state, paths

    files = {path for folder in (paths.netns_dir(), paths.state_dir()) for path in folder.rglob("*")}
    own = lab_state.directory(LAB)
    return frozenset({*(str(path) for path in files if own not in path.parents), *programs()})


def programs() -> Iterator[str]:
    """The command lines of the descendants of this process, which is the parent of orphans; it waits for those that
    have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    parents: dict[int, int] = {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in parents:
        above = parents[pid]
        while above not in (os.getpid(), 0):
            above = parents.get(above, 0)
        with suppress(OSError):
            if above:
                yield Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")


def adopt_orphans() -> None:
    """Become the parent of the orphans of children, where `programs` finds them."""
    import ctypes

    if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER
        raise OSError("prctl")


def usual_codes(chosen: Collection[str]) -> dict[str, int]:
    """The exit codes of these verbs without a limit."""
    codes = {name: labctl(words).returncode for name, words in verbs().items() if name in chosen}
    clean_up(chosen)
    return codes


def clean_up(chosen: Collection[str]) -> None:
    """Undo what these verbs do, without a limit."""
    undo = {"break": ("fix", "-l", LAB), "up": ("down", OTHER), "up without root": ("--rootless", "down", "--all")}
    for name, words in undo.items():
        if name in chosen:
            labctl(words)


def limit_files(count: int) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def limit_memory(megabytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


@contextmanager
def pids_cgroup() -> Iterator[Callable[[int], None] | None]:
    """A function that moves the process into a cgroup with a limit of processes; None without such a cgroup here."""
    for parent in CGROUPS:
        folder = parent / f"labctl-reliability-{os.getpid()}"
        try:
            folder.mkdir()
        except OSError:
            continue
        try:
            if (folder / "pids.max").exists():
                yield partial(_join, folder)
                return
        finally:
            folder.rmdir()
    yield None


def _join(folder: Path, count: int) -> None:
    (folder / "pids.max").write_text(f"{count}\n")
    (folder / "cgroup.procs").write_text(f"{os.getpid()}\n")


def main() -> int:
    options = arguments()
    adopt_orphans()
    os.environ["XDG_RUNTIME_DIR"] = os.environ.get("TMPDIR", "/tmp")
    labctl(("up", SCENARIO, "--name", LAB)).check_returncode()
    problems = []
    chosen = options.verb or tuple(verbs())
    try:
        usual = usual_codes(chosen)
        with pids_cgroup() as limit_pids:
            sweeps = [Sweep("open files", FILES, limit_files), Sweep("memory in MB", MEMORY_MB, limit_memory)]
            if limit_pids is None:
                print("processes: skipped, no cgroup with the controller pids can be made here")
            else:
                sweeps.append(Sweep("processes", PIDS, limit_pids))
            for sweep in sweeps:
                if options.limit and not sweep.name.startswith(options.limit):
                    continue
                sweep.values = tuple(value for value in sweep.values if not options.value or value in options.value)
                sweep.run(chosen, usual)
                counts = ", ".join(f"{count} {how}" for how, count in sorted(sweep.counts.items()))
                print("\n".join([f"{sweep.name}, {len(sweep.values)} values: {counts}", *sweep.problems]), flush=True)
                problems += sweep.problems
    finally:
        labctl(("down", LAB, OTHER))
    return 1 if problems else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("limit", nargs="?", choices=("open", "processes", "memory"), help="only this limit")
    parser.add_argument("--value", type=int, action="append", default=[], metavar="N", help="only this value; repeat")
    parser.add_argument("--verb", action="append", default=[], choices=tuple(verbs()), help="only this verb; repeat")
    return parser.parse_args()


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())

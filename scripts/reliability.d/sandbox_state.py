"""What is in the sandbox now: names, mounts, processes, records, settings. Two of these can be compared."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from labctl.kernel.host import lab_state, paths
from labctl.kernel.namespaces.thread import NetnsThread
from labctl.kernel.rule_trace import nflog, tracefs

SETTLE_S = 8.0  # seconds that child programs of a killed verb may take to end by themselves, such as ping


@dataclass(frozen=True)
class SandboxState:
    """Everything that a verb could leave: each field has one line for each object."""

    namespaces: tuple[str, ...]
    mounts: tuple[str, ...]
    files: tuple[str, ...]  # in the directory of state; of a running lab's own directory only what is not finished
    processes: tuple[str, ...]  # command lines of all descendants
    tracing: tuple[str, ...]
    loggers: tuple[str, ...]
    descriptors: int = 0  # of this process

    def difference(self, other: SandboxState) -> list[str]:
        """What this state has and the other has not, and the reverse, one line for each."""
        lines = []
        for field in fields(self):
            mine, theirs = getattr(self, field.name), getattr(other, field.name)
            if isinstance(mine, int):
                continue
            lines += [f"{field.name}: missing {line}" for line in (Counter(theirs) - Counter(mine)).elements()]
            lines += [f"{field.name}: left {line}" for line in (Counter(mine) - Counter(theirs)).elements()]
        return lines


def become_subreaper() -> None:
    """From now on, the orphans of killed children are children of this process, where `read` finds them."""
    import ctypes

    if ctypes.CDLL(None).prctl(36, 1, 0, 0, 0):  # PR_SET_CHILD_SUBREAPER
        raise OSError("prctl(PR_SET_CHILD_SUBREAPER)")


def read(prefix: str) -> SandboxState:
    """The state now. `prefix` is how the names of this sandbox's tracing instances begin."""
    return SandboxState(
        tuple(sorted(f"{lab}/{node}" for lab, nodes in paths.labs().items() for node in nodes)),
        tuple(sorted(_mounts())),
        tuple(sorted(_files())),
        tuple(sorted(_processes())),
        tuple(name for name in _instances() if name.startswith(prefix)),
        tuple(sorted(_loggers())),
        len(os.listdir("/proc/self/fd")),
    )


def settle(prefix: str, wanted: SandboxState) -> list[str]:
    """Wait until the state is the wanted one; returns how it differs after that time."""
    deadline = time.monotonic() + SETTLE_S
    while (lines := read(prefix).difference(wanted)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return lines


def _mounts() -> Iterator[str]:
    """The places and kinds of mounts: what is bound to a namespace's name has another number each time."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split()
        yield f"{words[4]} {words[words.index('-') + 1]}"


def _files() -> Iterator[str]:
    running = paths.labs()
    for path in paths.state_dir().rglob("*"):
        name = str(path.relative_to(paths.state_dir()))
        lab = name.split("/")[0]
        if lab not in running or name == lab or path.name.startswith("."):
            yield name


def _processes() -> Iterator[str]:
    """The command lines of all descendants of this process; those that have ended are waited for."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                parents[int(name)] = int(Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[1])
    for pid in parents:
        above = pid
        while above in parents and above != os.getpid():
            above = parents[above]
        if above == os.getpid() != pid:
            with suppress(OSError):
                yield Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()


def _instances() -> tuple[str, ...]:
    try:
        return tracefs.instances()
    except OSError:
        return ()


def _loggers() -> Iterator[str]:
    with NetnsThread() as inside:
        for lab, nodes in paths.labs().items():
            for node in nodes:
                with suppress(OSError):
                    for family, name in inside.run(paths.netns_path(lab, node), nflog.read_loggers).items():
                        yield f"{lab}/{node} {family} {name}"


def unfinished(lab: str) -> list[str]:
    """What a sweep should have removed: records of work, locks without a holder, drafts, files of a lab without a
    namespace."""
    paths_left = [path.relative_to(paths.state_dir()) for path in paths.state_dir().rglob("*")]
    found = [str(path) for path in paths_left if path.name.startswith(".") or path.parts[0] == paths.WORK_FOLDER]
    found += [str(path) for path in paths_left if len(path.parts) == 1 and path.suffix == paths.LOCK_SUFFIX]
    if lab not in paths.labs() and lab_state.directory(lab).exists():
        found.append(lab)
    return found

"""Start the processes of a lab in their namespaces, find them by a mark, and end them.

The mark is an environment variable that identifies the process and its lab. No other record is needed: what is found is
what runs. A lab of the same name in another directory of named namespaces (in a container, in a separate mount
namespace) is another lab, so the mark also identifies that directory. What a user starts in a node has no mark and is
never drift.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from labctl.core.resources import Process
from labctl.errors import KernelError
from labctl.kernel.host import paths
from labctl.kernel.host.syscalls import CLONE_NEWPID, setns
from labctl.kernel.namespaces import occupants
from labctl.kernel.programs import READY, argv
from labctl.render.plan_json import process_tag

PROCESS_VARIABLE = "LABCTL_PROCESS"
READY_TIMEOUT_S = 10.0  # seconds within which a program must be ready


def find(lab: str, nodes: Iterable[str]) -> tuple[Process, ...]:
    """The lab's own processes that run in the network namespaces of these nodes, with their ids."""
    homes = {paths.netns_path(lab, node): node for node in nodes}
    groups: dict[tuple[str, str], dict[int, Process]] = {}
    for pid, path in occupants.find_with_path(homes).items():
        process = _tagged_process(pid, lab)
        if process is not None and process.ns == homes[path]:
            groups.setdefault((process.ns, process.name), {})[pid] = process
    return tuple(_main_process(group) for group in groups.values())


def find_anywhere(lab: str) -> tuple[int, ...]:
    """The ids of the marked processes of a lab in any namespace except the machine's own, also in a namespace that has
    lost its name: processes keep it alive."""
    return tuple(pid for pid in occupants.find_outside_host() if _tagged_process(pid, lab) is not None)


def start(lab: str, processes: Iterable[Process]) -> None:
    """Start processes in this thread's namespace, and wait until each is ready.

    Raises KernelError if one does not get ready, with its output.
    """
    begun: list[tuple[Process, subprocess.Popen[bytes]]] = []
    try:
        for process in processes:
            if process.inside is not None:
                _wait_until_ready(begun)
            begun.append((process, _spawn(lab, process)))
        _wait_until_ready(begun)
    finally:
        for _, child in begun:
            if child.stdout is not None:
                child.stdout.close()
            child.wait()  # the program itself continues in a child of this one


def stop(process: Process) -> None:
    """End one process that `find` returned."""
    if process.pid is not None:
        occupants.terminate([process.pid])


def _spawn(lab: str, process: Process) -> subprocess.Popen[bytes]:
    words = argv(process.command)
    if process.sandbox:
        words.append(str(paths.netns_path(lab, process.ns)))
    mark = f"{_netns_dir_id()} {process_tag(process, paths.netns_name(lab, process.ns))}"
    home = _open_pid_namespace(lab, process) if process.inside is not None else None
    try:
        return subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), PROCESS_VARIABLE: mark, **_holder()},
            start_new_session=True,
            preexec_fn=None if home is None else lambda: _enter_pid_namespace(home),
        )
    except (OSError, subprocess.SubprocessError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise KernelError(f"cannot start {process.name} in {process.ns}: {why}") from None
    finally:
        if home is not None:
            os.close(home)


def _holder() -> dict[str, str]:
    return {paths.HOLDER_VARIABLE: os.environ[paths.HOLDER_VARIABLE]} if paths.HOLDER_VARIABLE in os.environ else {}


def _enter_pid_namespace(home: int) -> None:
    """Enter a process namespace between fork and exec: continue in a child, which is inside.

    The starting thread cannot do this, because only the machine's root could move it back. And a program that is forked
    from outside would be reparented to the host's init, not to the pod's.
    """
    setns(home, CLONE_NEWPID)
    pid = os.fork()
    if pid:
        os.closerange(0, 4096)
        os.waitpid(pid, 0)
        os._exit(0)


def _open_pid_namespace(lab: str, process: Process) -> int:
    """A file descriptor of the process namespace of the sandbox that a process belongs to. Raises KernelError."""
    marked = {pid: _tagged_process(pid, lab) for pid in occupants.find_in_current_netns()}
    group = {pid: one for pid, one in marked.items() if one and (one.ns, one.name) == (process.ns, process.inside)}
    if not group:
        raise KernelError(f"cannot start {process.name} in {process.ns}: its {process.inside} is not running")
    return os.open(f"/proc/{_main_process(group).pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)


def _wait_until_ready(begun: Iterable[tuple[Process, subprocess.Popen[bytes]]]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    for process, child in begun:
        if child.stdout is None or child.stdout.closed:
            continue
        said = _read_output(child, deadline)
        child.stdout.close()
        if said != READY:
            why = said.decode(errors="replace").strip() or "it ended and printed nothing"
            raise KernelError(f"cannot start {process.name} in {process.ns}: {why}", _hint(why))


def _read_output(child: subprocess.Popen[bytes], deadline: float) -> bytes:
    assert child.stdout is not None
    poll = select.poll()
    poll.register(child.stdout, select.POLLIN)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        return b"it is not ready after %d s" % READY_TIMEOUT_S
    return os.read(child.stdout.fileno(), 4096)


def _hint(why: str) -> str:
    return "to see which process uses the port: labctl exec NODE -- ss -tulpn" if "in use" in why else ""


def _tagged_process(pid: int, lab: str) -> Process | None:
    """The lab's process that the process with this id is, by its mark; None if it is not one."""
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        told = next(word for word in words if word.startswith(f"{PROCESS_VARIABLE}=".encode()))
    except (OSError, StopIteration):
        return None
    where, _, mark = told.partition(b"=")[2].decode(errors="replace").partition(" ")
    read = parse_process_tag(mark) if where == _netns_dir_id() else None
    return replace(read[1], pid=pid) if read is not None and read[0] == lab else None


def _netns_dir_id() -> str:
    """The directory of named namespaces, by device and inode."""
    try:
        found = os.stat(paths.netns_dir())
    except OSError:
        return "nowhere"
    return f"{found.st_dev}:{found.st_ino}"


def parse_process_tag(text: str) -> tuple[str, Process] | None:
    """The lab and the process that a mark identifies (`render.json_codec.process_mark`); None if it is not a mark."""
    try:
        mark: dict[str, Any] = json.loads(text)
        place = paths.parse_netns_name(mark.pop("netns"))
        return None if place is None else (place[0], Process(place[1], **{**mark, "command": tuple(mark["command"])}))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _main_process(group: dict[int, Process]) -> Process:
    """One process of a group with the same mark: the parent of the others, but of a sandbox its pause, the child of the
    shim."""
    inner = [pid for pid in group if _parent(pid) in group]
    outer = [pid for pid in group if pid not in inner]
    some = next(iter(group.values()))
    pid = min(inner if some.sandbox and inner else outer or inner)
    return replace(some, pid=pid)


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def main(words: Sequence[str]) -> int:
    """`python3 -m labctl.kernel.processes MARK`: start one process manually, in the namespace where this runs."""
    read = parse_process_tag(words[0]) if len(words) == 1 else None
    if read is None:
        print("usage: python3 -m labctl.kernel.processes MARK (from labctl plan --as shell)", file=sys.stderr)
        return 2
    try:
        start(read[0], [read[1]])
    except KernelError as error:
        print(error.message, file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

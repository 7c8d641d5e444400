"""A program's command in a node: as `exec` runs it, with its output kept and a deadline.

A new Python does the forking (`labctl.kernel.node_exec.exec_helper`), for the caller may be a program with threads.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from labctl.errors import KernelError
from labctl.kernel.programs import started


def run(
    lab: str, node: str, command: Sequence[str], *, timeout: float | None, input: str | None
) -> tuple[int, str, str]:
    """Run a command in a node. Returns its exit code and what it wrote to standard output and error.

    Raises KernelError if the node cannot be entered; TimeoutError after so many seconds, when it is killed with all
    that it started and that stayed in its session.
    """
    told, tell = os.pipe()
    try:
        words = started(("exec-helper", str(tell), os.pathsep.join(sys.path), lab, node, *command))
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL if input is None else subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, pass_fds=(tell,), start_new_session=True, encoding="utf-8", errors="replace",
        )  # fmt: skip
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(tell)
    with process, os.fdopen(told, encoding="utf-8", errors="replace") as pipe:
        out, err = _await(process, node, command, timeout, input)
        trouble = pipe.read()
    if trouble:
        raise KernelError(trouble)
    return process.returncode, out, err


def _await(
    process: subprocess.Popen[str], node: str, command: Sequence[str], timeout: float | None, input: str | None
) -> tuple[str, str]:
    try:
        return process.communicate(input, timeout)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        with suppress(subprocess.TimeoutExpired):  # what left the session may hold its output open
            process.communicate(timeout=1)  # its end is that of all that wrote there
        said = [_text(part) for part in (error.stdout, error.stderr)]
        printed = "".join(f"\n{part.rstrip()}" for part in said if part.strip())
        raise TimeoutError(f"{' '.join(command)}: not done in {node} after {timeout:g} s{printed}") from None


def _text(part: str | bytes | None) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else part or ""

"""Run a command in a node for a program: as `exec` does, but with captured output and a timeout.

A new Python process enters the node (`labctl.kernel.node_exec.exec_helper`), because the caller may have threads, and
becomes the command.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress

from labctl.errors import KernelError
from labctl.kernel.host.limits import starting
from labctl.kernel.node_exec.exec_helper import NOT_RUN
from labctl.kernel.programs import module_command

OUTPUT_TIMEOUT_S = 1  # seconds to wait for the rest of the output of a killed command


def run(
    lab: str, node: str, command: Sequence[str], *, timeout_s: float | None, input: str | None
) -> tuple[int, str, str]:
    """Run a command in a node. Returns its exit code and what it wrote to standard output and error.

    Raises KernelError if the node cannot be entered; TimeoutError after `timeout_s` seconds. The command is then
    killed, with every process that it started and that is still in its process group.
    """
    error_pipe, error_fd = os.pipe()
    try:
        with starting(command[0]):
            process = subprocess.Popen(
                helper_argv(error_fd, lab, node, command),
                stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(error_fd,),
                start_new_session=True,
                encoding="utf-8",
                errors="replace",
            )
    except BaseException:
        os.close(error_pipe)
        raise
    finally:
        os.close(error_fd)
    with process, os.fdopen(error_pipe, encoding="utf-8", errors="replace") as pipe:
        out, err = _await(process, node, command, timeout_s, input)
        problem, _ = problem_in(pipe.read())
    if problem:
        raise KernelError(problem)
    return process.returncode if process.returncode >= 0 else 128 - process.returncode, out, err


def helper_argv(error_fd: int, lab: str, node: str, command: Sequence[str]) -> list[str]:
    """The command line of the process that becomes a command in a node; it writes to `error_fd` if it cannot."""
    return module_command(("exec-helper", str(error_fd), os.pathsep.join(sys.path), lab, node, *command))


def problem_in(text: str) -> tuple[str, str]:
    """What the helper wrote: why the node could not be entered, and why the command could not be run; "" if it did."""
    return ("", text.removeprefix(NOT_RUN)) if text.startswith(NOT_RUN) else (text, "")


def _await(
    process: subprocess.Popen[str], node: str, command: Sequence[str], timeout_s: float | None, input: str | None
) -> tuple[str, str]:
    try:
        return process.communicate(input, timeout_s)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        if not isinstance(error, subprocess.TimeoutExpired):
            raise
        with suppress(subprocess.TimeoutExpired):  # a process that left the session may keep the output open
            process.communicate(timeout=OUTPUT_TIMEOUT_S)  # otherwise this returns when all writers have ended
        outputs = [_text(part) for part in (error.stdout, error.stderr)]
        printed = "".join(f"\n{part.rstrip()}" for part in outputs if part.strip())
        raise TimeoutError(f"{' '.join(command)}: not finished in {node} after {timeout_s:g} s{printed}") from None


def _text(part: str | bytes | None) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else part or ""

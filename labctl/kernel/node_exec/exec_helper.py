"""Become a command in a node of a lab: `exec-helper FD PATH LAB NODE COMMAND...`.

PATH is the caller's `sys.path`: some modules are needed if labctl's record of the lab is lost. The file descriptor FD
is closed when the command runs. If it cannot, the reason is written to FD, because the command itself may fail with any
exit code: if the node cannot be entered, or, after NOT_RUN, if there is no such command.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from labctl.errors import LabError
from labctl.kernel.node_exec import exec

NOT_RUN = "not run: "


def main(args: Sequence[str]) -> int:
    """Become the command. Returns only if that fails: 127 or 126, or 70 if the node cannot be entered."""
    error_fd, path, lab, node, *command = args
    sys.path += [folder for folder in path.split(os.pathsep) if folder not in sys.path]
    os.set_inheritable(int(error_fd), False)
    try:
        code, problem = exec.become(lab, node, command)
        text = NOT_RUN + problem
    except Exception as error:
        code = exec.CANNOT_ENTER
        text = error.message if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
    os.write(int(error_fd), text.encode(errors="replace"))
    return code

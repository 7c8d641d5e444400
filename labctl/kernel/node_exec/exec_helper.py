"""Run a command in a node of a lab and exit with its exit code: `exec-helper FD PATH LAB NODE COMMAND...`.

PATH is the caller's `sys.path`: some modules are needed if labctl's record of the lab is lost. If the node cannot be
entered, the reason is written to the file descriptor FD, because the command itself may fail with any exit code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from labctl.errors import LabError
from labctl.kernel.node_exec import exec


def main(args: Sequence[str]) -> int:
    """Run the command and return its exit code; 70 if the node cannot be entered."""
    error_fd, path, lab, node, *command = args
    sys.path += [folder for folder in path.split(os.pathsep) if folder not in sys.path]
    os.set_inheritable(int(error_fd), False)
    try:
        return exec.run(lab, node, command)
    except Exception as error:
        text = error.message if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
        os.write(int(error_fd), text.encode(errors="replace"))
        return exec.CANNOT_ENTER

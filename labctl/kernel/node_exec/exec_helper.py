"""Run a command in a node of a lab and exit with its code: `inside FD PATH LAB NODE COMMAND...`.

PATH is where the caller finds its modules, for some are needed where labctl's record of the lab is lost. That the
node cannot be entered is written to the file descriptor, for the command itself may fail with any code.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from labctl.errors import LabError
from labctl.kernel.node_exec import exec


def main(words: Sequence[str]) -> int:
    """Run it; returns its exit code."""
    tell, path, lab, node, *command = words
    sys.path += [folder for folder in path.split(os.pathsep) if folder not in sys.path]
    os.set_inheritable(int(tell), False)
    try:
        return exec.run(lab, node, command)
    except Exception as error:
        text = error.message if isinstance(error, LabError) else f"{type(error).__name__}: {error}"
        os.write(int(tell), text.encode(errors="replace"))
        return 70

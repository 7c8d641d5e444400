"""Start one of labctl's programs: `python -I -S run.py PROGRAM ARGUMENT...`. It adds its own package to sys.path."""

from __future__ import annotations

import os
import sys
from importlib import import_module

if __name__ == "__main__":
    folder = os.path.abspath(__file__)
    for _ in range(4):  # programs, kernel, labctl, and the folder that contains labctl
        folder = os.path.dirname(folder)
    sys.path.insert(0, folder)
    module = sys.argv[1].replace("-", "_")
    packages = {"exec_helper": "labctl.kernel.node_exec", "sandbox": "labctl.kernel"}
    program = import_module(f"{packages.get(module, 'labctl.kernel.programs')}.{module}")
    try:
        sys.exit(program.main(sys.argv[2:]))
    except OSError as error:
        if module in packages:
            raise
        print(error.strerror, flush=True)  # to the starter, until the program is ready
        sys.exit(1)

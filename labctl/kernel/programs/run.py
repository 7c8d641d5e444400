"""Start one of labctl's programs: `python -I -S run.py PROGRAM ARGUMENT...`. It adds its own package to sys.path."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType

PACKAGES = {"exec_helper": "labctl.kernel.node_exec", "sandbox": "labctl.kernel"}


def find_program(name: str) -> ModuleType:
    """The module of a program, imported."""
    module = name.replace("-", "_")
    return import_module(f"{PACKAGES.get(module, 'labctl.kernel.programs')}.{module}")


def run_program(words: list[str]) -> int:
    """Run a program with its arguments, and return its exit status. If a program of a lab cannot start, the error of
    the system is written to its standard output: the starter reads it until the program is ready."""
    program = find_program(words[0])
    try:
        status: int = program.main(words[1:])
    except OSError as error:
        if words[0].replace("-", "_") in PACKAGES:
            raise
        print(error.strerror, flush=True)
        return 1
    return status


if __name__ == "__main__":
    folder = os.path.abspath(__file__)
    for _ in range(4):  # programs, kernel, labctl, and the folder that contains labctl
        folder = os.path.dirname(folder)
    sys.path.insert(0, folder)
    sys.exit(run_program(sys.argv[1:]))

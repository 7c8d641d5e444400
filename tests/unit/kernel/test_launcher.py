"""The end of the launcher of processes."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys

from tests.support.paths import ROOT

CODE = """
import os, sys, time
from labctl.kernel.programs import launcher

if os.fork() == 0:  # the first process of a program, which has not ended yet
    time.sleep(0.3)
    os._exit(0)
launcher.main(sys.argv[1:])
"""


def test_it_ends_after_the_first_processes_of_its_programs() -> None:
    ours, theirs = socket.socketpair()
    read_end, write_end = os.pipe()
    try:
        with ours, theirs:
            child = subprocess.Popen(
                [sys.executable, "-c", CODE, str(theirs.fileno())], cwd=ROOT, pass_fds=(theirs.fileno(), write_end)
            )
        os.close(write_end)
        assert child.wait(timeout=30) == 0
        ready, _, _ = select.select([read_end], [], [], 0)
        assert ready, "a process lives on, which looks like the program itself"
    finally:
        os.close(read_end)

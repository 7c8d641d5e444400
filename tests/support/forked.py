"""Programs that run labctl or pytest from a process which has imported it: they behave as the real ones, and start in
less time.

They are for tests which start labctl to see what it does. `fork_server` says what is different from a real start.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from tests.support.paths import ROOT

CLIENT = (Path(__file__).parent / "fork_client.py").read_text()


class ForkServer:
    """The server of this process, in its own folder with the programs that ask it."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="labctl-forked-"))
        self.socket = self.folder / "socket"
        with socket.socket(socket.AF_UNIX) as listening, (self.folder / "errors").open("wb") as errors:
            listening.bind(str(self.socket))
            listening.listen(64)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.fork_server", str(listening.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                pass_fds=[listening.fileno()],
                start_new_session=True,
                cwd=ROOT,
            )

    def program(self, name: str, program: str, left_out: int = 0) -> str:
        """The path of a program of this name, which is there from now on."""
        assert self.process.poll() is None, (self.folder / "errors").read_text()
        path = self.folder / name
        if not path.exists():
            text = CLIENT
            for old, new in (
                ('SOCKET = "/the/socket"', f"SOCKET = {str(self.socket)!r}"),
                ('PROGRAM = "labctl"', f"PROGRAM = {program!r}"),
                ("LEFT_OUT = 0", f"LEFT_OUT = {left_out}"),
            ):
                assert old in text
                text = text.replace(old, new)
            # another thread may look for it at the same time, and must find all of it
            part = path.with_name(f"{name}.{threading.get_ident()}")
            part.write_text(f"#!{sys.executable} -IS\n{text}")
            part.chmod(0o755)
            part.replace(path)
        return str(path)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_running: list[ForkServer] = []
_starting = threading.Lock()


def server() -> ForkServer:
    """The server of this process, started at the first call."""
    with _starting:
        if not _running:
            _running.append(ForkServer())
    return _running[0]


def stop() -> None:
    """End the server, if one was started."""
    while _running:
        _running.pop().stop()


def labctl_program() -> str:
    """The path of a program `labctl`."""
    return server().program("labctl", "labctl")


def cni_plugin_program() -> str:
    """The path of a program `labctl-cni`."""
    return server().program("labctl-cni", "labctl-cni")


def pytest_program() -> str:
    """The path of a program `pytest`, which has imported labctl without its pytest plugin."""
    return server().program("pytest", "pytest")


def python_program() -> str:
    """The path of a program for `PYTHON -m labctl WORDS`, and for nothing else."""
    return server().program("python", "labctl", left_out=len(("-m", "labctl")))


def processes_program() -> str:
    """The path of a program for `PYTHON -m labctl.kernel.processes TAG`, and for nothing else."""
    return server().program("python-processes", "processes", left_out=len(("-m", "labctl.kernel.processes")))

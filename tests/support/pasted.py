"""Commands that labctl advises, run as a user pastes them: by a shell, with `sudo` and `labctl` on PATH."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.support import forked

# exit codes that say that a command was wrong, and not that a lab is broken: usage, not executable, not found, a bug
WRONG_COMMAND = {2, 64, 70, 126, 127}


def programs(folder: Path) -> dict[str, str]:
    """An environment in which `labctl` is this one, forked, and `sudo` is there for a user who came by it."""
    (folder / "labctl").symlink_to(forked.labctl_program())
    (folder / "sudo").write_text('#!/bin/sh\nSUDO_USER=anna exec "$@"\n')
    (folder / "sudo").chmod(0o755)
    return {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}:/usr/sbin:/sbin", "SUDO_USER": "anna"}


def paste(command: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run it, with all that it leaves in the background."""
    script = f"{command}\ncode=$?; wait; exit $code"
    return subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=False, env=environment, timeout=60
    )

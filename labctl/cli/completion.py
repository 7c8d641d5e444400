"""Shell completion: print the words that the shell asks for."""

from __future__ import annotations

import os
from typing import Any


def run_completion() -> int:
    """Print the completions that the shell asks for in the environment. Returns the exit code."""
    from click.shell_completion import shell_complete

    from labctl.cli.app import app
    from labctl.cli.rootless import use_rootless_labs, wants_rootless
    from labctl.cli.session import Session
    from labctl.errors import LabError

    if wants_rootless(os.environ.get("COMP_WORDS", "").split()):
        use_rootless_labs()
    settings: dict[str, Any] = {"obj": Session(())}
    try:
        return shell_complete(app, settings, "labctl", "_LABCTL_COMPLETE", os.environ.pop("_LABCTL_COMPLETE"))
    except LabError:  # there is nothing to complete with, and a shell shows no messages
        return 1

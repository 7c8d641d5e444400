"""What every program does at its start: leave its starter, take its name, and say that it works."""

from __future__ import annotations

import os

from labctl.kernel.programs import READY


def leave(name: str) -> None:
    """Go on in a child of nobody who waits, under the name that ps and ss show.

    The first process of its process namespace inherits it and buries it; a starter that lives on and does not
    bury its children would keep a pod's process namespace from ending.
    """
    if os.fork():
        os._exit(0)
    called(name)


def called(name: str) -> None:
    """Give this process the name that ps and ss show."""
    with open("/proc/self/comm", "w") as file:
        file.write(name)


def ready() -> None:
    """Tell whoever started this that it works now, and be quiet from here on."""
    os.write(1, READY)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)

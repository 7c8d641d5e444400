"""Who does an exercise: the user who typed the command."""

from __future__ import annotations

import os
import re

VARIABLE = "LABCTL_LEARNER"
MAX_LENGTH = 32


def learner_name() -> str:
    """The learner: LABCTL_LEARNER, else the user who typed `sudo`, else this process's user. It can be the name of a
    file."""
    given = next((os.environ[name] for name in (VARIABLE, "SUDO_USER", "USER", "LOGNAME") if os.environ.get(name)), "")
    return valid_name(given) or f"user-{os.getuid()}"


def valid_name(text: str) -> str:
    """A text as the name of a learner: letters, digits, dots, dashes and underscores; "" if nothing is left."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:MAX_LENGTH].rstrip("-.")


def label(learner: str) -> str:
    """The learner as a part of a lab's name, which is a DNS label."""
    return re.sub(r"[^a-z0-9]+", "-", learner.lower()).strip("-") or "learner"

"""Who types a command: the owner of the labs that it makes, and the learner who does exercises. Fast to import."""

from __future__ import annotations

import os

VARIABLE = "LABCTL_LEARNER"  # for people who share one account
MAX_LENGTH = 32
ROOT = "root"  # the user who may change the labs of all


def user_name() -> str:
    """The user: LABCTL_LEARNER, else who typed `sudo`, else this process's user. It can be the name of a file."""
    given = next((os.environ[name] for name in (VARIABLE, "SUDO_USER", "USER", "LOGNAME") if os.environ.get(name)), "")
    return valid_name(given) or valid_name(_account()) or f"user-{os.getuid()}"


def valid_name(text: str) -> str:
    """A text as the name of a user: letters, digits, dots, dashes and underscores; "" if nothing is left."""
    import re

    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:MAX_LENGTH].rstrip("-.")


def label(user: str) -> str:
    """The user as a part of a lab's name, which is a DNS label."""
    import re

    return re.sub(r"[^a-z0-9]+", "-", user.lower()).strip("-") or "learner"


def _account() -> str:
    """The name of the process's account; "" if it has none."""
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return ""

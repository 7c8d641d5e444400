"""The owner of a lab: the user who made it. On a machine with many users, each works on separate labs.

Everybody who may make labs is root there, so this protects from mistakes only. Root who did not come by `sudo` may
change every lab, and so may everybody if the owner of a lab is not known.
"""

from __future__ import annotations

from labctl.errors import UsageError
from labctl.kernel.host import paths, state_files
from labctl.kernel.host.user import ROOT, label, user_name

MAX_NAME = 63  # characters of a lab's name


class OwnerError(UsageError):
    """The lab belongs to another user."""


def record(lab: str, owner: str) -> None:
    """Record the owner of a lab. Raises KernelError."""
    state_files.write_text(lab, paths.OWNER_FILE, f"{owner}\n")


def is_own(lab: str) -> bool:
    """Whether this user may regard a lab as theirs: they made it, or no user is recorded."""
    return bool(paths.own_labs([lab]))


def require_change(lab: str, hint: str) -> None:
    """Refuse to change the lab of another user. Raises OwnerError, which names the owner."""
    if user_name() != ROOT and not is_own(lab):
        raise OwnerError(f"lab {lab} belongs to {paths.owner_of(lab)}", hint)


def removable_labs(labs: tuple[str, ...]) -> tuple[str, ...]:
    """Those of these labs that `down --all` of this user removes."""
    return labs if user_name() == ROOT else paths.own_labs(labs)


def free_name(name: str) -> str:
    """The name of this user's lab of a scenario: the scenario's, or with the user's name behind it, if another user has
    a lab with that name, or this one has a lab of the longer name already."""
    user, labs = label(user_name()), paths.labs()
    longer = f"{name[: MAX_NAME - 1 - len(user)].rstrip('-')}-{user}"
    if longer in labs and is_own(longer):
        return longer
    return longer if name in labs and not is_own(name) else name

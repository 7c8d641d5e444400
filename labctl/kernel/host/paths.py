"""The directories of namespaces and of state, the names of labctl's namespaces, and which lab a command means.

Only this module decides them.

A lab owns the namespaces named `labctl.<lab>.<node>`. The name is the only sign and the only record of that. Both are
DNS labels without a dot, so `down kube` never affects a lab called `kube-net`. `LABCTL_NETNS_DIR` and
`LABCTL_STATE_DIR` set other directories (for tests, containers, labs without root).
"""

from __future__ import annotations

import os
from pathlib import Path

from labctl.kernel.host.user import user_name, valid_name

TYPE_CHECKING = False  # and not typing's own, which costs more than all the rest here
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PREFIX = "labctl"
HOLDER_VARIABLE = "LABCTL_HOLDER"  # environment variable of each process in labs without root, see kernel.rootless

SANDBOX_VARIABLE = "LABCTL_RUN"  # environment variable of each command of `labctl run`, see kernel.sandbox

WORK_FOLDER = ".work"  # in the directory of state: the records of what verbs make for a while, see host.work_record
OWNER_FILE = "owner"  # in the directory of a lab, see host.lab_owner
MAX_OWNER_BYTES = 100
LAB_VARIABLE = "LABCTL_LAB"  # environment variable with the name of a lab, as after -l
PROGRESS_FOLDERS = (".exercises", ".lessons")  # what learners have reached, see labctl.training
LOCK_SUFFIX = ".lock"  # of the file that is locked while a lab changes, see host.lab_state


def netns_dir() -> Path:
    """The directory in which namespaces are bound to names, as by `ip netns`. Always an absolute path."""
    return _directory("LABCTL_NETNS_DIR", "/run/netns")


def state_dir() -> Path:
    """The directory of definitions, records and locks. `down` does not need it. Always an absolute path."""
    return _directory("LABCTL_STATE_DIR", "/run/labctl")


def progress_dir() -> Path:
    """The directory of what learners have reached, which a reboot keeps. Always an absolute path.

    LABCTL_PROGRESS_DIR, else the directory of states if that is set, else /var/lib/labctl; without root, the folder of
    states in the user's home.
    """
    if os.environ.get("LABCTL_PROGRESS_DIR"):
        return _directory("LABCTL_PROGRESS_DIR", "")
    if HOLDER_VARIABLE in os.environ:
        base = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        return Path(os.path.abspath(base), PREFIX)
    if os.environ.get("LABCTL_STATE_DIR") or SANDBOX_VARIABLE in os.environ:
        return state_dir()  # it ends with what it is for
    return Path("/var/lib/labctl")


def directory_of(*folders: str) -> Path:
    """The directory that has a folder of state files, or the one below it."""
    return progress_dir() if folders[:1] in [(name,) for name in PROGRESS_FOLDERS] else state_dir()


def _directory(variable: str, default: str) -> Path:
    given = os.environ.get(variable) or default  # an empty variable counts as none
    try:
        return Path(os.path.abspath(given))
    except OSError:  # the current directory is gone
        return Path("/", given)


def require_own_directories() -> None:
    """Check, before anything is made, that the two directories can be labctl's. Raises KernelError.

    A path that depends on the current directory would be another one for the next command, and in `/` the directory of
    namespaces becomes a shared mount, which would change how all mounts of the machine behave.
    """
    for name, path in (("LABCTL_NETNS_DIR", netns_dir()), ("LABCTL_STATE_DIR", state_dir())):
        given = os.environ.get(name, "")
        if given and not os.path.isabs(given):
            problem = "is not an absolute path"
        elif path == path.parent:
            problem = "must not be the root directory"
        else:
            continue
        from labctl.errors import KernelError

        raise KernelError(f"{name}={given} {problem}", f"an absolute path, such as {name}=/run/other")


def has_unfinished_work() -> bool:
    """Whether a verb works now, or was killed while it worked. Reads one directory."""
    try:
        names = os.listdir(state_dir())
    except OSError:
        return False
    return any(name == WORK_FOLDER or name.endswith(LOCK_SUFFIX) for name in names)


def sudo() -> str:
    """What a user types before a command that needs the machine's root: `sudo `, or nothing in a shell of root.

    A root that came by sudo, or has labs without root, is a user who types `sudo`.
    """
    names = ("SUDO_USER", HOLDER_VARIABLE, SANDBOX_VARIABLE)
    in_shell_of_root = os.geteuid() == 0 and not any(name in os.environ for name in names)
    return "" if in_shell_of_root else "sudo "


def command_prefix(lab: str | None = None) -> str:
    """The command that a user types before a verb, to work on the same labs as this process.

    With `lab`, the verb is about that lab; `-l` names it if the verb would not find it alone, as several labs run.
    """
    if HOLDER_VARIABLE in os.environ:
        command = "labctl --rootless"
    else:  # the commands of `labctl run` are root in their sandbox
        command = "labctl" if SANDBOX_VARIABLE in os.environ else f"{sudo()}labctl"
    return command if lab is None or _is_default_lab(lab) else f"{command} -l {lab}"


def _is_default_lab(lab: str) -> bool:
    from labctl.errors import LabError

    try:
        return default_lab(labs()) == lab
    except LabError:  # this is for a hint, perhaps for that of this very error
        return False


def netns_name(lab: str, node: str) -> str:
    """The name of a node's namespace, as `ip netns` shows it."""
    return f"{PREFIX}.{lab}.{node}"


def netns_path(lab: str, node: str) -> Path:
    """The file that a node's namespace is bound to."""
    return netns_dir() / netns_name(lab, node)


def parse_netns_name(name: str) -> tuple[str, str] | None:
    """The (lab, node) of a namespace's name; None if it is not a name of labctl's."""
    parts = name.split(".")
    if len(parts) != 3 or parts[0] != PREFIX or not parts[1] or not parts[2]:
        return None
    return parts[1], parts[2]


def labs() -> dict[str, tuple[str, ...]]:
    """Every lab that has namespaces on this machine, with its nodes, sorted. Reads one directory.

    Raises KernelError if it cannot be read.
    """
    found: dict[str, list[str]] = {}
    try:
        with os.scandir(netns_dir()) as entries:
            names = [entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        from labctl.errors import KernelError

        raise KernelError(f"cannot read {netns_dir()}: {error.strerror}", errno=error.errno or 0) from None
    for name in names:
        if (lab_and_node := parse_netns_name(name)) is not None:
            found.setdefault(lab_and_node[0], []).append(lab_and_node[1])
    return {lab: tuple(sorted(nodes)) for lab, nodes in sorted(found.items())}


def owner_of(lab: str) -> str | None:
    """The user who made a lab; None if that is not known. Reads one small file, and waits for nothing."""
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        fd = os.open(state_dir() / lab / OWNER_FILE, flags)
        try:
            return valid_name(os.read(fd, MAX_OWNER_BYTES).decode(errors="replace")) or None
        finally:
            os.close(fd)
    except OSError:
        return None


def own_labs(among: Iterable[str]) -> tuple[str, ...]:
    """Those of these labs that this user has made, or for which no user is recorded."""
    user = user_name()
    owners = {lab: owner_of(lab) for lab in among}
    if None in owners.values():  # another user may have removed that lab, with its file, since `among` was read
        gone = set(owners) - set(labs())
        owners = {
            lab: owner for lab, owner in owners.items() if owner is not None or lab not in gone or _has_files(lab)
        }
    return tuple(lab for lab, owner in owners.items() if owner in (user, None))


def _has_files(lab: str) -> bool:
    """Whether there are files of a lab in the directory of state."""
    return os.path.isdir(state_dir() / lab)


def given_lab() -> str | None:
    """The lab that the environment names as -l does; None if it names none. Raises UsageError."""
    name = os.environ.get(LAB_VARIABLE)
    if not name:
        return None
    if not (name.isascii() and all(part.isalnum() for part in name.split("-")) and len(name) <= 63):
        from labctl.errors import UsageError

        raise UsageError(f"{LAB_VARIABLE}={name!r} is not the name of a lab", f"unset {LAB_VARIABLE}")
    return name


def default_lab(among: Mapping[str, object]) -> str | None:
    """The lab of a command that names none: that of LABCTL_LAB, else the only one of this user, else the only one; None
    if several can be meant. Raises UsageError."""
    if (given := given_lab()) is not None:
        return given
    if len(among) == 1:
        return next(iter(among))
    own = own_labs(among)
    return own[0] if len(own) == 1 else None

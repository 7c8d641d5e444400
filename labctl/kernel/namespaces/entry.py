"""The entrance to network namespaces: only this module calls `setns` for them, and it refuses the machine's own.

Which namespace a name stands for is decided by what is bound to it at this moment, and anyone with root can bind
anything. So no verb trusts the name: a file descriptor is opened here, looked at, and entered, and the descriptor
stays the same namespace whatever happens to the name meanwhile. Fast to import: `labctl exec` uses it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from labctl.kernel.host import paths
from labctl.kernel.host.syscalls import CLONE_NEWNET, setns

NS_GET_NSTYPE = 0xB703  # ioctl_ns(2): the kind of a namespace, as its CLONE_NEW flag
OTHER_KINDS = {
    0x00000080: "time", 0x00020000: "mount", 0x02000000: "cgroup", 0x04000000: "UTS", 0x08000000: "IPC",
    0x10000000: "user", 0x20000000: "process",
}  # fmt: skip
OWN, INIT = "/proc/self/ns/net", "/proc/1/ns/net"  # OWN is the main thread's
Hosts: TypeAlias = frozenset[tuple[int, int]]  # namespaces, by device and inode
_home: list[tuple[int, int] | None] = []  # while the main thread is in another namespace: its own


def host_namespaces() -> Hosts:
    """The namespaces that never belong to a lab: this process's own and init's, by device and inode.

    In a command of `labctl exec` or `shell`, its own namespace is a node's. Instead of it, those of the processes above
    are the machine's.
    """
    own = _home[-1] if _home else _identity(OWN)
    found = {*(_namespaces_above_node(own) or (own,)), _identity(INIT)}
    return frozenset(one for one in found if one is not None)


def open_netns(path: str | Path, hosts: Hosts | None = None) -> int:
    """A file descriptor of the network namespace that is bound to a name. `hosts` is what `host_namespaces` returned to
    a caller that opens many.

    Raises KernelError if it is the machine's own, or a namespace of another kind; FileNotFoundError if no namespace is
    bound to the name; OSError.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        require_lab_netns(fd, path, hosts)
    except BaseException:
        os.close(fd)
        raise
    return fd


def require_lab_netns(fd: int, path: str | Path, hosts: Hosts | None = None) -> None:
    """Raises as `open_netns` does unless this file descriptor is that of a lab's network namespace."""
    try:
        kind = fcntl.ioctl(fd, NS_GET_NSTYPE)
    except OSError:
        raise FileNotFoundError(errno.ENOENT, "no namespace is bound to this name", str(path)) from None
    if kind != CLONE_NEWNET:
        problem = f"is a {OTHER_KINDS.get(kind, 'strange')} namespace, not a network one"
    elif is_host_namespace(fd, hosts):
        problem = "is the machine's own network namespace, not a lab's"
    else:
        return
    hint = f"labctl did not bind it there; remove the name: umount {path} && rm {path}"
    raise _refusal(f"{Path(path).name} {problem}", hint)


def enter_netns(fd: int, *, allow_own: bool = False, hosts: Hosts | None = None) -> None:
    """Move the calling thread into the network namespace of an open file descriptor.

    `hosts` is what `host_namespaces` returned to a caller that enters many. `allow_own` is for a CNI plugin, which
    works in the namespace in which a container runtime calls it. Raises KernelError if it is the machine's own, OSError
    if the kernel refuses.
    """
    if not allow_own and is_host_namespace(fd, hosts):
        raise _refusal("labctl does not enter the machine's own network namespace")
    setns(fd, CLONE_NEWNET)


@contextmanager
def returning() -> Iterator[None]:
    """Around work inside namespaces that the main thread does, because no other can be started: at the end, it is back
    in its namespace. If the kernel refuses that, the process ends, because its next change would be made in the wrong
    namespace. Raises OSError."""
    home = os.open(OWN, os.O_RDONLY | os.O_CLOEXEC)
    _home.append(_identity(OWN))
    try:
        yield
    finally:
        _home.pop()
        try:
            setns(home, CLONE_NEWNET)
        except OSError:
            os.abort()
        os.close(home)


def is_host_namespace(fd: int, hosts: Hosts | None = None) -> bool:
    """Whether an open namespace is the machine's own."""
    found = os.fstat(fd)
    return (found.st_dev, found.st_ino) in (host_namespaces() if hosts is None else hosts)


def is_lab_netns(path: Path) -> bool:
    """Whether a network namespace that can be a lab's is bound to this name. It only looks."""
    from labctl.errors import KernelError

    try:
        os.close(open_netns(path))
    except (OSError, KernelError):
        return False
    return True


def _refusal(message: str, hint: str = "") -> Exception:
    from labctl.errors import KernelError  # loads what a verb that works does not need

    return KernelError(message, hint)


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None  # not every user may read init's
    return found.st_dev, found.st_ino


def _namespaces_above_node(own: tuple[int, int] | None) -> set[tuple[int, int] | None]:
    """In a command that `labctl exec` or `shell` started in a node: the other namespaces of the processes above it.

    The variables that they set must name this very namespace. Empty in any other process.
    """
    lab, node = os.environ.get("LABCTL_LAB"), os.environ.get("LABCTL_NODE")
    if not (own and lab and node) or _identity(paths.netns_path(lab, node)) != own:
        return set()
    from labctl.kernel.host.ancestors import ancestry

    return {_identity(f"/proc/{pid}/ns/net") for pid in ancestry()} - {own, None}

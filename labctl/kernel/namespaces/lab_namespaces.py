"""Create, open, list and remove the namespaces of one lab. Each open one has a file descriptor and a netlink socket.

Everything here except `NamespaceSet.close` runs in the thread that enters namespaces (see `thread.NetnsThread`).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

from labctl.errors import KernelError, LimitError
from labctl.kernel.host import paths
from labctl.kernel.host.limits import SPARE_FILES, limit_error, require_spare_files
from labctl.kernel.host.syscalls import UMOUNT_NOFOLLOW
from labctl.kernel.namespaces.entry import Hosts, enter_netns, host_namespaces, open_netns
from labctl.kernel.namespaces.thread import (
    CLONE_NEWNET,
    MNT_DETACH,
    MS_BIND,
    MS_REC,
    MS_SHARED,
    NetnsThread,
    mount,
    umount,
    unshare,
)
from labctl.kernel.netlink.rtnetlink import Channel, attributes

RTM_GETNSID = 90
NETNSA_NSID, NETNSA_FD = 1, 3
FILES_PER_NAMESPACE = 2  # of an open one: its descriptor, and its netlink socket
MANY = 64  # namespaces that are worth a second thread
MAX_DESCRIPTORS = 256  # that stay open if the limit of open files does not allow one for each namespace
SIOCGSKNS = 0x894C  # ioctl of a socket: a descriptor of its namespace
THREAD_NETNS = "/proc/thread-self/ns/net"


class NamespaceSet:
    """The open namespaces of a lab, by node. A socket that was created in one stays in it.

    Where the limit of open files does not allow a descriptor beside each socket, `fds` has only those that were used
    last: the socket gives another one.
    """

    def __init__(self, lab: str) -> None:
        self.lab = lab
        self.fds: dict[str, int] = {}
        self.channels: dict[str, Channel] = {}
        self._lock = threading.Lock()  # of `fds`, while two threads create namespaces
        self._keeps_all = True  # descriptors, not only the last ones
        self.own: str | None = None  # the node that is the namespace of this process: only a CNI plugin has one
        self.stopped = False  # another thread sets it, to end a long build early
        self._current: str | None = None
        self._names: dict[int, str] = {}  # of the opened namespaces, by inode
        self._hosts: Hosts | None = None  # the machine's own, which stay the same: looked up once

    def close(self) -> None:
        """Close every descriptor and socket; the namespaces stay."""
        for channel in self.channels.values():
            channel.close()
        for fd in self.fds.values():
            os.close(fd)
        self.channels.clear()
        self.fds.clear()
        self._names.clear()
        self._current = None

    def require_room(self, count: int) -> None:
        """Raise LimitError unless this process may open the files for so many more namespaces."""
        if self._keeps_all:
            try:
                require_spare_files(spare=FILES_PER_NAMESPACE * count + SPARE_FILES)
            except LimitError:
                require_spare_files(spare=count + MAX_DESCRIPTORS + SPARE_FILES)
                self._keeps_all = False
        else:
            require_spare_files(spare=count + SPARE_FILES)

    def descriptor(self, node: str) -> int:
        """A descriptor of a namespace that is open. It stays open while at most MAX_DESCRIPTORS - 1 others are asked
        for."""
        if self._keeps_all:
            return self.fds[node]
        fd = self.fds.pop(node, -1)  # behind the others again
        if fd < 0:
            fd = fcntl.ioctl(self.channels[node].fileno(), SIOCGSKNS)
            self._close_oldest(MAX_DESCRIPTORS - 1)
        self.fds[node] = fd
        return fd

    def _close_oldest(self, left: int) -> None:
        while not self._keeps_all and len(self.fds) > left:
            os.close(self.fds.pop(next(iter(self.fds))))

    def create_all(self, nodes: Iterable[str]) -> None:
        """Create new, empty namespaces and bind them to their names; many at the same time as a second thread, because
        the kernel makes two namespaces in parallel for the most part. Raises KernelError."""
        waiting = deque(nodes)

        def create() -> None:
            try:
                while True:
                    self.create(waiting.popleft())
            except IndexError:
                return
            except BaseException:
                waiting.clear()
                raise

        if len(waiting) < MANY or not _has_second_processor():
            create()
            return
        with NetnsThread() as second:
            try:
                other = second.begin(None, create)
            except LimitError:
                create()
                return
            create()
            other.result()

    def is_worth_second_thread(self, count: int) -> bool:
        """Whether a second thread saves time with work in so many open namespaces."""
        return count >= MANY and self.can_share_work()

    def can_share_work(self) -> bool:
        """Whether a second thread may work in open namespaces at the same time, on another processor: it asks for
        descriptors, and so all must be open."""
        return self._keeps_all and _has_second_processor()

    def create(self, node: str) -> None:
        """Create a new, empty namespace and bind it to its name. This thread is in it then. Raises KernelError."""
        if self.stopped:
            raise KernelError(f"interrupted before namespace {node} was created")
        path = paths.netns_path(self.lab, node)
        if not is_namespace(path):
            unbind(path)  # a name without a namespace, left by a reboot or a crash
        try:
            unshare(CLONE_NEWNET)
            self._current = None  # any thread may do this
            fd = os.open(THREAD_NETNS, os.O_RDONLY | os.O_CLOEXEC)
            with self._lock:
                self.fds[node] = fd
            os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
            mount(THREAD_NETNS, str(path), None, MS_BIND)
        except OSError as error:
            raise limit_error(error) or KernelError(
                f"cannot create namespace {path.name}: {error.strerror}", _hint(error), error.errno or 0
            ) from None
        self.channels[node] = Channel()
        with self._lock:
            self._close_oldest(MAX_DESCRIPTORS)

    def visit(self, nodes: Iterable[str]) -> Iterator[str]:
        """Open the namespaces that exist, and yield the node of each while this thread is in it. A name to which no
        namespace is bound counts as absent. Raises KernelError for a name to which the machine's own namespace or that
        of another node is bound."""
        nodes, folder = tuple(nodes), paths.netns_dir()
        self.require_room(len(set(nodes) - self.channels.keys()))
        for node in nodes:
            if node not in self.channels:
                fd = self._open_once(f"{folder}/{paths.netns_name(self.lab, node)}")
                if fd is None:
                    continue
                self.fds[node] = fd
                self.enter(node)
                self.channels[node] = Channel()
                self._close_oldest(MAX_DESCRIPTORS)
            else:
                self.enter(node)
            yield node

    def _open_once(self, path: str) -> int | None:
        """The descriptor of a namespace that no other name of this lab is bound to; None if none is bound to this one.
        A symbolic link to such a file does not count."""
        try:
            fd = open_netns(path, self._host_namespaces())
        except OSError:
            if is_namespace(Path(path)):
                raise
            return None
        name = os.path.basename(path)
        if (first := self._names.setdefault(os.fstat(fd).st_ino, name)) == name:
            return fd
        os.close(fd)
        hint = f"one of the names is wrong; remove it: umount {path} && rm {path}"
        raise KernelError(f"{name} is the network namespace of {first}, too", hint)

    def inodes(self) -> frozenset[int]:
        """The namespaces that were opened, by inode."""
        return frozenset(self._names)

    def _host_namespaces(self) -> Hosts:
        if self._hosts is None:
            self._hosts = host_namespaces()
        return self._hosts

    def enter(self, node: str) -> None:
        """Move this thread into a namespace that is open."""
        if self._current != node:
            enter_netns(self.descriptor(node), allow_own=node == self.own, hosts=self._host_namespaces())
            self._current = node

    def enter_in_second_thread(self, node: str) -> None:
        """Move the calling thread, which is not the one that `enter` moves, into a namespace that is open."""
        enter_netns(self.descriptor(node), allow_own=node == self.own, hosts=self._host_namespaces())

    def forget_thread(self) -> None:
        """Assume nothing about the namespace of the calling thread: another one works from now on."""
        self._current = None

    def delete(self, node: str) -> None:
        """Close one namespace and remove its name."""
        self._names.pop(os.fstat(self.descriptor(node)).st_ino, None)
        os.close(self.fds.pop(node))
        self.channels.pop(node).close()
        self._current = None if self._current == node else self._current
        unbind(paths.netns_path(self.lab, node))

    def nsid(self, node: str, other: str) -> int | None:
        """The id (nsid) that the kernel uses in `node` for the namespace `other`; None if there is none."""
        body = struct.pack("=Bxxx", 0) + struct.pack("=HHI", 8, NETNSA_FD, self.descriptor(other))
        for data, start, end in self.channels[node].request(RTM_GETNSID, body):
            span = attributes(data, start + 4, end).get(NETNSA_NSID)
            if span is not None:
                return int(struct.unpack_from("=i", data, span[0])[0])
        return None


def _has_second_processor() -> bool:
    return len(os.sched_getaffinity(0)) > 1


def prepare_netns_dir() -> None:
    """Create the directory of named namespaces as `ip netns` does: as a shared mount. Otherwise services with private
    mount namespaces would keep deleted namespaces alive. Raises KernelError."""
    paths.require_own_directories()
    directory = str(paths.netns_dir())
    try:
        os.makedirs(directory, mode=0o755, exist_ok=True)
        probe = f"{directory}/.labctl-{os.getpid()}"  # before the mount: not every folder takes files
        os.close(os.open(probe, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
        os.unlink(probe)
        try:
            mount(None, directory, None, MS_SHARED | MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            mount(directory, directory, None, MS_BIND | MS_REC)
            mount(None, directory, None, MS_SHARED | MS_REC)
    except OSError as error:
        problem = f"cannot use {directory} for namespaces: {os.strerror(error.errno or 0)}"
        raise KernelError(
            problem, _hint(error) or "LABCTL_NETNS_DIR can name another folder", error.errno or 0
        ) from None


def is_namespace(path: Path) -> bool:
    """Whether a namespace is bound to this file. A symbolic link to such a file does not count."""
    try:
        return os.lstat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


def unbind(path: Path) -> bool:
    """Unbind and unlink a namespace's name; returns whether there was one. Processes inside keep the namespace alive.

    A name can be bound more than once, one above the other. Raises KernelError.
    """
    while True:
        try:
            umount(str(path), MNT_DETACH | UMOUNT_NOFOLLOW)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOENT):
                break
            raise KernelError(f"cannot unbind {path}: {error.strerror}", _hint(error), error.errno or 0) from None
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise KernelError(f"cannot remove {path}: {error.strerror}", _hint(error), error.errno or 0) from None
    return True


def _hint(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "run it as root: sudo labctl ..."
    if error.errno in (errno.ENOSPC, errno.EDQUOT) and error.filename is not None:
        return f"make room in {os.path.dirname(error.filename)}: df, df -i"
    if error.errno == errno.ENOSPC and (error.strerror or "").startswith("mount"):
        return "the limit of mounts is reached: /proc/sys/fs/mount-max"
    if error.errno == errno.ENOSPC:
        return "the limit of network namespaces is reached: /proc/sys/user/max_net_namespaces"
    return ""

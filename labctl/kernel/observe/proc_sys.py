"""Open files below /proc/sys in many namespaces, one namespace after the other.

The kernel has one entry of /proc/sys/net/ipv4 for each namespace. They have the same name, so they are in one list, and
a lookup compares them one by one: with 4,000 namespaces, two files in each of them take 24 s. The list belongs to a
mount of proc. Here a new mount, which no other process sees, is used after some namespaces, so all lists stay short
(Linux 6.18, fs/proc/proc_sysctl.c: proc_sys_compare).
"""

from __future__ import annotations

import os

FOLDERS = 64  # that are looked up in one mount


class ProcSys:
    """Opens the files of sysctls. A context manager: it closes its own descriptors. For one thread."""

    def __init__(self) -> None:
        self._root = -1  # a mount of proc; -1: the machine's
        self._may_mount = True
        self._looked_up = 0  # folders in this mount
        self._folder, self._folder_of = -1, ("", "")  # the last one, and its namespace and path

    def __enter__(self) -> ProcSys:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the mount and the last folder."""
        for fd in (self._folder, self._root):
            if fd >= 0:
                os.close(fd)
        self._folder, self._root, self._folder_of = -1, -1, ("", "")

    def open(self, ns: str, name: str, flags: int) -> int:
        """The descriptor of a sysctl's file in the namespace of the calling thread, which is called `ns`. As in
        sysctl(8), a slash in the name stands for a dot in a device's name. Raises OSError."""
        *parents, file = [part.replace("/", ".") for part in name.split(".")]
        path = "/".join(parents)
        if (ns, path) != self._folder_of:
            folder = self._open_folder(path)
            if self._folder >= 0:
                os.close(self._folder)
            self._folder, self._folder_of = folder, (ns, path)
        return os.open(file, flags | os.O_CLOEXEC, dir_fd=self._folder)

    def _open_folder(self, path: str) -> int:
        self._looked_up += 1
        if self._looked_up > FOLDERS and self._may_mount:
            self._remount()
        if self._root < 0:
            return os.open(f"/proc/sys/{path}", os.O_PATH | os.O_CLOEXEC)
        return os.open(f"sys/{path}", os.O_PATH | os.O_CLOEXEC, dir_fd=self._root)

    def _remount(self) -> None:
        from labctl.kernel.host.detached_mount import mount_detached

        try:
            root = mount_detached("proc")
        except OSError:  # without root, or in a container: the machine's mount works, too
            self._may_mount = False
            return
        if self._root >= 0:
            os.close(self._root)
        self._root, self._looked_up = root, 1

"""What a process inside a node sees besides the network: the namespace's /sys, and the names of the lab.

After setns alone, /sys/class/net still has the machine's links, and /etc still has the machine's resolver. A name could
be looked up outside the lab (a resolver on a unix socket is the same in all network namespaces), or the lookup could
take seconds. So the process gets a separate mount namespace in which only these few files differ.
"""

from __future__ import annotations

import os

from labctl.kernel.host.syscalls import MS_BIND, MS_RDONLY, MS_REC, mount

SYS = "/sys"
SYS_MOUNTS = ("/sys/fs/cgroup", "/sys/fs/bpf")  # mounts below /sys that a new sysfs would hide
LOCAL = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n"


def hosts(lab: str, names: list[tuple[str, str]], host_name: str = "") -> str:
    """/etc/hosts of a lab: localhost, the lab's names with their addresses, and the machine's own name.

    `host_name` is the machine's host name, which sudo and others look up. A node of the same name takes precedence.
    """
    lines = [f"{address} {name}" for name, address in names]
    used = {name for name, _ in names} | {"localhost"}
    if host_name and host_name not in used:
        lines.append(f"127.0.1.1 {host_name}")
    return f"# lab {lab}\n{LOCAL}" + "".join(f"{line}\n" for line in lines)


def nsswitch(text: str) -> str:
    """The machine's nsswitch.conf with one change: host names come only from /etc/hosts."""
    lines = [line for line in text.splitlines() if line.split("#")[0].split(":")[0].strip() != "hosts"]
    return "".join(f"{line}\n" for line in [*lines, "hosts: files"])


def files(lab: str, names: list[tuple[str, str]]) -> dict[str, str]:
    """The files that differ inside a node, by path, with their text."""
    try:
        with open("/etc/nsswitch.conf") as file:
            switch = file.read()
    except OSError:
        switch = ""
    return {
        "/etc/hosts": hosts(lab, names, os.uname().nodename),
        "/etc/resolv.conf": f"# lab {lab} has no DNS server: its names are in /etc/hosts\n",
        "/etc/nsswitch.conf": nsswitch(switch),
    }


def mount_node_files(texts: dict[str, str]) -> None:
    """Bind mount the texts over the files, and mount /sys of the network namespace that the caller is in.

    Only for a process that has a private mount namespace. The texts are files in a tmpfs at /sys, over which the new
    /sys is then mounted, so neither a writable disk nor a free mount point is needed. A file that the machine does not
    have is left out. Raises OSError.
    """
    sys_mounts = [(path, fd) for path in SYS_MOUNTS if (fd := _open_mount(path)) is not None]
    mount("labctl", SYS, "tmpfs", 0, "mode=755,size=4m")
    for number, (path, text) in enumerate(texts.items()):
        draft = f"{SYS}/{number}"
        with open(draft, "w") as file:
            file.write(text)
        os.chmod(draft, 0o644)
        if os.path.exists(path):
            mount(draft, path, None, MS_BIND)
    _mount_sysfs()
    for path, fd in sys_mounts:
        if os.path.isdir(path):
            mount(f"/proc/self/fd/{fd}", path, None, MS_BIND | MS_REC)
        os.close(fd)


def _mount_sysfs() -> None:
    """In the user namespace of a container with a read-only /sys, the kernel allows only another read-only one."""
    try:
        mount("sysfs", SYS, "sysfs")
    except PermissionError:
        mount("sysfs", SYS, "sysfs", MS_RDONLY)


def _open_mount(path: str) -> int | None:
    if not os.path.ismount(path):
        return None
    return os.open(path, os.O_PATH | os.O_CLOEXEC)
